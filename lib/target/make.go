package target

import (
	"errors"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// Make makes the node, which is no regular file, and ends it. A hard link whose
// first name is still being written is made by whoever finishes that; Make
// returns nil then, and a failure goes to Warn, or to Close.
func (n *Node) Make() error {
	if n.e.Type == rec.HardLink {
		return n.t.makeLink(n)
	}
	err := n.make()
	if err == nil {
		n.made()
	}
	n.end(err)
	return err
}

func (n *Node) make() error {
	what := "create " + n.e.Type.String()
	if n.old == nil {
		return n.t.inDir(n.dir, func(dirfd int) error { return n.makeAs(what, dirfd, inode.Base(n.e.Path)) })
	}
	err := n.beside(what, func(dirfd int, name string) error { return n.makeAs(what, dirfd, name) })
	return err
}

// beside has fn make something under a temporary name, and puts it in place of
// what is there.
func (n *Node) beside(what string, fn func(dirfd int, name string) error) error {
	var o temp
	if err := n.t.makeTemp(&o, n.dir, fn); err != nil {
		return err
	}
	defer n.t.forgetTemp(&o)
	err := n.t.inDir(n.dir, func(dirfd int) error { return n.place(dirfd, o.name) })
	if err != nil {
		n.t.removeTemp(&o)
		return n.refused(what, err)
	}
	return nil
}

// makeAs makes it under some name.
func (n *Node) makeAs(what string, dirfd int, name string) (err error) {
	t, e := n.t, n.e
	switch e.Type {
	case rec.Symlink:
		err = unix.Symlinkat(e.Target, dirfd, name)
	case rec.Fifo:
		err = unix.Mknodat(dirfd, name, unix.S_IFIFO|0o600, 0)
	case rec.Socket:
		err = unix.Mknodat(dirfd, name, unix.S_IFSOCK|0o600, 0)
	case rec.Char:
		err = t.makeDevice(dirfd, name, unix.S_IFCHR, e)
	case rec.Block:
		err = t.makeDevice(dirfd, name, unix.S_IFBLK, e)
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return n.refused(what, err)
	}
	return n.dress(dirfd, name)
}

// dress gives the thing just made its metadata. Only its name is known: what is
// found under it must be of the right type, new, and ours.
func (n *Node) dress(dirfd int, name string) error {
	t, e := n.t, n.e
	g, err := t.givenIn(n.dir)
	if err != nil {
		return n.refused("create "+e.Type.String(), err)
	}
	fd, err := inode.OpenAt(dirfd, name, inode.OpenPath)
	if err != nil {
		return inode.Op("open what was just made", replaced(err))
	}
	defer inode.Close(fd)
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil {
		return inode.Op("stat", err)
	}
	if st.Type != e.Type || st.Links != 1 || st.UID != g.uid {
		return inode.ErrReplaced
	}
	if n.leader != nil {
		n.leader.ino, n.leader.dev = st.Ino, st.Dev
	}
	m := t.meta(e, inode.OfPath(fd), g)
	if err = m.apply(st.UID, st.GID); err != nil {
		_ = unix.Unlinkat(dirfd, name, 0) // the error at hand matters more
	}
	return err
}

// A leader is the first name of a file with several.
type leader struct {
	node  *Node
	ino   uint64
	dev   uint64
	refs  int // nodes that use it, itself too, and one until Close; guarded by Target.mu like all below
	ended bool
	err   error   // why there is no such file
	wait  []*Node // hard links to be made when it has ended
	held  bool    // it has a reference on its directory, which its owner could not enter later
	late  bool    // its flags are set when it has all its names
}

// settle ends a leader and makes the links that waited for it.
func (t *Target) settle(l *leader, err error) {
	t.mu.Lock()
	l.ended, l.err = true, err
	wait := l.wait
	l.wait = nil
	t.mu.Unlock()
	for _, n := range wait {
		if err := t.link(n); err != nil {
			var w *Warning
			if errors.As(err, &w) {
				t.Warn(w)
			} else {
				t.fail(n.e.Path, err)
			}
		}
	}
}

func (t *Target) makeLink(n *Node) error {
	l := n.leader
	t.mu.Lock()
	if !l.ended {
		l.wait = append(l.wait, n)
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	return t.link(n)
}

// link makes a hard link to a leader that has ended, and ends the node.
func (t *Target) link(n *Node) error {
	err := t.tryLink(n)
	n.end(err)
	return err
}

func (t *Target) tryLink(n *Node) error {
	l := n.leader
	if l.err != nil {
		return &Warning{Path: n.e.Path, What: linking(l), Err: inode.ErrLeader}
	}
	err := n.linkToLeader()
	if unlinkable(err) {
		return n.copy(err)
	}
	return err
}

// linking says what is done.
func linking(l *leader) string { return "create hard link to " + rec.Quote(l.node.e.Path) }

// linkToLeader gives the leader's file the node's name, in place of what is there.
func (n *Node) linkToLeader() error {
	t, l := n.t, n.leader
	what := linking(l)
	from, err := t.acquire(l.node.dir)
	if err != nil {
		return err
	}
	defer t.release(l.node.dir)
	link := func(to int, name string) error { return n.linkAs(what, from, to, name) }
	switch {
	case n.old == nil:
		err = t.inDir(n.dir, func(to int) error { return link(to, inode.Base(n.e.Path)) })
	case n.linked():
		return nil
	default:
		err = n.beside(what, link)
	}
	if err == nil {
		n.made()
	}
	return err
}

// linked reports whether the name is one of the leader's already.
func (n *Node) linked() bool {
	to, err := n.t.acquire(n.dir)
	if err != nil {
		return false
	}
	defer n.t.release(n.dir)
	var st inode.Stat
	return inode.StatAt(to, inode.Base(n.e.Path), &st) == nil && st.Ino == n.leader.ino && st.Dev == n.leader.dev
}

// linkAs makes a further name of the leader's file.
func (n *Node) linkAs(what string, from, to int, name string) error {
	l := n.leader
	leader := inode.Base(l.node.e.Path)
	err := unix.Linkat(from, leader, to, name, 0)
	if denied(err) && l.node.dir.old {
		if f := thawFile(from, leader); f != nil {
			f.keep()
			n.t.mu.Lock()
			l.late = true // its flags come back when it has all its names
			n.t.mu.Unlock()
			err = unix.Linkat(from, leader, to, name, 0)
		}
	}
	if err != nil {
		return n.refused(what, err)
	}
	var st inode.Stat
	err = inode.StatAt(to, name, &st)
	if err == nil && (st.Ino != l.ino || st.Dev != l.dev) {
		_ = unix.Unlinkat(to, name, 0) // the error at hand matters more
		err = inode.ErrReplaced
	}
	if err != nil {
		return inode.Op(what, err)
	}
	return nil
}

// drop drops one reference to a leader. At the last one it has all its names.
func (t *Target) drop(l *leader) {
	t.mu.Lock()
	l.refs--
	last := l.refs == 0
	t.finishLeader(l)
	t.mu.Unlock()
	if !last {
		return
	}
	if l.late && l.err == nil {
		t.lateFlags(l)
	}
	if l.held {
		t.unref(l.node.dir)
	}
}

// lateFlags sets the flags of a file that could not have them while it got
// further names.
func (t *Target) lateFlags(l *leader) {
	n := l.node
	dirfd, err := t.acquire(n.dir)
	if err == nil {
		defer t.release(n.dir)
		var fd int
		if fd, err = inode.OpenAt(dirfd, inode.Base(n.e.Path), inode.OpenFile); err == nil {
			defer inode.Close(fd)
			var st inode.Stat
			if err = inode.StatAt(fd, "", &st); err == nil && (st.Ino != l.ino || st.Dev != l.dev) {
				err = inode.ErrReplaced
			}
			if err == nil {
				m := t.meta(n.e, inode.Handle{FD: fd}, nil)
				m.setFlags()
			}
		}
	}
	if err != nil {
		t.lacks(n.e.Path, "set inode flags "+inode.FlagNames(n.e.Flags), err)
	}
}
