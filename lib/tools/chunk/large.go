package chunk

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"preserve/lib/bounds"
	"preserve/lib/rec"
	"preserve/lib/tree"
)

var groupPool = sync.Pool{New: func() any { b := make([]byte, 0, bounds.GroupMax); return &b }}

func groupMemory() []byte { return (*groupPool.Get().(*[]byte))[:0] }

// A content is where the data of a large file comes from. It is read forwards.
type content interface {
	// more reports whether there is data, or a hole, at or behind off.
	more(off int64) (bool, error)
	// segment returns the next stretch of data at or behind off. Behind the
	// last one the error is io.EOF.
	segment(off int64) (start, end int64, err error)
	// ReadAt reads data of that stretch. Less than was asked for, without an
	// error, means that the file has become shorter.
	ReadAt(p []byte, off int64) (int, error)
	// size is how long the file is, once there is no more of it.
	size() int64
	// judge says in the last piece, f.entry, what became of the file.
	judge(f *file, w *flow)
	// broken ends a file that could not be read behind pos, or the run.
	broken(f *file, pos int64, err error) error
	Close() error
}

// An opened is a large file of a tree.
type opened struct {
	file   *tree.File
	stat   tree.Stat // before reading
	length int64     // as it was then; less once it turned out shorter
}

func (o *opened) more(off int64) (bool, error) { return off < o.length, nil }

func (o *opened) segment(off int64) (start, end int64, err error) {
	return o.file.NextSegment(&o.stat, off)
}

func (o *opened) ReadAt(p []byte, off int64) (int, error) {
	n, err := readAt(o.file, p, off)
	if err == nil && n < len(p) {
		o.length = off + int64(n)
	}
	return n, err
}

func (o *opened) size() int64  { return o.length }
func (o *opened) Close() error { return o.file.Close() }

// A flow is a large file on its way: its data, without the holes, passes
// through a window, and the segments say where in the file each byte lies.
type flow struct {
	from content
	read int64 // up to where the file was read

	window []byte // room for two chunks
	at, to int    // what of it is waiting to be cut
	segs   []segment

	first, last sample
}

// A sample is some of what was read of a file, and where.
type sample struct {
	off  int64
	data []byte
}

// sampleSize bounds a sample.
const sampleSize = 64 << 10

// samples keeps the beginning and the end of what was read, from a chunk and the
// extents that were made of it.
func (w *flow) samples(data []byte, extents []rec.Extent, end int64) {
	x := extents[len(extents)-1]
	n := min(sampleSize, int(x.Len))
	w.last.off, w.last.data = end-int64(n), append(w.last.data[:0], data[len(data)-n:]...)
	if w.first.data == nil {
		x := extents[0]
		if x.Hole {
			w.first.off, x = int64(x.Len), extents[1]
		}
		w.first.data = append(w.first.data, data[:min(sampleSize, int(x.Len))]...)
	}
}

// same reports whether what was sampled still reads the same.
func (w *flow) same(file *tree.File) bool {
	for _, s := range []sample{w.first, w.last} {
		b := make([]byte, len(s.data))
		if n, err := readAt(file, b, s.off); err != nil || n < len(b) || !bytes.Equal(b, s.data) {
			return false
		}
	}
	return true
}

// fill reads until a whole chunk is waiting, or all that remains.
func (w *flow) fill(chunk int) error {
	if w.to-w.at >= chunk {
		return nil
	}
	copy(w.window, w.window[w.at:w.to])
	w.at, w.to = 0, w.to-w.at
	for w.to < len(w.window) {
		if more, err := w.from.more(w.read); err != nil || !more {
			return err
		}
		start, end, err := w.from.segment(w.read)
		if err == io.EOF {
			w.read = w.from.size()
			return nil
		}
		if err != nil {
			return err
		}
		if k := len(w.segs); k >= maxSegments && w.segs[k-1].off+w.segs[k-1].len != start {
			return nil // the chunk that ends here is small, and its extents are enough
		}
		n := min(end-start, int64(len(w.window)-w.to))
		got, err := w.from.ReadAt(w.window[w.to:w.to+int(n)], start)
		if got > 0 {
			w.note(segment{start, int64(got)})
			w.to += got
		}
		w.read = start + int64(got)
		if err != nil {
			return err
		}
	}
	return nil
}

// rest reports whether anything is left of the file.
func (w *flow) rest() (bool, error) {
	if w.to > w.at {
		return true, nil
	}
	return w.from.more(w.read)
}

