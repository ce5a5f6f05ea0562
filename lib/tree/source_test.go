package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// bothWays runs a test with openat2 and without.
func bothWays(t *testing.T, fn func(t *testing.T)) {
	t.Run("openat2", fn)
	have := haveOpenat2
	haveOpenat2 = func() bool { return false }
	defer func() { haveOpenat2 = have }()
	t.Run("stepwise", fn)
}

func TestSourceStaysInside(t *testing.T) {
	top := tmp(t)
	write(t, filepath.Join(top, "secret"), "secret")
	write(t, filepath.Join(top, "src/d/e/f"), "fine")
	for link, target := range map[string]string{"src/up": "..", "src/d/link": "e", "src/d/e/l": "../../../secret", "src/root": "/"} {
		must(t, os.Symlink(target, filepath.Join(top, link)))
	}
	bothWays(t, func(t *testing.T) {
		s, err := OpenRoots([]rec.Root{{Dir: filepath.Join(top, "src"), Path: "d"}, {Dir: filepath.Join(top, "src"), Path: "up"},
			{Dir: filepath.Join(top, "src"), Path: "root"}})
		must(t, err)
		defer s.Close()
		if c, _ := contentOf(t, s, "d/e/f"); string(c) != "fine" {
			t.Fatalf("%q", c)
		}
		for path, want := range map[string]error{
			"d/e/l": loop, "d/link/f": loop, "up/secret": loop, "root/etc/passwd": loop, "up": loop,
			"d/e/none": fs.ErrNotExist, "d/e/f/x": notDir,
			"e": ErrOutside, "d-x": ErrOutside, "": nil,
			"d/../../secret": rec.ErrPath, "../secret": rec.ErrPath, "/etc/passwd": rec.ErrPath, "d/\x00": rec.ErrPath, "d//e": rec.ErrPath,
		} {
			f, err := s.Open(path)
			if f != nil {
				f.Close()
			}
			if !errors.Is(err, want) && !(want == loop && errors.Is(err, notDir)) {
				t.Errorf("open %q: %v, want %v", path, err, want)
			}
			if _, err = s.Attributes(path, rec.File); want != nil && err == nil {
				t.Errorf("attributes of %q: no error", path)
			}
		}
	})
}

func TestSame(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "f"), "one")
	roots := []rec.Root{{Dir: dir}}
	e := find(walk(t, roots, false), "f")
	s, err := OpenRoots(roots)
	must(t, err)
	defer s.Close()
	same := func() error {
		f, err := s.Open("f")
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Same(e)
	}
	must(t, same())
	p := filepath.Join(dir, "f")
	must(t, os.Rename(p, p+"old"))
	write(t, p, "two")
	if err := same(); !errors.Is(err, ErrReplaced) || !strings.Contains(err.Error(), "another file") {
		t.Errorf("replaced by a file: %v", err)
	}
	e.Ino, e.Dev = 0, 0
	must(t, same())
	must(t, os.Remove(p))
	must(t, unix.Mkfifo(p, 0o600))
	if err := same(); !errors.Is(err, ErrReplaced) || !strings.Contains(err.Error(), "a fifo where") {
		t.Errorf("replaced by a fifo: %v", err)
	}
	must(t, os.Remove(p))
	must(t, os.Symlink("fold", p))
	if err := same(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("replaced by a link: %v", err)
	}
}

func TestSegments(t *testing.T) {
	dir := tmp(t)
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		size int64
		data []int64 // where 4 KiB each are
		want string
	}{
		{"empty", 0, nil, ""},
		{"hole", 3 * mib, nil, ""},
		{"full", 8192, []int64{0, 4096}, "0-8192 "},
		{"first", mib, []int64{0}, "0-4096 "},
		{"last", mib + 4096, []int64{mib}, "1048576-1052672 "},
		{"odd", 2*mib + 100, []int64{mib}, "1048576-1052672 "},
		{"two", 4 * mib, []int64{mib, mib + 4096, 3 * mib}, "1048576-1056768 3145728-3149824 "},
		{"ends", 4 * mib, []int64{0, 4*mib - 4096}, "0-4096 4190208-4194304 "},
	} {
		f, err := os.Create(filepath.Join(dir, c.name))
		must(t, err)
		for _, off := range c.data {
			_, err := f.WriteAt([]byte(strings.Repeat("d", 4096)), off)
			must(t, err)
		}
		must(t, f.Truncate(c.size))
		f.Close()
		s, err := OpenRoots([]rec.Root{{Dir: dir}})
		must(t, err)
		if all, got := contentOf(t, s, c.name); got != c.want || int64(len(all)) != c.size {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		s.Close()
	}
}

