package content

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/spool"
)

// ErrContent is what is wrong with a content stream whose records do not fit together.
var ErrContent = errors.New("not a valid content stream")

const (
	// keptInMemory is what chunks may take in memory while they can be named, before they go to a
	// spool, and maxKept what they may take at all.
	keptInMemory = 48 << 20
	maxKept      = 8 << 30
	// inFlight bounds the chunks that the sink has not taken yet.
	inFlight = 16 << 20
	// maxBatch is how many entries a page for the sink has.
	maxBatch = 256
)

// ReadOptions is how a stream is read.
type ReadOptions struct {
	Choose Chooser // nil: the sink gets every entry as it is
	Meta   bool    // the sink needs no data
	Trees  bool    // a tree stream will do
	// Late, if not nil, is told of names of owners that come only after entries.
	Late func(users, groups []rec.Name)
}

// A reader makes pages of a content stream.
type reader struct {
	in   *rec.Reader
	o    ReadOptions
	sink Sink
	tree bool

	check   page.Checker
	head    *rec.Head
	names   rec.Names // so far
	begun   bool      // Snapshot was called
	lost    *id.ID    // a gap that was not told yet
	lostAt  page.Key
	refused error // what the sink returned

	chunks []*chunk // that can be named
	held   int64    // bytes of them
	memory atomic.Int64
	spool  *spool.Spool

	entries []*rec.Entry // of the next page
	used    []*chunk     // what they name
	index   map[*chunk]uint64

	data *par.Map[*delivery, *delivery]
	bufs sync.Pool
}

// A chunk is in memory or in the spool, until nobody needs it.
type chunk struct {
	c     *rec.Chunk // nil: in the spool
	off   int64
	n     int64
	needs atomic.Int32
}

// A delivery is a chunk on its way to the sink.
type delivery struct {
	chunk *chunk
	page  *Page
	ref   int
}

// Read reads a content stream to its end and gives sink what it holds, as a walk does. A tree
// stream is read too if o says so. The entries must keep the rules of a tree
// (docs/format/snapshots.md); a tree stream may lack directories and first names.
//
// It holds the chunks that can be named: up to 48 MiB in memory, up to 8 GiB in a spool.
func Read(in *rec.Reader, o ReadOptions, sink Sink) error {
	r := &reader{in: in, o: o, sink: sink, spool: spool.New(spool.Block), index: map[*chunk]uint64{}}
	defer r.spool.Close()
	if o.Trees {
		in.Or(rec.Tree)
	}
	var err error
	if r.head, err = in.Head(); err != nil {
		return err
	}
	if r.tree = r.head.Kind == rec.Tree; r.tree {
		r.check.Skip()
	}
	r.data = par.New(runtime.GOMAXPROCS(0), 64, inFlight, r.deliver, func(*delivery) error { return nil })
	err = r.run()
	if cerr := r.data.Close(); cerr != nil {
		return cerr
	}
	return err
}

func (r *reader) run() error {
	for {
		v, err := r.in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Chunk:
			err = r.keep(v)
		case *rec.Entry:
			err = r.entry(v)
		case *rec.Cut:
			if err = r.flush(); err == nil {
				err = r.cut(v.Keep)
			}
		case *rec.Names:
			err = r.named(v.Users, v.Groups)
		case *rec.Missing:
			err = r.missing(v.ID)
		case *rec.End:
			err = r.end(v)
		}
		if r.refused != nil {
			return r.refused
		}
		if err != nil {
			return r.in.Wrap(err)
		}
	}
}

// told keeps an error of the sink, which is not about the stream.
func (r *reader) told(err error) error {
	r.refused = err
	return err
}

// named takes names of owners: into the snapshot as long as nothing else came.
func (r *reader) named(users, groups []rec.Name) error {
	if len(users)+len(groups) == 0 {
		return nil
	}
	if r.begun {
		if r.o.Late != nil {
			r.o.Late(users, groups)
		}
		return nil
	}
	const most = 1 << 20
	if len(r.names.Users)+len(r.names.Groups)+len(users)+len(groups) > most {
		return fmt.Errorf("%w: more than %d names of owners", ErrContent, most)
	}
	r.names.Users = append(r.names.Users, users...)
	r.names.Groups = append(r.names.Groups, groups...)
	return nil
}