// note remembers where the next data lies.
func (w *flow) note(s segment) {
	if n := len(w.segs); n > 0 && w.segs[n-1].off+w.segs[n-1].len == s.off {
		w.segs[n-1].len += s.len
		return
	}
	w.segs = append(w.segs, s)
}

// take removes n bytes from the window and adds their extents in chunk number
// c to e, holes before them included. pos is where e's content ends so far.
func (w *flow) take(e *rec.Entry, c uint64, n, pos int64) int64 {
	w.at += int(n)
	off := uint64(0)
	for n > 0 {
		s := &w.segs[0]
		if s.off > pos {
			e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(s.off - pos)})
		}
		part := min(n, s.len)
		e.Extents = append(e.Extents, rec.Extent{N: c, Off: off, Len: uint64(part)})
		off += uint64(part)
		pos = s.off + part
		s.off += part
		s.len -= part
		n -= part
		if s.len == 0 {
			w.segs = w.segs[1:]
		}
	}
	return pos
}

// large reads a large file and writes its chunks, in several pieces if it is
// huge.
func (a *assembler) large(f *file) error {
	defer f.large.Close()
	if a.window == nil {
		a.window = make([]byte, 2*a.rules.chunk)
	}
	w := &flow{from: f.large, window: a.window}
	pos := int64(0) // where the content of the pieces so far ends
	a.bytes += sizeOf(f.entry)
	for {
		if err := w.fill(a.rules.chunk); err != nil {
			return a.broken(f, pos, err)
		}
		n := a.rules.cut(w.window[w.at:w.to])
		if n == 0 {
			break
		}
		data := w.window[w.at : w.at+n]
		c, err := a.chunk(data)
		if err != nil {
			return err
		}
		e := f.entry
		before := len(e.Extents)
		pos = w.take(e, c, int64(n), pos)
		w.samples(data, e.Extents[before:], pos)
		a.bytes += extentSize * (len(e.Extents) - before)
		rest, err := w.rest()
		if err != nil {
			return a.broken(f, pos, err)
		}
		if rest && (a.pieceFull(e) || a.rules.pieceEnds(data)) {
			if err := a.piece(f, pos); err != nil {
				return err
			}
		}
	}
	if size := f.large.size(); size > pos {
		f.entry.Extents = append(f.entry.Extents, rec.Extent{Hole: true, Len: uint64(size - pos)})
	}
	f.entry.Size = uint64(f.large.size())
	f.large.judge(f, w)
	a.tell(f)
	a.entries = append(a.entries, f.entry)
	return nil
}

// pieceFull reports whether the page has no room for another chunk of e.
func (a *assembler) pieceFull(e *rec.Entry) bool {
	return a.named()+2 > bounds.MaxRefs || len(e.Extents) > maxExtents ||
		a.bytes+chunkExtents > bounds.MaxBytes || a.data >= a.rules.pageData
}

// piece ends a piece of a file, and the page; f.entry is the next piece.
func (a *assembler) piece(f *file, pos int64) error {
	e := f.entry
	e.More = true
	e.Size = max(e.Size, uint64(pos))
	a.entries = append(a.entries, e)
	if err := a.cut(); err != nil {
		return err
	}
	f.entry = &rec.Entry{Path: e.Path, Type: rec.File, Size: e.Size, Off: uint64(pos)}
	a.bytes = sizeOf(f.entry)
	return nil
}

// judge compares the file with what it was.
func (o *opened) judge(f *file, w *flow) {
	verdict := changed
	if after, err := o.file.Stat(); err == nil {
		verdict = compare(o.stat, after, o.length)
		// A log that grows still begins and ends as it did; one that was
		// written anew does not.
		if verdict == grown && !w.same(o.file) {
			verdict = changed
		}
	}
	f.judge(verdict)
}

// broken ends a file that could not be read to its end.
func (a *assembler) broken(f *file, pos int64, err error) error {
	if err := f.large.broken(f, pos, err); err != nil {
		return err
	}
	a.tell(f)
	a.entries = append(a.entries, f.entry)
	return nil
}

// broken keeps what was read, and marks it, if pieces were sent: they cannot be
// taken back.
func (o *opened) broken(f *file, pos int64, err error) error {
	e := f.entry
	if e.Off == 0 {
		f.unreadable("read", err)
	} else {
		e.Size, e.Inconsistent = uint64(pos), true
		f.warning = fmt.Sprintf("%s: read at byte %d: %s: stored up to there, marked inconsistent", rec.Quote(e.Path), pos, cause(err))
	}
	return nil
}
