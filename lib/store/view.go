package store

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

const (
	// smallSegment is the size below which a segment is merged into memory.
	smallSegment = 1 << 20
	// maxMerged bounds the rows in memory; what is over it is read with pread.
	maxMerged = (64 << 20) / pack.RowSize
)

// A Row says where a copy of a blob or session is.
type Row struct {
	ID     id.ID
	Pack   id.ID
	Offset uint32
	Length uint32
	Kind   uint8
}

// A view is the rows of all segments at one time: the small ones merged in one
// sorted table, the large ones read as they are asked. A view does not change
// but by add, which only put calls, from the goroutine that looks things up.
type view struct {
	rows  []pack.Row // sorted; Pack is an index in packs
	packs []id.ID
	sizes []uint64 // of packs
	large []large
	gone  map[id.ID]bool // packs whose rows are passed over; see checkPacks
	names map[id.ID]bool // segments that were read, or found damaged, or do not count any more
	state *state         // what collectors have decided
	// searched: packs that no segment lists were looked for, and are in rows.
	searched bool
}

type large struct {
	name id.ID
	*pack.Segment
}

// loadView reads what collectors have decided, and all segments that count. A damaged one is told of
// and left out: its packs say themselves what is in them. The list may change meanwhile, but of
// what collectors have decided nothing is missed that was there before the segments were listed.
func (r *Repo) loadView() (*view, error) {
	var names []id.ID
	v := &view{names: map[id.ID]bool{}}
	for tries := 0; ; tries++ {
		var err error
		if v.state, err = r.readState(); err != nil {
			return nil, err
		}
		if names, err = r.names("index"); err != nil {
			return nil, err
		}
		again, err := r.names("gc")
		if err != nil {
			return nil, err
		}
		if slices.Equal(again, v.state.epoch) {
			break
		}
		if tries > 100 {
			return nil, errRestless
		}
	}
	for _, name := range v.state.damaged {
		r.badVerdict(name)
	}
	type file struct {
		name id.ID
		size int64
	}
	var files []file
	for _, name := range names {
		if v.state.replaced[name] {
			v.names[name] = true
			continue
		}
		info, err := r.o.Stat(object("index", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the index: %w", err)
		}
		files = append(files, file{name, info.Size})
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(a.size, b.size), bytes.Compare(a.name[:], b.name[:]))
	})
	for _, f := range files {
		if err := r.load(v, f.name, f.size); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(v.rows, compareRows)
	return v, nil
}

