package scan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// follow walks with links followed.
func follow(t testing.TB, roots []rec.Root, attributes bool, r Reporter) []*rec.Entry {
	t.Helper()
	return walkWith(t, roots, Options{Follow: true, Attributes: attributes, Report: r})
}

func walkWith(t testing.TB, roots []rec.Root, o Options) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	treetest.Must(t, Walk(roots, o, func(e *rec.Entry) error {
		if err := e.Check(); err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
		if len(es) > 0 && rec.ComparePaths(es[len(es)-1].Path, e.Path) >= 0 {
			t.Errorf("%q comes after %q", e.Path, es[len(es)-1].Path)
		}
		es = append(es, treetest.Clone(e))
		return nil
	}))
	return es
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	treetest.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	treetest.Must(t, os.Symlink(target, path))
}

// brief is type and path of entries.
func brief(es []*rec.Entry) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.Type.String()+" "+e.Path)
	}
	return out
}

func TestFollow(t *testing.T) {
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "src")
	treetest.Write(t, filepath.Join(top, "out/d/f"), "far")
	treetest.Write(t, filepath.Join(dir, "a/f"), "near")
	treetest.Must(t, unix.Mkfifo(filepath.Join(top, "out/fifo"), 0o600))
	symlink(t, "a/f", filepath.Join(dir, "file"))
	symlink(t, "file", filepath.Join(dir, "chain"))
	symlink(t, "../out/d", filepath.Join(dir, "dir"))
	symlink(t, filepath.Join(top, "out"), filepath.Join(dir, "abs"))
	symlink(t, "../out/fifo", filepath.Join(dir, "p"))
	var r treetest.Told
	roots := []rec.Root{{Dir: dir}}
	es := follow(t, roots, true, &r)
	want := []string{"dir ", "dir a", "file a/f", "dir abs", "dir abs/d", "file abs/d/f", "fifo abs/fifo", "file chain", "dir dir", "file dir/f", "file file", "fifo p"}
	if got := brief(es); !slices.Equal(got, want) || len(r.Warnings)+len(r.Gone)+len(r.Skips) > 0 {
		t.Fatalf("%q, %+v", got, r)
	}
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	if _, err := s.OpenEntry(treetest.Find(es, "dir/f")); !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a link is followed where nobody asked for that: %v", err)
	}
	treetest.Must(t, s.Follow())
	for path, want := range map[string]string{"a/f": "near", "chain": "near", "dir/f": "far", "abs/d/f": "far"} {
		f, err := s.OpenEntry(treetest.Find(es, path))
		treetest.Must(t, err)
		var buf [4]byte
		n, _ := f.ReadAt(buf[:], 0)
		if string(buf[:n]) != want {
			t.Errorf("%s: %q, want %q", path, buf[:n], want)
		}
		treetest.Must(t, f.Close())
	}
	for _, e := range es {
		if _, err := s.EntryAttributes(e); err != nil {
			t.Errorf("attributes of %q: %v", e.Path, err)
		}
	}
}

// TestFollowRoot gives a link as root.
func TestFollowRoot(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "real/f"), "")
	symlink(t, "real", filepath.Join(dir, "link"))
	symlink(t, "real/f", filepath.Join(dir, "file"))
	es := follow(t, []rec.Root{{Dir: dir, Path: "file"}, {Dir: dir, Path: "link"}}, false, &treetest.Told{})
	if got := brief(es); !slices.Equal(got, []string{"file file", "dir link", "file link/f"}) {
		t.Fatalf("%q", got)
	}
}

