package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// heard is a LinkReporter that keeps what it hears.
type heard struct{ links, names []string }

func (h *heard) LeadsOut(path, target, place string) {
	h.links = append(h.links, path+" -> "+target+" = "+place)
}

func (h *heard) NamesOutside(names []string, met, all uint32) {
	h.names = append(h.names, fmt.Sprintf("%s %d/%d", strings.Join(names, " "), met, all))
}

func TestLeadsOut(t *testing.T) {
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "src")
	for _, f := range []string{"src/a/f", "src/a/d/f", "src/b/f", "src/c/f", "out/f", "src-not/f"} {
		treetest.Write(t, filepath.Join(top, f), "")
	}
	treetest.Write(t, filepath.Join(dir, "a/cache", inode.CacheMarker), "")
	treetest.Write(t, filepath.Join(dir, "a/cache/x"), "")
	symlink(t, "../out", filepath.Join(dir, "way")) // no source
	abs := func(p string) string { return filepath.Join(top, p) }
	for _, c := range []struct {
		link, target string
		out          bool
	}{
		{"a/to-file", "f", false},
		{"a/to-dir", "./d/../d", false},
		{"a/to-top", "..", true},
		{"a/d/to-root", "..", false},
		{"a/d/up-and-down", "../../a/f", false},
		{"a/to-other-source", "../b/f", false},
		{"a/to-no-source", "../c/f", true},
		{"a/to-out", "../../out/f", true},
		{"a/to-missing", "../../out/none", false},
		{"a/missing-inside", "none", false},
		{"a/abs-inside", abs("src/a/d/f"), false},
		{"a/abs-other-source", abs("src/b"), false},
		{"a/abs-out", abs("out/f"), true},
		{"a/abs-odd", "/" + abs("out") + "/.//f", true},
		{"a/abs-prefix", abs("src-not/f"), true},
		{"a/abs-missing", abs("none/x"), false},
		{"a/proc", "/proc/self/mounts", true},
		{"a/dev", "/dev/null", true},
		{"a/root", "/", true},
		{"a/by-way", "../way/f", true},
		{"a/by-way-missing", "../way/none", false},
		{"a/round", "../../src/round", false},
		{"a/cache-back", "cache/x", true},
		{"a/Cache-forward", "cache/x", true},
		{"a/Cache-none", "cache/none", false},
		{"a/d/cache-itself", "../cache", true},
		{"l", "c", true},
	} {
		symlink(t, c.target, filepath.Join(dir, c.link))
		var h heard
		roots := []rec.Root{{Dir: dir, Path: "a"}, {Dir: dir, Path: "b"}}
		if c.link == "l" {
			roots = append(roots, rec.Root{Dir: dir, Path: "l"})
		}
		treetest.Must(t, Walk(roots, Options{Report: &treetest.Told{}, Links: &h}, func(*rec.Entry) error { return nil }))
		if got := len(h.links) == 1 && strings.HasPrefix(h.links[0], c.link+" -> "+c.target+" = /"); got != c.out || len(h.links) > 1 {
			t.Errorf("%s -> %s: %q", c.link, c.target, h.links)
		}
		treetest.Must(t, os.Remove(filepath.Join(dir, c.link)))
	}
}

// TestLeadsOutMixed has sources from several directories.
func TestLeadsOutMixed(t *testing.T) {
	top := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(top, "w/a/f"), "")
	treetest.Write(t, filepath.Join(top, "other/x/f"), "")
	symlink(t, filepath.Join(top, "other/x/f"), filepath.Join(top, "w/a/there"))
	symlink(t, "../../w/a/f", filepath.Join(top, "other/x/back"))
	symlink(t, "../y", filepath.Join(top, "other/x/out"))
	treetest.Write(t, filepath.Join(top, "other/y"), "")
	roots, err := source.Resolve(filepath.Join(top, "w"), []string{"a", "../other/x"}, nil)
	treetest.Must(t, err)
	var h heard
	treetest.Must(t, Walk(roots, Options{Report: &treetest.Told{}, Links: &h}, func(*rec.Entry) error { return nil }))
	place := filepath.Join(top, "other/y")
	if want := []string{filepath.Join(top, "other/x/out")[1:] + " -> ../y = " + place}; !slices.Equal(h.links, want) {
		t.Errorf("%q", h.links)
	}
	// All that is below / is in a backup of /.
	l := newLeads([]rec.Root{{Dir: "/"}}, &h)
	if to, inside := l.path("etc/passwd"); !inside || to != "etc/passwd" {
		t.Error(to, inside)
	}
}

