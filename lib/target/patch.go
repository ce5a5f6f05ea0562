package target

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// Sizes from which on it pays to write only what differs: into a copy that
// shares the old file's blocks, and into the old file itself.
const (
	shareMin   = 256 << 10
	inPlaceMin = 1 << 20
)

// patchBlock is the unit in which old and new content are compared.
const patchBlock = 4096

// patchInPlace opens the old file itself to be changed, where that is wanted and
// possible.
func (o *Out) patchInPlace() bool {
	n := o.n
	if !n.t.into.InPlace || !n.isFile() || min(n.old.Size, n.e.Size) < inPlaceMin || n.empowers() {
		return false
	}
	name := inode.Base(n.e.Path)
	var f *thawed
	err := n.t.inDir(n.dir, func(dirfd int) (err error) {
		const flags = unix.O_RDWR | unix.O_NONBLOCK | inode.OpenSafe
		if o.fd, err = inode.OpenAt(dirfd, name, flags); denied(err) && f == nil {
			if f = thawFile(dirfd, name); f != nil {
				o.fd, err = inode.OpenAt(dirfd, name, flags)
			}
		}
		return err
	})
	if err != nil {
		o.fd = -1
		f.back(n.t, n.e.Path)
		return false
	}
	// What belongs to somebody else is not changed, and neither is what has other
	// names: they may be elsewhere, or be entries of their own.
	var st inode.Stat
	if err := inode.StatAt(o.fd, "", &st); err != nil || st.Type != rec.File || st.UID != n.e.UID || st.Links != 1 || st.Mode&0o6000 != 0 || !st.SameFile(n.old) {
		inode.Close(o.fd)
		o.fd = -1
		f.back(n.t, n.e.Path)
		return false
	}
	if n.t.marked() != nil || !n.t.patches(o) { // what is built instead fails likewise
		inode.Close(o.fd)
		o.fd = -1
		f.back(n.t, n.e.Path)
		return false
	}
	if f != nil {
		f.keep() // they are set when it is finished
	}
	o.inPlace, o.patch = true, true
	o.had = int64(st.Size)
	o.size.Store(o.had)
	return true
}

// empowers reports whether the file is to run with the power of its owner or
// with capabilities: then what somebody else may have open, or mapped to write to
// it, does not become it.
func (n *Node) empowers() bool {
	return n.e.Mode&0o6000 != 0 ||
		slices.ContainsFunc(n.e.XAttrs, func(x rec.XAttr) bool { return x.Name == inode.XAttrCapability })
}

func (n *Node) isFile() bool { return n.old != nil && n.old.Type == rec.File }

// shareable reports whether a file may be begun as a copy that shares the old
// one's blocks.
func (n *Node) shareable() bool {
	return n.isFile() && min(n.old.Size, n.e.Size) >= shareMin && n.e.Flags&(inode.FlagNoCOW|inode.FlagCompress) == 0 && !n.t.unclone.Load()
}

// share makes the new file, which is empty, a copy of the old one that shares its
// blocks. If it cannot, the file is written whole.
func (o *Out) share(dirfd int) {
	fd, err := inode.Quietly(inode.OpenAt, dirfd, inode.Base(o.n.e.Path), inode.OpenFile)
	if err != nil {
		return
	}
	defer inode.Close(fd)
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil || st.Type != rec.File {
		return
	}
	err = unix.IoctlFileClone(o.fd, fd)
	if inode.Unsupported(err) || errors.Is(err, unix.EXDEV) {
		o.n.t.unclone.Store(true)
	}
	if err == nil {
		err = inode.StatAt(o.fd, "", &st)
	}
	if err == nil {
		o.patch = true
		o.had = int64(st.Size)
		o.size.Store(o.had)
	}
}

var patchBuffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// patchAt writes those blocks of p that are not in the file already. Zeros are
// written in any case: the file might have a hole there.
func (o *Out) patchAt(p []byte, off int64) (int, error) {
	buf := patchBuffers.Get().(*[128 << 10]byte)
	defer patchBuffers.Put(buf)
	done := 0
	for done < len(p) {
		part := p[done:min(len(p), done+len(buf))]
		at := off + int64(done)
		n, err := preadFull(o.fd, buf[:len(part)], at)
		if err != nil {
			return done, inode.Op("read", err)
		}
		if err := o.patchPart(part, buf[:n], at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

func (o *Out) patchPart(part, old []byte, at int64) error {
	from := -1 // where what differs begins
	for i := 0; i < len(part); {
		end := min(len(part), i+patchBlock-int((at+int64(i))%patchBlock))
		same := end <= len(old) && bytes.Equal(part[i:end], old[i:end]) && !allZero(part[i:end])
		if same && from >= 0 {
			if err := o.pwrite(part[from:i], at+int64(from)); err != nil {
				return err
			}
			from = -1
		} else if !same && from < 0 {
			from = i
		}
		i = end
	}
	if from >= 0 {
		return o.pwrite(part[from:], at+int64(from))
	}
	return nil
}

func allZero(b []byte) bool {
	return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

func preadFull(fd int, b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pread(fd, b[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (o *Out) pwrite(p []byte, off int64) error {
	return o.change(func() error {
		for len(p) > 0 {
			n, err := unix.Pwrite(o.fd, p, off)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			p, off = p[n:], off+int64(n)
		}
		return nil
	})
}

// Hole says that the file has a hole: whoever made it of an old file frees the
// blocks there. Of a new file all is a hole that is never written.
func (o *Out) Hole(off, size int64) error {
	if !o.patch || off >= o.had {
		return nil
	}
	size = min(size, o.had-off)
	var err error
	if !isHole(o.fd, off, size) {
		err = o.change(func() error {
			return unix.Fallocate(o.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size)
		})
	}
	if inode.Unsupported(err) {
		zeros := make([]byte, 64<<10)
		for err = nil; size > 0 && err == nil; {
			n := min(size, int64(len(zeros)))
			err = o.pwrite(zeros[:n], off)
			off, size = off+n, size-n
		}
	}
	if err != nil {
		return refused(o.n.e.Path, "free blocks", err)
	}
	return nil
}

// isHole reports whether nothing but a hole is there.
func isHole(fd int, off, size int64) bool {
	at, err := unix.Seek(fd, off, unix.SEEK_DATA)
	return err == unix.ENXIO || err == nil && at >= off+size
}

// finishInPlace ends a file that was patched itself. Its content is on the disk
// before its time says that it is complete.
func (o *Out) finishInPlace(final *rec.Entry) error {
	e := o.n.e
	if size := int64(final.Size); size != o.size.Load() {
		if err := o.change(func() error { return unix.Ftruncate(o.fd, size) }); err != nil {
			return refused(e.Path, "set the file's size", err)
		}
	}
	if o.dirty.Load() {
		if err := unix.Fdatasync(o.fd); err != nil {
			return refused(e.Path, "write to the disk", err)
		}
	}
	if !o.n.t.whole(o) {
		return inode.ErrClosed
	}
	var st inode.Stat
	if err := inode.StatAt(o.fd, "", &st); err != nil {
		return inode.Op("stat", err)
	}
	m := o.n.t.meta(e, inode.Handle{FD: o.fd}, nil)
	d, err := m.compare(&st)
	if err != nil {
		return refused(e.Path, "read attributes", err)
	}
	if d.any() || m.noOwner {
		if err := m.align(&st, d); err != nil {
			return err
		}
	}
	if l := o.n.leader; l != nil {
		l.ino, l.dev = st.Ino, st.Dev
	}
	switch {
	case o.dirty.Load():
		o.n.made()
	case d.any():
		o.n.t.did(Metadata, e.Path)
	}
	return nil
}
