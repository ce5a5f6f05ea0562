//go:build system

package systest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func (t *table) names() {
	names := []struct {
		what, name string
		all        bool // not only of a file
	}{
		{"255 bytes", strings.Repeat("n", 255), true},
		{"255 bytes that are not UTF-8", strings.Repeat("\xfe", 255), false},
		{"newline", "a\nb", true},
		{"only a newline", "\n", false},
		{"escape sequence", "\x1b[31mred\x1b]0;title\x07", true},
		{"all control characters", controls(), false},
		{"leading dash", "-rf", true},
		{"two dashes", "--help", false},
		{"not UTF-8", "\xff\xfe\x80", true},
		{"cut UTF-8", "caf\xc3", false},
		{"surrogate in UTF-8", "\xed\xa0\x80", false},
		{"space", " ", true},
		{"leading and trailing blanks", "  a  ", false},
		{"quotes", `'"` + "`", false},
		{"backslash", `a\n\\b\`, true},
		{"shell", "$(reboot) && * ? [a] {b} ~ #!", false},
		{"trailing dot", "a.", true},
		{"three dots", "...", false},
		{"ellipsis", "…", false},
		{"hidden", ".hidden", false},
		{"right to left", "\u202egpj.exe", false},
		{"emoji", "👩‍👩‍👧", false},
		{"reserved on other systems", `CON:<>|"?*`, false},
		{"percent", "%s%n%00", false},
		{"as a temporary file of ours", ".pv-tmp-0123456789abcdef-1", false},
		{"lost+found", "lost+found", false},
	}
	for _, n := range names {
		show := regexpOf(n.name)
		t.add("name: "+n.what, "file", show, func(dir string) error { return write(dir+"/"+n.name, 10) })
		if n.all {
			t.add("name: "+n.what, "directory", show, func(dir string) error {
				if err := os.Mkdir(dir+"/"+n.name, 0o755); err != nil {
					return err
				}
				return write(dir+"/"+n.name+"/in", 10)
			})
			t.add("name: "+n.what, "symlink", show, func(dir string) error { return os.Symlink("t", dir+"/"+n.name) })
			t.add("target: "+n.what, "symlink", "target b", func(dir string) error { return os.Symlink(n.name, dir+"/x") })
		}
	}
	twins := func(a, b string) func(string) error {
		return func(dir string) error {
			err := errors.Join(write(dir+"/"+a, 10), write(dir+"/"+b, 20))
			if all, _ := os.ReadDir(dir); err == nil && len(all) != 2 {
				err = errors.ErrUnsupported
			}
			return err
		}
	}
	t.add("names: NFC and NFD twins", "file", regexpOf("e\u0301"), twins("\u00e9", "e\u0301"))
	t.add("names: twins but for case", "file", "A' ", twins("a", "A"))
	t.add("names: order of a, a-b and a/b", "file", `a-b' `, func(dir string) error {
		return errors.Join(os.Mkdir(dir+"/a", 0o755), write(dir+"/a/b", 3), write(dir+"/a-b", 4), write(dir+"/a!", 5))
	})
}

func controls() string {
	var b strings.Builder
	for c := 1; c < 0x20; c++ {
		b.WriteByte(byte(c))
	}
	return b.String() + "\x7f"
}

// regexpOf matches a name as python's repr of bytes writes it, as far as it is
// plain; of other bytes it takes anything.
func regexpOf(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			b.WriteString(`(\\x..|\\.|.)`)
		}
	}
	return "(?m)^b['\"]/" + b.String() + "(/|['\"] )"
}

func (t *table) links() {
	linked := func(typ string, attrs ...attr) func(string) error {
		return func(dir string) error {
			err := errors.Join(os.Mkdir(dir+"/a", 0o755), os.Mkdir(dir+"/z", 0o755), one(typ, attrs...)(dir))
			for _, to := range []string{"/a/first", "/z/last"} {
				if err == nil {
					err = unix.Linkat(unix.AT_FDCWD, dir+"/x", unix.AT_FDCWD, dir+to, 0)
				}
			}
			return err
		}
	}
	for _, typ := range allTypes {
		if typ != "directory" {
			t.add("three names of one", typ, `\./z/last\t\./a/first`, linked(typ))
		}
	}
	t.add("three names, xattr, owner and setuid", "file", `\./z/last\t\./a/first`, linked("file", owner(1234, 4321), xattr("user.note", "text"), mode(0o4755)))
	t.add("three names of one of 5 MB", "file", `\./z/last\t\./a/first`, linked("file", content(5_000_000)))
	t.add("three names of one, immutable", "file", `(?m)^[-A-Za-z]*i[-A-Za-z]* \./x$`, func(dir string) error {
		if err := linked("file")(dir); err != nil {
			return err
		}
		return inodeFlags(0x10).set(dir+"/x", "file")
	})
	for _, l := range []struct{ what, target string }{
		{"dangling", "no/such"}, {"absolute", "/etc/passwd"}, {"to itself", "x"}, {"out of the tree", "../../../../.."},
		{"1000 bytes", strings.Repeat("t", 1000)}, {"4095 bytes", strings.Repeat("t/", 2047) + "t"},
	} {
		t.add("target: "+l.what, "symlink", "x' .* target b'"+l.target+"'", func(dir string) error { return os.Symlink(l.target, dir+"/x") })
	}
}

