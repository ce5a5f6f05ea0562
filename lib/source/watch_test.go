package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// What another device holds is a place of its own.
func TestWatchPlaces(t *testing.T) {
	w := NewWatch([]rec.Root{{Dir: "/", Path: "a"}})
	for _, e := range []rec.Entry{
		{Path: "a", Type: rec.Dir, Dev: 1, Ino: 1}, {Path: "a/m", Type: rec.Dir, Dev: 2, Ino: 1}, {Path: "a/m/x", Type: rec.File, Dev: 2},
		{Path: "a/z", Type: rec.File, Dev: 1}, {Path: "a/zz", Type: rec.Dir, Way: true, Dev: 3},
	} {
		w.Entry(&e)
	}
	w.Vanished("a/m/x")
	if len(w.places) != 2 || w.places[0].Entries != 3 || w.places[1].Path != "a/m" || w.places[1].Entries != 2 || w.places[1].Vanished != 1 {
		t.Errorf("%+v", w.places)
	}
}

// Reveal finds what is behind the size that the system reports, and leaves a file alone that
// ends where it should.
func TestReveal(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "plain"), "plain")
	src, err := OpenRoots([]rec.Root{{Dir: dir}, {Dir: "/", Path: "proc"}})
	if errors.Is(err, ErrMixed) {
		src, err = OpenRoots([]rec.Root{{Dir: "/"}})
	}
	treetest.Must(t, err)
	defer src.Close()
	for path, want := range map[string]bool{strings.TrimPrefix(filepath.Join(dir, "plain"), "/"): false, "proc/version": true} {
		f, err := src.Open(path)
		treetest.Must(t, err)
		st, err := f.Stat()
		treetest.Must(t, err)
		more, whole, err := f.Reveal(&st)
		if err != nil || more != want || !whole {
			t.Errorf("%s: %v, %v, %v", path, more, whole, err)
		}
		now, err := f.Stat()
		treetest.Must(t, err)
		b, _ := os.ReadFile("/" + path)
		if now.Size != uint64(len(b)) {
			t.Errorf("%s: %d bytes, want %d", path, now.Size, len(b))
		}
		treetest.Must(t, f.Close())
	}
}
