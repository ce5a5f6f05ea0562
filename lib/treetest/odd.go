package treetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oddNames are names that programs have stumbled over.
var oddNames = []string{
	"a", "a-b", "a.b", "a b", "-rf", "--", "*", "new\nline", "\xff\xfe", "ünïcode", "'", `"`, `\`, "\x01", "~", "...", "$HOME",
	strings.Repeat("n", 255), ".hidden", "A", "%s", "\t",
}

// OddTree makes a tree with one of everything that the user may make.
func OddTree(t testing.TB, dir string) {
	t.Helper()
	Must(t, os.MkdirAll(dir, 0o755))
	for i, n := range oddNames {
		Write(t, filepath.Join(dir, "names", n), n)
		Write(t, filepath.Join(dir, "dirs", n, "in", "x"), n)
		Must(t, os.Symlink(n, filepath.Join(dir, "dirs", n, "link")))
		Write(t, filepath.Join(dir, "a", fmt.Sprint(i)), "x")
	}
	for _, n := range []string{"a-b", "a.b", "a", "a0"} {
		Write(t, filepath.Join(dir, "order", n, "b"), n)
		Write(t, filepath.Join(dir, "order", n+"-"), n)
	}
	Must(t, os.MkdirAll(filepath.Join(dir, "empty"), 0o711))
	Must(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", 40)), 0o755))
	Must(t, os.Symlink(strings.Repeat("x", 4000), filepath.Join(dir, "longlink")))
	Must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640))
	Must(t, unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o755, 0))
	for i, n := range []string{"links/one", "links/two", "alink", "zlink"} {
		if p := filepath.Join(dir, n); i == 0 {
			Write(t, p, "shared")
		} else {
			Must(t, os.Link(filepath.Join(dir, "links/one"), p))
		}
	}
	Must(t, os.Symlink("nowhere", filepath.Join(dir, "links/sym")))
	Must(t, unix.Linkat(unix.AT_FDCWD, filepath.Join(dir, "links/sym"), unix.AT_FDCWD, filepath.Join(dir, "links/sym2"), 0))
	Holes(t, filepath.Join(dir, "holes"))
	for n, mtime := range map[string]unix.Timespec{
		"times/old": {Sec: -1234567890, Nsec: 999_999_999}, "times/new": {Sec: 4_000_000_000, Nsec: 1}, "times/zero": {},
		"times/before": {Sec: -1, Nsec: 1},
	} {
		p := filepath.Join(dir, n)
		Write(t, p, n)
		Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{mtime, mtime}, 0))
	}
	Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "longlink"),
		[]unix.Timespec{{}, {Sec: 5, Nsec: 6}}, unix.AT_SYMLINK_NOFOLLOW))
	for _, m := range []uint32{0o000, 0o400, 0o111, 0o4755, 0o2755, 0o1777, 0o7777} {
		if m&0o400 == 0 && os.Geteuid() != 0 {
			continue // not to be read
		}
		p := filepath.Join(dir, "modes", fmt.Sprintf("%04o", m))
		Write(t, p, "m")
		Must(t, unix.Chmod(p, m))
	}
	Must(t, unix.Setxattr(filepath.Join(dir, "a"), "user.dir", []byte{0, 255}, 0))
	Must(t, unix.Setxattr(filepath.Join(dir, "alink"), "user.z", nil, 0))
	Must(t, unix.Setxattr(filepath.Join(dir, "alink"), "user.big", make([]byte, 3000), 0))
	Must(t, unix.Chmod(filepath.Join(dir, "order"), 0o2771))
	Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "order"), []unix.Timespec{{}, {Sec: 1, Nsec: 2}}, 0))
}

func Holes(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	Must(t, err)
	defer f.Close()
	for _, off := range []int64{1 << 20, 5 << 20, 5<<20 + 4096} {
		_, err = f.WriteAt([]byte("data"), off)
		Must(t, err)
	}
	Must(t, f.Truncate(16<<20))
}

// SpecialTree adds what only root can make.
func SpecialTree(t testing.TB, dir string) {
	t.Helper()
	p := func(n string) string { return filepath.Join(dir, "special", n) }
	Must(t, os.MkdirAll(p(""), 0o755))
	Must(t, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	Must(t, unix.Mknod(p("big"), unix.S_IFCHR|0o600, int(unix.Mkdev(300, 70000))))
	Must(t, unix.Mknod(p("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 200))))
	for i, n := range []string{"file", "setuid", "dir/", "fifo", "socket", "link"} {
		q := p(n)
		switch n {
		case "dir/":
			Must(t, os.Mkdir(q, 0o755))
		case "fifo":
			Must(t, unix.Mkfifo(q, 0o600))
		case "socket":
			Must(t, unix.Mknod(q, unix.S_IFSOCK|0o600, 0))
		case "link":
			Must(t, os.Symlink("x", q))
		default:
			Write(t, q, n)
		}
		q = strings.TrimSuffix(q, "/")
		Must(t, os.Lchown(q, 1000+i, 4294967294))
		Must(t, unix.Lsetxattr(q, "trusted.t", []byte(n), 0))
		Must(t, unix.Lsetxattr(q, "security.s", []byte{1, 0, 2}, 0))
	}
	Must(t, os.Lchown(p("null"), 4294967294, 7))
	Must(t, unix.Lsetxattr(p("null"), "trusted.dev", []byte("n"), 0))
	Must(t, unix.Chmod(p("setuid"), 0o6751))
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	Must(t, unix.Setxattr(p("file"), "security.capability", capability, 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	Must(t, unix.Setxattr(p("file"), "system.posix_acl_access", acl, 0))
	Must(t, unix.Setxattr(p("dir"), "system.posix_acl_access", acl, 0))
	Must(t, unix.Setxattr(p("dir"), "system.posix_acl_default", acl, 0))
	for n, flags := range map[string]uint32{
		"immutable": 0x10 | 0x40, "append": 0x20, "frozen/": 0x10 | 0x80, "sync/": 0x8 | 0x10000,
	} {
		q := p(n)
		if strings.HasSuffix(n, "/") {
			Write(t, filepath.Join(q, "in"), n)
		} else {
			Write(t, q, n)
			Must(t, os.Link(q, p("another-"+n)))
		}
		SetTestFlags(t, q, flags)
		t.Cleanup(func() { SetTestFlags(t, q, 0) })
	}
}

// settable are the inode flags that chattr sets (linux/fs.h).
const settable = 0x2083c4ff

// SetTestFlags gives a file those inode flags and no other that chattr sets.
func SetTestFlags(t testing.TB, path string, flags uint32) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // removed by the test
	}
	defer unix.Close(fd)
	all, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	Must(t, err)
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(all&^settable|flags)); err != nil {
		t.Logf("%s: inode flags %#x: %v", path, flags, err)
	}
}
