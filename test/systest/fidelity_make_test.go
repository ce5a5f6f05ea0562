//go:build system

package systest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"

	"golang.org/x/sys/unix"
)

// An attr gives a file something to keep. Those of lower phases come first.
type attr struct {
	phase int
	set   func(path, typ string) error
}

func owner(uid, gid uint32) attr {
	return attr{1, func(path, _ string) error { return os.Lchown(path, int(uid), int(gid)) }}
}

func content(size int) attr {
	return attr{6, func(path, _ string) error { return fill(path, size) }}
}

func xattr(name, value string) attr {
	return attr{2, func(path, _ string) error { return unix.Lsetxattr(path, name, []byte(value), 0) }}
}

func acl(entries string) attr {
	return attr{3, func(path, _ string) error {
		if out, err := exec.Command("setfacl", "-m", entries, path).CombinedOutput(); err != nil {
			return fmt.Errorf("setfacl: %w: %s", err, out)
		}
		return nil
	}}
}

func mode(m uint32) attr {
	return attr{4, func(path, _ string) error { return unix.Chmod(path, m) }}
}

func mtime(sec, nsec int64) attr {
	return attr{8, func(path, _ string) error {
		t := unix.Timespec{Sec: sec, Nsec: nsec}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1_000_000_000}, t}, unix.AT_SYMLINK_NOFOLLOW)
	}}
}

// Flags that concern the place of the data are set before there are any.
func inodeFlags(bits uint32) attr {
	phase := 9
	if bits&0x800000 != 0 {
		phase = 5
	}
	return attr{phase, func(path, _ string) error {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		old, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(old|bits))
	}}
}

// one makes x, of a type and with attributes.
func one(typ string, attrs ...attr) func(dir string) error {
	attrs = slices.Clone(attrs)
	slices.SortStableFunc(attrs, func(a, b attr) int { return cmp.Compare(a.phase, b.phase) })
	return func(dir string) error {
		path := dir + "/x"
		err := node(path, typ)
		for _, a := range attrs {
			if err == nil {
				err = a.set(path, typ)
			}
		}
		return err
	}
}

func node(path, typ string) error {
	switch typ {
	case "file":
		return os.WriteFile(path, nil, 0o644)
	case "directory":
		return os.Mkdir(path, 0o755)
	case "symlink":
		return os.Symlink("target", path)
	case "fifo":
		return unix.Mkfifo(path, 0o644)
	case "socket":
		// Bound by its short name: an address has 108 bytes.
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		if err := os.Chdir(path[:len(path)-len("/x")]); err != nil {
			return err
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "x", Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false)
			err = l.Close()
		}
		return errors.Join(err, os.Chdir(here))
	case "char device":
		return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3)))
	case "block device":
		return unix.Mknod(path, unix.S_IFBLK|0o644, int(unix.Mkdev(7, 1)))
	}
	return errors.ErrUnsupported
}

func write(path string, size int) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	return fill(path, size)
}

// fill writes bytes without a pattern, the same for the same size.
func fill(path string, size int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	b := make([]byte, size)
	var seed [32]byte
	seed[0], seed[1] = byte(size), byte(size>>8)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func sparse(path string, size int64, data []int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	for _, at := range data {
		b := make([]byte, 64<<10)
		_, _ = rand.NewChaCha8([32]byte{byte(at >> 16)}).Read(b) // never fails
		_, werr := f.WriteAt(b, at)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Close())
}