// TestFollowKeeps has links that cannot be followed: they stay, each with a warning.
func TestFollowKeeps(t *testing.T) {
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "src")
	treetest.Write(t, filepath.Join(dir, "a/b/f"), "")
	treetest.Write(t, filepath.Join(top, "far/f"), "")
	for link, target := range map[string]string{
		"dangling": "nowhere", "through": "a/b/f/x", "self": "self", "one": "two", "two": "one", "proc": "/proc/self/root",
		"a/b/here": ".", "a/b/up": "..", "a/b/root": dir, "a/b/above": top, "far": "../far",
	} {
		symlink(t, target, filepath.Join(dir, link))
	}
	symlink(t, dir+"/a", filepath.Join(top, "far/back")) // not a loop from far, but from a/g
	symlink(t, "../../far", filepath.Join(dir, "a/g"))
	var r treetest.Told
	es := follow(t, []rec.Root{{Dir: dir}}, false, &r)
	want := []string{"dir ", "dir a", "dir a/b", "symlink a/b/above", "file a/b/f", "symlink a/b/here", "symlink a/b/root", "symlink a/b/up",
		"dir a/g", "symlink a/g/back", "file a/g/f",
		"symlink dangling", "dir far", "dir far/back", "dir far/back/b", "symlink far/back/b/above", "file far/back/b/f",
		"symlink far/back/b/here", "symlink far/back/b/root", "symlink far/back/b/up", "symlink far/back/g", "file far/f",
		"symlink one", "symlink proc", "symlink self", "symlink through", "symlink two"}
	if got := brief(es); !slices.Equal(got, want) {
		t.Fatalf("%q\nwant %q", got, want)
	}
	links := 0
	for _, w := range want {
		if strings.HasPrefix(w, "symlink ") {
			links++
		}
	}
	if len(r.Warnings) != links {
		t.Errorf("%d links, %d warnings: %q", links, len(r.Warnings), r.Warnings)
	}
	for _, want := range []string{
		"a/b/up: points to .., which is a directory that it lies in: stored as a link",
		"dangling: points to nowhere, which does not exist: stored as a link",
		"through: points to a/b/f/x, which does not exist: stored as a link",
		"self: points to self, which leads round in a circle, or through /proc to what a process has open: stored as a link",
	} {
		if !slices.Contains(r.Warnings, want) {
			t.Errorf("not said: %s, but %q", want, r.Warnings)
		}
	}
}

// TestFollowMany has a chain of links to directories that is longer than the
// system follows.
func TestFollowMany(t *testing.T) {
	dir := treetest.Tmp(t)
	for i := range 50 {
		symlink(t, fmt.Sprintf("../%02d", i+1), filepath.Join(dir, fmt.Sprintf("%02d/l", i)))
	}
	treetest.Write(t, filepath.Join(dir, "50/f"), "")
	var r treetest.Told
	roots := []rec.Root{{Dir: dir, Path: "00"}}
	es := follow(t, roots, false, &r)
	if len(es) != maxJumps+2 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "more than 32 links") {
		t.Fatalf("%d entries, %q", len(es), r.Warnings)
	}
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	treetest.Must(t, s.Follow())
	for _, e := range es {
		if _, err := s.EntryAttributes(e); err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
	}
}

// TestFollowDeep follows a link to a tree that is deeper than directories are held
// open, and than a path for one call is long.
func TestFollowDeep(t *testing.T) {
	top := treetest.Tmp(t)
	name := strings.Repeat("n", 100)
	treetest.Deep(t, top, name, 300)
	treetest.Write(t, filepath.Join(top, name, "z"), "") // to be met on the way back
	dir := filepath.Join(treetest.Tmp(t), "src")
	symlink(t, filepath.Join(top, name), filepath.Join(dir, "l"))
	var r treetest.Told
	roots := []rec.Root{{Dir: dir}}
	es := follow(t, roots, true, &r)
	if len(es) != 303 || len(r.Warnings) > 0 {
		t.Fatalf("%d entries, %.300q", len(es), r.Warnings)
	}
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	treetest.Must(t, s.Follow())
	f, err := s.OpenEntry(treetest.Find(es, "l/"+strings.Repeat(name+"/", 299)+"end"))
	treetest.Must(t, err)
	treetest.Must(t, f.Close())
}

