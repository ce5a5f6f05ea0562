package scan

import (
	"io"
	"sync/atomic"

	"preserve/lib/rec"
)

// What an uncut content stream holds between two cuts: so much its reader may
// have to keep. docs/format/streams.md, "Uncut".
const (
	uncutChunk   = 1 << 20 // bytes of a chunk
	uncutPage    = 4 << 20 // bytes of chunks, or a little more
	uncutEntries = 1024
	uncutChunks  = 1000
	uncutExtents = 1000 // of an entry
)

// An uncut writes entries with their contents, without a decision that takes a
// key.
type uncut struct {
	out     *rec.Writer
	buf     []byte // the next chunk, so far
	chunks  uint64 // since the last cut
	bytes   int
	entries int

	files, length atomic.Uint64 // for ticks
}

func (u *uncut) progress() (files, bytes uint64) { return u.files.Load(), u.length.Load() }

// A source is where the data of a file comes from: its stretches, ascending, and
// io.EOF behind the last.
type source interface {
	Segment(off int64) (start, end int64, err error)
	ReadAt(p []byte, off int64) (int, error)
}

// file writes a file of a known size.
func (u *uncut) file(e *rec.Entry, from source) error {
	size, pos := int64(e.Size), int64(0)
	for {
		start, end, err := from.Segment(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if start > pos {
			e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(start - pos)})
		}
		for pos = start; pos < end; {
			n := int(min(end-pos, int64(uncutChunk-len(u.buf))))
			at := len(u.buf)
			if _, err := from.ReadAt(u.room(n), pos); err != nil {
				return err
			}
			e.Extents = append(e.Extents, rec.Extent{N: u.chunks, Off: uint64(at), Len: uint64(n)})
			pos += int64(n)
			if err := u.flush(uncutChunk); err != nil {
				return err
			}
			if pos < size && u.full(e) {
				if e, err = u.piece(e, pos); err != nil {
					return err
				}
			}
		}
	}
	if pos < size {
		e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(size - pos)})
	}
	return u.entry(e)
}

// stream writes a file that is read to its end, and returns its size.
func (u *uncut) stream(e *rec.Entry, in io.Reader) (size int64, err error) {
	// One buffer ahead: whether a piece is the last one must be known.
	next := make([]byte, uncutChunk)
	n, err := io.ReadFull(in, next)
	for n > 0 && (err == nil || err == io.ErrUnexpectedEOF) {
		copy(u.room(n), next)
		e.Extents = append(e.Extents, rec.Extent{N: u.chunks, Len: uint64(n)})
		size += int64(n)
		if ferr := u.flush(0); ferr != nil {
			return size, ferr
		}
		if err != nil {
			break
		}
		if n, err = io.ReadFull(in, next); n > 0 && u.full(e) {
			e.Size = uint64(size)
			var perr error
			if e, perr = u.piece(e, size); perr != nil {
				return size, perr
			}
		}
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return size, err
	}
	e.Size = uint64(size)
	return size, u.entry(e)
}

// room returns n bytes at the end of the next chunk.
func (u *uncut) room(n int) []byte {
	if u.buf == nil {
		u.buf = make([]byte, 0, uncutChunk)
	}
	at := len(u.buf)
	u.buf = u.buf[:at+n]
	return u.buf[at:]
}

// flush writes the next chunk if it has at least that many bytes.
func (u *uncut) flush(least int) error {
	if len(u.buf) == 0 || len(u.buf) < least {
		return nil
	}
	err := u.out.Write(&rec.Chunk{N: u.chunks, Data: u.buf})
	u.chunks++
	u.bytes += len(u.buf)
	u.length.Add(uint64(len(u.buf)))
	u.buf = u.buf[:0]
	return err
}

func (u *uncut) full(e *rec.Entry) bool {
	return u.bytes >= uncutPage || u.chunks >= uncutChunks || e != nil && len(e.Extents) >= uncutExtents
}

// piece ends a piece of a file and a page, and returns the next piece.
func (u *uncut) piece(e *rec.Entry, pos int64) (*rec.Entry, error) {
	e.More = true
	next := &rec.Entry{Path: e.Path, Type: rec.File, Size: e.Size, Off: uint64(pos)}
	if err := u.entry(e); err != nil {
		return nil, err
	}
	return next, u.cut()
}

// entry writes an entry behind the chunks that it uses.
func (u *uncut) entry(e *rec.Entry) error {
	if err := u.flush(0); err != nil {
		return err
	}
	if e.Off == 0 {
		u.files.Add(1)
	}
	u.entries++
	if err := u.out.Write(e); err != nil {
		return err
	}
	if u.full(nil) || u.entries >= uncutEntries {
		return u.cut()
	}
	return nil
}

// cut lets the numbers of chunks begin anew.
func (u *uncut) cut() error {
	if u.entries == 0 {
		return nil
	}
	u.chunks, u.bytes, u.entries = 0, 0, 0
	return u.out.Write(&rec.Cut{})
}
