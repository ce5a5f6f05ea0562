package chunk

import (
	"time"

	"preserve/lib/bounds"
	"preserve/lib/rec"
)

// A page is the entries between two cuts. While it is being filled its groups
// are open. Once it has ended its chunks have been written, and it waits, among
// the assembler's waiting pages, until every file that was read for it has
// settled and the pages before it are written.
type page struct {
	entries []*rec.Entry
	bytes   int    // at most, of the entries as they are encoded
	refs    uint64 // chunks that they name, at most
	data    int    // bytes of them
	groups  []*group
	grouped int // groups that were written
	// first is the oldest chunk that the page can name. Chunks are numbered
	// from the beginning of the stream until an entry is written.
	first uint64
	// reads are the files that have yet to settle, due when they are looked at
	// again.
	reads []*reading
	due   time.Time
	// unsure are entries that no later run may take from a cache.
	unsure []*rec.Entry
	again  bool // something was read again since the page ended: it may be over its limits
}

// sizeOf is an upper bound of an entry's encoded size, extents aside.
func sizeOf(e *rec.Entry) int {
	n := 256 + len(e.Path) + len(e.Target) + len(e.Leader) + len(e.Err)
	for _, x := range e.XAttrs {
		n += len(x.Name) + len(x.Value) + 12
	}
	for _, name := range e.Omitted {
		n += len(name) + 3
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
	if a.crowded(need) && len(a.page.entries) > 0 {
		return a.cut()
	}
	return nil
}

// crowded reports whether the page has no room for an entry of that size.
func (a *assembler) crowded(need int) bool {
	p := a.page
	return len(p.entries) >= bounds.MaxEntries || a.named()+2 > bounds.MaxRefs || p.bytes+need > bounds.MaxBytes || p.data >= a.rules.pageData
}

// named bounds the number of blobs that the page names.
func (a *assembler) named() int { return int(a.page.refs) + len(a.page.groups) + a.reused.n }

// add puts an entry into the page.
func (a *assembler) add(e *rec.Entry) {
	a.page.entries = append(a.page.entries, e)
	a.page.bytes += sizeOf(e) + extentSize*len(e.Extents)
}

// chunk writes a chunk for the page and returns its number.
func (a *assembler) chunk(data []byte) (n uint64, err error) {
	n = a.written
	a.written++
	a.lens = append(a.lens, len(data))
	a.ahead += len(data)
	a.page.refs++
	a.page.data += len(data)
	a.length.Add(uint64(len(data)))
	return n, a.out.Write(&rec.Chunk{N: n - a.dropped, Data: data})
}

// cut ends the page: it is written as soon as it can be.
func (a *assembler) cut() error {
	if err := a.regroup(); err != nil {
		return err
	}
	a.reused.reset()
	if err := a.closeGroups(); err != nil {
		return err
	}
	a.waiting = append(a.waiting, a.page)
	a.page = &page{first: a.written}
	if err := a.pass(); err != nil {
		return err
	}
	for a.full() {
		if err := a.await(); err != nil {
			return err
		}
	}
	return nil
}

// doubt sees to it that a file of which not all was read is read by the next run,
// whatever it is like then: an entry without ctime is never taken from a cache.
func (a *assembler) doubt(f *file) {
	if f.unsure {
		a.page.unsure = append(a.page.unsure, f.entry)
	}
}

// write writes the entries of a page and a cut. next is the page behind it.
func (a *assembler) write(p, next *page) error {
	var lim limits
	for _, e := range p.unsure {
		e.CTime = rec.Time{}
	}
	for _, e := range p.entries {
		if p.again && !lim.take(e) {
			// What was read again has made the page too large for one.
			if err := a.out.Write(&rec.Cut{Keep: a.written - a.dropped}); err != nil {
				return err
			}
			lim = limits{}
			lim.take(e)
		}
		for i := range e.Extents {
			if x := &e.Extents[i]; !x.Hole && x.ID.IsZero() {
				x.N -= a.dropped
			}
		}
		if err := a.out.Write(e); err != nil {
			return err
		}
	}
	if next == a.page && next.refs == 0 && len(next.entries) == 0 && len(next.groups) == 0 {
		next.first = a.written // it has not begun
	}
	for ; a.dropped < next.first; a.dropped++ {
		a.ahead -= a.lens[0]
		a.lens = a.lens[1:]
	}
	return a.out.Write(&rec.Cut{Keep: a.written - a.dropped})
}

// limits counts what a page holds.
type limits struct {
	entries, bytes int
	refs           map[rec.Extent]bool // by what they name
}

// take reports whether the page has room for an entry beside those that it took,
// and takes it.
func (l *limits) take(e *rec.Entry) bool {
	if l.refs == nil {
		l.refs = map[rec.Extent]bool{}
	}
	for _, x := range e.Extents {
		if !x.Hole {
			l.refs[rec.Extent{N: x.N, ID: x.ID}] = true
		}
	}
	l.entries++
	l.bytes += sizeOf(e) + extentSize*len(e.Extents)
	return l.entries == 1 || l.entries <= bounds.MaxEntries && l.bytes <= bounds.MaxBytes && len(l.refs) <= bounds.MaxRefs
}