// TestSegmentsShrunk asks for segments of a file that is shorter by now.
func TestSegmentsShrunk(t *testing.T) {
	dir := tmp(t)
	holes(t, filepath.Join(dir, "f"))
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	must(t, err)
	defer s.Close()
	f, err := s.Open("f")
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	must(t, os.Truncate(filepath.Join(dir, "f"), 10))
	for off := int64(0); ; {
		_, end, err := f.NextSegment(&st, off)
		if err == io.EOF {
			break
		}
		must(t, err)
		if end <= off {
			t.Fatal("no progress")
		}
		off = end
	}
}

// TestAttributes reads what was set on things of every type.
func TestAttributes(t *testing.T) {
	needRoot(t)
	dir := tmp(t)
	oddTree(t, dir)
	specialTree(t, dir)
	bothWays(t, func(t *testing.T) {
		s, err := OpenRoots([]rec.Root{{Dir: dir}})
		must(t, err)
		defer s.Close()
		for path, want := range map[string]string{
			"special/file":   "security.capability security.s system.posix_acl_access trusted.t",
			"special/dir":    "security.s system.posix_acl_access system.posix_acl_default trusted.t",
			"special/link":   "security.s trusted.t",
			"special/fifo":   "security.s trusted.t",
			"special/socket": "security.s trusted.t",
			"special/null":   "trusted.dev",
			"alink":          "user.big user.z",
			"names/a":        "",
		} {
			e := find(walk(t, []rec.Root{{Dir: dir}}, false), path)
			a, err := s.Attributes(path, e.Type)
			xs := a.XAttrs
			must(t, err)
			var names []string
			for _, x := range xs {
				names = append(names, x.Name)
			}
			if got := strings.Join(names, " "); got != want || !slices.IsSorted(names) {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		if a, err := s.Attributes("special/immutable", rec.File); err != nil || a.Flags != flagImmutable|flagNoDump {
			t.Errorf("flags %s: %v", FlagNames(a.Flags), err)
		}
		if a, err := s.Attributes("special/frozen", rec.Dir); err != nil || a.Flags != flagImmutable|flagNoAtime {
			t.Errorf("flags %s: %v", FlagNames(a.Flags), err)
		}
	})
}

// TestLargeAttribute reads values and lists that do not fit at the first try.
func TestLargeAttribute(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "preserve")
	if err != nil {
		t.Skip("needs a file system in memory, which takes large attributes")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := filepath.Join(dir, "f")
	write(t, p, "")
	if err := unix.Setxattr(p, "trusted.large", []byte(strings.Repeat("v", 60000)), 0); err != nil {
		t.Skip("needs trusted attributes: ", err)
	}
	for i := range 200 {
		must(t, unix.Setxattr(p, fmt.Sprintf("trusted.%0200d", i), []byte("v"), 0))
	}
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	must(t, err)
	defer s.Close()
	a, err := s.Attributes("f", rec.File)
	xs := a.XAttrs
	if err != nil || len(xs) != 201 || len(xs[200].Value) != 60000 {
		t.Fatalf("%d attributes: %v", len(xs), err)
	}
	for i := range 20 {
		must(t, unix.Setxattr(p, fmt.Sprintf("trusted.more%d", i), []byte(strings.Repeat("v", 60000)), 0))
	}
	if _, err := s.Attributes("f", rec.File); !errors.Is(err, ErrAttributes) {
		t.Fatalf("over the limit: %v", err)
	}
	var r told
	e := find(walkTo(t, []rec.Root{{Dir: dir}}, true, &r), "f")
	if e.Err != "" || len(e.Omitted) != 1 || e.Omitted[0] != rec.AnyXAttr || len(r.warned) != 1 {
		t.Fatalf("%q %q %q", e.Err, e.Omitted, r.warned)
	}
}

// TestLease opens a file on which somebody holds a lease.
func TestLease(t *testing.T) {
	dir := tmp(t)
	p := filepath.Join(dir, "f")
	write(t, p, "content")
	holder, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	defer holder.Close()
	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no leases here: ", err)
	}
	fd := holder.Fd()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(50 * time.Millisecond)
		_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	})
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	must(t, err)
	defer s.Close()
	if c, _ := contentOf(t, s, "f"); string(c) != "content" {
		t.Fatalf("%q", c)
	}
}

