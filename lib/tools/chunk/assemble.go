package chunk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// An assembler takes files in order and writes chunks, entries and cuts. One
// goroutine uses it.
type assembler struct {
	env    *tool.Env
	reader *reader
	out    *rec.Writer
	rules  *rules
	end    rec.End // with our own warnings
	bare   *tool.Tally
	omit   *inode.Omit // attributes that a content stream brings

	// settle is how long after it was read a file is looked at again; 0: it is
	// not.
	settle time.Duration
	sleep  func(time.Duration)

	page    *page     // that is being filled
	reused  reused    // blobs of earlier runs that it names
	waiting []*page   // that have ended, in order
	next    time.Time // when the first of them is due

	// Chunks are numbered from the beginning of the stream here, and from the
	// oldest that can be named in the stream.
	written uint64 // chunks
	dropped uint64 // of them, the oldest, can no longer be named
	lens    []int  // of the others
	ahead   int    // sum of lens

	windows [][]byte // for large files

	// moved[p] is the path that took the place of the leader p, which has
	// vanished, and lost[p] its entry until there is one.
	moved map[string]string
	lost  map[string]*rec.Entry

	names   names
	sources *source.Watch // over the sources of a tree; nil for a content stream

	files, length atomic.Uint64
}

func newAssembler(env *tool.Env, r *reader, out *rec.Writer, rules *rules) *assembler {
	return &assembler{env: env, bare: env.NewTally("entries"), reader: r, out: out, rules: rules, page: &page{}, sleep: time.Sleep,
		moved: map[string]string{}, lost: map[string]*rec.Entry{}}
}

func (a *assembler) progress() (files, bytes uint64) { return a.files.Load(), a.length.Load() }

// take adds the next file to the stream.
func (a *assembler) take(f *file) error {
	defer func() { f.free() }()
	if err := a.due(); err != nil {
		return err
	}
	e := f.entry
	if e.Type == rec.HardLink {
		if there, err := a.follow(&f); !there || err != nil {
			return err
		}
	}
	a.tell(f)
	if (f.gone || f.missing) && a.sources != nil {
		a.sources.Vanished(e.Path)
	}
	if f.gone {
		if e.Links > 1 {
			a.lost[e.Path] = e
		}
		return nil
	}
	if len(a.page.entries) > 0 && a.rules.pageBegins(e.Path) {
		if err := a.cut(); err != nil {
			return err
		}
	}
	if err := a.room(f); err != nil {
		return err
	}
	a.files.Add(1)
	a.names.see(f)
	a.doubt(f)
	if f.large != nil {
		return a.large(f)
	}
	e = f.entry
	switch {
	case len(f.data) > 0:
		if err := a.small(f); err != nil {
			return err
		}
	case e.Type == rec.File && e.Err == "" && e.Size > 0 && len(e.Extents) == 0:
		e.Extents = []rec.Extent{{Hole: true, Len: e.Size}}
	}
	a.add(e)
	a.watch(f, false)
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
	if f.bare != "" {
		a.bare.Add(rec.Quote(f.entry.Path), f.bare)
		f.bare = ""
	}
}

// lookBack tells of sources that are not what they were when the scan saw them. If nothing of them is
// left, nothing is stored.
func (a *assembler) lookBack() error {
	if a.sources == nil {
		return nil
	}
	lost, nothing := a.sources.End()
	for _, p := range lost {
		name := rec.Quote(p.Path)
		if p.Path == "" {
			name = "."
		}
		text := fmt.Sprintf("%s: %s", name, p.Err)
		a.env.Warn("%s", text)
		a.end.Warn(text)
	}
	if nothing {
		return errNothingLeft
	}
	return nil
}

var errNothingLeft = errors.New("nothing of the sources is left to store")

// finish ends the last page and the stream. before is the end record of the
// stage before.
func (a *assembler) finish(before *rec.End) error {
	if len(a.page.entries) > 0 {
		if err := a.cut(); err != nil {
			return err
		}
	}
	for len(a.waiting) > 0 {
		if err := a.await(); err != nil {
			return err
		}
	}
	a.bare.Tell(a.end.Warn)
	if err := a.lookBack(); err != nil {
		return err
	}
	a.end.Follow(before)
	a.end.Entries, a.end.Bytes = a.files.Load(), a.length.Load()
	if err := a.names.write(a.out, &a.end); err != nil {
		return err
	}
	a.env.Log.Debug(fmt.Sprintf("%d entries, %d bytes", a.end.Entries, a.end.Bytes))
	return a.out.Write(&a.end)
}