func TestNamesOutside(t *testing.T) {
	top := treetest.Tmp(t)
	for _, f := range []string{"src/a", "src/b", "src/z", "src/whole"} {
		treetest.Write(t, filepath.Join(top, f), "")
	}
	for _, l := range [][2]string{{"src/b", "out1"}, {"src/a", "src/c"}, {"src/a", "src/d"}, {"src/a", "src/e"}, {"src/a", "src/f"},
		{"src/a", "out2"}, {"src/whole", "src/whole2"}, {"src/z", "out3"}} {
		treetest.Must(t, os.Link(filepath.Join(top, l[0]), filepath.Join(top, l[1])))
	}
	var h heard
	treetest.Must(t, Walk([]rec.Root{{Dir: top, Path: "src"}}, Options{Report: &treetest.Told{}, Links: &h}, func(*rec.Entry) error { return nil }))
	if want := []string{"src/a src/c src/d src/e 5/6", "src/b 1/2", "src/z 1/2"}; !slices.Equal(h.names, want) {
		t.Errorf("%q", h.names)
	}
}

// TestLeadsLeftOut: what a Chooser leaves out is not there for links, wherever they
// come in the walk.
func TestLeadsLeftOut(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"m/x", "m/y", "n/in/x", "n/out/x", "n/out/y"} {
		treetest.Write(t, filepath.Join(dir, f), "")
	}
	for _, l := range []string{"a", "z"} {
		for name, target := range map[string]string{"x": "m/x", "y": "m/y", "in": "n/in/x", "out": "n/out", "deep": "n/out/x", "none": "n/out/none"} {
			symlink(t, target, filepath.Join(dir, l+name))
		}
	}
	c := chosen{take: func(p string, _ *inode.Stat) bool { return p != "m/x" }, enter: func(d *Dir) []string {
		if d.Path == "n" {
			return []string{"in"}
		}
		return nil
	}}
	var h heard
	treetest.Must(t, Walk([]rec.Root{{Dir: dir}}, Options{Choose: c, Report: &treetest.Told{}, Links: &h}, func(*rec.Entry) error { return nil }))
	var got []string
	for _, l := range h.links {
		link, _, _ := strings.Cut(l, " ")
		got = append(got, link)
	}
	if want := []string{"zdeep", "zout", "zx", "adeep", "aout", "ax"}; !slices.Equal(got, want) {
		t.Errorf("%q", h.links)
	}
}

// TestFollowChosen asks about what a link leads to, not only about the link.
func TestFollowChosen(t *testing.T) {
	top := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(top, "far/f"), "")
	symlink(t, "../far", filepath.Join(top, "src/l"))
	c := chosen{take: func(_ string, st *inode.Stat) bool { return st.Type != rec.Dir }}
	es := walkWith(t, []rec.Root{{Dir: top, Path: "src"}}, Options{Follow: true, Choose: c, Report: &treetest.Told{}})
	if got := treetest.Paths(es); !slices.Equal(got, []string{"src"}) {
		t.Errorf("%q", got)
	}
}

// TestLinksHeld bounds the names that are kept.
func TestLinksHeld(t *testing.T) {
	l := newLinks(true)
	for i := range uint64(maxHeld) {
		for range 4 {
			l.seen("x", &inode.Stat{Type: rec.File, Ino: i, Dev: 1, Links: 9})
		}
	}
	if l.held != maxHeld {
		t.Fatal(l.held)
	}
	for i := range uint64(maxHeld) {
		l.forget(&inode.Stat{Ino: i, Dev: 1})
	}
	if l.held != 0 || len(l.of) != 0 {
		t.Fatal(l.held, len(l.of))
	}
}