func (t *table) devices() {
	for _, d := range []struct{ major, minor uint32 }{{1, 3}, {0, 0}, {255, 255}, {256, 256}, {4095, 65536}, {300, 1<<20 - 1}} {
		for _, typ := range []string{"char device", "block device"} {
			t.add(fmt.Sprintf("device number %d:%d", d.major, d.minor), typ, fmt.Sprintf("device %d:%d\n", d.major, d.minor), func(dir string) error {
				kind := uint32(unix.S_IFCHR)
				if typ == "block device" {
					kind = unix.S_IFBLK
				}
				return unix.Mknod(dir+"/x", kind|0o640, int(unix.Mkdev(d.major, d.minor)))
			})
		}
	}
}

func (t *table) contents() {
	t.add("empty", "file", "x' .* size 0 ", one("file", content(0)))
	t.add("empty", "directory", "x' mode 40", one("directory"))
	const k = 1 << 10
	for _, n := range []int{1, 63, 4095, 4097, 64*k + 1, 256*k - 1, 256 * k, 256*k + 1, k*k - 1, 1*k*k + 1, 4*k*k - 1, 4 * k * k, 4*k*k + 1, 8*k*k + 1} {
		t.add(fmt.Sprintf("%d bytes", n), "file", fmt.Sprintf("x' .* size %d ", n), one("file", content(n)))
	}
	t.add("8 MiB of zeros that are no hole", "file", `x' .* data \[\[0, 127\]\]`, func(dir string) error {
		return os.WriteFile(dir+"/x", make([]byte, 8<<20), 0o644)
	})
	for _, h := range []struct {
		what string
		size int64
		data []int64 // where 64 KiB of data are
		show string
	}{
		{"hole of one byte, nothing else", 1, nil, `size 1 data \[\]`},
		{"all hole, 1 MiB", 1 << 20, nil, `size 1048576 data \[\]`},
		{"hole at the front", 2 << 20, []int64{2<<20 - 64<<10}, `data \[\[31, 31\]\]`},
		{"hole at the end", 2 << 20, []int64{0}, `data \[\[0, 0\]\]`},
		{"holes at both ends", 3<<20 + 5, []int64{1 << 20}, `size 3145733 data \[\[16, 16\]\]`},
		{"hole in the middle", 2 << 20, []int64{0, 2<<20 - 64<<10}, `data \[\[0, 0\], \[31, 31\]\]`},
		{"20 holes", 20<<20 + 30_000, every(1<<20, 20), `data \[\[0, 0\], \[16, 16\],`},
		{"all hole, 5 GiB", 5 << 30, nil, `size 5368709120 data \[\]`},
		{"over 4 GiB, data at both ends", 1<<32 + 1<<20 + 1, []int64{0, 1<<32 + 1<<19}, `size 4296015873 data \[\[0, 0\], \[65544, 65544\]\]`},
	} {
		t.add(h.what, "file", "x' .* "+h.show, func(dir string) error { return sparse(dir+"/x", h.size, h.data) })
	}
}

func every(step int64, n int) (at []int64) {
	for i := range n {
		at = append(at, int64(i)*step)
	}
	return at
}

func (t *table) trees() {
	deep := func(levels int, name string) func(string) error {
		return func(dir string) error {
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			for range levels {
				if err == nil {
					err = unix.Mkdirat(fd, name, 0o755)
				}
				if err == nil {
					var next int
					next, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
					_ = unix.Close(fd)
					fd = next
				}
			}
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Symlinkat("t", fd, "link"); err != nil {
				return err
			}
			f, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o640)
			if err != nil {
				return err
			}
			_, err = unix.Write(f, []byte("deep down"))
			return errors.Join(err, unix.Fsetxattr(f, "user.note", []byte("text"), 0), unix.Close(f))
		}
	}
	t.add("40 levels", "directory", "(d/){39}d/bottom' ", deep(40, "d"))
	t.add("300 levels", "directory", "(d/){299}d/bottom' ", deep(300, "d"))
	t.add("path of 8 KB, beyond PATH_MAX", "directory", "(n+/){40}bottom' ", deep(40, strings.Repeat("n", 200)))
	t.add("2000 files", "directory", "f1999' ", func(dir string) error {
		var errs []error
		for i := range 2000 {
			errs = append(errs, write(fmt.Sprintf("%s/f%d", dir, i), i%7))
		}
		return errors.Join(errs...)
	})
	t.add("time of a directory with files", "directory", `x' .* mtime 1000000000000000005\b`, func(dir string) error {
		return full(mtime(1_000_000_000, 5))(dir)
	})
	t.add("directory of mode 0555 with files", "directory", `x' mode 40555 `, full(mode(0o555)))
}
