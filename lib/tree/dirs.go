package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// maxDirs is how many directories a Target holds open beside those in use.
const maxDirs = 128

// A dir is a directory of a Target. Its fields are guarded by Target.mu but for
// those that never change.
type dir struct {
	parent *dir // nil for the root
	path   string
	entry  *rec.Entry // its metadata; of the root nil if there is none
	made   Stat       // as it was made or found
	found  bool       // it was there before: the root, or a lost+found
	// barred says that the final mode of this directory or one above it keeps
	// its owner out: without privilege nothing in it can be reached any more.
	barred bool

	fd   int // -1 while closed to save descriptors
	pins int // users of fd
	refs int // what is not done in it, and Begin while it is in it
}

// makeDir makes a directory and lets Begin enter it. Its owner alone can use it
// until it is complete.
func (t *Target) makeDir(parent *dir, e *rec.Entry) error {
	d := &dir{parent: parent, path: e.Path, entry: e, fd: -1, refs: 1,
		barred: parent.barred || e.Mode&0o500 != 0o500}
	pfd, err := t.acquire(parent)
	if err != nil {
		return err
	}
	defer t.release(parent)
	name := base(e.Path)
	err = unix.Mkdirat(pfd, name, 0o700)
	if errors.Is(err, unix.EEXIST) && t.adopt && e.Path == "lost+found" {
		d.found = true
		err = nil
	}
	if err != nil {
		return refused(e.Path, "create directory", err)
	}
	fd, err := openAt(pfd, name, openDir)
	if err != nil {
		return op("open the directory just made", replaced(err))
	}
	err = statAt(fd, "", &d.made)
	if err == nil && d.made.UID != t.given.uid && !d.found {
		err = ErrReplaced
	}
	if err == nil && d.made.Mode&0o700 != 0o700 { // an odd umask
		err = unix.Fchmod(fd, 0o700)
	}
	if err != nil {
		closeFD(fd)
		return op("open the directory just made", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	parent.refs++
	t.stack = append(t.stack, d)
	t.opened(d, fd)
	return nil
}

// replaced names the errors that opening one of our own directories gives when
// somebody has put something else into its place.
func replaced(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
		return ErrReplaced
	}
	return err
}

// acquire returns the directory's descriptor, which stays open until release.
func (t *Target) acquire(d *dir) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return -1, ErrClosed
	}
	if d.fd < 0 {
		fd, err := t.reopen(d)
		if err != nil {
			return -1, op("open directory "+rec.Quote(d.path), replaced(err))
		}
		t.opened(d, fd)
	}
	d.pins++
	return d.fd, nil
}

// reopen opens a directory again, from the nearest one above it that is open,
// and makes sure that it is the one that was made.
func (t *Target) reopen(d *dir) (int, error) {
	from := d.parent
	for from.fd < 0 {
		from = from.parent
	}
	rest := d.path
	if from.path != "" {
		rest = d.path[len(from.path)+1:]
	}
	fd, err := openBeneath(from.fd, rest, openDir)
	if err != nil {
		return -1, err
	}
	var st Stat
	err = statAt(fd, "", &st)
	if err == nil && (st.Ino != d.made.Ino || st.Dev != d.made.Dev) {
		err = ErrReplaced
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// opened takes a directory's descriptor in, and closes the oldest ones that
// nobody uses if there are too many. With t.mu held.
func (t *Target) opened(d *dir, fd int) {
	d.fd = fd
	t.open = append(t.open, d)
	for i := 0; len(t.open) > maxDirs && i < len(t.open)-1; {
		old := t.open[i]
		if old.pins > 0 {
			i++
			continue
		}
		t.closeDir(old, i)
	}
}

// closeDir closes the directory at place i of t.open. With t.mu held.
func (t *Target) closeDir(d *dir, i int) {
	closeFD(d.fd)
	d.fd = -1
	t.open = append(t.open[:i], t.open[i+1:]...)
}

func (t *Target) release(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.pins--
	if t.closed && d.pins == 0 {
		closeFD(d.fd)
		d.fd = -1
	}
}

// unref drops one of the directory's references. At the last one the directory
// gets its metadata, and its parent loses the reference that it held.
func (t *Target) unref(d *dir) {
	for d != nil {
		t.mu.Lock()
		d.refs--
		done := d.refs == 0 && !t.dead && t.err == nil
		last := d.refs == 0
		t.mu.Unlock()
		if !last {
			return
		}
		if done && d.entry != nil {
			if err := t.finishDir(d); err != nil {
				t.fail(d.path, err)
			}
		}
		t.forget(d)
		d = d.parent
	}
}

// finishDir gives a directory its metadata.
func (t *Target) finishDir(d *dir) error {
	fd, err := t.acquire(d)
	if err != nil {
		return err
	}
	defer t.release(d)
	m := t.meta(d.entry, inode{fd: fd})
	if d.found {
		if err := m.look(); err != nil {
			return err
		}
	}
	if err := m.apply(d.made.UID, d.made.GID); err != nil {
		return err
	}
	m.setFlags()
	return nil
}

// forget closes a directory that is complete.
func (t *Target) forget(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d == t.root || d.fd < 0 || d.pins > 0 {
		return
	}
	for i := len(t.open) - 1; i >= 0; i-- {
		if t.open[i] == d {
			t.closeDir(d, i)
			return
		}
	}
}
