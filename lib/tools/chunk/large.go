package chunk

import (
	"errors"
	"fmt"
	"io"

	"preserve/lib/bounds"
	"preserve/lib/inode"
	"preserve/lib/rec"
)

// maxExtents ends a piece of a file with very many holes.
const maxExtents = 2048

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
	// judge says in the last piece, f.entry, what became of the file, or, if it may
	// be read again, that it is to be.
	judge(f *file, w *flow, mayAgain bool) (again bool)
	// broken ends a file that could not be read behind pos, or the run.
	broken(f *file, pos int64, err error) error
	Close() error
}

// An opened is a large file of a tree.
type opened struct {
	file   *inode.File
	stat   inode.Stat // before reading
	length int64      // as it was then; less once it turned out shorter
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

	marks [2]mark // of the first data and of the last
}

// sampleSize bounds what a mark is of.
const sampleSize = 64 << 10

// samples marks the beginning and the end of what was read, from a chunk and the
// extents that were made of it.
func (w *flow) samples(data []byte, extents []rec.Extent, end int64) {
	n := min(sampleSize, int64(extents[len(extents)-1].Len))
	w.marks[1] = markOf(end-n, data[len(data)-int(n):])
	if w.marks[0].len == 0 {
		off, x := int64(0), extents[0]
		if x.Hole {
			off, x = int64(x.Len), extents[1]
		}
		w.marks[0] = markOf(off, data[:min(sampleSize, int(x.Len))])
	}
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
// huge. One that changes meanwhile is read again, unless a piece of it has been
// sent.
func (a *assembler) large(f *file) error {
	defer f.large.Close()
	a.page.bytes += sizeOf(f.entry)
	refs, data, bytes := a.page.refs, a.page.data, a.page.bytes
	for {
		again, err := a.pour(f, true)
		if err != nil {
			return err
		}
		if !again {
			break
		}
		// No piece was sent: the page is the same.
		a.page.refs, a.page.data, a.page.bytes = refs, data, bytes
		f.entry.Extents = nil
		// Its owner and attributes were read again, or could not be.
		a.names.see(f)
		a.doubt(f)
	}
	a.tell(f)
	a.page.entries = append(a.page.entries, f.entry)
	a.watch(f, f.entry.Off != 0)
	return nil
}

// largeAgain reads a large file of a page that has ended, in one piece. It reports
// whether that could be done.
func (a *assembler) largeAgain(f *file) (done bool, err error) {
	defer f.large.Close()
	for {
		again, err := a.pour(f, false)
		if err == errPieces {
			return false, nil
		}
		if err != nil || !again {
			return err == nil && f.err == nil, err
		}
		f.entry.Extents = nil
	}
}

// errPieces is returned by pour for a file that takes more than one piece.
var errPieces = errors.New("more than one piece")

// pour reads a large file from its beginning and writes its chunks. If again is
// true, it changed, and is to be poured again; else f.entry is complete.
func (a *assembler) pour(f *file, pieces bool) (again bool, err error) {
	window := a.window()
	defer func() { a.windows = append(a.windows, window) }()
	w := &flow{from: f.large, window: window}
	pos := int64(0) // where the content of the pieces so far ends
	for {
		if err := w.fill(a.rules.chunk); err != nil {
			return false, f.large.broken(f, pos, err)
		}
		n := a.rules.cut(w.window[w.at:w.to])
		if n == 0 {
			break
		}
		data := w.window[w.at : w.at+n]
		c, err := a.chunk(data)
		if err != nil {
			return false, err
		}
		e := f.entry
		before := len(e.Extents)
		pos = w.take(e, c, int64(n), pos)
		w.samples(data, e.Extents[before:], pos)
		if !pieces {
			if len(e.Extents) > rec.MaxExtents/2 || a.written-a.dropped+openGroups+2 > rec.MaxRefs {
				return false, errPieces
			}
			continue
		}
		a.page.bytes += extentSize * (len(e.Extents) - before)
		rest, err := w.rest()
		if err != nil {
			return false, f.large.broken(f, pos, err)
		}
		if rest && (a.pieceFull(e) || a.rules.pieceEnds(data)) {
			if err := a.piece(f, pos); err != nil {
				return false, err
			}
		}
	}
	if size := f.large.size(); size > pos {
		f.entry.Extents = append(f.entry.Extents, rec.Extent{Hole: true, Len: uint64(size - pos)})
	}
	f.entry.Size = uint64(f.large.size())
	return f.large.judge(f, w, f.entry.Off == 0), nil
}

// window returns memory for two chunks.
func (a *assembler) window() []byte {
	n := len(a.windows)
	if n == 0 {
		return make([]byte, 2*a.rules.chunk)
	}
	w := a.windows[n-1]
	a.windows = a.windows[:n-1]
	return w
}

// pieceFull reports whether the page has no room for another chunk of e.
func (a *assembler) pieceFull(e *rec.Entry) bool {
	p := a.page
	return a.named()+2 > bounds.MaxRefs || len(e.Extents) > maxExtents ||
		p.bytes+chunkExtents > bounds.MaxBytes || p.data >= a.rules.pageData
}

// piece ends a piece of a file, and the page; f.entry is the next piece.
func (a *assembler) piece(f *file, pos int64) error {
	e := f.entry
	next := &rec.Entry{Path: e.Path, Type: rec.File, Inconsistent: e.Inconsistent} // the last piece says it
	e.More, e.Inconsistent = true, false
	e.Size = max(e.Size, uint64(pos))
	a.page.entries = append(a.page.entries, e)
	if err := a.cut(); err != nil {
		return err
	}
	next.Size, next.Off = e.Size, uint64(pos)
	f.entry = next
	a.page.bytes = sizeOf(f.entry)
	return nil
}

// judge compares the file with what it was.
func (o *opened) judge(f *file, w *flow, mayAgain bool) (again bool) {
	f.reader.reached("read", f.entry.Path)
	f.reads++
	f.marks = w.marks
	f.at = f.reader.time()
	verdict := changed
	after, err := o.file.Stat()
	if err == nil {
		f.after = after
		verdict = compare(o.stat, after, o.length)
		// A log that grows still begins and ends as it did; one that was
		// written anew does not.
		if verdict == grown && !stand(o.file, w.marks) {
			verdict = changed
		}
	}
	if (verdict == changed || verdict == touched) && err == nil && mayAgain && f.reads < tries && after.Size <= againSize && o.again(f) {
		return true
	}
	if verdict == touched {
		verdict = untouched(o.file, w.marks)
	}
	f.judge(verdict)
	return false
}

// again makes the file ready to be read from its beginning.
func (o *opened) again(f *file) bool {
	st, err := f.reader.ready(o.file)
	if err != nil {
		return false
	}
	o.file.Rewind()
	o.stat, o.length = st, int64(st.Size)
	f.renew(o.file, st)
	return true
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