// begin tells the sink what comes, once.
func (r *reader) begin() error {
	if r.begun {
		return nil
	}
	r.begun = true
	return r.told(r.sink.Snapshot(id.ID{}, &snap.Snapshot{Host: r.head.Host, User: r.head.User, Time: r.head.Time,
		Roots: r.head.Roots, Users: r.names.Users, Groups: r.names.Groups}))
}

// entry checks an entry and adds it to the next page.
func (r *reader) entry(e *rec.Entry) error {
	if err := r.begin(); err != nil {
		return err
	}
	if err := r.gap(e); err != nil {
		return err
	}
	if err := r.extents(e); err != nil {
		return err
	}
	if r.tree && (e.Off > 0 || len(e.Extents) > 0 || e.More) {
		return fmt.Errorf("entry %s: %w: content in a tree stream", rec.Quote(e.Path), ErrContent)
	}
	for _, p := range r.check.Parents(e) {
		r.add(madeUp(p, r.head.Time))
	}
	judged := e
	if r.tree { // its size is that of content which does not come
		c := *e
		c.Size = 0
		judged = &c
	}
	switch err := r.check.Next(judged); {
	case errors.Is(err, page.ErrSkipped):
		return nil
	case errors.Is(err, page.ErrOrphan):
		if err := r.flush(); err != nil {
			return err
		}
		return r.told(r.sink.Orphan(e))
	case err != nil:
		return err
	}
	r.add(e)
	if len(r.entries) >= maxBatch {
		return r.flush()
	}
	return nil
}

// extents checks that what an entry says of its content is there.
func (r *reader) extents(e *rec.Entry) error {
	if _, err := e.ContentLen(); err != nil {
		return fmt.Errorf("entry %s: %w", rec.Quote(e.Path), err)
	}
	for i, x := range e.Extents {
		switch {
		case x.Hole:
		case !x.ID.IsZero():
			return fmt.Errorf("entry %s: %w: extent %d names a blob of a repository, and its data is not here: make the stream without a cache", rec.Quote(e.Path), ErrContent, i)
		case x.N >= uint64(len(r.chunks)):
			return fmt.Errorf("entry %s: %w: extent %d names chunk %d, and only %d can be named", rec.Quote(e.Path), ErrContent, i, x.N, len(r.chunks))
		case x.Off+x.Len > uint64(r.chunks[x.N].n): // ContentLen has bounded both
			return fmt.Errorf("entry %s: %w: extent %d ends at byte %d of a chunk of %d", rec.Quote(e.Path), ErrContent, i, x.Off+x.Len, r.chunks[x.N].n)
		}
	}
	return nil
}

// add adds an entry to the next page, and lets its extents name the page's chunks.
func (r *reader) add(e *rec.Entry) {
	for i := range e.Extents {
		x := &e.Extents[i]
		if x.Hole {
			continue
		}
		c := r.chunks[x.N]
		n, has := r.index[c]
		if !has {
			n = uint64(len(r.used))
			r.index[c] = n
			r.used = append(r.used, c)
		}
		x.N = n
	}
	r.entries = append(r.entries, e)
}

// flush gives the sink a page, and what its files need of the chunks.
func (r *reader) flush() error {
	if len(r.entries) == 0 {
		return nil
	}
	entries, used := r.entries, r.used
	r.entries, r.used = nil, nil
	clear(r.index)
	entries, err := Choose(r.o.Choose, entries)
	if err != nil {
		return r.told(err)
	}
	if len(entries) == 0 {
		return nil
	}
	p := NewPage(entries, make([]byte, len(used)*id.Size))
	if err := r.told(r.sink.Page(p)); err != nil || r.o.Meta {
		return err
	}
	for ref, c := range used {
		if len(p.Uses[ref]) == 0 {
			continue
		}
		c.needs.Add(1)
		if err := r.data.Put(&delivery{c, p, ref}, c.n); err != nil {
			return r.told(err)
		}
	}
	return nil
}

// deliver gives the sink a chunk.
func (r *reader) deliver(d *delivery) (*delivery, error) {
	c := d.chunk
	defer r.release(c)
	if c.c != nil {
		return d, d.page.Give(r.sink, d.ref, c.c.Data)
	}
	buf, ok := r.bufs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer r.bufs.Put(buf)
	if int64(cap(*buf)) < c.n {
		*buf = make([]byte, c.n)
	}
	b := (*buf)[:c.n]
	if _, err := r.spool.ReadAt(b, c.off); err != nil {
		return d, fmt.Errorf("read what was kept: %w", err)
	}
	return d, d.page.Give(r.sink, d.ref, b)
}

