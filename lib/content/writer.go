package content

import (
	"fmt"
	"io"
	"sync/atomic"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// What a content stream holds between two cuts: so much its reader may have to keep
// (docs/format/streams.md, "Uncut content streams").
const (
	writeChunk   = 1 << 20   // bytes of a chunk that small pieces are gathered in
	writeDirect  = 256 << 10 // bytes that are a chunk of their own, and not gathered
	writePage    = 4 << 20   // bytes of chunks, or a little more
	writeEntries = 1000
	writeChunks  = 1000
	writeExtents = 1000    // of an entry
	writeBytes   = 1 << 20 // of extended attributes and the like in entries
)

// A Writer writes entries and their content as a stream: an uncut content stream, or
// the tree stream of the same entries. A file is begun with Begin, and its content is
// given with Data and Hole, without a gap, until Done or Lose. Everything else is
// written with Entry.
//
// It is for one goroutine, Progress apart.
type Writer struct {
	out  *rec.Writer
	kind rec.Kind
	end  rec.End

	entry  rec.Entry // the file that was begun, or a further piece of it
	pos    uint64    // where its content ends so far
	buf    []byte    // the next chunk
	chunks uint64    // since the last cut
	bytes  int       // of chunks
	extras int       // bytes of entries, roughly
	count  int       // of entries

	files, length atomic.Uint64
}

// NewWriter returns a Writer of a stream of the head's kind, Tree or Content, and writes the head.
func NewWriter(out *rec.Writer, head rec.Head) (*Writer, error) {
	return &Writer{out: out, kind: head.Kind}, out.Write(&head)
}

// Names writes the names of owners. They come before all entries, so that who makes files knows
// them in time.
func (w *Writer) Names(users, groups []rec.Name) error {
	names, users, groups := rec.SplitNames(users, groups)
	if len(users)+len(groups) > 0 {
		names = append(names, &rec.Names{Users: users, Groups: groups})
	}
	for _, n := range names {
		if err := w.out.Write(n); err != nil {
			return err
		}
	}
	return nil
}

// EndNames is Names behind all entries, where the names were not known before.
func (w *Writer) EndNames(users, groups []rec.Name) error {
	names, users, groups := rec.SplitNames(users, groups)
	for _, n := range names {
		if err := w.out.Write(n); err != nil {
			return err
		}
	}
	w.end.Users, w.end.Groups = users, groups
	return nil
}

// Progress is how many entries and bytes of content were written. Any goroutine may call it.
func (w *Writer) Progress() (files, bytes uint64) { return w.files.Load(), w.length.Load() }

// Entry writes an entry that has no content here. It has no extents.
func (w *Writer) Entry(e *rec.Entry) error {
	w.entry, w.pos = *e, 0
	return w.write()
}

// Begin begins a file, of which e has the metadata.
func (w *Writer) Begin(e *rec.Entry) {
	w.entry, w.pos = *e, 0
	w.entry.Extents, w.entry.More, w.entry.Inconsistent = nil, false, false
}

// Data is the next bytes of the file.
func (w *Writer) Data(b []byte) error {
	w.length.Add(uint64(len(b)))
	for len(b) > 0 {
		if err := w.room(); err != nil {
			return err
		}
		if len(w.buf) == 0 && len(b) >= writeDirect {
			n := min(len(b), rec.MaxChunk)
			w.extent(rec.Extent{N: w.chunks, Len: uint64(n)})
			if err := w.chunk(b[:n]); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		n := min(len(b), writeChunk-len(w.buf))
		w.extent(rec.Extent{N: w.chunks, Off: uint64(len(w.buf)), Len: uint64(n)})
		if w.buf == nil {
			w.buf = make([]byte, 0, writeChunk)
		}
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		if len(w.buf) == writeChunk {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadFrom gives Data what in holds, to its end, and returns how much that was.
func (w *Writer) ReadFrom(in io.Reader) (n int64, err error) {
	buf := make([]byte, writeChunk)
	for {
		k, err := io.ReadFull(in, buf)
		n += int64(k)
		if k > 0 {
			if err := w.Data(buf[:k]); err != nil {
				return n, err
			}
		}
		switch {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// Hole is a hole of n bytes.
func (w *Writer) Hole(n int64) error {
	if err := w.room(); err != nil {
		return err
	}
	w.extent(rec.Extent{Hole: true, Len: uint64(n)})
	return nil
}

// Done ends the file. Its size and verdict were not known before.
func (w *Writer) Done(size uint64, inconsistent bool) error {
	w.entry.Size, w.entry.Inconsistent = size, inconsistent
	return w.write()
}

// Lose says that the rest of the file that was begun cannot be had, of which i was a part:
// whoever reads the stream must not make a file of its beginning.
func (w *Writer) Lose(i id.ID) error {
	if len(w.entry.Extents) > 0 {
		w.entry.More = true
		if err := w.write(); err != nil {
			return err
		}
	} else if w.entry.Off == 0 { // nothing of it was written
		w.entry.Err = "lost: data blob " + i.Short()
		return w.write()
	}
	return w.Missing(i)
}

// Missing says that entries are unknown from here up to the next, since blob i cannot be had.
func (w *Writer) Missing(i id.ID) error { return w.out.Write(&rec.Missing{ID: i}) }

// Warn counts a warning.
func (w *Writer) Warn(text string) { w.end.Warn(text) }

// Warned takes over warnings that were counted before, and the first of their texts.
func (w *Writer) Warned(n uint64, texts []string) {
	const room = rec.MaxSmall / 4
	w.end.Warnings += n
	used := 0
	for _, text := range w.end.Warned {
		used += len(text)
	}
	for _, text := range texts {
		if used += len(text); used > room || len(w.end.Warned) == rec.MaxWarned {
			return
		}
		w.end.Warned = append(w.end.Warned, text)
	}
}

// Finish writes the end. Its status is 3 if partial says so, or something was warned of.
func (w *Writer) Finish(partial bool) error {
	if err := w.cut(); err != nil {
		return err
	}
	if partial {
		w.end.Status = 3
	}
	w.end.Entries, w.end.Bytes = w.files.Load(), w.length.Load()
	return w.out.Write(&w.end)
}

// extent adds to the entry's content; what goes on where the last extent ended
// makes that longer.
func (w *Writer) extent(x rec.Extent) {
	w.pos += x.Len
	if n := len(w.entry.Extents); n > 0 {
		last := &w.entry.Extents[n-1]
		if last.Hole && x.Hole || !last.Hole && !x.Hole && last.N == x.N && last.Off+last.Len == x.Off {
			last.Len += x.Len
			return
		}
	}
	w.entry.Extents = append(w.entry.Extents, x)
}

// room ends a piece and a page if there is enough in them.
func (w *Writer) room() error {
	if w.bytes < writePage && w.chunks < writeChunks && len(w.entry.Extents) < writeExtents {
		return nil
	}
	if len(w.entry.Extents) > 0 {
		w.entry.Size = max(w.entry.Size, w.pos) // of a file that is still read it is not known
		next := rec.Entry{Path: w.entry.Path, Type: rec.File, Size: w.entry.Size, Off: w.pos}
		w.entry.More = true
		if err := w.write(); err != nil {
			return err
		}
		w.entry = next
	}
	return w.cut()
}

// flush writes the chunk that was gathered.
func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.chunk(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *Writer) chunk(b []byte) error {
	err := w.out.Write(&rec.Chunk{N: w.chunks, Data: b})
	w.chunks++
	w.bytes += len(b)
	return err
}

// write writes the entry at hand behind the chunks that it uses.
func (w *Writer) write() error {
	if err := w.flush(); err != nil {
		return err
	}
	e := w.entry
	if err := w.out.Write(&e); err != nil {
		return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
	}
	if e.Off == 0 {
		w.files.Add(1)
	}
	w.count++
	w.extras += len(e.Path) + len(e.Target) + len(e.Leader) + len(e.Err)
	for _, x := range e.XAttrs {
		w.extras += len(x.Name) + len(x.Value)
	}
	for _, name := range e.Omitted {
		w.extras += len(name)
	}
	if w.count >= writeEntries || w.extras >= writeBytes || w.bytes >= writePage || w.chunks >= writeChunks {
		return w.cut()
	}
	return nil
}

// cut lets the numbers of chunks begin anew.
func (w *Writer) cut() error {
	if w.count == 0 || w.kind == rec.Tree {
		return nil
	}
	w.chunks, w.bytes, w.extras, w.count = 0, 0, 0, 0
	return w.out.Write(&rec.Cut{})
}
