package tree

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// A Node is an entry that was begun and is not yet made. It is ended once, by
// any goroutine.
type Node struct {
	t      *Target
	dir    *dir
	e      *rec.Entry
	leader *leader // of a hard link: its first name; of that: itself
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

// An Out is a file that is being written, under a temporary name. Its methods
// may be called from several goroutines; Finish or Abort is the last call, and
// only one of them.
type Out struct {
	n    *Node
	fd   int
	temp string
	size atomic.Int64 // as far as it was written
	once sync.Once
}

func (o *Out) create() error {
	n := o.n
	if n.e.Type != rec.File {
		return &Warning{n.e.Path, "create file", errors.ErrUnsupported}
	}
	if err := o.createTemp(); err != nil {
		return refused(n.e.Path, "create file", err)
	}
	// Only an empty file takes these.
	if early := n.e.Flags & (flagNoCOW | flagCompress); early != 0 {
		if all, err := allFlags(o.fd); err == nil {
			_ = writeFlags(o.fd, all|early) // setFlags reports it
		}
	}
	return nil
}

// createTemp makes the temporary file, and has it known to Cleanup before it is
// there.
func (o *Out) createTemp() error {
	t := o.n.t
	t.creating.RLock()
	defer t.creating.RUnlock()
	t.mu.Lock()
	if t.dead {
		t.mu.Unlock()
		return ErrClosed
	}
	t.names++
	o.temp = t.prefix + strconv.FormatUint(t.names, 36)
	t.temps[o] = struct{}{}
	t.mu.Unlock()
	dirfd, err := t.acquire(o.n.dir)
	if err == nil {
		o.fd, err = createAt(dirfd, o.temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|openSafe, 0o600)
		t.release(o.n.dir)
	}
	if err != nil {
		t.forgetTemp(o)
	}
	return err
}

func (t *Target) forgetTemp(o *Out) { t.mu.Lock(); defer t.mu.Unlock(); delete(t.temps, o) }

func (o *Out) removeTemp() { o.remove(o.temp) }

// remove removes a name of the file; if it is gone, so much the better.
func (o *Out) remove(name string) {
	t := o.n.t
	if fd, err := t.acquire(o.n.dir); err == nil {
		_ = unix.Unlinkat(fd, name, 0)
		t.release(o.n.dir)
	}
}

// WriteAt writes all of p at off. What is never written is a hole. After an
// error the caller aborts the file.
func (o *Out) WriteAt(p []byte, off int64) (int, error) {
	done := 0
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

// Abort removes the file and ends the node.
func (o *Out) Abort() { o.abort(errSkipped) }

func (o *Out) abort(why error) {
	o.once.Do(func() {
		o.removeTemp()
		o.n.t.forgetTemp(o)
		closeFD(o.fd)
		o.n.end(why)
	})
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
		o.n.t.forgetTemp(o)
		if err = unix.Close(o.fd); err != nil {
			o.remove(base(o.n.e.Path))
			err = op("close", err)
		}
		o.n.end(err)
	})
	return err
}

func (o *Out) finish(final *rec.Entry) error {
	t, e := o.n.t, o.n.e
	if size := int64(final.Size); size != o.size.Load() {
		if err := unix.Ftruncate(o.fd, size); err != nil {
			return refused(e.Path, "set the file's size", err)
		}
	}
	m := t.meta(e, inode{fd: o.fd})
	if err := m.apply(t.given.uid, t.given.gid); err != nil {
		return err
	}
	if l := o.n.leader; l != nil {
		var st Stat
		if err := statAt(o.fd, "", &st); err != nil {
			return op("stat", err)
		}
		l.ino, l.dev = st.Ino, st.Dev
	}
	dirfd, err := t.acquire(o.n.dir)
	if err != nil {
		return err
	}
	err = renameNew(dirfd, o.temp, base(e.Path))
	t.release(o.n.dir)
	if err != nil {
		return refused(e.Path, "rename into place", err)
	}
	if o.n.leader != nil && m.wantFlags()&(flagImmutable|flagAppend) != 0 {
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
	if err != unix.EPERM && !unsupported(err) {
		return err
	}
	// It knows no further names either.
	var st Stat
	if err := statAt(dirfd, to, &st); err != unix.ENOENT {
		if err == nil {
			err = unix.EEXIST
		}
		return err
	}
	return unix.Renameat(dirfd, from, dirfd, to)
}
