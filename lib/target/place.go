package target

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// made counts a node that was made.
func (n *Node) made() {
	switch {
	case n.old == nil:
		n.t.did(Create, n.e.Path)
	case n.old.Type == n.e.Type, n.e.Type == rec.HardLink && n.old.Type == n.leader.node.e.Type:
		n.t.did(Update, n.e.Path)
	default:
		n.t.did(Replace, n.e.Path)
	}
}

// place gives what was made under a temporary name in the node's directory its
// own, in place of what is there.
func (n *Node) place(dirfd int, temp string) error {
	t, name := n.t, inode.Base(n.e.Path)
	if n.old == nil {
		return renameNew(dirfd, temp, name)
	}
	if n.old.Type == rec.Dir {
		if err := t.makeRoom(n, dirfd, name); err != nil {
			return err
		}
		return renameNew(dirfd, temp, name)
	}
	err := unix.Renameat(dirfd, temp, dirfd, name)
	if denied(err) {
		if f := thawFile(dirfd, name); f != nil {
			err = unix.Renameat(dirfd, temp, dirfd, name)
			f.back(t, n.e.Path)
		}
	}
	return err
}

// refused makes an error of this node, like the function; in a directory that was
// there before, others may well make things too.
func (n *Node) refused(what string, err error) error {
	if n.dir.old && errors.Is(err, unix.EEXIST) {
		return &Warning{Path: n.e.Path, What: what, Err: inode.ErrExists}
	}
	return refused(n.e.Path, what, err)
}

// inDir calls fn with the descriptor of a directory, and again if the
// directory's mode or flags forbade what fn does and it is ours to change them
// until it is complete.
func (t *Target) inDir(d *dir, fn func(dirfd int) error) error {
	fd, err := t.acquire(d)
	if err != nil {
		return err
	}
	defer t.release(d)
	if err = fn(fd); denied(err) && d.found && t.thaw(d, fd) {
		err = fn(fd)
	}
	return err
}

// thaw opens a directory that was there before to its owner, and clears flags
// that forbid to make or remove anything in it. Its own are given back when it
// is complete.
func (t *Target) thaw(d *dir, fd int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.thawed || t.planning() {
		return d.thawed
	}
	var st inode.Stat
	all, err := inode.AllFlags(fd)
	if err != nil || inode.StatAt(fd, "", &st) != nil {
		return false
	}
	d.thawed = thawFD(fd)
	if st.UID == uint32(os.Geteuid()) && st.Mode&0o700 != 0o700 && unix.Fchmod(fd, st.Mode|0o700) == nil {
		d.thawed = true
	}
	d.hadMode, d.hadFlags = st.Mode, all
	return d.thawed
}

// freeze undoes thaw.
func (d *dir) freeze(fd int) error {
	if err := unix.Fchmod(fd, d.hadMode); err != nil {
		return err
	}
	if all, err := inode.AllFlags(fd); err != nil || all == d.hadFlags {
		return err
	}
	return inode.WriteFlags(fd, d.hadFlags)
}