// loadAll is loadView, with the rows of packs that are let go and that no segment lists any more, as
// they say themselves.
func (r *Repo) loadAll() (*view, error) {
	v, err := r.loadView()
	if err == nil {
		err = r.addRetired(v)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(v.rows, compareRows)
	return v, nil
}

func (r *Repo) addRetired(v *view) error {
	var listed id.Set
	for _, name := range v.packs {
		listed.Add(name)
	}
	for _, s := range v.large {
		for _, p := range s.Packs() {
			listed.Add(p.Name)
		}
	}
	for name := range v.state.retired {
		if listed.Has(name) {
			continue
		}
		f, err := r.open(packName(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var l pack.List
		if err == nil {
			l, err = readListOf(f)
			f.Close()
		}
		switch {
		case errors.Is(err, ErrDamaged), err == nil && l.Name != name:
			continue // nobody reads from it
		case err != nil:
			return fmt.Errorf("pack %s: %w", name, err)
		}
		v.packs, v.sizes = append(v.packs, l.Name), append(v.sizes, l.Size)
		for _, e := range l.Entries {
			v.rows = append(v.rows, pack.Row{ID: e.ID, Pack: uint32(len(v.packs) - 1), Offset: e.Offset, Length: e.Length, Kind: e.Kind})
		}
	}
	return nil
}

// load takes in a segment; one that is damaged is named, and one that is not there is none.
func (r *Repo) load(v *view, name id.ID, size int64) error {
	v.names[name] = true
	err := r.loadSegment(v, name, size)
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, unix.EIO):
		r.badSegment(name, err)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("index segment %s: %w", name, err)
	}
	return nil
}

// loadNamed is load of a segment whose size is not known. The caller sorts.
func (r *Repo) loadNamed(v *view, name id.ID) error {
	info, err := r.o.Stat(object("index", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	return r.load(v, name, info.Size)
}

func compareRows(a, b pack.Row) int {
	if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
}

var errOther = fmt.Errorf("its bytes are those of another: %w", ErrDamaged)

func (r *Repo) loadSegment(v *view, name id.ID, size int64) error {
	if size >= smallSegment || len(v.rows)+int(size/pack.RowSize) > maxMerged {
		s, err := pack.OpenSegment(part{r.o, object("index", name)}, size, r.cache)
		if err != nil {
			return err
		}
		if s.Name() != name {
			return errOther
		}
		v.large = append(v.large, large{name, s})
		return nil
	}
	data, err := readAll(r.o, object("index", name), size)
	if err != nil {
		return err
	}
	s, err := pack.ParseSegment(data)
	if err != nil {
		return err
	}
	if s.Name() != name {
		return errOther
	}
	return v.merge(s)
}

// merge appends the rows of s. The caller sorts.
func (v *view) merge(s *pack.Segment) error {
	base := uint32(len(v.packs))
	for _, p := range s.Packs() {
		v.packs, v.sizes = append(v.packs, p.Name), append(v.sizes, p.Size)
	}
	v.rows = slices.Grow(v.rows, int(s.Len()))
	for i := range s.Len() {
		row, err := s.Row(i)
		if err != nil {
			return err
		}
		row.Pack += base
		v.rows = append(v.rows, row)
	}
	return nil
}

// add takes in a segment that was just published.
func (r *Repo) add(v *view, name id.ID, data []byte) error {
	v.names[name] = true
	if len(data) >= smallSegment || len(v.rows)+len(data)/pack.RowSize > maxMerged {
		return r.loadSegment(v, name, int64(len(data)))
	}
	s, err := pack.ParseSegment(data)
	if err == nil {
		err = v.merge(s)
	}
	slices.SortFunc(v.rows, compareRows)
	return err
}

// lookup yields the rows of an id, those in memory first. A segment that cannot
// be read is told to bad and passed over.
func (v *view) lookup(i id.ID, bad func(segment id.ID, err error)) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		at := sort.Search(len(v.rows), func(k int) bool { return bytes.Compare(v.rows[k].ID[:], i[:]) >= 0 })
		for ; at < len(v.rows) && v.rows[at].ID == i; at++ {
			w := &v.rows[at]
			if v.gone[v.packs[w.Pack]] {
				continue
			}
			if !yield(Row{i, v.packs[w.Pack], w.Offset, w.Length, w.Kind}) {
				return
			}
		}
		for _, s := range v.large {
			at, err := s.Search(i)
			for ; err == nil && at < s.Len(); at++ {
				var w pack.Row
				if w, err = s.Row(at); err != nil || w.ID != i {
					break
				}
				if v.gone[s.Packs()[w.Pack].Name] {
					continue
				}
				if !yield(Row{i, s.Packs()[w.Pack].Name, w.Offset, w.Length, w.Kind}) {
					return
				}
			}
			if err != nil {
				bad(s.name, err)
			}
		}
	}
}

// checkPacks lets v pass over the rows of packs that a collector lets go, and of those that are not
// there, or not whole, so that nobody relies on them: what put is sent again it stores again,
// and so the repository heals. Of the latter it warns, where so says what follows; if all that they
// held is elsewhere, too, there is no more than a note. If so is empty it says nothing.
func (r *Repo) checkPacks(v *view, so string) {
	gone := map[id.ID]bool{}
	unread := 0
	var first error
	check := func(name id.ID, size uint64) {
		if v.state.retired[name] {
			return
		}
		info, err := r.o.Stat(packName(name))
		if err == nil && uint64(info.Size) == size {
			return
		}
		gone[name] = true
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			unread++
			if first == nil {
				first = err
			}
		}
	}
	for i, name := range v.packs[:len(v.sizes)] {
		check(name, v.sizes[i])
	}
	for _, s := range v.large {
		for _, p := range s.Packs() {
			check(p.Name, p.Size)
		}
	}
	if unread > 0 && so != "" {
		r.opts.Warn("packs that cannot be read: %d, the first: %v", unread, first)
	}
	v.gone = maps.Clone(v.state.retired)
	maps.Copy(v.gone, gone)
	switch {
	case len(gone) == 0, so == "":
	case v.loses(gone):
		r.opts.Warn("%d packs of the repository are missing or not whole: %s", len(gone), so)
	default:
		r.opts.Note("%d packs of the repository are missing or not whole, but all that they held is in others", len(gone))
	}
}

