package chunk

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"syscall"
	"time"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// What is held while files settle, beside the page that is being filled.
const (
	maxWaiting = 64 << 10 // entries
	maxHeld    = 32 << 20 // bytes of them
	// maxAhead, of chunks, leaves room for the page that is being filled, and for
	// one file that is read again.
	maxAhead = rec.MaxRefs - 8192
	readSize = 200 // bytes of a reading
)

// againSize is the largest file that is read again as a whole.
const againSize = 64 << 20

// A reading is a file that was read and has yet to settle: it is looked at again
// some time after it was read, since a modification can hide behind time stamps
// that lag.
type reading struct {
	entry *rec.Entry // the last piece
	state state      // when it had been read
	marks [2]mark
	reads int
	large bool
	sent  bool // earlier pieces of it are in pages that have ended
	grown bool // that it has grown was said
}

// A state is what tells that a file has changed.
type state struct {
	size         uint64
	mtime, ctime rec.Time
	ino, dev     uint64
}

func stateOf(st inode.Stat) state { return state{st.Size, st.MTime, st.CTime, st.Ino, st.Dev} }

// A mark is a hash of a part of what was read, and where that lies.
type mark struct {
	off, len int64
	sum      uint64
}

var seed = maphash.MakeSeed()

func markOf(off int64, data []byte) mark {
	return mark{off, int64(len(data)), maphash.Bytes(seed, data)}
}

// stand reports whether all of marks still read the same.
func stand(file *inode.File, marks [2]mark) bool {
	for _, m := range marks {
		b := make([]byte, m.len)
		if n, err := readAt(file, b, m.off); err != nil || n < len(b) || m.len > 0 && maphash.Bytes(seed, b) != m.sum {
			return false
		}
	}
	return true
}

// watch lets a file that was read settle, unless it was empty: whatever comes
// into an empty file changes its size, and is seen by the next run.
func (a *assembler) watch(f *file, sent bool) {
	if a.settle <= 0 || f.reads == 0 || f.after.Size == 0 || f.lies || f.entry.Inconsistent || f.entry.Err != "" {
		return
	}
	p := a.page
	p.reads = append(p.reads, &reading{entry: f.entry, state: stateOf(f.after), marks: f.marks, reads: f.reads, large: f.large != nil, sent: sent, grown: f.grown})
	if due := f.at.Add(a.settle); due.After(p.due) {
		p.due = due
	}
}

// full reports whether no more can be held.
func (a *assembler) full() bool {
	if len(a.waiting) == 0 {
		return false
	}
	entries, bytes := 0, 0
	for _, p := range a.waiting {
		entries += len(p.entries)
		bytes += p.bytes + readSize*len(p.reads)
	}
	return entries > maxWaiting || bytes > maxHeld || a.written-a.dropped > maxAhead || a.ahead > a.rules.ahead
}

// due passes if it is time to.
func (a *assembler) due() error {
	if len(a.waiting) == 0 || a.reader.time().Before(a.next) {
		return nil
	}
	return a.pass()
}

// pass looks again at the files of all pages that are due, and writes the pages
// that have settled, in order. One that changes all the time delays those behind
// it, but they settle meanwhile.
func (a *assembler) pass() error {
	now := a.reader.time()
	a.next = time.Time{}
	for _, p := range a.waiting {
		if len(p.reads) > 0 && !now.Before(p.due) {
			if err := a.look(p); err != nil {
				return err
			}
		}
		if len(p.reads) > 0 && (a.next.IsZero() || p.due.Before(a.next)) {
			a.next = p.due
		}
	}
	for len(a.waiting) > 0 && len(a.waiting[0].reads) == 0 {
		next := a.page
		if len(a.waiting) > 1 {
			next = a.waiting[1]
		}
		if err := a.write(a.waiting[0], next); err != nil {
			return err
		}
		a.waiting[0] = nil
		a.waiting = a.waiting[1:]
	}
	return nil
}

// await waits until the next page is due.
func (a *assembler) await() error {
	if d := a.next.Sub(a.reader.time()); d > 0 {
		a.sleep(d)
	}
	return a.pass()
}

