package inode

import (
	"preserve/lib/rec"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PathMax is the longest path, with its final NUL, that one call takes.
const PathMax = 4096

// How directories and files are opened: never through a link in the last place,
// never waiting for a fifo's other end, never becoming a controlling terminal.
const (
	OpenSafe = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	OpenDir  = unix.O_RDONLY | unix.O_DIRECTORY | OpenSafe
	OpenFile = unix.O_RDONLY | unix.O_NONBLOCK | OpenSafe
	OpenPath = unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW
)

// beneath forbids every way out of a directory.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// HaveOpenat2 reports whether the kernel has openat2 and the sandbox that we
// run in, if any, lets us call it.
var HaveOpenat2 = sync.OnceValue(func() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		Close(fd)
	}
	return err == nil
})

// OpenBeneath opens path, which has no "..", below the directory dirfd without
// following any link; the empty path is the directory itself. Paths of any
// length are good. A link on the way gives ELOOP or ENOTDIR.
func OpenBeneath(dirfd int, path string, flags int) (int, error) {
	if path == "" {
		return OpenAt(dirfd, ".", flags)
	}
	at := dirfd
	for {
		step, rest := CutPath(path)
		f := flags
		if rest != "" {
			f = OpenPath | unix.O_DIRECTORY
		}
		fd, err := openStep(at, step, f)
		if at != dirfd {
			Close(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// CutPath cuts off as many leading names as one call takes.
func CutPath(path string) (step, rest string) {
	i := len(path)
	switch {
	case !HaveOpenat2():
		i = strings.IndexByte(path, '/')
	case len(path) >= PathMax:
		if i = strings.LastIndexByte(path[:PathMax], '/'); i < 0 {
			i = strings.IndexByte(path, '/')
		}
	}
	if i < 0 || i == len(path) {
		return path, ""
	}
	return path[:i], path[i+1:]
}

func openStep(dirfd int, path string, flags int) (int, error) {
	if !strings.Contains(path, "/") {
		return OpenAt(dirfd, path, flags)
	}
	how := unix.OpenHow{Flags: uint64(flags), Resolve: beneath}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dirfd, path, &how)
		// EAGAIN: somebody renames a directory on the way (or, with
		// O_NONBLOCK, holds a lease: then it stays).
		if err == unix.EINTR || err == unix.EAGAIN && tries < 32 {
			continue
		}
		return fd, err
	}
}

// OpenAt opens one name.
func OpenAt(dirfd int, name string, flags int) (int, error) {
	return CreateAt(dirfd, name, flags, 0)
}

func CreateAt(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Quietly opens without leaving a trace in the access time where the system
// allows that: to the owner and to root.
func Quietly(open func(int, string, int) (int, error), dirfd int, path string, flags int) (int, error) {
	fd, err := open(dirfd, path, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = open(dirfd, path, flags)
	}
	return fd, err
}

// Close closes what was only read or only named the place of something:
// nothing can be lost.
func Close(fd int) { _ = unix.Close(fd) }

// StatAt is statx of one name, or with an empty name of dirfd itself.
func StatAt(dirfd int, name string, s *Stat) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return statx(dirfd, name, flags, s)
}

// StatTo is statx of what a path leads to.
func StatTo(dirfd int, path string, s *Stat) error { return statx(dirfd, path, 0, s) }

func statx(dirfd int, path string, flags int, s *Stat) error {
	var x unix.Statx_t
	for {
		err := unix.Statx(dirfd, path, flags|unix.AT_NO_AUTOMOUNT, statMask, &x)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			s.Set(&x)
		}
		return err
	}
}

// StatRaw is StatAt for a name that ends with a NUL already: a walk calls
// nothing more often.
func StatRaw(dirfd int, name *byte, x *unix.Statx_t) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dirfd), uintptr(unsafe.Pointer(name)),
			unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, uintptr(unsafe.Pointer(x)), 0)
		switch errno {
		case unix.EINTR:
		case 0:
			return nil
		default:
			return errno
		}
	}
}

// ReadLink reads a link's target of any length: of name below dirfd, or with an
// empty name of dirfd itself.
func ReadLink(dirfd int, name string, buf []byte) (string, []byte, error) {
	for {
		n, err := unix.Readlinkat(dirfd, name, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", buf, err
		case n < len(buf):
			return string(buf[:n]), buf, nil
		default:
			buf = make([]byte, 4*len(buf))
		}
	}
}

// SetTimes sets the modification time of an open file.
func SetTimes(fd int, mtime *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(mtime)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// OpenLeased opens a file for reading. Where a file server holds a lease on it,
// which an open that does not wait cannot break, it waits.
func OpenLeased(open func(dirfd int, path string, flags int) (int, error), dirfd int, path string) (int, error) {
	fd, err := Quietly(open, dirfd, path, OpenFile)
	if err != unix.EAGAIN {
		return fd, err
	}
	place, err := open(dirfd, path, OpenPath)
	if err != nil {
		return -1, err
	}
	defer Close(place)
	var st Stat
	if err := StatAt(place, "", &st); err != nil {
		return -1, err
	}
	if st.Type != rec.File {
		return -1, unix.EAGAIN
	}
	return OpenAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(place), unix.O_RDONLY)
}

// FewDescriptors returns n, or less where this process may have few descriptors: a quarter of them.
func FewDescriptors(n int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur/4 >= uint64(n) {
		return n
	}
	return max(8, int(limit.Cur/4))
}
