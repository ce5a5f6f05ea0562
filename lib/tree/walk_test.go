package tree

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// slowWalk is what Walk must return, by the standard library.
func slowWalk(t testing.TB, dir string) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := os.Lstat(p)
		must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		rel, err := filepath.Rel(dir, p)
		must(t, err)
		if rel == "." {
			rel = ""
		}
		e := &rec.Entry{Path: rel, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Ino: st.Ino, Dev: st.Dev,
			MTime: rec.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}, CTime: rec.Time{Sec: st.Ctim.Sec, Nsec: uint32(st.Ctim.Nsec)}}
		switch m := info.Mode().Type(); {
		case m == 0:
			e.Type, e.Size = rec.File, uint64(st.Size)
		case m == fs.ModeDir:
			e.Type = rec.Dir
		case m == fs.ModeSymlink:
			e.Type = rec.Symlink
			e.Target, err = os.Readlink(p)
			must(t, err)
		case m == fs.ModeNamedPipe:
			e.Type = rec.Fifo
		case m == fs.ModeSocket:
			e.Type = rec.Socket
		case m&fs.ModeDevice != 0:
			e.Type = rec.Block
			if m&fs.ModeCharDevice != 0 {
				e.Type = rec.Char
			}
			e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		}
		if st.Nlink > 1 && e.Type != rec.Dir {
			e.Links = uint32(st.Nlink)
		}
		es = append(es, e)
		return nil
	}))
	slices.SortFunc(es, func(a, b *rec.Entry) int { return rec.ComparePaths(a.Path, b.Path) })
	first := map[uint64]string{}
	for i, e := range es {
		if e.Links == 0 {
			continue
		}
		if leader := first[e.Ino]; leader != "" {
			es[i] = &rec.Entry{Path: e.Path, Type: rec.HardLink, Leader: leader, CTime: e.CTime, Ino: e.Ino, Dev: e.Dev}
		} else {
			first[e.Ino] = e.Path
		}
	}
	return es
}

func TestWalkAgainstSlow(t *testing.T) {
	dir := tmp(t)
	oddTree(t, dir)
	if isRoot() {
		specialTree(t, dir)
	}
	want := slowWalk(t, dir)
	got := walk(t, []rec.Root{{Dir: dir}}, false)
	for i, e := range got {
		e.BTime = rec.Time{}
		if i >= len(want) || fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want[i]) {
			t.Fatalf("entry %d:\n%+v\nwant\n%+v", i, e, want[min(i, len(want)-1)])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
}

func TestWalkOrder(t *testing.T) {
	dir := tmp(t)
	for _, f := range []string{"a/b", "a-b", "a.b", "a/b-", "a/b./c", "a0", "A"} {
		write(t, filepath.Join(dir, f), "")
	}
	want := []string{"", "A", "a", "a/b", "a/b-", "a/b.", "a/b./c", "a-b", "a.b", "a0"}
	if got := paths(walk(t, []rec.Root{{Dir: dir}}, false)); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

// TestWalkDeep walks more directories than it may hold open, by a path longer
// than the system takes, and opens the file at its end.
func TestWalkDeep(t *testing.T) {
	dir := tmp(t)
	name := strings.Repeat("n", 100)
	deep(t, dir, name, 600)
	write(t, filepath.Join(dir, name, "z"), "") // to be met on the way back
	write(t, filepath.Join(dir, name, name, "z"), "")
	roots := []rec.Root{{Dir: dir}}
	es := walk(t, roots, true)
	if len(es) != 604 {
		t.Fatalf("%d entries", len(es))
	}
	end := strings.Repeat(name+"/", 600) + "end"
	if find(es, end) == nil {
		t.Fatal("the end is missing")
	}
	s, err := OpenRoots(roots)
	must(t, err)
	defer s.Close()
	if c, _ := contentOf(t, s, end); string(c) != "the end" {
		t.Fatalf("%q", c)
	}
	out := filepath.Join(tmp(t), "out")
	if w, _ := copyTree(t, roots, es, out, 4); len(w) > 0 {
		t.Fatal(w)
	}
	sameTrees(t, dir, out)
}

func TestWalkTooDeep(t *testing.T) {
	t.Parallel()
	dir := tmp(t)
	deep(t, dir, "d", rec.MaxDepth+3)
	var r told
	es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
	if len(es) != rec.MaxDepth+1 || len(r.warned) != 1 || !strings.Contains(r.warned[0], "deep") {
		t.Fatalf("%d entries, %d warnings, %.200q", len(es), len(r.warned), r.warned)
	}
	must(t, exec.Command("rm", "-rf", filepath.Join(dir, "d")).Run())
}

func TestWalkBatches(t *testing.T) {
	dir := tmp(t)
	for i := range 2*batchSize + 7 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(dir, "5dir"), 0o700))
	want := slowWalk(t, dir)
	if got := walk(t, []rec.Root{{Dir: dir}}, false); !slices.Equal(paths(got), paths(want)) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
}

