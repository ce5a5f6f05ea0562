package scan

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// chosen is a Chooser made of functions.
type chosen struct {
	take  func(path string, st *inode.Stat) bool
	enter func(d *Dir) []string
}

func (c chosen) Drop(string, rec.Type) bool { return false }

func (c chosen) Take(path string, st *inode.Stat, _ bool) bool { return c.take(path, st) }

func (c chosen) Looks() bool { return true }

func (c chosen) Enter(d *Dir) []string {
	if c.enter == nil {
		return nil
	}
	return c.enter(d)
}

func chosenPaths(t *testing.T, roots []rec.Root, c Chooser) (paths []string) {
	t.Helper()
	said := &treetest.Told{}
	treetest.Must(t, Walk(roots, Options{Choose: c, Report: said}, func(e *rec.Entry) error {
		paths = append(paths, e.Path)
		return nil
	}))
	if len(said.Warnings)+len(said.Gone) > 0 {
		t.Errorf("%+v", said)
	}
	return paths
}

func TestChoose(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"a/in/x", "a/out/x", "a/x", "b/x", "out"} {
		treetest.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		treetest.Must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	var asked []string
	c := chosen{take: func(p string, st *inode.Stat) bool {
		if st.Type == rec.Dir {
			p += "/"
		}
		asked = append(asked, p)
		return !strings.HasSuffix(p, "out/") && p != "b/x"
	}}
	got := chosenPaths(t, []rec.Root{{Dir: dir, Path: "a"}, {Dir: dir, Path: "b"}, {Dir: dir, Path: "out"}}, c)
	if want := []string{"a", "a/in", "a/in/x", "a/x", "b", "out"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if want := []string{"a/in/", "a/out/", "a/x", "a/in/x", "b/x"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q", asked)
	}
}

// The helpers of a cold walk do not look into what is left out, and the entries
// are the same as those of a warm one.
func TestChooseCold(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"a/in/x", "a/out/x", "b/out/y", "c/z"} {
		treetest.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		treetest.Must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	c := chosen{take: func(p string, st *inode.Stat) bool { return inode.Base(p) != "out" }}
	warm := chosenPaths(t, []rec.Root{{Dir: dir}}, c)
	defer func(d time.Duration) { coldAfter = d }(coldAfter)
	coldAfter = 0
	if cold := chosenPaths(t, []rec.Root{{Dir: dir}}, c); !slices.Equal(cold, warm) || len(cold) != 7 {
		t.Errorf("%q, %q", cold, warm)
	}
	a := newAhead()
	fd, err := unix.Open(filepath.Join(dir, "a"), inode.OpenDir, 0)
	treetest.Must(t, err)
	defer unix.Close(fd)
	l := &level{}
	treetest.Must(t, l.Read(fd, make([]byte, 4096)))
	l.batch = []child{{index: 0, st: inode.Stat{Type: rec.Dir}}, {index: 1, st: inode.Stat{Type: rec.Dir}, out: true}}
	a.closed = true
	a.after(0, l)
	if !slices.Equal(a.todo, []string{"in"}) {
		t.Errorf("the helpers are to look at %q", a.todo)
	}
	a.end()
}

// If the first name of a file is left out, the next one is the first.
func TestChooseLeader(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o644))
	for _, n := range []string{"b", "c", "d"} {
		treetest.Must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, n)))
	}
	var es []*rec.Entry
	c := chosen{take: func(p string, st *inode.Stat) bool { return p != "a" && p != "c" }}
	treetest.Must(t, Walk([]rec.Root{{Dir: dir}}, Options{Choose: c, Report: &treetest.Told{}}, func(e *rec.Entry) error {
		es = append(es, treetest.Clone(e))
		return nil
	}))
	if len(es) != 3 || es[1].Path != "b" || es[1].Type != rec.File || es[1].Links != 4 || es[2].Type != rec.HardLink || es[2].Leader != "b" {
		t.Errorf("%+v", es)
	}
}

func TestEnter(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Must(t, os.MkdirAll(filepath.Join(dir, "a/tag"), 0o755))
	for _, f := range []string{"TAG", "a/TAG", "a/other", "a/tag/x"} {
		treetest.Must(t, os.WriteFile(filepath.Join(dir, f), []byte("it begins so"), 0o644))
	}
	treetest.Must(t, os.Symlink("TAG", filepath.Join(dir, "link")))
	treetest.Must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	var entered []string
	c := chosen{take: func(string, *inode.Stat) bool { return true }, enter: func(d *Dir) []string {
		entered = append(entered, d.Path)
		if d.Path == "a" {
			return []string{"TAG", "nothing"}
		}
		for name, want := range map[string]bool{"TAG": true, "link": false, "fifo": false, "a": false, "none": false} {
			if d.Begins(name, "it begins") != want || d.Has(name) != (name != "none") {
				t.Errorf("%s begins: %v", name, !want)
			}
		}
		if d.Begins("TAG", "it begins so, and goes on") || d.Begins("TAG", "It") {
			t.Error("another beginning")
		}
		return nil
	}}
	if got, want := chosenPaths(t, []rec.Root{{Dir: dir}}, c), []string{"", "TAG", "a", "a/TAG", "fifo", "link"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if !slices.Equal(entered, []string{"", "a"}) {
		t.Errorf("entered %q", entered)
	}
}
