package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/treetest"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	top := treetest.Tmp(t)
	for _, f := range []string{"w/a/b/f", "w/c", "w/a-b", "other/x/y"} {
		treetest.Write(t, filepath.Join(top, f), "")
	}
	for link, target := range map[string]string{
		"w/la": "a", "w/lc": "c", "w/out": "../other", "w/abs": filepath.Join(top, "other"), "w/loop": "loop", "w/two": "out/x",
	} {
		treetest.Must(t, os.Symlink(target, filepath.Join(top, link)))
	}
	w := filepath.Join(top, "w")
	rel := func(p string) rec.Root { return rec.Root{Dir: w, Path: p} }
	abs := func(p string) rec.Root {
		return rec.Root{Dir: "/", Path: strings.TrimPrefix(filepath.Join(top, p), "/")}
	}
	for _, c := range []struct {
		sources string
		want    []rec.Root
		notes   int
		err     error
	}{
		{"a", []rec.Root{rel("a")}, 0, nil},
		{"./a//b/", []rec.Root{rel("a/b")}, 0, nil},
		{"c a-b a", []rec.Root{rel("a"), rel("a-b"), rel("c")}, 0, nil},
		{"a/b a a/b/f a", []rec.Root{rel("a")}, 0, nil},
		{". a", []rec.Root{rel("")}, 0, nil},
		{"a/..", []rec.Root{rel("")}, 0, nil},
		{"a/b/../../c", []rec.Root{rel("c")}, 0, nil},
		{"la", []rec.Root{rel("la")}, 0, nil},
		{"la/", []rec.Root{rel("a")}, 1, nil},
		{"la/.", []rec.Root{rel("a")}, 1, nil},
		{"la/b/f", []rec.Root{rel("a/b/f")}, 1, nil},
		{"la/b a/b", []rec.Root{rel("a/b")}, 1, nil},
		{"../other", []rec.Root{abs("other")}, 0, nil},
		{"..", []rec.Root{abs("")}, 0, nil},
		{"out/x", []rec.Root{abs("other/x")}, 1, nil},
		{"two/y", []rec.Root{abs("other/x/y")}, 1, nil},
		{"abs/x a", []rec.Root{rel("a"), abs("other/x")}, 1, nil},
		{"out/../c", nil, 0, fs.ErrNotExist}, // ".." of what the link points to
		{"/", []rec.Root{{Dir: "/"}}, 0, nil},
		{"/ /.. //", []rec.Root{{Dir: "/"}}, 0, nil},
		{"/ c", nil, 0, ErrMixed},
		{"missing", nil, 0, fs.ErrNotExist},
		{"missing/x", nil, 0, fs.ErrNotExist},
		{"c/", nil, 0, errNotDir},
		{"c/x", nil, 0, errNotDir},
		{"lc/", nil, 0, errNotDir},
		{"loop", []rec.Root{rel("loop")}, 0, nil},
		{"loop/x", nil, 0, errLoop},
	} {
		t.Run(c.sources, func(t *testing.T) {
			notes := 0
			got, err := Resolve(w, strings.Fields(c.sources), func(string, string) { notes++ })
			slices.SortFunc(c.want, func(a, b rec.Root) int { return rec.ComparePaths(a.Path, b.Path) })
			if !slices.Equal(got, c.want) || notes != c.notes || !errors.Is(err, c.err) {
				t.Fatalf("%v, %d notes, %v; want %v, %d, %v", got, notes, err, c.want, c.notes, c.err)
			}
		})
	}
	if _, err := Resolve(w, []string{""}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty source: %v", err)
	}
	if _, err := Resolve(filepath.Join(top, "none"), []string{"a"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent directory: %v", err)
	}
	if _, err := Resolve(filepath.Join(w, "c"), []string{"a"}, nil); !errors.Is(err, errNotDir) {
		t.Errorf("a file as directory: %v", err)
	}
}

var errNotDir, errLoop error = unix.ENOTDIR, unix.ELOOP

// TestResolveFromHere begins from the working directory, in several ways.
func TestResolveFromHere(t *testing.T) {
	top := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(top, "d/e/f"), "")
	treetest.Must(t, os.Symlink("d", filepath.Join(top, "l")))
	t.Chdir(filepath.Join(top, "l"))
	d := filepath.Join(top, "d")
	for _, c := range []struct {
		dir, source string
		want        rec.Root
	}{
		{"", "e", rec.Root{Dir: d, Path: "e"}},
		{"", ".", rec.Root{Dir: d}},
		{"e", "f", rec.Root{Dir: d + "/e", Path: "f"}},
		{"e/..", "e", rec.Root{Dir: d, Path: "e"}},
		{"../l/e", ".", rec.Root{Dir: d + "/e"}},
	} {
		got, err := Resolve(c.dir, []string{c.source}, func(a, b string) { t.Errorf("%s: %s", a, b) })
		if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("-C %q %q: %v, %v", c.dir, c.source, got, err)
		}
	}
}

func TestMixedSources(t *testing.T) {
	for _, c := range []struct {
		roots string // DIR:PATH
		fails bool
	}{
		{"/:a /:b", false},
		{"/:a/b /x:c/d", false},
		{"/:a /x:a", true},
		{"/:a/b /x:a/c", true},
		{"/:a /x:a/c", true},
		{"/:a/x /:a-b /y:a/z", true},
		{"/: /x:a", true},
		{"/: /x:", true},
		{"/x: /x:a", false},
		{"/x:a /y:a-b", false},
	} {
		var roots []rec.Root
		for _, r := range strings.Fields(c.roots) {
			dir, path, _ := strings.Cut(r, ":")
			roots = append(roots, rec.Root{Dir: dir, Path: path})
		}
		if got, err := merge(roots); errors.Is(err, ErrMixed) != c.fails {
			t.Errorf("%s: %v, %v", c.roots, got, err)
		}
	}
}

// FuzzResolve gives words that must come back as roots of existing things, or as
// errors.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"a", "../..", "a/./b/..", "/", "l/b", "//a//", "x/../a", "l/../a/"} {
		f.Add(s)
	}
	dir := treetest.Tmp(f)
	treetest.Write(f, filepath.Join(dir, "a/b"), "")
	treetest.Must(f, os.Symlink("a", filepath.Join(dir, "l")))
	f.Fuzz(func(t *testing.T, source string) {
		roots, err := Resolve(dir, []string{source}, nil)
		if err != nil {
			return
		}
		if len(roots) != 1 {
			t.Fatalf("%v", roots)
		}
		r := roots[0]
		if err := rec.CheckPath(r.Path); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(r.Dir, r.Path)
		a, err := os.Lstat(at)
		treetest.Must(t, err)
		if strings.HasPrefix(source, "/") {
			dir = "/"
		}
		full := dir + "/" + source
		b, err := os.Lstat(full)
		if err != nil || !os.SameFile(a, b) {
			if b, err = os.Stat(full); err != nil || !os.SameFile(a, b) {
				t.Fatalf("%q is stored as %v: %v", source, r, err)
			}
		}
		if real, err := filepath.EvalSymlinks(filepath.Dir(at)); err != nil || real != filepath.Dir(at) {
			t.Fatalf("%q: a parent of %s is a link: %v", source, at, err)
		}
	})
}
