package chunk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"preserve/lib/bounds"
	"preserve/lib/rec"
	"preserve/lib/tree"
)

// tries is how often a small file that changes while it is read is read.
const tries = 3

// A file is an entry and what was found where it points.
type file struct {
	entry *rec.Entry
	gone  bool // it has vanished: nothing is stored
	// What the stage before cannot have named: other owners than the scan
	// saw, and who is in access control lists.
	owned, listed bool

	// A small file: its data, without the holes, and where it lies.
	data []byte
	buf  *[]byte
	segs []segment
	// A large file.
	large content

	notice, warning string
}

// A segment is a stretch of a file that is not a hole.
type segment struct{ off, len int64 }

// A reader opens and reads files. Its methods may be called from several
// goroutines.
type reader struct {
	src *tree.Source
}

// buffers hold small files; most are much smaller than the limit.
var buffers = [...]sync.Pool{
	{New: func() any { b := make([]byte, 16<<10); return &b }},
	{New: func() any { b := make([]byte, 64<<10); return &b }},
	{New: func() any { b := make([]byte, bounds.SmallFile+1); return &b }},
}

func (f *file) grab(n int64) {
	for i := range buffers {
		b := buffers[i].Get().(*[]byte)
		if int64(len(*b)) >= n {
			f.buf = b
			return
		}
		buffers[i].Put(b)
	}
}

// free gives the memory of a small file back.
func (f *file) free() {
	if f.buf == nil {
		return
	}
	for i := range buffers {
		if len(*f.buf) <= 16<<10<<(2*i) || i == len(buffers)-1 {
			buffers[i].Put(f.buf)
			break
		}
	}
	f.buf, f.data = nil, nil
}

// prepare opens the file of an entry, reads it if it is small, and reads the
// entry's attributes. What cannot be read is told in the result: the run goes
// on.
func (r *reader) prepare(e *rec.Entry) (*file, error) {
	f := &file{entry: e}
	switch {
	case e.Err != "" || e.Type == rec.HardLink:
	case e.Type == rec.File:
		return f, r.regular(f)
	default:
		r.attributes(f, func() ([]rec.XAttr, uint32, error) { return r.src.EntryAttributes(e) })
	}
	return f, nil
}

func (r *reader) attributes(f *file, read func() ([]rec.XAttr, uint32, error)) {
	xattrs, flags, err := read()
	switch {
	case err == nil:
		f.entry.Flags = flags
		if len(xattrs) > 0 {
			f.entry.XAttrs = xattrs
			f.listed = true
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, tree.ErrReplaced):
		// It was there when it was scanned, and is kept as it was then.
	default:
		f.warning = fmt.Sprintf("%s: read attributes: %s", rec.Quote(f.entry.Path), cause(err))
	}
}

// regular opens a regular file. An error ends the run: it says nothing about the
// file.
func (r *reader) regular(f *file) error {
	e := f.entry
	o, err := r.src.OpenEntry(e)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.gone = true
		f.notice = fmt.Sprintf("%s: has vanished since it was scanned", rec.Quote(e.Path))
		return nil
	case tree.Exhausted(err):
		return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
	case err != nil:
		f.unreadable("open", err)
		return nil
	}
	st, err := o.Stat()
	if err == nil && st.Type != rec.File {
		err = fmt.Errorf("%w: it was a file when it was scanned and is a %s now", tree.ErrReplaced, st.Type)
	}
	if err != nil {
		o.Close()
		f.unreadable("open", err)
		return nil
	}
	f.refresh(st)
	r.attributes(f, o.Attributes)
	if st.Size > bounds.SmallFile {
		f.large = &opened{file: o, stat: st, length: int64(st.Size)}
		return nil
	}
	defer o.Close()
	f.small(o, st)
	return nil
}

