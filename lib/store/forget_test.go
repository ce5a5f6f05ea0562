package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"preserve/lib/id"
	"preserve/lib/store/storetest"
)

// Marks come and go; the snapshot's bytes stay as they are.
func TestForgetAndKeep(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	i := tree.Snapshot().ID
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	// A repository from before there was such a directory.
	if err := os.Remove(filepath.Join(dir, "kept")); err != nil {
		t.Fatal(err)
	}
	must := func(what string, got bool, err error, want bool) {
		t.Helper()
		if got != want || err != nil {
			t.Fatalf("%s: %v, %v", what, got, err)
		}
	}
	is := func(want ...id.ID) {
		t.Helper()
		if got, err := r.Snapshots(); err != nil || !slices.Equal(got, want) {
			t.Fatal(got, err)
		}
	}
	fresh, err := r.Keep(i)
	must("keep", fresh, err, true)
	fresh, err = r.Keep(i)
	must("keep again", fresh, err, false)
	if kept, err := r.Kept(); err != nil || !slices.Equal(kept, []id.ID{i}) {
		t.Fatal(kept, err)
	}
	if _, err := r.Forget(i); !errors.Is(err, ErrKept) {
		t.Fatal(err)
	}
	is(i)
	fresh, err = r.Unkeep(i)
	must("unkeep", fresh, err, true)
	fresh, err = r.Unkeep(i)
	must("unkeep again", fresh, err, false)
	fresh, err = r.Forget(i)
	must("forget", fresh, err, true)
	is()
	fresh, err = r.Forget(i)
	must("forget again", fresh, err, false)
	if _, err := r.Keep(i); !errors.Is(err, ErrForgotten) {
		t.Fatal(err)
	}
	if err := r.Known(i, true); err != nil {
		t.Fatal(err)
	}
	if err := r.Known(i, false); !errors.Is(err, ErrForgotten) {
		t.Fatal(err)
	}
	fresh, err = r.Unforget(i)
	must("unforget", fresh, err, true)
	is(i)
	fresh, err = r.Unforget(i)
	must("unforget again", fresh, err, false)
	got, err := walkAll(mustOpen(t, dir, &log{}), i, false)
	if err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	for _, f := range []func(id.ID) (bool, error){r.Forget, r.Keep, r.Unforget} {
		if _, err := f(id.ID{9}); !errors.Is(err, ErrMissing) {
			t.Fatal(err)
		}
	}
	// What was collected is not there again; the mark is gone.
	if _, err := r.Forget(i); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"snapshots", "checkpoints"} {
		if err := os.Remove(filepath.Join(dir, d, i.String())); err != nil {
			t.Fatal(err)
		}
	}
	if had, err := r.Unforget(i); !had || !errors.Is(err, ErrMissing) {
		t.Fatal(had, err)
	}
	if gone, err := r.Forgotten(); err != nil || len(gone) != 0 {
		t.Fatal(gone, err)
	}
}