// look looks again at the files of a page.
func (a *assembler) look(p *page) error {
	open, reads := a.page, p.reads
	a.page, p.reads, p.due = p, nil, time.Time{}
	defer func() { a.page = open }()
	for _, r := range reads {
		if err := a.check(r); err != nil {
			return err
		}
	}
	return a.closeGroups()
}

// check looks at a file again, and reads it again if it has changed.
func (a *assembler) check(r *reading) error {
	e := r.entry
	st, err := a.reader.src.Look(e.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), err == nil && st.Type != rec.File:
		return nil // it has vanished: what was read is all there is
	case err == nil && stateOf(st) == r.state:
		return nil
	case err == nil && st.Size > r.state.size && a.onlyGrown(r, &st):
		if !r.grown {
			a.env.Notice("%s: has grown since it was read: stored as long as it was when it was opened", rec.Quote(e.Path))
		}
		return nil
	}
	same := r.state
	same.ino, same.dev = st.Ino, st.Dev
	switch room := a.written-a.dropped < maxAhead; {
	case err == nil && r.reads >= tries && same == stateOf(st):
		return nil // a file system whose inodes do not last
	case r.reads >= tries:
		a.unsettled(e, "changed again each time after it was read")
		return nil
	case r.sent || err == nil && st.Size > againSize || !room:
		a.unsettled(e, "changed soon after it was read, and is too large to be read again")
		return nil
	}
	return a.again(r)
}

// onlyGrown reports whether the file that was read is still there and begins and
// ends, as far as it was read, as it did.
func (a *assembler) onlyGrown(r *reading, st *inode.Stat) bool {
	if st.Ino != r.state.ino || st.Dev != r.state.dev {
		return false
	}
	o, err := a.reader.src.OpenEntry(r.entry)
	if err != nil {
		return false
	}
	defer o.Close()
	return stand(o, r.marks)
}

// unsettled keeps what was read, which may never have been the file's content.
func (a *assembler) unsettled(e *rec.Entry, what string) {
	e.Inconsistent = true
	text := fmt.Sprintf("%s: %s: stored as read, marked inconsistent", rec.Quote(e.Path), what)
	a.env.Warn("%s", text)
	a.end.Warn(text)
}

// again reads a file of the page again. It has to settle again, too.
func (a *assembler) again(r *reading) error {
	e := r.entry
	c := *e
	c.Extents, c.Flags = nil, 0
	if c.CTime != (rec.Time{}) {
		c.XAttrs = nil
	}
	f, err := a.reader.read(&c, r.reads)
	if err != nil {
		return err
	}
	defer f.free()
	switch {
	case f.gone, errors.Is(f.err, inode.ErrReplaced):
		return nil // it has vanished
	case f.err != nil:
		a.unsettled(e, "changed after it was read, and cannot be read again ("+cause(f.err)+")")
		return nil
	}
	a.page.again = true
	f.grown = f.grown || r.grown
	size := sizeOf(e) + extentSize*len(e.Extents)
	switch {
	case f.large != nil:
		if done, err := a.largeAgain(f); err != nil || !done {
			if err == nil {
				a.unsettled(e, "changed soon after it was read, and cannot be read again as a whole")
			}
			return err
		}
	case len(f.data) > 0 && !r.large && f.marks == r.marks && f.dense() && r.marks[0].len == int64(e.Size):
		c.Extents = e.Extents // only its metadata has changed
	case len(f.data) > 0:
		// The group refers to the entry that is written.
		*e = c
		f.entry = e
		if err := a.small(f); err != nil {
			return err
		}
	case c.Size > 0:
		c.Extents = []rec.Extent{{Hole: true, Len: c.Size}}
	}
	if f.entry != e {
		*e = c
		f.entry = e
	}
	a.page.bytes += sizeOf(e) + extentSize*len(e.Extents) - size
	a.tell(f)
	a.names.see(f)
	a.doubt(f)
	a.watch(f, false)
	return nil
}
