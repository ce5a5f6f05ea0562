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

// A flow is a large file on its way: its data, without the holes, passes
// through a window, and the segments say where in the file each byte lies.
type flow struct {
	open *tree.File
	stat *tree.Stat
	size int64 // when it was opened; less once it turned out shorter
	read int64 // up to where the file was read

	window   []byte // room for two chunks
	from, to int    // what of it is waiting to be cut
	segs     []segment

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
func (w *flow) same() bool {
	for _, s := range []sample{w.first, w.last} {
		b := make([]byte, len(s.data))
		if n, err := readAt(w.open, b, s.off); err != nil || n < len(b) || !bytes.Equal(b, s.data) {
			return false
		}
	}
	return true
}

// fill reads until a whole chunk is waiting, or all that remains.
func (w *flow) fill(chunk int) error {
	if w.to-w.from >= chunk {
		return nil
	}
	copy(w.window, w.window[w.from:w.to])
	w.from, w.to = 0, w.to-w.from
	for w.to < len(w.window) && w.read < w.size {
		start, end, err := w.open.NextSegment(w.stat, w.read)
		if err == io.EOF {
			w.read = w.size
			break
		}
		if err != nil {
			return err
		}
		n := min(end-start, int64(len(w.window)-w.to))
		got, err := readAt(w.open, w.window[w.to:w.to+int(n)], start)
		if got > 0 {
			w.note(segment{start, int64(got)})
			w.to += got
		}
		w.read = start + int64(got)
		if err != nil {
			return err
		}
		if int64(got) < n { // it has become shorter
			w.size = w.read
		}
	}
	return nil
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
	w.from += int(n)
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
	defer f.open.Close()
	if a.window == nil {
		a.window = make([]byte, 2*a.max)
	}
	w := &flow{open: f.open, stat: &f.stat, size: int64(f.stat.Size), window: a.window}
	e := f.entry
	pos := int64(0) // where the content of the pieces so far ends
	a.bytes += sizeOf(e)
	var failed error
	for {
		if failed = w.fill(a.max); failed != nil {
			break
		}
		n := a.cutter.Cut(w.window[w.from:w.to])
		if n == 0 {
			break
		}
		data := w.window[w.from : w.from+n]
		c, err := a.chunk(data)
		if err != nil {
			return err
		}
		before := len(e.Extents)
		pos = w.take(e, c, int64(n), pos)
		w.samples(data, e.Extents[before:], pos)
		a.bytes += extentSize * (len(e.Extents) - before)
		rest := w.to > w.from || w.read < w.size
		full := a.chunks+uint64(len(a.groups))+2 > bounds.MaxRefs || len(e.Extents) > maxExtents || a.bytes+chunkExtents > bounds.MaxBytes
		if rest && (full || a.bounds.PieceEnds(data)) {
			e.More = true
			a.entries = append(a.entries, e)
			if err := a.cut(); err != nil {
				return err
			}
			e = &rec.Entry{Path: e.Path, Type: rec.File, Size: e.Size, Off: uint64(pos)}
			a.bytes = sizeOf(e)
		}
	}
	if failed != nil {
		return a.broken(f, e, pos, failed)
	}
	a.close(f, e, w, pos)
	a.tell(f)
	a.entries = append(a.entries, e)
	return nil
}

// close completes the last piece and judges the file.
func (a *assembler) close(f *file, e *rec.Entry, w *flow, pos int64) {
	verdict := changed
	if after, err := f.open.Stat(); err == nil {
		verdict = compare(f.stat, after, w.size)
		// A log that grows still begins and ends as it did; one that was
		// written anew does not.
		if verdict == grown && !w.same() {
			verdict = changed
		}
	}
	if w.size > pos {
		e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(w.size - pos)})
	}
	e.Size = uint64(w.size)
	f.entry = e
	f.judge(verdict)
}

// broken ends a file that could not be read to its end. Pieces that were sent
// cannot be taken back: then what was read is kept, and marked.
func (a *assembler) broken(f *file, e *rec.Entry, pos int64, err error) error {
	f.entry = e
	if e.Off == 0 {
		f.unreadable("read", err)
	} else {
		e.Size, e.Inconsistent = uint64(pos), true
		f.warning = fmt.Sprintf("%s: read at byte %d: %s: stored up to there, marked inconsistent", rec.Quote(e.Path), pos, cause(err))
	}
	a.tell(f)
	a.entries = append(a.entries, e)
	return nil
}