// loses reports whether any blob is in packs that are gone and in none that counts. It looks
// at all rows of the segments that list such packs.
func (v *view) loses(gone map[id.ID]bool) bool {
	elsewhere := func(row pack.Row) bool {
		if row.Kind == pack.KindSession || row.Kind == rec.KindSnapshot {
			return true // each pack has those of its own blobs; and snapshots are objects
		}
		for range v.lookup(row.ID, func(id.ID, error) {}) {
			return true
		}
		return false
	}
	for _, row := range v.rows {
		if gone[v.packs[row.Pack]] && !elsewhere(row) {
			return true
		}
	}
	for _, s := range v.large {
		if !slices.ContainsFunc(s.Packs(), func(p pack.Pack) bool { return gone[p.Name] }) {
			continue
		}
		for n := range s.Len() {
			row, err := s.Row(n)
			if err != nil || gone[s.Packs()[row.Pack].Name] && !elsewhere(row) {
				return true
			}
		}
	}
	return false
}

// current returns the view, which it loads if need be.
func (r *Repo) current() (*view, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view != nil {
		return r.view, nil
	}
	v, err := r.loadView()
	if err == nil {
		r.view = v
	}
	return v, err
}

// newer returns a view in which something may be found that was not found in old: if
// segments have been listed or replaced since, those of now; else, once, with the packs that no
// good segment lists. It returns old if there is nothing more to be known.
func (r *Repo) newer(old *view) (*view, error) {
	r.search.Lock()
	defer r.search.Unlock()
	v, err := r.current()
	if err != nil || v != old {
		return v, err
	}
	names, err := r.names("index")
	if err != nil {
		return nil, err
	}
	epoch, err := r.names("gc")
	if err != nil {
		return nil, err
	}
	same := len(names) == len(old.names) && slices.Equal(epoch, old.state.epoch)
	for _, n := range names {
		same = same && old.names[n]
	}
	switch {
	case !same:
		v, err = r.loadView()
	case !old.searched:
		// With what is let go, too, as long as it is there.
		if v, err = r.loadAll(); err == nil {
			v, err = r.withOrphans(v)
		}
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = v
	return v, nil
}

// complete returns the view, with the packs that no good segment lists if there is
// reason to look for them.
func (r *Repo) complete() (*view, error) {
	v, err := r.current()
	if err != nil || v.searched {
		return v, err
	}
	damaged := len(v.names) == 0
	for name := range v.names {
		damaged = damaged || r.isBad(name)
	}
	if !damaged {
		return v, nil
	}
	return r.newer(v)
}

// errRestless says that collectors come and go all the time.
var errRestless = errors.New("read the repository: what collectors have decided changes all the time")

// badVerdict tells of a verdict that cannot be read, once.
func (r *Repo) badVerdict(name id.ID) {
	r.bad.Lock()
	told := r.told[name]
	if r.told == nil {
		r.told = map[id.ID]bool{}
	}
	r.told[name] = true
	r.bad.Unlock()
	if !told {
		r.opts.Note("gc/%s is damaged: what a collector has decided there does not count; the next pv-gc collect replaces it", name)
	}
}

// badSegment tells of a segment that cannot be read, once.
func (r *Repo) badSegment(name id.ID, err error) {
	r.bad.Lock()
	told := r.told[name]
	if r.told == nil {
		r.told = map[id.ID]bool{}
	}
	r.told[name] = true
	r.bad.Unlock()
	if !told {
		r.opts.Note("index segment %s: %v: packs that no other one lists are asked themselves what is in them; the next put lists them", name, err)
	}
}

// isBad reports whether a segment could not be read.
func (r *Repo) isBad(name id.ID) bool {
	r.bad.Lock()
	defer r.bad.Unlock()
	return r.told[name]
}

// Lookup yields where copies of a blob or session are said to be, in no order
// that means anything, without those in packs that a collector lets go.
func (r *Repo) Lookup(i id.ID) (iter.Seq[Row], error) {
	v, err := r.current()
	if err != nil {
		return nil, err
	}
	return func(yield func(Row) bool) {
		for row := range v.lookup(i, r.badSegment) {
			if !v.state.retired[row.Pack] && !yield(row) {
				return
			}
		}
	}, nil
}

// IDs calls fn with each blob id of the index once, in ascending order, without
// those of sessions and those whose packs are not there, and with those of packs
// that the next put lists: who has the list does not send what is in it. An error of
// fn ends it.
func (r *Repo) IDs(fn func(id.ID) error) error {
	v, err := r.current()
	if err != nil {
		return err
	}
	own := *v // others read what is let go, as long as it is there
	v = &own
	r.checkPacks(v, "what only they held is not in the list")
	orphans, err := r.orphanIDs(v)
	if err != nil {
		return err
	}
	heads := cursors{}
	heads.push(&cursor{next: func() (row pack.Row, err error) {
		if len(orphans) == 0 {
			return row, io.EOF
		}
		row, orphans = orphans[0], orphans[1:]
		return row, nil
	}}, r.badSegment)
	at := 0
	heads.push(&cursor{next: func() (pack.Row, error) {
		for ; at < len(v.rows); at++ {
			if row := v.rows[at]; !v.gone[v.packs[row.Pack]] {
				at++
				return row, nil
			}
		}
		return pack.Row{}, io.EOF
	}}, r.badSegment)
	for _, s := range v.large {
		n := int64(0)
		heads.push(&cursor{name: s.name, next: func() (pack.Row, error) {
			for n < s.Len() {
				n++
				if row, err := s.Row(n - 1); err != nil || !v.gone[s.Packs()[row.Pack].Name] {
					return row, err
				}
			}
			return pack.Row{}, io.EOF
		}}, r.badSegment)
	}
	var last id.ID
	for len(heads) > 0 {
		c := heads[0]
		if c.row.Kind != pack.KindSession && c.row.ID != last {
			last = c.row.ID
			if err := fn(last); err != nil {
				return err
			}
		}
		if c.step(r.badSegment) {
			heap.Fix(&heads, 0)
		} else {
			heap.Pop(&heads)
		}
	}
	return nil
}

// A cursor is a place in one sorted list of rows.
type cursor struct {
	name id.ID
	row  pack.Row
	next func() (pack.Row, error)
}

// step goes to the next row and reports whether there is one. What cannot be
// read ends the list and is told to bad.
func (c *cursor) step(bad func(id.ID, error)) bool {
	row, err := c.next()
	if err != nil && err != io.EOF {
		bad(c.name, err)
	}
	c.row = row
	return err == nil
}

// cursors is a heap with the lowest id on top.
type cursors []*cursor

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return bytes.Compare(c[i].row.ID[:], c[j].row.ID[:]) < 0 }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)        { *c = append(*c, x.(*cursor)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func (c *cursors) push(x *cursor, bad func(id.ID, error)) {
	if x.step(bad) {
		heap.Push(c, x)
	}
}
