package target

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// maxDirs is how many directories a Target holds open beside those in use.
var maxDirs = inode.FewDescriptors(128)

// A dir is a directory of a Target. Its fields are guarded by Target.mu but for
// those that never change.
type dir struct {
	parent *dir // nil for the root
	path   string
	entry  *rec.Entry // its metadata; of the root nil if there is none
	made   inode.Stat // as it was made or found
	found  bool       // it was there before, or in an earlier section
	// barred says that the final mode of this directory or one above it keeps
	// its owner out: without privilege nothing in it can be reached any more.
	barred  bool
	old     bool     // it may have in it what this restore did not make
	keep    bool     // its own metadata, and what has no entry in it, stays
	virtual bool     // it is not there and would be made
	passing bool     // only the names of leaders in it are used
	names   []uint64 // with Into.Delete: of an old one, hashes of the names that have entries
	given   *given   // to what is made in it; of an old one see probe
	probe   *probe

	fd       int  // -1 while closed to save descriptors
	pins     int  // users of fd
	refs     int  // what is not done in it, and Begin while it is in it
	linked   bool // it is behind a link: it cannot be opened again, and stays open
	thawed   bool // its mode or flags are not what they were, to let us in
	hadMode  uint32
	hadFlags uint32
}

// makeDir makes a directory, or takes the one that is there, and lets Begin enter
// it. Its owner alone can use a new one until it is complete.
func (t *Target) makeDir(parent *dir, e *rec.Entry, again bool) error {
	if again {
		if d := t.living(e); d != nil {
			t.stack = append(t.stack, d)
			return nil
		}
	}
	d := &dir{parent: parent, path: e.Path, entry: e, fd: -1, refs: 1, keep: !vouches(e, &t.into),
		barred: parent.barred || e.Mode&0o500 != 0o500}
	if parent.virtual {
		return t.planDir(d, Create, again)
	}
	act := Create
	if parent.old || again {
		entered, there, err := t.meetDir(d)
		if entered || err != nil {
			return err
		}
		if there {
			act = Replace
		}
	}
	if t.planning() {
		return t.planDir(d, act, again)
	}
	return t.makeNewDir(d, act)
}

