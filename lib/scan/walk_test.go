package scan

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

func TestWalkAgainstSlow(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.OddTree(t, dir)
	if treetest.IsRoot() {
		treetest.SpecialTree(t, dir)
	}
	want := treetest.SlowWalk(t, dir)
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
	dir := treetest.Tmp(t)
	for _, f := range []string{"a/b", "a-b", "a.b", "a/b-", "a/b./c", "a0", "A"} {
		treetest.Write(t, filepath.Join(dir, f), "")
	}
	want := []string{"", "A", "a", "a/b", "a/b-", "a/b.", "a/b./c", "a-b", "a.b", "a0"}
	if got := treetest.Paths(walk(t, []rec.Root{{Dir: dir}}, false)); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestWalkTooDeep(t *testing.T) {
	t.Parallel()
	dir := treetest.Tmp(t)
	treetest.Deep(t, dir, "d", rec.MaxDepth+3)
	var r treetest.Told
	es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
	if len(es) != rec.MaxDepth+1 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "deep") {
		t.Fatalf("%d entries, %d warnings, %.200q", len(es), len(r.Warnings), r.Warnings)
	}
	treetest.Must(t, exec.Command("rm", "-rf", filepath.Join(dir, "d")).Run())
}

func TestWalkBatches(t *testing.T) {
	dir := treetest.Tmp(t)
	for i := range 2*batchSize + 7 {
		treetest.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	treetest.Must(t, os.Mkdir(filepath.Join(dir, "5dir"), 0o700))
	want := treetest.SlowWalk(t, dir)
	if got := walk(t, []rec.Root{{Dir: dir}}, false); !slices.Equal(treetest.Paths(got), treetest.Paths(want)) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
}

func TestWalkParents(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"a/b/c/d", "a/b/e", "a/x/y", "f/g", "h"} {
		treetest.Write(t, filepath.Join(dir, f), "")
	}
	roots, err := source.Resolve(dir, []string{"f", "a/b/c", "a/x/y", "h", "a/b/c/d"}, nil)
	treetest.Must(t, err)
	want := []string{"a", "a/b", "a/b/c", "a/b/c/d", "a/x", "a/x/y", "f", "f/g", "h"}
	if got := treetest.Paths(walk(t, roots, true)); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestWalkSkipsOurOwn(t *testing.T) {
	dir := treetest.Tmp(t)
	repo := func(at, config string) {
		for _, d := range []string{"packs/aa", "index", "snapshots"} {
			treetest.Write(t, filepath.Join(dir, at, d, "x"), "")
		}
		treetest.Write(t, filepath.Join(dir, at, "config"), config)
	}
	repo("repo", "\x85\xa8preserve\x01\xa2id\xc4\x00")
	repo("other", "[core]\npreserve\n")
	repo("short", "\x85\xa8")
	treetest.Write(t, filepath.Join(dir, "cache", inode.CacheMarker), "")
	treetest.Write(t, filepath.Join(dir, "cache", "x"), "")
	treetest.Write(t, filepath.Join(dir, "half/config"), "\x85\xa8preserve\x01")
	treetest.Write(t, filepath.Join(dir, "half/packs"), "")
	var r treetest.Told
	es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
	if len(r.Skips) != 2 || !strings.HasPrefix(r.Skips[0], "cache: ") || !strings.HasPrefix(r.Skips[1], "repo: ") || len(r.Warnings) > 0 {
		t.Fatalf("%+v", r)
	}
	for _, p := range []string{"repo", "cache", "other/packs/aa/x", "short/packs", "half/config"} {
		if treetest.Find(es, p) == nil {
			t.Errorf("%s is missing", p)
		}
	}
	for _, p := range []string{"repo/config", "cache/x"} {
		if treetest.Find(es, p) != nil {
			t.Errorf("%s is there", p)
		}
	}
	if es := walk(t, []rec.Root{{Dir: dir, Path: "repo"}}, false); treetest.Find(es, "repo/packs/aa/x") == nil {
		t.Error("a source that is a repository is not taken")
	}
}

// TestWalkUnreadable runs itself as another user where it is root.
func TestWalkUnreadable(t *testing.T) {
	dir, child := treetest.UserDir(t)
	if !child {
		treetest.Write(t, filepath.Join(dir, "closed/in"), "")
		treetest.Write(t, filepath.Join(dir, "noexec/in"), "")
		treetest.Write(t, filepath.Join(dir, "open/in"), "")
		treetest.Must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
		treetest.Must(t, os.Chmod(filepath.Join(dir, "noexec"), 0o444))
	}
	treetest.AsUser(t, dir, func() {
		var r treetest.Told
		es := walkTo(t, []rec.Root{{Dir: dir}}, false, &r)
		want := []string{"", "closed", "noexec", "noexec/in", "open", "open/in"}
		if !slices.Equal(treetest.Paths(es), want) {
			t.Errorf("%q", treetest.Paths(es))
		}
		if len(r.Warnings) != 2 || !strings.HasPrefix(r.Warnings[0], "closed: open directory: permission denied") ||
			!strings.HasPrefix(r.Warnings[1], "noexec/in: stat: permission denied") {
			t.Errorf("%q", r.Warnings)
		}
		if e := treetest.Find(es, "noexec/in"); e == nil || e.Type != rec.File || e.Err != "stat: permission denied" {
			t.Errorf("%+v", e)
		}
		if e := treetest.Find(es, "closed"); e == nil || e.Err != "open directory: permission denied" {
			t.Errorf("%+v", e)
		}
	})
}

func TestWalkVanished(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"a", "b/x", "c", "d", "e/x"} {
		treetest.Write(t, filepath.Join(dir, f), "")
	}
	var r treetest.Told
	var got []string
	err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &r}, func(e *rec.Entry) error {
		got = append(got, e.Path)
		switch e.Path {
		case "": // the names are known, nothing is looked at
			treetest.Must(t, os.Remove(filepath.Join(dir, "c")))
		case "a":
			treetest.Must(t, os.RemoveAll(filepath.Join(dir, "b")))
			treetest.Must(t, os.RemoveAll(filepath.Join(dir, "e")))
			treetest.Must(t, os.Symlink("nowhere", filepath.Join(dir, "e")))
		}
		return nil
	})
	treetest.Must(t, err)
	slices.Sort(r.Gone)
	if !slices.Equal(got, []string{"", "a", "d", "e"}) || !slices.Equal(r.Gone, []string{"b", "c"}) || len(r.Warnings) > 0 {
		t.Fatalf("%q, %+v", got, r)
	}
}