// TestFollowHardLinks: what is met by several ways is a copy, but below one link
// hard links are kept.
func TestFollowHardLinks(t *testing.T) {
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "src")
	treetest.Write(t, filepath.Join(top, "far/a"), "")
	treetest.Must(t, os.Link(filepath.Join(top, "far/a"), filepath.Join(top, "far/b")))
	treetest.Must(t, os.MkdirAll(dir, 0o755))
	treetest.Must(t, os.Link(filepath.Join(top, "far/a"), filepath.Join(dir, "a")))
	treetest.Must(t, os.Link(filepath.Join(top, "far/a"), filepath.Join(dir, "c")))
	symlink(t, "a", filepath.Join(dir, "b"))
	symlink(t, "../far", filepath.Join(dir, "l"))
	symlink(t, "../far", filepath.Join(dir, "m"))
	es := follow(t, []rec.Root{{Dir: dir}}, false, &treetest.Told{})
	got := map[string]string{}
	for _, e := range es {
		got[e.Path] = fmt.Sprint(e.Links, e.Leader)
	}
	for path, want := range map[string]string{"a": "4", "b": "0", "c": "0a", "l/a": "4", "l/b": "0l/a", "m/a": "4", "m/b": "0m/a"} {
		if got[path] != want {
			t.Errorf("%s: %s, want %s", path, got[path], want)
		}
	}
}

// TestFollowReplaced turns links round between scan and reading.
func TestFollowReplaced(t *testing.T) {
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "src")
	treetest.Write(t, filepath.Join(top, "fine/f"), "fine")
	treetest.Write(t, filepath.Join(top, "secret/f"), "secret")
	symlink(t, "../fine/f", filepath.Join(dir, "file"))
	symlink(t, "../fine", filepath.Join(dir, "dir"))
	treetest.Write(t, filepath.Join(dir, "plain"), "old")
	roots := []rec.Root{{Dir: dir}}
	es := follow(t, roots, false, &treetest.Told{})
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	treetest.Must(t, s.Follow())
	for _, l := range []string{"file", "dir"} {
		treetest.Must(t, os.Remove(filepath.Join(dir, l)))
	}
	symlink(t, "../secret/f", filepath.Join(dir, "file"))
	symlink(t, "../secret", filepath.Join(dir, "dir"))
	treetest.Must(t, os.Remove(filepath.Join(dir, "plain")))
	symlink(t, "../secret/f", filepath.Join(dir, "plain"))
	for _, path := range []string{"file", "dir/f", "plain"} {
		e := treetest.Find(es, path)
		if f, err := s.OpenEntry(e); !errors.Is(err, inode.ErrReplaced) {
			t.Errorf("%s: opened %v, %v", path, f, err)
		}
		if _, err := s.EntryAttributes(e); !errors.Is(err, inode.ErrReplaced) {
			t.Errorf("attributes of %s: %v", path, err)
		}
		e.Ino = 0 // as if a stage in between had dropped it
		if f, err := s.OpenEntry(e); !errors.Is(err, inode.ErrReplaced) {
			t.Errorf("%s without inode: opened %v, %v", path, f, err)
		}
	}
	if _, err := s.EntryAttributes(treetest.Find(es, "dir")); !errors.Is(err, inode.ErrReplaced) {
		t.Errorf("attributes of dir: %v", err)
	}
	treetest.Must(t, os.Remove(filepath.Join(dir, "plain")))
	treetest.Write(t, filepath.Join(dir, "plain"), "new") // no link: what is there now, as ever
	f, err := s.OpenEntry(treetest.Find(es, "plain"))
	treetest.Must(t, err)
	treetest.Must(t, f.Close())
}

func TestNoFollow(t *testing.T) {
	defer func(have func() bool) { inode.HaveOpenat2 = have }(inode.HaveOpenat2)
	inode.HaveOpenat2 = func() bool { return false }
	dir := treetest.Tmp(t)
	if err := Walk([]rec.Root{{Dir: dir}}, Options{Follow: true, Report: &treetest.Told{}}, func(*rec.Entry) error { return nil }); !errors.Is(err, source.ErrNoFollow) {
		t.Error(err)
	}
	s, err := source.OpenRoots([]rec.Root{{Dir: dir}})
	treetest.Must(t, err)
	defer s.Close()
	if err := s.Follow(); !errors.Is(err, source.ErrNoFollow) {
		t.Error(err)
	}
}
