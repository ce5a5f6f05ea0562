package tree

import (
	"bytes"
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

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// told is a Reporter that keeps what it hears.
type told struct{ warned, vanished, skipped []string }

func (r *told) Warn(path string, err error) { r.warned = append(r.warned, path+": "+err.Error()) }
func (r *told) Vanished(path string)        { r.vanished = append(r.vanished, path) }
func (r *told) Skipped(path, why string)    { r.skipped = append(r.skipped, path+": "+why) }

// clone makes an entry independent of the walk.
func clone(e *rec.Entry) *rec.Entry {
	c := *e
	c.XAttrs = slices.Clone(e.XAttrs)
	return &c
}

// walk returns all entries of the roots and fails on reports.
func walk(t testing.TB, roots []rec.Root, attributes bool) []*rec.Entry {
	t.Helper()
	var r told
	es := walkTo(t, roots, attributes, &r)
	if len(r.warned)+len(r.vanished)+len(r.skipped) > 0 {
		t.Fatalf("reports: %+v", r)
	}
	return es
}

func walkTo(t testing.TB, roots []rec.Root, attributes bool, r Reporter) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	err := Walk(roots, Options{Attributes: attributes, Report: r}, func(e *rec.Entry) error {
		if err := e.Check(); err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
		if len(es) > 0 && rec.ComparePaths(es[len(es)-1].Path, e.Path) >= 0 {
			t.Errorf("%q comes after %q", e.Path, es[len(es)-1].Path)
		}
		es = append(es, clone(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func paths(es []*rec.Entry) []string {
	var ps []string
	for _, e := range es {
		ps = append(ps, e.Path)
	}
	return ps
}

func find(es []*rec.Entry, path string) *rec.Entry {
	for _, e := range es {
		if e.Path == path {
			return e
		}
	}
	return nil
}

// tmp returns an empty directory whose path has no links in it.
func tmp(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	t.Cleanup(func() { // or an ordinary user could not remove it
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// isRoot reports whether the tests are run by root, not by one that has power
// only in a user namespace.
func isRoot() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return os.Geteuid() == 0 && err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}

func needRoot(t testing.TB) {
	t.Helper()
	if !isRoot() {
		t.Skip("needs root")
	}
}

// copyFile copies a file's segments.
func copyFile(src *Source, e *rec.Entry, o *Out) error {
	f, err := src.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Same(e); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		start, end, err := f.NextSegment(&st, off)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for start < end {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), end-start)], start)
			if err != nil {
				return err
			}
			if _, err := o.WriteAt(buf[:n], start); err != nil {
				return err
			}
			start += int64(n)
		}
		off = end
	}
}

// makeNode does what a restore does with one node.
func makeNode(src *Source, e *rec.Entry, n *Node) error {
	if e.Type != rec.File {
		return n.Make()
	}
	o, err := n.Create()
	if err != nil {
		return err
	}
	if err := copyFile(src, e, o); err != nil {
		o.Abort()
		return err
	}
	if err := copyHoles(src, e, o); err != nil {
		o.Abort()
		return err
	}
	return o.Finish(e)
}

// copyHoles tells of a file's holes.
func copyHoles(src *Source, e *rec.Entry, o *Out) error {
	f, err := src.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); ; {
		start, end, err := f.NextSegment(&st, off)
		if err == io.EOF {
			return o.Hole(off, int64(st.Size)-off)
		}
		if err == nil && start > off {
			err = o.Hole(off, start-off)
		}
		if err != nil {
			return err
		}
		off = end
	}
}

// copyTree makes the entries below dir, several at a time, and returns the
// warnings.
func copyTree(t testing.TB, roots []rec.Root, es []*rec.Entry, dir string, workers int) (warnings []string, left Left) {
	t.Helper()
	return copyTreeInto(t, roots, es, dir, workers, Into{})
}

func copyTreeInto(t testing.TB, roots []rec.Root, es []*rec.Entry, dir string, workers int, o Into) (warnings []string, left Left) {
	t.Helper()
	src, err := OpenRoots(roots)
	must(t, err)
	defer src.Close()
	tg, err := OpenTarget(dir, o)
	must(t, err)
	var mu sync.Mutex
	warn := func(w *Warning) {
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, w.Path+": "+w.Error())
	}
	tg.Warn = warn
	type job struct {
		e *rec.Entry
		n *Node
	}
	jobs := make(chan job, 64)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for j := range jobs {
				err := makeNode(src, j.e, j.n)
				var w *Warning
				if errors.As(err, &w) {
					warn(w)
				} else if err != nil {
					t.Errorf("%q: %v", j.e.Path, err)
				}
			}
		})
	}
	for _, e := range es {
		n, err := tg.Begin(e)
		if err != nil {
			t.Errorf("begin %q: %v", e.Path, err)
			continue
		}
		if n != nil {
			jobs <- job{e, n}
		}
	}
	close(jobs)
	must(t, tg.Close())
	wg.Wait()
	return warnings, tg.Left()
}

// stripped is what must be equal in two trees.
func stripped(es []*rec.Entry) []string {
	var out []string
	for _, e := range es {
		c := *e
		c.CTime, c.BTime, c.Ino, c.Dev = rec.Time{}, rec.Time{}, 0, 0
		out = append(out, fmt.Sprintf("%+v", c))
	}
	return out
}

// sameTrees compares two trees, content too.
func sameTrees(t testing.TB, a, b string) {
	t.Helper()
	ra, rb := []rec.Root{{Dir: a}}, []rec.Root{{Dir: b}}
	ea, eb := walk(t, ra, true), walk(t, rb, true)
	x, y := stripped(ea), stripped(eb)
	for i := 0; i < max(len(x), len(y)); i++ {
		switch {
		case i >= len(x):
			t.Errorf("more: %s", y[i])
		case i >= len(y):
			t.Errorf("missing: %s", x[i])
		case x[i] != y[i]:
			t.Errorf("differ:\n%.500s\n%.500s", x[i], y[i])
		}
		if t.Failed() {
			return
		}
	}
	sa, err := OpenRoots(ra)
	must(t, err)
	defer sa.Close()
	sb, err := OpenRoots(rb)
	must(t, err)
	defer sb.Close()
	for _, e := range ea {
		if e.Type == rec.File {
			ca, ha := contentOf(t, sa, e.Path)
			cb, hb := contentOf(t, sb, e.Path)
			if !bytes.Equal(ca, cb) {
				t.Errorf("%q: contents differ", e.Path)
			}
			if ha != hb {
				t.Errorf("%q: segments differ: %s, %s", e.Path, ha, hb)
			}
		}
	}
}

// contentOf reads a file, and says where its data lies.
func contentOf(t testing.TB, s *Source, path string) ([]byte, string) {
	t.Helper()
	f, err := s.Open(path)
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
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
		must(t, err)
		fmt.Fprintf(&where, "%d-%d ", start, end)
		off = end
	}
}

// enter changes into a directory below dirfd by one name, making it first.
func enter(t testing.TB, dirfd int, name string) int {
	t.Helper()
	must(t, unix.Mkdirat(dirfd, name, 0o755))
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

// deep makes a chain of n directories of that name below dir and a file at its
// end, and removes them when the test ends, which the system's own way of removing
// may not manage.
func deep(t testing.TB, dir, name string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range n {
		next := enter(t, fd, name)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "end", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	must(t, err)
	_, err = unix.Write(f, []byte("the end"))
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
}
