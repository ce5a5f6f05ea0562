package chunk

import (
	"fmt"
	"sync/atomic"

	"preserve/lib/bounds"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// openGroups bounds how many owners' groups are open at once.
const openGroups = 6

// maxExtents ends a piece of a file with very many holes.
const maxExtents = 2048

// An assembler takes files in order and writes chunks, entries and cuts. One
// goroutine uses it.
type assembler struct {
	env    *tool.Env
	reader *reader
	out    *rec.Writer
	rules  *rules
	end    rec.End // with our own warnings

	// The page.
	entries []*rec.Entry
	bytes   int    // at most, of the entries
	chunks  uint64 // written since the last cut
	data    int    // bytes of them
	groups  []*group
	grouped int  // groups that were written since the last cut
	refs    refs // to blobs of earlier runs

	window []byte // of a large file

	// moved[p] is the path that took the place of the leader p, which has
	// vanished, and lost[p] its entry until there is one.
	moved map[string]string
	lost  map[string]*rec.Entry

	names names

	files, length atomic.Uint64
}

// A group is small files of one owner in one chunk.
type group struct {
	uid    uint32
	data   []byte
	weight int // see bounds.Weight
	uses   []use
}

// A use is an extent that waits for its chunk's number.
type use struct {
	entry  *rec.Entry
	extent int
}

func newAssembler(env *tool.Env, r *reader, out *rec.Writer, rules *rules) *assembler {
	return &assembler{env: env, reader: r, out: out, rules: rules,
		moved: map[string]string{}, lost: map[string]*rec.Entry{}}
}

func (a *assembler) progress() (files, bytes uint64) { return a.files.Load(), a.length.Load() }

// take adds the next file to the stream.
func (a *assembler) take(f *file) error {
	defer f.free()
	e := f.entry
	if e.Type == rec.HardLink {
		if there, err := a.follow(&f); !there || err != nil {
			return err
		}
	}
	a.tell(f)
	if f.gone {
		if e.Links > 1 {
			a.lost[e.Path] = e
		}
		return nil
	}
	if len(a.entries) > 0 && a.rules.pageBegins(e.Path) {
		if err := a.cut(); err != nil {
			return err
		}
	}
	if err := a.room(f); err != nil {
		return err
	}
	a.files.Add(1)
	a.names.see(f)
	switch {
	case f.large != nil:
		return a.large(f)
	case len(f.data) > 0:
		return a.small(f)
	}
	e = f.entry
	if e.Type == rec.File && e.Err == "" && e.Size > 0 {
		e.Extents = []rec.Extent{{Hole: true, Len: e.Size}}
	}
	a.add(e)
	return nil
}

// follow deals with a hard link whose first name has vanished: the next name
// that is still there takes its place. It reports whether there is anything to
// store.
func (a *assembler) follow(f **file) (bool, error) {
	e := (*f).entry
	if to, ok := a.moved[e.Leader]; ok {
		e.Leader = to
		return true, nil
	}
	lost, ok := a.lost[e.Leader]
	if !ok {
		return true, nil
	}
	old := e.Leader
	lead := *lost
	lead.Path, lead.X = e.Path, e.X
	next, err := a.reader.prepare(&lead)
	if err != nil {
		return false, err
	}
	if !next.gone {
		delete(a.lost, old)
		a.moved[old] = lead.Path
	}
	// Otherwise lost keeps the entry for the name after this one.
	next.entry.Links = lost.Links
	*f = next
	if next.gone {
		a.tell(next)
	}
	return !next.gone, nil
}

func (a *assembler) tell(f *file) {
	if f.notice != "" {
		a.env.Notice("%s", f.notice)
		f.notice = ""
	}
	if f.warning != "" {
		a.env.Warn("%s", f.warning)
		a.end.Warn(f.warning)
		f.warning = ""
	}
}

// sizeOf is an upper bound of an entry's encoded size, extents aside.
func sizeOf(e *rec.Entry) int {
	n := 256 + len(e.Path) + len(e.Target) + len(e.Leader) + len(e.Err)
	for _, x := range e.XAttrs {
		n += len(x.Name) + len(x.Value) + 12
	}
	for _, x := range e.X {
		n += len(x.Key) + len(x.Raw) + 5
	}
	return n
}

// Bounds of an encoded extent, of the stretches of data that one chunk is made
// of, and of the extents that they bring, with a hole before each.
const (
	extentSize   = 20
	maxSegments  = 1200
	chunkExtents = 2 * maxSegments * extentSize
)

// room ends the page if the entry might not fit.
func (a *assembler) room(f *file) error {
	need := sizeOf(f.entry) + extentSize*(2*len(f.segs)+1)
	if f.large != nil {
		need += chunkExtents
	}
	if a.full(need) && len(a.entries) > 0 {
		return a.cut()
	}
	return nil
}

// full reports whether the page has no room for an entry of that size.
func (a *assembler) full(need int) bool {
	return len(a.entries) >= bounds.MaxEntries || a.named()+2 > bounds.MaxRefs || a.bytes+need > bounds.MaxBytes || a.data >= a.rules.pageData
}

// named bounds the number of blobs that the page refers to.
func (a *assembler) named() int { return int(a.chunks) + len(a.groups) + a.refs.n }

// add puts an entry into the page.
func (a *assembler) add(e *rec.Entry) {
	a.entries = append(a.entries, e)
	a.bytes += sizeOf(e) + extentSize*len(e.Extents)
}

// chunk writes a chunk and returns its number.
func (a *assembler) chunk(data []byte) (n uint64, err error) {
	n = a.chunks
	a.chunks++
	a.data += len(data)
	a.length.Add(uint64(len(data)))
	return n, a.out.Write(&rec.Chunk{N: n, Data: data})
}

// cut ends the page.
func (a *assembler) cut() error {
	if err := a.regroup(); err != nil {
		return err
	}
	for len(a.groups) > 0 {
		if err := a.closeGroup(0); err != nil {
			return err
		}
	}
	for _, e := range a.entries {
		if err := a.out.Write(e); err != nil {
			return err
		}
	}
	clear(a.entries)
	a.entries, a.bytes, a.chunks, a.data = a.entries[:0], 0, 0, 0
	a.grouped = 0
	a.refs.reset()
	return a.out.Write(&rec.Cut{})
}

// small adds a small file to the group of its owner.
func (a *assembler) small(f *file) error {
	err := a.place(f)
	a.add(f.entry)
	return err
}

// place puts the content of a small file into the group of its owner.
func (a *assembler) place(f *file) error {
	weight := bounds.Weight(f.data)
	g, err := a.group(f.entry.UID, weight)
	if err != nil {
		return err
	}
	e := f.entry
	base := len(g.data)
	g.data = append(g.data, f.data...)
	g.weight += weight
	pos := int64(0)
	for _, s := range f.segs {
		if s.off > pos {
			e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(s.off - pos)})
		}
		g.uses = append(g.uses, use{e, len(e.Extents)})
		e.Extents = append(e.Extents, rec.Extent{Off: uint64(base), Len: uint64(s.len)})
		base += int(s.len)
		pos = s.off + s.len
	}
	if uint64(pos) < e.Size {
		e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: e.Size - uint64(pos)})
	}
	if g.weight >= a.rules.groupMin && a.rules.groupEnds(f.data) {
		return a.closeGroup(len(a.groups) - 1)
	}
	return nil
}