func (r *reader) keep(v *rec.Chunk) error {
	n := int64(len(v.Data))
	switch {
	case v.N != uint64(len(r.chunks)): // and so there are never more than numbers
		v.Free()
		return fmt.Errorf("%w: chunk %d comes where chunk %d belongs", ErrContent, v.N, len(r.chunks))
	case r.held+n > maxKept:
		v.Free()
		return fmt.Errorf("%w: more than %d bytes of chunks that no cut has let go", ErrContent, int64(maxKept))
	}
	c := &chunk{c: v, n: n}
	c.needs.Store(1)
	r.held += n
	r.chunks = append(r.chunks, c)
	switch {
	case r.o.Meta:
		v.Free()
		c.c = nil
	case r.memory.Load()+n > keptInMemory:
		defer v.Free()
		off, err := r.spool.Append(v.Data)
		c.c, c.off = nil, off
		return r.told(err)
	default:
		r.memory.Add(n)
	}
	return nil
}

// release gives a chunk up that one less needs.
func (r *reader) release(c *chunk) {
	switch {
	case c.needs.Add(-1) > 0 || r.o.Meta:
	case c.c != nil:
		r.memory.Add(-c.n)
		c.c.Free()
	default:
		r.spool.Free(c.off, c.n)
	}
}

// cut lets all chunks go but the newest.
func (r *reader) cut(keep uint64) error {
	if keep > uint64(len(r.chunks)) {
		return fmt.Errorf("%w: a cut keeps %d chunks, and only %d can be named", ErrContent, keep, len(r.chunks))
	}
	n := len(r.chunks) - int(keep)
	for _, c := range r.chunks[:n] {
		r.held -= c.n
		r.release(c)
	}
	kept := copy(r.chunks, r.chunks[n:])
	clear(r.chunks[kept:])
	r.chunks = r.chunks[:kept]
	return nil
}

// missing takes note that something is lost here: the rest of a file that announced another
// piece, or else entries.
func (r *reader) missing(i id.ID) error {
	if err := r.begin(); err != nil {
		return err
	}
	if key, more := r.check.Open(); more {
		r.check.GiveUp()
		if err := r.flush(); err != nil {
			return err
		}
		return r.giveUp(key, i)
	}
	if r.lost == nil {
		r.lost = &i
		r.lostAt = page.Key{}
		if at, ok := r.check.Behind(); ok {
			r.lostAt = at
		}
		r.check.Gap(page.Key{})
	}
	return nil
}

// giveUp tells the sink that a file has another piece, and that its data is lost.
func (r *reader) giveUp(key page.Key, i id.ID) error {
	piece := &rec.Entry{Path: key.Path, Type: rec.File, Off: key.Off, Size: key.Off + 1, Extents: []rec.Extent{{Len: 1}}}
	entries, err := Choose(r.o.Choose, []*rec.Entry{piece})
	if err != nil || len(entries) == 0 {
		return r.told(err)
	}
	p := NewPage(entries, i[:])
	err = r.sink.Page(p)
	if err == nil && !r.o.Meta {
		err = r.sink.Missing(p, 0, Loss{i, ErrTold})
	}
	return r.told(err)
}

// gap tells the sink of entries that are lost, up to the one that comes now; nil at the end.
func (r *reader) gap(e *rec.Entry) error {
	if r.lost == nil {
		return nil
	}
	i := *r.lost
	r.lost = nil
	if err := r.flush(); err != nil {
		return err
	}
	var next *page.Key
	if e != nil {
		k := page.KeyOf(e)
		next = &k
	}
	return r.told(r.sink.Gap(r.lostAt, next, Loss{i, ErrTold}))
}

func (r *reader) end(e *rec.End) error {
	if err := r.check.Finish(); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	if err := r.flush(); err != nil {
		return err
	}
	if err := r.gap(nil); err != nil {
		return err
	}
	if err := r.named(e.Users, e.Groups); err != nil {
		return err
	}
	return r.told(r.sink.End(e))
}

// madeUp is a directory that was lost with a page: only a way, since nobody knows its owner and mode,
// nor what else is in it.
func madeUp(path string, at rec.Time) *rec.Entry {
	return &rec.Entry{Path: path, Type: rec.Dir, Mode: 0o700, MTime: at, Way: true, Unread: true}
}
