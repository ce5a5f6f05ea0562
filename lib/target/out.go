package target

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A Node is an entry that was begun and is not yet made. It is ended once, by
// any goroutine.
type Node struct {
	t      *Target
	dir    *dir
	e      *rec.Entry
	leader *leader     // of a hard link: its first name; of that: itself
	old    *inode.Stat // what was in its place, nil if nothing was
}

// Skip ends a node of which nothing is to be made.
func (n *Node) Skip() { n.end(errSkipped) }

var errSkipped = errors.New("it was left out")

// end ends a node, made or not.
func (n *Node) end(err error) {
	if l := n.leader; l != nil {
		if l.node == n {
			n.t.settle(l, err)
		}
		n.t.drop(l)
	}
	n.t.done(n.dir)
}

// Create makes the node's file, which must be regular, under a temporary name.
// The node is then ended by Finish or Abort; if Create fails, it has ended.
func (n *Node) Create() (*Out, error) {
	o := &Out{n: n, fd: -1}
	if err := o.create(); err != nil {
		n.end(err)
		return nil, err
	}
	return o, nil
}

// An Out is a file that is being written, under a temporary name or, with
// Into.InPlace, in its own place. Its methods may be called from several
// goroutines; Finish or Abort is the last call, and only one of them.
type Out struct {
	n     *Node
	fd    int
	temp  temp
	given *given
	size  atomic.Int64 // as far as it was written
	once  sync.Once

	patch   bool // it began with the content of the old file
	inPlace bool // it is the old file
	had     int64
	dirty   atomic.Bool // something was written; with patch
	naming  sync.Mutex
	named   bool // as one that is half; guarded by naming
}

func (o *Out) create() (err error) {
	n := o.n
	if n.e.Type != rec.File {
		return &Warning{Path: n.e.Path, What: "create file", Err: errors.ErrUnsupported}
	}
	if n.old != nil && o.patchInPlace() {
		return nil
	}
	if o.given, err = n.t.givenIn(n.dir); err == nil {
		err = o.createTemp()
	}
	if err != nil {
		return n.refused("create file", err)
	}
	// Only an empty file takes these.
	if early := n.e.Flags & (inode.FlagNoCOW | inode.FlagCompress); early != 0 {
		if all, err := inode.AllFlags(o.fd); err == nil {
			_ = inode.WriteFlags(o.fd, all|early) // setFlags reports it
		}
	}
	return nil
}

func (o *Out) createTemp() error {
	n := o.n
	share := n.shareable()
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | inode.OpenSafe
	if share {
		flags ^= unix.O_WRONLY | unix.O_RDWR
	}
	return n.t.makeTemp(&o.temp, n.dir, func(dirfd int, name string) (err error) {
		if o.fd, err = inode.CreateAt(dirfd, name, flags, 0o600); err == nil && share {
			o.share(dirfd)
		}
		return err
	})
}

// WriteAt writes all of p at off. What is never written is a hole. After an
// error the caller aborts the file.
func (o *Out) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	if o.patch {
		var err error
		if done, err = o.patchAt(p, off); err != nil {
			return done, refused(o.n.e.Path, "write", err)
		}
	}
	for done < len(p) {
		n, err := unix.Pwrite(o.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, refused(o.n.e.Path, "write", err)
		}
		done += n
	}
	for end := off + int64(done); ; {
		size := o.size.Load()
		if end <= size || o.size.CompareAndSwap(size, end) {
			return done, nil
		}
	}
}

// Abort removes the file and ends the node. One that is patched in place stays as
// far as it came, which is reported.
func (o *Out) Abort() { o.abort(errSkipped) }

func (o *Out) abort(why error) {
	o.once.Do(func() {
		o.discard()
		o.n.end(why)
	})
}

// discard removes what is not complete.
func (o *Out) discard() {
	if o.inPlace {
		o.abortInPlace()
	} else {
		o.n.t.removeTemp(&o.temp)
		o.n.t.forgetTemp(&o.temp)
	}
	inode.Close(o.fd)
}

// leave closes the file that is complete.
func (o *Out) leave() error {
	o.n.t.forgetTemp(&o.temp)
	if err := unix.Close(o.fd); err != nil {
		if !o.inPlace {
			o.n.t.removeTemp(&temp{o.n.dir, inode.Base(o.n.e.Path)})
		}
		return inode.Op("close", err)
	}
	return nil
}

// Finish gives the file its size, which it takes from final, the file's last
// record, then the metadata of the entry that was begun, and renames it into
// place. With an error there is no file. The node has ended either way.
func (o *Out) Finish(final *rec.Entry) error {
	err := o.finish(final)
	if err != nil {
		o.abort(err)
		return err
	}
	o.once.Do(func() {
		err = o.leave()
		o.n.end(err)
	})
	return err
}

func (o *Out) finish(final *rec.Entry) error {
	t, e := o.n.t, o.n.e
	if o.inPlace {
		return o.finishInPlace(final)
	}
	if size := int64(final.Size); size != o.size.Load() {
		if err := unix.Ftruncate(o.fd, size); err != nil {
			return refused(e.Path, "set the file's size", err)
		}
	}
	m := t.meta(e, inode.Handle{FD: o.fd}, o.given)
	if err := m.apply(o.given.uid, o.given.gid); err != nil {
		return err
	}
	if l := o.n.leader; l != nil {
		var st inode.Stat
		if err := inode.StatAt(o.fd, "", &st); err != nil {
			return inode.Op("stat", err)
		}
		l.ino, l.dev = st.Ino, st.Dev
	}
	err := t.inDir(o.n.dir, func(dirfd int) error { return o.n.place(dirfd, o.temp.name) })
	if err != nil {
		return o.n.refused("rename into place", err)
	}
	o.n.made()
	if o.n.leader != nil && m.wantFlags()&(inode.FlagImmutable|inode.FlagAppend) != 0 {
		o.n.leader.late = true // such a file takes no further names
		return nil
	}
	m.setFlags()
	return nil
}

// renameNew renames within a directory and never replaces anything.
func renameNew(dirfd int, from, to string) error {
	err := unix.Renameat2(dirfd, from, dirfd, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// The file system cannot: a second name does the same, in two steps.
	err = unix.Linkat(dirfd, from, dirfd, to, 0)
	if err == nil {
		return unix.Unlinkat(dirfd, from, 0)
	}
	if err != unix.EPERM && !inode.Unsupported(err) {
		return err
	}
	// It knows no further names either.
	var st inode.Stat
	if err := inode.StatAt(dirfd, to, &st); err != unix.ENOENT {
		if err == nil {
			err = unix.EEXIST
		}
		return err
	}
	return unix.Renameat(dirfd, from, dirfd, to)
}