// group returns the owner's open group, with room for a file of that weight, as
// the last of groups, which are in order of use.
func (a *assembler) group(uid uint32, weight int) (*group, error) {
	for i, g := range a.groups {
		if g.uid != uid {
			continue
		}
		if g.weight+weight > a.rules.groupMax {
			if err := a.closeGroup(i); err != nil {
				return nil, err
			}
			break
		}
		a.groups = append(append(a.groups[:i], a.groups[i+1:]...), g)
		return g, nil
	}
	if len(a.groups) == openGroups {
		if err := a.closeGroup(0); err != nil {
			return nil, err
		}
	}
	g := &group{uid: uid, data: groupMemory()}
	a.groups = append(a.groups, g)
	return g, nil
}

func (a *assembler) closeGroup(i int) error {
	g := a.groups[i]
	a.groups = append(a.groups[:i], a.groups[i+1:]...)
	n, err := a.chunk(g.data)
	for _, u := range g.uses {
		u.entry.Extents[u.extent].N = n
	}
	groupPool.Put(&g.data)
	a.grouped++
	return err
}

// finish ends the last page and the stream. before is the end record of the
// stage before.
func (a *assembler) finish(before *rec.End) error {
	if len(a.entries) > 0 {
		if err := a.cut(); err != nil {
			return err
		}
	}
	a.end.Follow(before)
	a.end.Entries, a.end.Bytes = a.files.Load(), a.length.Load()
	if err := a.names.write(a.out, &a.end); err != nil {
		return err
	}
	a.env.Log.Debug(fmt.Sprintf("%d entries, %d bytes", a.end.Entries, a.end.Bytes))
	return a.out.Write(&a.end)
}
