package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// bothWays runs a test with openat2 and without.
func bothWays(t *testing.T, fn func(t *testing.T)) {
	t.Run("openat2", fn)
	have := inode.HaveOpenat2
	inode.HaveOpenat2 = func() bool { return false }
	defer func() { inode.HaveOpenat2 = have }()
	t.Run("stepwise", fn)
}

func TestSourceStaysInside(t *testing.T) {
	top := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(top, "secret"), "secret")
	treetest.Write(t, filepath.Join(top, "src/d/e/f"), "fine")
	for link, target := range map[string]string{"src/up": "..", "src/d/link": "e", "src/d/e/l": "../../../secret", "src/root": "/"} {
		treetest.Must(t, os.Symlink(target, filepath.Join(top, link)))
	}
	bothWays(t, func(t *testing.T) {
		s, err := OpenRoots([]rec.Root{{Dir: filepath.Join(top, "src"), Path: "d"}, {Dir: filepath.Join(top, "src"), Path: "up"},
			{Dir: filepath.Join(top, "src"), Path: "root"}})
		treetest.Must(t, err)
		defer s.Close()
		if c, _ := contentOf(t, s, "d/e/f"); string(c) != "fine" {
			t.Fatalf("%q", c)
		}
		for path, want := range map[string]error{
			"d/e/l": unix.ELOOP, "d/link/f": unix.ELOOP, "up/secret": unix.ELOOP, "root/etc/passwd": unix.ELOOP, "up": unix.ELOOP,
			"d/e/none": fs.ErrNotExist, "d/e/f/x": unix.ENOTDIR,
			"e": ErrOutside, "d-x": ErrOutside, "": nil,
			"d/../../secret": rec.ErrPath, "../secret": rec.ErrPath, "/etc/passwd": rec.ErrPath, "d/\x00": rec.ErrPath, "d//e": rec.ErrPath,
		} {
			f, err := s.Open(path)
			if f != nil {
				f.Close()
			}
			if !errors.Is(err, want) && !(want == unix.ELOOP && errors.Is(err, unix.ENOTDIR)) {
				t.Errorf("open %q: %v, want %v", path, err, want)
			}
			if _, err = s.Attributes(path, rec.File); want != nil && err == nil {
				t.Errorf("attributes of %q: no error", path)
			}
		}
	})
}

func TestSegments(t *testing.T) {
	dir := treetest.Tmp(t)
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
		treetest.Must(t, err)
		for _, off := range c.data {
			_, err := f.WriteAt([]byte(strings.Repeat("d", 4096)), off)
			treetest.Must(t, err)
		}
		treetest.Must(t, f.Truncate(c.size))
		f.Close()
		s, err := OpenRoots([]rec.Root{{Dir: dir}})
		treetest.Must(t, err)
		if all, got := contentOf(t, s, c.name); got != c.want || int64(len(all)) != c.size {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		s.Close()
	}
}

// TestSegmentsShrunk asks for segments of a file that is shorter by now.
func TestSegmentsShrunk(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Holes(t, filepath.Join(dir, "f"))
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	treetest.Must(t, err)
	defer s.Close()
	f, err := s.Open("f")
	treetest.Must(t, err)
	defer f.Close()
	st, err := f.Stat()
	treetest.Must(t, err)
	treetest.Must(t, os.Truncate(filepath.Join(dir, "f"), 10))
	for off := int64(0); ; {
		_, end, err := f.NextSegment(&st, off)
		if err == io.EOF {
			break
		}
		treetest.Must(t, err)
		if end <= off {
			t.Fatal("no progress")
		}
		off = end
	}
}

// TestLease opens a file on which somebody holds a lease.
func TestLease(t *testing.T) {
	dir := treetest.Tmp(t)
	p := filepath.Join(dir, "f")
	treetest.Write(t, p, "content")
	holder, err := os.OpenFile(p, os.O_RDWR, 0)
	treetest.Must(t, err)
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
	treetest.Must(t, err)
	defer s.Close()
	if c, _ := contentOf(t, s, "f"); string(c) != "content" {
		t.Fatalf("%q", c)
	}
}

func TestOpenRoots(t *testing.T) {
	dir := treetest.Tmp(t)
	if _, err := OpenRoots([]rec.Root{{Dir: filepath.Join(dir, "none"), Path: "a"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := OpenRoots([]rec.Root{{Dir: dir, Path: "a"}, {Dir: "/", Path: "a/b"}}); !errors.Is(err, ErrMixed) {
		t.Errorf("mixed: %v", err)
	}
	treetest.Write(t, filepath.Join(dir, "x/a/b"), "x")
	treetest.Write(t, filepath.Join(dir, "y/c"), "y")
	s, err := OpenRoots([]rec.Root{{Dir: filepath.Join(dir, "y"), Path: "c"}, {Dir: filepath.Join(dir, "x"), Path: "a/b"}})
	treetest.Must(t, err)
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
	dir := treetest.Tmp(t)
	for i := range 50 {
		treetest.Write(t, filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i)), fmt.Sprint(i))
	}
	s, err := OpenRoots([]rec.Root{{Dir: dir}})
	treetest.Must(t, err)
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

// TestUnsearchable reads the attributes of a directory that can be read but not
// searched.
func TestUnsearchable(t *testing.T) {
	dir, child := treetest.UserDir(t)
	if !child {
		treetest.Write(t, filepath.Join(dir, "read/in"), "")
		treetest.Must(t, os.Chmod(filepath.Join(dir, "read"), 0o444))
	}
	treetest.AsUser(t, dir, func() {
		s, err := OpenRoots([]rec.Root{{Dir: dir}})
		treetest.Must(t, err)
		defer s.Close()
		if _, err := s.Attributes("read", rec.Dir); err != nil {
			t.Error(err)
		}
	})
}

// contentOf reads a file, and says where its data lies.
func contentOf(t testing.TB, s *Source, path string) ([]byte, string) {
	t.Helper()
	f, err := s.Open(path)
	treetest.Must(t, err)
	defer f.Close()
	st, err := f.Stat()
	treetest.Must(t, err)
	all := make([]byte, min(st.Size, 64<<20))
	if n, err := f.ReadAt(all, 0); n != len(all) {
		t.Fatalf("%q: %d of %d bytes: %v", path, n, len(all), err)
	}
	var where strings.Builder
	for off := int64(0); ; {
		start, end, err := f.NextSegment(&st, off)
		if err == io.EOF {
			return all, where.String()
		}
		treetest.Must(t, err)
		fmt.Fprintf(&where, "%d-%d ", start, end)
		off = end
	}
}
