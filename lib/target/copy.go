package target

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A further name of a file that cannot be a hard link becomes a copy: its directory lies on another file
// system than the first name, or the file system takes no further name of this file. The names that lie
// on one file system are links to the first copy there.

// A copyKey is a file, by a hash of its first name, on one mount.
type copyKey struct {
	file uint64
	on   mount
}

// A copied is the first copy of a file on a mount.
type copied struct {
	path string
	finished
}

// unlinkable reports whether a hard link was refused for what the file and the file systems are.
func unlinkable(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) || inode.Unsupported(err)
}

// copy makes the node, which names a leader that has ended, a file of its own, or a link to the first such
// file on its file system. why is the error of the link.
func (n *Node) copy(why error) error {
	t, l := n.t, n.leader
	t.copying.Lock() // two names at a time would be two copies
	defer t.copying.Unlock()
	dirfd, err := t.acquire(n.dir)
	if err != nil {
		return err
	}
	defer t.release(n.dir)
	on, err := mountOf(dirfd)
	if err != nil {
		return inode.Op("stat", err)
	}
	key := copyKey{t.leaders.key(l.node.e.Path), on}
	if c, ok := t.copies[key]; ok {
		first := &Node{t: t, dir: t.dirOf(n.dir, rec.Parent(c.path)), e: &rec.Entry{Path: c.path, Type: c.typ}}
		other := &Node{t: t, dir: n.dir, e: n.e, old: n.old, leader: &leader{node: first, ended: true, ino: c.ino, dev: c.dev}}
		if err := other.linkToLeader(); err == nil || hopeless(err) && !errors.Is(err, inode.ErrReplaced) {
			return err
		} // else that is not to be had any more
	}
	st, err := n.duplicate(dirfd)
	if err != nil {
		return err
	}
	if t.copies == nil {
		t.copies = map[copyKey]copied{}
	}
	t.copies[key] = copied{n.e.Path, finished{st.Ino, st.Dev, st.Type}}
	if t.into.Copied != nil {
		t.into.Copied(n.e.Path, why)
	}
	return nil
}

// duplicate makes the node a copy of its leader, and returns what that is. With Changed it keeps what is
// there if that is one.
func (n *Node) duplicate(dirfd int) (st inode.Stat, err error) {
	t, l := n.t, n.leader
	what := "copy " + rec.Quote(l.node.e.Path) + ", to which no hard link can be made"
	from, err := t.acquire(l.node.dir)
	if err != nil {
		return st, err
	}
	defer t.release(l.node.dir)
	in, err := openInode(from, inode.Base(l.node.e.Path), l.node.e.Type)
	if err != nil {
		return st, n.refused(what, replaced(err))
	}
	defer inode.Close(in.FD)
	e, err := l.describe(in, from, n.e.Path)
	if err != nil {
		return st, n.refused(what, err)
	}
	c := &Node{t: t, dir: n.dir, e: e, old: n.old}
	kept := false
	if c.old != nil && t.into.Overwrite == Changed && t.same(dirfd, e, c.old) {
		kept, err = t.keep(c, dirfd, c.old)
	}
	switch {
	case kept || err != nil:
	case e.Type != rec.File:
		if err = c.make(); err == nil {
			c.made()
		}
	case in.Proc != "":
		err = &Warning{Path: e.Path, What: what, Err: unix.EACCES}
	default:
		err = c.fill(inode.NewFile(in.FD, nil))
	}
	if err == nil {
		if err = inode.StatAt(dirfd, inode.Base(e.Path), &st); err != nil {
			err = inode.Op("stat", err)
		}
	}
	return st, err
}

// describe returns an entry at path that has all that is known of the leader's file, which in is.
func (l *leader) describe(in inode.Handle, dirfd int, path string) (*rec.Entry, error) {
	var st inode.Stat
	if err := inode.StatAt(in.FD, "", &st); err != nil {
		return nil, inode.Op("stat", err)
	}
	if st.Ino != l.ino || st.Dev != l.dev {
		return nil, inode.ErrReplaced
	}
	e := *l.node.e
	if e.Links == 0 { // only what it is was kept
		st.Entry(&e)
		a, err := in.XAttrs(nil)
		e.XAttrs = a.XAttrs
		if err == nil && in.Proc == "" {
			e.Flags, err = inode.Flags(in.FD)
		}
		if err == nil && e.Type == rec.Symlink {
			e.Target, _, err = inode.ReadLink(dirfd, inode.Base(l.node.e.Path), make([]byte, 256))
		}
		if err != nil {
			return nil, err
		}
	}
	e.Path, e.Links, e.Size, e.More, e.Extents = path, 0, st.Size, false, nil
	return &e, nil
}

// fill makes the node's file with the content of another one.
func (n *Node) fill(from *inode.File) error {
	o := &Out{n: n, fd: -1}
	if err := o.create(); err != nil {
		return err
	}
	err := o.take(from)
	if err == nil {
		err = o.finish(n.e)
	}
	if err != nil {
		o.discard()
		return err
	}
	return o.leave()
}

// take writes the content of a file, with its holes.
func (o *Out) take(from *inode.File) error {
	st, err := from.Stat()
	if err != nil {
		return refused(o.n.e.Path, "copy", err)
	}
	buf := make([]byte, 256<<10)
	for at := int64(0); at < int64(st.Size); {
		start, end, err := from.NextSegment(&st, at)
		if err == io.EOF {
			start, end = int64(st.Size), int64(st.Size)
		} else if err != nil {
			return refused(o.n.e.Path, "copy", err)
		}
		if start > at {
			if err := o.Hole(at, start-at); err != nil {
				return err
			}
		}
		for at = start; at < end; {
			n, err := from.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			if err != nil && err != io.EOF || n == 0 {
				return refused(o.n.e.Path, "copy", fmt.Errorf("read at byte %d: %w", at, errors.Join(err, inode.ErrReplaced)))
			}
			if _, err := o.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
	}
	return nil
}