func TestWalkParents(t *testing.T) {
	dir := tmp(t)
	for _, f := range []string{"a/b/c/d", "a/b/e", "a/x/y", "f/g", "h"} {
		write(t, filepath.Join(dir, f), "")
	}
	roots, err := Resolve(dir, []string{"f", "a/b/c", "a/x/y", "h", "a/b/c/d"}, nil)
	must(t, err)
	want := []string{"a", "a/b", "a/b/c", "a/b/c/d", "a/x", "a/x/y", "f", "f/g", "h"}
	if got := paths(walk(t, roots, true)); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestWalkSkipsOurOwn(t *testing.T) {
	dir := tmp(t)
	repo := func(at, config string) {
		for _, d := range []string{"packs/aa", "index", "snapshots"} {
			write(t, filepath.Join(dir, at, d, "x"), "")
		}
		write(t, filepath.Join(dir, at, "config"), config)
	}
	repo("repo", "\x85\xa8preserve\x01\xa2id\xc4\x00")
	repo("other", "[core]\npreserve\n")
	repo("short", "\x85\xa8")
	write(t, filepath.Join(dir, "cache", CacheMarker), "")
	write(t, filepath.Join(dir, "cache", "x"), "")
	write(t, filepath.Join(dir, "half/config"), "\x85\xa8preserve\x01")
	write(t, filepath.Join(dir, "half/packs"), "")
	var r told
	es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
	if len(r.skipped) != 2 || !strings.HasPrefix(r.skipped[0], "cache: ") || !strings.HasPrefix(r.skipped[1], "repo: ") || len(r.warned) > 0 {
		t.Fatalf("%+v", r)
	}
	for _, p := range []string{"repo", "cache", "other/packs/aa/x", "short/packs", "half/config"} {
		if find(es, p) == nil {
			t.Errorf("%s is missing", p)
		}
	}
	for _, p := range []string{"repo/config", "cache/x"} {
		if find(es, p) != nil {
			t.Errorf("%s is there", p)
		}
	}
	if es := walk(t, []rec.Root{{Dir: dir, Path: "repo"}}, false); find(es, "repo/packs/aa/x") == nil {
		t.Error("a source that is a repository is not taken")
	}
}

// TestWalkUnreadable runs itself as another user where it is root.
func TestWalkUnreadable(t *testing.T) {
	dir, child := userDir(t)
	if !child {
		write(t, filepath.Join(dir, "closed/in"), "")
		write(t, filepath.Join(dir, "noexec/in"), "")
		write(t, filepath.Join(dir, "open/in"), "")
		must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
		must(t, os.Chmod(filepath.Join(dir, "noexec"), 0o444))
	}
	asUser(t, dir, func() {
		var r told
		es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
		want := []string{"", "closed", "noexec", "noexec/in", "open", "open/in"}
		if !slices.Equal(paths(es), want) {
			t.Errorf("%q", paths(es))
		}
		if len(r.warned) != 2 || !strings.HasPrefix(r.warned[0], "closed: open directory: permission denied") ||
			!strings.HasPrefix(r.warned[1], "noexec/in: stat: permission denied") {
			t.Errorf("%q", r.warned)
		}
		if e := find(es, "noexec/in"); e == nil || e.Type != rec.File || e.Err != "stat: permission denied" {
			t.Errorf("%+v", e)
		}
		if e := find(es, "closed"); e == nil || e.Err != "open directory: permission denied" {
			t.Errorf("%+v", e)
		}
	})
}

// TestUnsearchable reads the attributes of a directory that can be read but not
// searched.
func TestUnsearchable(t *testing.T) {
	dir, child := userDir(t)
	if !child {
		write(t, filepath.Join(dir, "read/in"), "")
		must(t, os.Chmod(filepath.Join(dir, "read"), 0o444))
	}
	asUser(t, dir, func() {
		s, err := OpenRoots([]rec.Root{{Dir: dir}})
		must(t, err)
		defer s.Close()
		if _, err := s.Attributes("read", rec.Dir); err != nil {
			t.Error(err)
		}
	})
}

func TestWalkVanished(t *testing.T) {
	dir := tmp(t)
	for _, f := range []string{"a", "b/x", "c", "d", "e/x"} {
		write(t, filepath.Join(dir, f), "")
	}
	var r told
	var got []string
	err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &r}, func(e *rec.Entry) error {
		got = append(got, e.Path)
		switch e.Path {
		case "": // the names are known, nothing is looked at
			must(t, os.Remove(filepath.Join(dir, "c")))
		case "a":
			must(t, os.RemoveAll(filepath.Join(dir, "b")))
			must(t, os.RemoveAll(filepath.Join(dir, "e")))
			must(t, os.Symlink("nowhere", filepath.Join(dir, "e")))
		}
		return nil
	})
	must(t, err)
	slices.Sort(r.vanished)
	if !slices.Equal(got, []string{"", "a", "d", "e"}) || !slices.Equal(r.vanished, []string{"b", "c"}) || len(r.warned) > 0 {
		t.Fatalf("%q, %+v", got, r)
	}
}