func TestOpenRoots(t *testing.T) {
	dir := tmp(t)
	if _, err := OpenRoots([]rec.Root{{Dir: filepath.Join(dir, "none"), Path: "a"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := OpenRoots([]rec.Root{{Dir: dir, Path: "a"}, {Dir: "/", Path: "a/b"}}); !errors.Is(err, ErrMixed) {
		t.Errorf("mixed: %v", err)
	}
	write(t, filepath.Join(dir, "x/a/b"), "x")
	write(t, filepath.Join(dir, "y/c"), "y")
	s, err := OpenRoots([]rec.Root{{Dir: filepath.Join(dir, "y"), Path: "c"}, {Dir: filepath.Join(dir, "x"), Path: "a/b"}})
	must(t, err)
	defer s.Close()
	for path, want := range map[string]string{"a/b": "x", "c": "y"} {
		if c, _ := contentOf(t, s, path); string(c) != want {
			t.Errorf("%s: %q", path, c)
		}
	}
	if st, err := s.Stat("a"); err != nil || st.Type != rec.Dir {
		t.Errorf("a parent: %v, %v", st, err)
	}
}

func TestSourceConcurrently(t *testing.T) {
	dir := tmp(t)
	for i := range 50 {
		write(t, filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i)), fmt.Sprint(i))
	}
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	must(t, err)
	defer s.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				p := fmt.Sprintf("%d/%d", i%7, i)
				if c, _ := contentOf(t, s, p); string(c) != fmt.Sprint(i) {
					t.Errorf("%s: %q", p, c)
				}
				if _, err := s.Attributes(p, rec.File); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCutPath(t *testing.T) {
	long := strings.Repeat("n", 255)
	path := strings.Repeat(long+"/", 50) + "end"
	bothWays(t, func(t *testing.T) {
		var names []string
		for rest := path; rest != ""; {
			var step string
			step, rest = cutPath(rest)
			if len(step) >= pathMax || step == "" {
				t.Fatalf("a step of %d bytes", len(step))
			}
			names = append(names, step)
		}
		if strings.Join(names, "/") != path {
			t.Fatal("the steps are not the path")
		}
	})
	if step, rest := cutPath(strings.Repeat("n", 5000) + "/x"); len(step) != 5000 || rest != "x" {
		t.Fatalf("%d %q", len(step), rest)
	}
}

// FuzzDirents gives the parser of directories what no kernel gives.
func FuzzDirents(f *testing.F) {
	fd, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(f, err)
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(fd, buf)
	must(f, err)
	unix.Close(fd)
	f.Add(buf[:n])
	f.Add(buf[:n-5])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Names
		l.parse(b)
		for i := range l.List {
			if n := l.Name(i); n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") || l.text[l.List[i].at+len(n)] != 0 {
				t.Fatalf("%q", n)
			}
		}
	})
}

// FuzzXAttrNames splits lists that no kernel gives.
func FuzzXAttrNames(f *testing.F) {
	f.Add([]byte("user.a\x00user.b\x00"))
	f.Add([]byte("\x00\x00x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range splitNames(b) {
			if n == "" || strings.Contains(n, "\x00") {
				t.Fatalf("%q", n)
			}
		}
	})
}
