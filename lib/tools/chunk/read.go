package chunk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"preserve/lib/bounds"
	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// tries is how often a file that changes while it is read, or soon after, is
// read.
const tries = 3

// Time stamps change in steps: a modification in the same step as the one before
// it cannot be told by them.
const (
	granule       = 10 * time.Millisecond
	coarseGranule = 2 * time.Second // on file systems whose time stamps are whole seconds
)

// A file is an entry and what was found where it points.
type file struct {
	entry *rec.Entry
	gone  bool // it has vanished: nothing is stored
	// lies says that it is longer than the system reports: its size and times tell nothing.
	lies bool
	// missing says that it has vanished, but is stored as it was scanned.
	missing bool
	// What the stage before cannot have named: other owners than the scan
	// saw, and who is in access control lists.
	owned, listed bool
	// unsure says that not all of it was read: no later run relies on it.
	unsure bool

	// A small file: its data, without the holes, and where it lies.
	data []byte
	buf  *[]byte
	segs []segment
	// A large file.
	large content

	// How a file was read: how often, what it was when it had been, when that
	// was, and marks of the content.
	reads int
	after inode.Stat
	at    time.Time
	marks [2]mark
	grown bool // that it has grown meanwhile was said

	reader          *reader
	notice, warning string
	bare            string // why not all of its attributes could be read
	err             error  // why it cannot be read
}

// A segment is a stretch of a file that is not a hole.
type segment struct{ off, len int64 }

// A reader opens and reads files. Its methods may be called from several
// goroutines.
type reader struct {
	src *source.Source
	// pause, unless it is nil, is called when a file has been opened and each time
	// that it has been read. Tests change files then.
	pause func(what, path string)
	clock func() time.Time // nil for the system's
}

func (r *reader) time() time.Time {
	if r.clock != nil {
		return r.clock()
	}
	return time.Now()
}

func (r *reader) reached(what, path string) {
	if r.pause != nil {
		r.pause(what, path)
	}
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
func (r *reader) prepare(e *rec.Entry) (*file, error) { return r.read(e, 0) }

// read is prepare for a file that was read a number of times already.
func (r *reader) read(e *rec.Entry, times int) (*file, error) {
	f := &file{entry: e, reader: r, reads: times}
	switch {
	case e.Err != "" || e.Type == rec.HardLink:
	case e.Type == rec.File:
		return f, r.regular(f)
	default:
		r.attributes(f, func() (inode.Attributes, error) { return r.src.EntryAttributes(e) })
	}
	return f, nil
}

// attributes adds to the entry what statx does not tell. Attributes that the stream brought stay if the file has
// none.
func (r *reader) attributes(f *file, read func() (inode.Attributes, error)) {
	a, err := read()
	e := f.entry
	if len(a.XAttrs) > 0 {
		e.XAttrs = a.XAttrs
		f.listed = true
	}
	if err == nil || a.Flags != 0 {
		e.Flags = a.Flags
	}
	if errors.Is(err, fs.ErrNotExist) && e.CTime == (rec.Time{}) {
		a.Omitted = e.Omitted // somebody put it into the stream, and decides
	}
	e.Omitted = slices.DeleteFunc(slices.Clone(a.Omitted), func(name string) bool {
		return slices.ContainsFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == name })
	})
	r.src.Omit.Apply(e)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, inode.ErrReplaced):
		// It was there when it was scanned, and is kept as it was then.
		f.unsure, f.missing = true, errors.Is(err, fs.ErrNotExist)
	default:
		f.unsure = true
		f.bare = "read attributes: " + cause(err)
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
	case inode.Exhausted(err):
		return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
	case err != nil:
		f.unreadable("open", err)
		return nil
	}
	st, err := o.Stat()
	if err == nil && st.Type != rec.File {
		err = fmt.Errorf("%w: it was a file when it was scanned and is a %s now", inode.ErrReplaced, st.Type)
	}
	r.reached("opened", e.Path)
	if err == nil {
		st, err = r.ready(o)
	}
	if err != nil {
		o.Close()
		f.unreadable("open", err)
		return nil
	}
	if st.Size == 0 || st.Size > bounds.SmallFile { // of others small says it
		if err = f.reveal(o, &st); err != nil {
			o.Close()
			f.unreadable("read", err)
			return nil
		}
	}
	f.refresh(st)
	r.attributes(f, o.Attributes)
	if st.Size <= bounds.SmallFile && !f.small(o, &st) {
		return o.Close()
	}
	f.large = &opened{file: o, stat: st, length: int64(st.Size)}
	return nil
}