// TestAttributesVanished removes a file between the two looks at it.
func TestAttributesVanished(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a"), "")
	write(t, filepath.Join(dir, "b"), "")
	var r told
	var got []string
	must(t, Walk([]rec.Root{{Dir: dir}}, Options{Attributes: true, Report: &r}, func(e *rec.Entry) error {
		if got = append(got, e.Path); e.Path == "a" {
			must(t, os.Remove(filepath.Join(dir, "b")))
		}
		return nil
	}))
	if !slices.Equal(got, []string{"", "a"}) || !slices.Equal(r.vanished, []string{"b"}) || len(r.warned) > 0 {
		t.Fatalf("%q, %+v", got, r)
	}
}

// TestWalkAhead lets helpers look ahead, and change nothing.
func TestWalkAhead(t *testing.T) {
	dir := tmp(t)
	oddTree(t, filepath.Join(dir, "x"))
	oddTree(t, filepath.Join(dir, "y"))
	roots := []rec.Root{{Dir: filepath.Join(dir, "y"), Path: "dirs"}, {Dir: dir, Path: "x"}}
	want := stripped(walk(t, roots, false))
	defer func(d time.Duration) { coldAfter = d }(coldAfter)
	coldAfter = 0
	for range 10 {
		if got := stripped(walk(t, roots, false)); !slices.Equal(got, want) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
	}
}

func TestWalkStops(t *testing.T) {
	stop := fmt.Errorf("stop")
	n := 0
	dir := tmp(t)
	write(t, filepath.Join(dir, "a/b"), "")
	err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &told{}}, func(*rec.Entry) error {
		n++
		if n == 2 {
			return stop
		}
		return nil
	})
	if err != stop || n != 2 {
		t.Fatal(err, n)
	}
}

func TestHardLinkReused(t *testing.T) {
	l := newLinks(false)
	a := &Stat{Type: rec.File, Ino: 1, Dev: 2, Links: 3, BTime: rec.Time{Sec: 1}}
	b := &Stat{Type: rec.File, Ino: 1, Dev: 2, Links: 2, BTime: rec.Time{Sec: 2}}
	for i, c := range []struct {
		st   *Stat
		want string
	}{{a, ""}, {a, "0"}, {b, ""}, {b, "2"}, {b, ""}} {
		if got := l.seen(fmt.Sprint(i), c.st); got != c.want {
			t.Errorf("%d: %q, want %q", i, got, c.want)
		}
	}
}
