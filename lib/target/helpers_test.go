package target

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// walk returns all entries of the roots and fails on reports.
func walk(t testing.TB, roots []rec.Root, attributes bool) []*rec.Entry {
	t.Helper()
	var r treetest.Told
	es := walkTo(t, roots, attributes, &r)
	if len(r.Warnings)+len(r.Gone)+len(r.Skips) > 0 {
		t.Fatalf("reports: %+v", r)
	}
	return es
}

func walkTo(t testing.TB, roots []rec.Root, attributes bool, r scan.Reporter) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	err := scan.Walk(roots, scan.Options{Attributes: attributes, Report: r}, func(e *rec.Entry) error {
		if err := e.Check(); err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
		if len(es) > 0 && rec.ComparePaths(es[len(es)-1].Path, e.Path) >= 0 {
			t.Errorf("%q comes after %q", e.Path, es[len(es)-1].Path)
		}
		es = append(es, treetest.Clone(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// copyFile copies a file's segments.
func copyFile(src *source.Source, e *rec.Entry, o *Out) error {
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
func makeNode(src *source.Source, e *rec.Entry, n *Node) error {
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
func copyHoles(src *source.Source, e *rec.Entry, o *Out) error {
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
	src, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer src.Close()
	tg, err := OpenTarget(dir, o)
	treetest.Must(t, err)
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
	treetest.Must(t, tg.Close())
	wg.Wait()
	return warnings, tg.Left()
}

// sameTrees compares two trees, content too.
func sameTrees(t testing.TB, a, b string) {
	t.Helper()
	ra, rb := []rec.Root{{Dir: a}}, []rec.Root{{Dir: b}}
	ea, eb := walk(t, ra, true), walk(t, rb, true)
	x, y := treetest.Stripped(ea), treetest.Stripped(eb)
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
	sa, err := source.OpenRoots(ra)
	treetest.Must(t, err)
	defer sa.Close()
	sb, err := source.OpenRoots(rb)
	treetest.Must(t, err)
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
func contentOf(t testing.TB, s *source.Source, path string) ([]byte, string) {
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

// asMapped runs fn as root of a user namespace with no other user in it.
func asMapped(t *testing.T, dir string, fn func()) {
	t.Helper()
	if os.Getenv(treetest.UserDirEnv) != "" {
		fn()
		return
	}
	treetest.Again(t, dir, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	})
}

// bothWays runs a test with openat2 and without.
func bothWays(t *testing.T, fn func(t *testing.T)) {
	t.Run("openat2", fn)
	have := inode.HaveOpenat2
	inode.HaveOpenat2 = func() bool { return false }
	defer func() { inode.HaveOpenat2 = have }()
	t.Run("stepwise", fn)
}

// thaw lets what was restored be removed.
func thaw(t testing.TB, dir string) {
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && (d.Type().IsRegular() || d.IsDir()) {
				treetest.SetTestFlags(t, p, 0)
			}
			return nil
		})
	})
}
