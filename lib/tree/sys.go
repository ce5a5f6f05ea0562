package tree

import (
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pathMax is the longest path, with its final NUL, that one call takes.
const pathMax = 4096

// How directories and files are opened: never through a link in the last place,
// never waiting for a fifo's other end, never becoming a controlling terminal.
const (
	openSafe = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	openDir  = unix.O_RDONLY | unix.O_DIRECTORY | openSafe
	openFile = unix.O_RDONLY | unix.O_NONBLOCK | openSafe
	openPath = unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW
)

// beneath forbids every way out of a directory.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// haveOpenat2 reports whether the kernel has openat2 and the sandbox that we
// run in, if any, lets us call it.
var haveOpenat2 = sync.OnceValue(func() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		closeFD(fd)
	}
	return err == nil
})

// openBeneath opens path, which has no "..", below the directory dirfd without
// following any link; the empty path is the directory itself. Paths of any
// length are good. A link on the way gives ELOOP or ENOTDIR.
func openBeneath(dirfd int, path string, flags int) (int, error) {
	if path == "" {
		return openAt(dirfd, ".", flags)
	}
	at := dirfd
	for {
		step, rest := cutPath(path)
		f := flags
		if rest != "" {
			f = openPath | unix.O_DIRECTORY
		}
		fd, err := openStep(at, step, f)
		if at != dirfd {
			closeFD(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// cutPath cuts off as many leading names as one call takes.
func cutPath(path string) (step, rest string) {
	i := len(path)
	switch {
	case !haveOpenat2():
		i = strings.IndexByte(path, '/')
	case len(path) >= pathMax:
		if i = strings.LastIndexByte(path[:pathMax], '/'); i < 0 {
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
		return openAt(dirfd, path, flags)
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

// openAt opens one name.
func openAt(dirfd int, name string, flags int) (int, error) {
	return createAt(dirfd, name, flags, 0)
}

func createAt(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// quietly opens without leaving a trace in the access time where the system
// allows that: to the owner and to root.
func quietly(open func(int, string, int) (int, error), dirfd int, path string, flags int) (int, error) {
	fd, err := open(dirfd, path, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = open(dirfd, path, flags)
	}
	return fd, err
}

// closeFD closes what was only read or only named the place of something:
// nothing can be lost.
func closeFD(fd int) { _ = unix.Close(fd) }

// statAt is statx of one name, or with an empty name of dirfd itself.
func statAt(dirfd int, name string, s *Stat) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return statx(dirfd, name, flags, s)
}

// statTo is statx of what a path leads to.
func statTo(dirfd int, path string, s *Stat) error { return statx(dirfd, path, 0, s) }

func statx(dirfd int, path string, flags int, s *Stat) error {
	var x unix.Statx_t
	for {
		err := unix.Statx(dirfd, path, flags|unix.AT_NO_AUTOMOUNT, statMask, &x)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			s.set(&x)
		}
		return err
	}
}

// statRaw is statAt for a name that ends with a NUL already: a walk calls
// nothing more often.
func statRaw(dirfd int, name *byte, x *unix.Statx_t) error {
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

// readLink reads a link's target of any length: of name below dirfd, or with an
// empty name of dirfd itself.
func readLink(dirfd int, name string, buf []byte) (string, []byte, error) {
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

// setTimes sets the modification time of an open file.
func setTimes(fd int, mtime *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(mtime)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
