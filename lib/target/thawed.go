package target

import (
	"golang.org/x/sys/unix"

	"preserve/lib/inode"
)

// thawed is a file or directory whose flags were cleared, so that its name can
// be replaced or removed.
type thawed struct {
	fd    int
	flags uint32
}

// thawFile clears the flags of a file or directory that forbid to replace or
// remove it; nil if there are none, or they cannot be cleared: only root can.
// After it comes back or keep.
func thawFile(dirfd int, name string) *thawed {
	fd, err := inode.OpenAt(dirfd, name, inode.OpenFile)
	if err != nil {
		return nil
	}
	all, err := inode.AllFlags(fd)
	if err != nil || !thawFD(fd) {
		inode.Close(fd)
		return nil
	}
	return &thawed{fd, all}
}

// back gives the flags back to what is still there: since nothing was done to it,
// or because it has other names, which may be anybody's. It may be called for nil.
func (f *thawed) back(t *Target, path string) {
	if f == nil {
		return
	}
	defer inode.Close(f.fd)
	var x unix.Statx_t
	err := unix.Statx(f.fd, "", unix.AT_EMPTY_PATH, unix.STATX_NLINK, &x)
	if err == nil && x.Nlink > 0 {
		err = inode.WriteFlags(f.fd, f.flags)
	}
	if err != nil {
		t.report(path, "give the old file's flags back to its other names", err)
	}
}

// keep leaves the flags cleared.
func (f *thawed) keep() { inode.Close(f.fd) }