// TestAttributesVanished removes a file between the two looks at it.
func TestAttributesVanished(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "a"), "")
	treetest.Write(t, filepath.Join(dir, "b"), "")
	var r treetest.Told
	var got []string
	treetest.Must(t, Walk([]rec.Root{{Dir: dir}}, Options{Attributes: true, Report: &r}, func(e *rec.Entry) error {
		if got = append(got, e.Path); e.Path == "a" {
			treetest.Must(t, os.Remove(filepath.Join(dir, "b")))
		}
		return nil
	}))
	if !slices.Equal(got, []string{"", "a"}) || !slices.Equal(r.Gone, []string{"b"}) || len(r.Warnings) > 0 {
		t.Fatalf("%q, %+v", got, r)
	}
}

// TestWalkAhead lets helpers look ahead, and change nothing.
func TestWalkAhead(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.OddTree(t, filepath.Join(dir, "x"))
	treetest.OddTree(t, filepath.Join(dir, "y"))
	roots := []rec.Root{{Dir: filepath.Join(dir, "y"), Path: "dirs"}, {Dir: dir, Path: "x"}}
	want := treetest.Stripped(walk(t, roots, false))
	defer func(d time.Duration) { coldAfter = d }(coldAfter)
	coldAfter = 0
	for range 10 {
		if got := treetest.Stripped(walk(t, roots, false)); !slices.Equal(got, want) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
	}
}

func TestWalkStops(t *testing.T) {
	stop := fmt.Errorf("stop")
	n := 0
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "a/b"), "")
	err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &treetest.Told{}}, func(*rec.Entry) error {
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
	a := &inode.Stat{Type: rec.File, Ino: 1, Dev: 2, Links: 3, BTime: rec.Time{Sec: 1}}
	b := &inode.Stat{Type: rec.File, Ino: 1, Dev: 2, Links: 2, BTime: rec.Time{Sec: 2}}
	for i, c := range []struct {
		st   *inode.Stat
		want string
	}{{a, ""}, {a, "0"}, {b, ""}, {b, "2"}, {b, ""}} {
		if got := l.seen(fmt.Sprint(i), c.st); got != c.want {
			t.Errorf("%d: %q, want %q", i, got, c.want)
		}
	}
}