// meetDir looks at what is in a directory's place, and enters it if it is one.
func (t *Target) meetDir(d *dir) (entered, there bool, err error) {
	var st inode.Stat
	err = t.inDir(d.parent, func(pfd int) error { return inode.StatAt(pfd, inode.Base(d.path), &st) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, false, nil
	case err != nil:
		return false, false, refused(d.path, "create directory", err)
	case st.Type != rec.Dir && !d.parent.old:
		return false, true, inode.Op("open the directory of an earlier section", inode.ErrReplaced)
	}
	switch v, why := overDir(d.entry, &st, t.leads(d, &st), &t.into); v {
	case goIn:
		return true, true, t.enter(d, &st)
	case stay:
		t.conflict()
		return false, true, &Warning{Path: d.path, What: "create directory", Err: why}
	}
	return false, true, nil
}

// leads reports whether what is in a directory's place is a link to a directory, made by us or
// by root: one that somebody else has made may lead anywhere.
func (t *Target) leads(d *dir, st *inode.Stat) bool {
	if st.Type != rec.Symlink || !t.into.KeepDirSymlink || st.UID != 0 && st.UID != uint32(os.Geteuid()) {
		return false
	}
	err := t.inDir(d.parent, func(pfd int) error {
		fd, err := inode.OpenAt(pfd, inode.Base(d.path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if err == nil {
			inode.Close(fd)
		}
		return err
	})
	return err == nil
}

func (t *Target) makeNewDir(d *dir, act Act) error {
	parent, e := d.parent, d.entry
	name := inode.Base(d.path)
	g, err := t.givenIn(parent)
	if err == nil {
		d.given = g
		err = t.inDir(parent, func(pfd int) error { return t.newDir(parent, pfd, name, act) })
	}
	if errors.Is(err, unix.EEXIST) && t.adopt && e.Path == "lost+found" {
		d.found = true
		err = nil
	}
	if err != nil {
		return (&Node{dir: parent, e: e}).refused("create directory", err)
	}
	pfd, err := t.acquire(parent)
	if err != nil {
		return err
	}
	defer t.release(parent)
	fd, err := inode.OpenAt(pfd, name, inode.OpenDir)
	if err != nil {
		return inode.Op("open the directory just made", replaced(err))
	}
	err = inode.StatAt(fd, "", &d.made)
	if err == nil && d.made.UID != g.uid && !d.found {
		err = inode.ErrReplaced
	}
	if err == nil && d.made.Mode&0o700 != 0o700 { // an odd umask
		err = unix.Fchmod(fd, 0o700)
	}
	if err != nil {
		inode.Close(fd)
		return inode.Op("open the directory just made", err)
	}
	t.did(act, e.Path)
	t.push(d, fd)
	return nil
}

// newDir makes a directory, in place of something else if it is to replace that.
func (t *Target) newDir(parent *dir, pfd int, name string, act Act) error {
	if act == Create {
		return unix.Mkdirat(pfd, name, 0o700)
	}
	var o temp
	err := t.makeTemp(&o, parent, func(pfd int, name string) error { return unix.Mkdirat(pfd, name, 0o700) })
	if err != nil {
		return err
	}
	defer t.forgetTemp(&o)
	err = unix.Unlinkat(pfd, name, 0)
	if denied(err) {
		if f := thawFile(pfd, name); f != nil {
			err = unix.Unlinkat(pfd, name, 0)
			f.back(t, inode.Join(parent.path, name))
		}
	}
	if err == nil || err == unix.ENOENT {
		err = renameNew(pfd, o.name, name)
	}
	if err != nil {
		t.removeTemp(&o)
	}
	return err
}

// push lets Begin enter a directory.
func (t *Target) push(d *dir, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.parent.refs++
	t.stack = append(t.stack, d)
	if t.runs.live != nil {
		t.runs.live[d.path] = d
	}
	if fd >= 0 {
		t.opened(d, fd)
	}
}

// planDir enters a directory that would be made.
func (t *Target) planDir(d *dir, a Act, again bool) error {
	d.virtual = true
	if !again {
		t.did(a, d.path)
	}
	t.push(d, -1)
	return nil
}

// replaced names the errors that opening one of our own directories gives when
// somebody has put something else into its place.
func replaced(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
		return inode.ErrReplaced
	}
	return err
}

// acquire returns the directory's descriptor, which stays open until release.
func (t *Target) acquire(d *dir) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return -1, inode.ErrClosed
	}
	if d.fd < 0 {
		fd, err := t.reopen(d)
		if err != nil {
			return -1, inode.Op("open directory "+rec.Quote(d.path), replaced(err))
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
	fd, err := inode.OpenBeneath(from.fd, rest, inode.OpenDir)
	if err != nil {
		return -1, err
	}
	var st inode.Stat
	err = inode.StatAt(fd, "", &st)
	if err == nil && !d.passing && !st.SameFile(&d.made) {
		err = inode.ErrReplaced
	}
	if err != nil {
		inode.Close(fd)
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
	inode.Close(d.fd)
	d.fd = -1
	t.open = append(t.open[:i], t.open[i+1:]...)
}

func (t *Target) release(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.pins--
	if t.closed && d.pins == 0 {
		inode.Close(d.fd)
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
		if done && !d.virtual && (d.entry != nil || d.thawed) {
			if err := t.finishDir(d); err != nil {
				t.fail(d.path, err)
			}
		}
		t.forget(d)
		d = d.parent
	}
}

// finishDir gives a directory its metadata. From one that was there before it
// first removes what is not to be in it.
func (t *Target) finishDir(d *dir) error {
	fd, err := t.acquire(d)
	if err != nil {
		return err
	}
	defer t.release(d)
	switch {
	case d.old:
		return t.finishOld(d, fd)
	case d.found && d.entry == nil:
		return nil
	}
	m := t.meta(d.entry, inode.Handle{FD: fd}, d.given)
	if d.found {
		if err := m.look(); err != nil {
			return err
		}
		thawFD(fd) // if it cannot be, what its flags forbid is named
	}
	if err := m.apply(d.made.UID, d.made.GID); err != nil {
		return err
	}
	m.setFlags()
	return nil
}

func (t *Target) finishOld(d *dir, fd int) error {
	if d.entry != nil && t.into.Overwrite != Never {
		t.sweep(d, fd)
	}
	if d.entry == nil || d.entry.Way || d.entry.Err != "" || t.into.Overwrite == Never {
		if d.thawed {
			if err := d.freeze(fd); err != nil {
				t.report(d.path, "give back its mode and flags", err)
			}
		}
		return nil
	}
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil {
		return inode.Op("stat", err)
	}
	m := t.meta(d.entry, inode.Handle{FD: fd}, nil)
	differs, err := m.compare(&st)
	if err != nil {
		return m.soften("read attributes", err)
	}
	if (differs.any() || m.noOwner) && !t.planning() {
		if err := m.align(&st, differs); err != nil {
			return err
		}
	}
	// What we did to it ourselves is no difference.
	differs.mtime = d.made.MTime != d.entry.MTime
	if d.thawed {
		differs.mode, differs.flags = d.hadMode != m.wantMode(), d.hadFlags&inode.SettableFlags != m.wantFlags()
	}
	if differs.any() {
		t.did(Metadata, d.path)
	}
	return nil
}

// forget closes a directory that is complete.
func (t *Target) forget(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.runs.live != nil {
		delete(t.runs.live, d.path)
		t.idle.Broadcast()
	}
	if d.linked {
		d.pins-- // see enter
	}
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
