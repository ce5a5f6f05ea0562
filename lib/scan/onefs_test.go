package scan

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// What takes real mounts is tested in systest.

func TestNoMounts(t *testing.T) {
	defer func(have func() bool) { haveMounts = have }(haveMounts)
	haveMounts = func() bool { return false }
	err := Walk([]rec.Root{{Dir: treetest.Tmp(t)}}, Options{OneFileSystem: true, Report: &treetest.Told{}}, func(*rec.Entry) error { return nil })
	if !errors.Is(err, ErrNoMounts) {
		t.Fatal(err)
	}
}

// TestInnerRoots walks roots below others once, on one file system and without
// regard to that.
func TestInnerRoots(t *testing.T) {
	dir := treetest.Tmp(t)
	for _, f := range []string{"a/b/c/d", "a/b/e", "a/x", "b"} {
		treetest.Write(t, filepath.Join(dir, f), "")
	}
	r, err := source.NewResolver(dir)
	treetest.Must(t, err)
	r.Inner = true
	for _, source := range []string{"a/b/c", "a", "a/b", "b", "a/b/c/d", "a"} {
		_, _, err := r.Add(source)
		treetest.Must(t, err)
	}
	roots, err := r.Roots()
	treetest.Must(t, err)
	if want := []string{"a", "a/b", "a/b/c", "a/b/c/d", "b"}; !slices.Equal(rec.Paths(roots), want) {
		t.Fatalf("%v", roots)
	}
	want := []string{"a", "a/b", "a/b/c", "a/b/c/d", "a/b/e", "a/x", "b"}
	for _, one := range []bool{false, true} {
		es := walkWith(t, roots, Options{OneFileSystem: one, Report: &treetest.Told{}})
		if got := treetest.Paths(es); !slices.Equal(got, want) {
			t.Errorf("one file system %v: %q", one, got)
		}
	}
}

// TestElsewhere tells places apart by numbers.
func TestElsewhere(t *testing.T) {
	w := &walker{Options: Options{OneFileSystem: true}, here: place{7, 8}}
	for _, c := range []struct {
		typ        rec.Type
		mount, dev uint64
		want       bool
	}{
		{rec.Dir, 7, 8, false},
		{rec.Dir, 6, 8, true},   // a bind mount
		{rec.Dir, 7, 9, true},   // a subvolume
		{rec.File, 7, 9, false}, // a file of an overlay
		{rec.File, 6, 8, true},
	} {
		st := inode.Stat{Type: c.typ, Mount: c.mount, Dev: c.dev}
		if got := w.elsewhere(&st); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	w.OneFileSystem = false
	if w.elsewhere(&inode.Stat{Type: rec.Dir}) {
		t.Error("another file system where nobody asks for that")
	}
	var st inode.Stat
	if err := inode.StatAt(unix.AT_FDCWD, "/", &st); err != nil || haveMounts() != (st.Mount != 0) {
		t.Error(err, st.Mount)
	}
}