// unreadable keeps the entry without content: dropping it would look like a
// deletion.
func (f *file) unreadable(doing string, err error) {
	text := cause(err)
	for strings.HasPrefix(text, doing+": ") {
		text = strings.TrimPrefix(text, doing+": ")
	}
	f.entry.Err = rec.Text(doing + ": " + text)
	f.entry.Extents = nil
	f.warning = rec.Quote(f.entry.Path) + ": " + f.entry.Err
}

// refresh takes what is known of the file now, if it is not the file that the
// scan saw. An entry without ctime was put into the stream by somebody else,
// who decides.
func (f *file) refresh(st tree.Stat) {
	e := f.entry
	e.Size = st.Size
	if e.CTime == (rec.Time{}) || e.CTime == st.CTime && e.Ino == st.Ino {
		return
	}
	if e.Links > 1 && (e.Ino != st.Ino || e.Dev != st.Dev) {
		f.warning = fmt.Sprintf("%s: was replaced since it was scanned: its other names are stored as links to the new file", rec.Quote(e.Path))
	}
	f.owned = f.owned || e.UID != st.UID || e.GID != st.GID
	e.Mode, e.UID, e.GID, e.MTime, e.CTime, e.Ino, e.Dev = st.Mode, st.UID, st.GID, st.MTime, st.CTime, st.Ino, st.Dev
}

// small reads a small file, again if it changes meanwhile.
func (f *file) small(o *tree.File, st tree.Stat) {
	f.grab(int64(st.Size))
	for try := 1; ; try++ {
		n, err := f.readOnce(o, &st)
		var after tree.Stat
		if err == nil {
			after, err = o.Stat()
		}
		if err != nil {
			f.free()
			f.unreadable("read", err)
			return
		}
		verdict := compare(st, after, n)
		f.entry.Size = uint64(n)
		if verdict != same && try < tries && after.Size <= bounds.SmallFile {
			f.free()
			st = after
			f.refresh(st)
			f.grab(int64(st.Size))
			continue
		}
		f.judge(verdict)
		return
	}
}

// readOnce fills data and segs with the file's content as st sees it. n is less
// than its size if the file has become shorter.
func (f *file) readOnce(o *tree.File, st *tree.Stat) (n int64, err error) {
	size := int64(st.Size)
	f.data, f.segs = (*f.buf)[:0], f.segs[:0]
	for off := int64(0); off < size; {
		start, end, err := o.NextSegment(st, off)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
		at := len(f.data)
		got, err := readAt(o, (*f.buf)[at:at+int(end-start)], start)
		f.data = (*f.buf)[:at+got]
		if got > 0 {
			f.segs = append(f.segs, segment{start, int64(got)})
		}
		if err != nil {
			return 0, err
		}
		if got < int(end-start) {
			return start + int64(got), nil
		}
		off = end
	}
	return size, nil
}

// readAt reads until b is full or the file ends.
func readAt(o *tree.File, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := o.ReadAt(b[n:], off+int64(n))
		n += m
		if err == io.EOF || m == 0 && err == nil {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

type verdict int

const (
	same verdict = iota
	grown
	changed
)

// compare judges a file from its state before and after its first n bytes were
// read.
func compare(before, after tree.Stat, n int64) verdict {
	switch {
	case uint64(n) < before.Size || after.Size < before.Size:
		return changed
	case before.CTime == after.CTime && before.MTime == after.MTime && before.Size == after.Size:
		return same
	case after.Size > before.Size:
		return grown
	case before.MTime == after.MTime:
		// Only names, owners or modes have changed.
		return same
	}
	return changed
}

// judge marks the entry and says what the user must know.
func (f *file) judge(v verdict) {
	switch v {
	case grown:
		f.notice = fmt.Sprintf("%s: has grown while it was read: stored as long as it was when it was opened", rec.Quote(f.entry.Path))
	case changed:
		f.entry.Inconsistent = true
		f.warning = fmt.Sprintf("%s: changed each time it was read: stored as read, marked inconsistent", rec.Quote(f.entry.Path))
	}
}

// cause leaves the path out of an error: the message names it already.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