// ready returns what the file is before it is read. If it has just changed, ready
// waits until another change would be seen.
func (r *reader) ready(o *inode.File) (inode.Stat, error) {
	st, err := o.Stat()
	if err != nil {
		return st, err
	}
	if d := fresh(st.CTime, time.Now()); d > 0 {
		time.Sleep(d + time.Millisecond) // the system's clock ticks late
		return o.Stat()
	}
	return st, nil
}

// fresh returns how long a time stamp of that ctime may stay the same although the
// file changes. One that lies in the future is of another clock, and says nothing.
func fresh(ctime rec.Time, now time.Time) time.Duration {
	g := granule
	if ctime.Nsec == 0 {
		g = coarseGranule
	}
	age := now.Sub(ctime.Std())
	if age < 0 || age >= g {
		return 0
	}
	return g - age
}

// unreadable keeps the entry without content: dropping it would look like a
// deletion.
func (f *file) unreadable(doing string, err error) {
	f.err = err
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
func (f *file) refresh(st inode.Stat) {
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

// renew is refresh, and reads the attributes again, before the file is read again:
// they belong to the ctime that the entry says.
func (f *file) renew(o *inode.File, st inode.Stat) {
	f.refresh(st)
	if f.entry.CTime != (rec.Time{}) {
		f.entry.XAttrs = nil
	}
	f.reader.attributes(f, o.Attributes)
}

// small reads a small file, again if it changes meanwhile. If it has become large,
// it returns true, and in st what it is then.
func (f *file) small(o *inode.File, st *inode.Stat) (large bool) {
	f.grab(int64(st.Size) + 1)
	for {
		before := f.marks
		n, past, err := f.readOnce(o, st)
		f.reader.reached("read", f.entry.Path)
		if err == nil && past && !f.lies {
			if err = f.reveal(o, st); err == nil && f.lies {
				f.free()
				if st.Size > bounds.SmallFile {
					return true
				}
				f.grab(int64(st.Size) + 1)
				n, past, err = f.readOnce(o, st)
			}
		}
		if err == nil {
			f.after, err = o.Stat()
		}
		if err != nil {
			f.free()
			f.unreadable("read", err)
			return false
		}
		f.reads++
		f.at = f.reader.time()
		f.mark()
		verdict := compare(*st, f.after, n)
		if f.lies && past {
			verdict = changed
		}
		f.entry.Size = uint64(n)
		last := f.reads >= tries || f.after.Size > bounds.SmallFile
		switch {
		case (verdict == changed || verdict == touched) && uint64(n) == f.after.Size && f.marks == before && f.dense():
			verdict = same // whatever changed, it read the same twice
		case verdict == grown && last && !stand(o, f.marks):
			verdict = changed
		case verdict == touched && last:
			verdict = untouched(o, f.marks)
		}
		if verdict == same || verdict == grown && last || f.reads >= tries {
			f.judge(verdict)
			return false
		}
		f.free()
		if *st, err = f.reader.ready(o); err != nil {
			f.unreadable("read", err)
			return false
		}
		o.Rewind()
		f.renew(o, *st)
		if st.Size > bounds.SmallFile {
			return true
		}
		f.grab(int64(st.Size) + 1)
	}
}

// reveal looks for content beyond the size that the system reports, and takes it into st.
func (f *file) reveal(o *inode.File, st *inode.Stat) error {
	more, whole, err := o.Reveal(st)
	if err != nil || !more {
		return err
	}
	f.lies, f.unsure = true, true
	f.notice = fmt.Sprintf("%s: has more content than its size of %d bytes says: stored as read", rec.Quote(f.entry.Path), st.Size)
	if !whole {
		f.entry.Inconsistent = true
		f.warning = fmt.Sprintf("%s: has more content than its size of %d bytes says, and no end: stored up to %d bytes, marked inconsistent", rec.Quote(f.entry.Path), st.Size, st.Size+inode.MaxReveal)
	}
	*st, err = o.Stat()
	return err
}

// untouched judges a touched file that is not read again by what marks say of it.
func untouched(o *inode.File, marks [2]mark) verdict {
	if stand(o, marks) {
		return same
	}
	return changed
}

// mark marks what was read of a small file: all of it, unless there are holes.
func (f *file) mark() {
	f.marks = [2]mark{}
	if n := len(f.segs); n > 0 {
		first, last := f.segs[0], f.segs[n-1]
		f.marks[0] = markOf(first.off, f.data[:first.len])
		if n > 1 {
			f.marks[1] = markOf(last.off, f.data[len(f.data)-int(last.len):])
		}
	}
}

// dense reports whether a small file's mark is of all that there is.
func (f *file) dense() bool {
	return len(f.segs) == 1 && f.segs[0] == segment{0, int64(f.entry.Size)}
}

// readOnce fills data and segs with the file's content as st sees it. n is less
// than its size if the file has become shorter; past says that there is more.
func (f *file) readOnce(o *inode.File, st *inode.Stat) (n int64, past bool, err error) {
	size := int64(st.Size)
	f.data, f.segs = (*f.buf)[:0], f.segs[:0]
	for off := int64(0); off < size; {
		start, end, err := o.NextSegment(st, off)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, false, err
		}
		at, want := len(f.data), int(end-start)
		var got int
		if end == size { // ask for one byte more: it costs no call
			if got, err = o.ReadPast((*f.buf)[at:at+want+1], start); got > want {
				got, past = want, true
			}
		} else {
			got, err = readAt(o, (*f.buf)[at:at+want], start)
		}
		f.data = (*f.buf)[:at+got]
		if got > 0 {
			f.segs = append(f.segs, segment{start, int64(got)})
		}
		if err != nil {
			return 0, false, err
		}
		if got < want {
			return start + int64(got), false, nil
		}
		off = end
	}
	return size, past, nil
}

// readAt reads until b is full or the file ends.
func readAt(o *inode.File, b []byte, off int64) (n int, err error) {
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
	// touched: names, owners or modes have changed. That moves ctime, too, and so
	// may hide that the content has changed and mtime was set back.
	touched
	changed
)

// compare judges a file from its state before and after its first n bytes were
// read.
func compare(before, after inode.Stat, n int64) verdict {
	switch {
	case uint64(n) < before.Size || after.Size < before.Size:
		return changed
	case before.CTime == after.CTime && before.MTime == after.MTime && before.Size == after.Size:
		return same
	case after.Size > before.Size:
		return grown
	case before.MTime == after.MTime && (before.Mode != after.Mode || before.UID != after.UID || before.GID != after.GID || before.Links != after.Links):
		return touched
	}
	return changed
}

// judge marks the entry and says what the user must know.
func (f *file) judge(v verdict) {
	switch v {
	case grown:
		f.grown = true
		f.notice = fmt.Sprintf("%s: has grown while it was read: stored as long as it was when it was opened", rec.Quote(f.entry.Path))
	case changed:
		f.entry.Inconsistent = true
		when := "while it was read"
		if f.reads >= tries {
			when = "each time it was read"
		}
		f.warning = fmt.Sprintf("%s: changed "+when+": stored as read, marked inconsistent", rec.Quote(f.entry.Path))
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
