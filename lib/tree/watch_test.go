package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/rec"
)

// watched walks a tree of n files in a directory d, and returns the watch.
func watched(t *testing.T, dir string, n int) *Watch {
	t.Helper()
	for i := range n {
		write(t, filepath.Join(dir, "src/d", fmt.Sprint(i)), "")
	}
	roots := []rec.Root{{Dir: dir, Path: "src"}}
	w := NewWatch(roots)
	must(t, Walk(roots, Options{Report: &told{}}, func(e *rec.Entry) error { w.Entry(e); return nil }))
	return w
}

func TestWatch(t *testing.T) {
	dir := tmp(t)
	w := watched(t, dir, 300)
	if lost, nothing := w.End(); len(lost) > 0 || nothing {
		t.Errorf("%+v, %v", lost, nothing)
	}
	// Some files come and go; one in a hundred is too many.
	for i := range 10 {
		w.Vanished(fmt.Sprint("src/d/", i))
	}
	if lost, _ := w.End(); len(lost) > 0 {
		t.Errorf("%+v", lost)
	}
	w.Vanished("src/d/10")
	lost, nothing := w.End()
	if len(lost) != 1 || lost[0].Path != "src" || !strings.Contains(lost[0].Err.Error(), "11 of 302 names") || nothing {
		t.Errorf("%+v, %v", lost, nothing)
	}
}

// A directory that is another one than was scanned, or has gone, is told, though no file in it
// vanished while it was read.
func TestWatchSeesAnotherDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(t *testing.T, src string)
		vanish  bool
		nothing bool
	}{
		"moved away":   {func(t *testing.T, src string) { must(t, os.Rename(src, src+"2")) }, false, false},
		"in its place": {func(t *testing.T, src string) { must(t, os.Rename(src, src+"2")); must(t, os.Mkdir(src, 0o755)) }, false, false},
		"all gone":     {func(t *testing.T, src string) { must(t, os.Rename(src, src+"2")) }, true, true},
	} {
		dir := tmp(t)
		w := watched(t, dir, 3)
		c.do(t, filepath.Join(dir, "src"))
		if c.vanish {
			for _, p := range []string{"src/d", "src/d/0", "src/d/1", "src/d/2"} {
				w.Vanished(p)
			}
		}
		lost, nothing := w.End()
		if len(lost) != 1 || !errors.Is(lost[0].Err, ErrElsewhere) || nothing != c.nothing {
			t.Errorf("%s: %+v, %v", name, lost, nothing)
		}
	}
}

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
	dir := tmp(t)
	write(t, filepath.Join(dir, "plain"), "plain")
	src, err := OpenRoots([]rec.Root{{Dir: dir}, {Dir: "/", Path: "proc"}})
	if errors.Is(err, ErrMixed) {
		src, err = OpenRoots([]rec.Root{{Dir: "/"}})
	}
	must(t, err)
	defer src.Close()
	for path, want := range map[string]bool{strings.TrimPrefix(filepath.Join(dir, "plain"), "/"): false, "proc/version": true} {
		f, err := src.Open(path)
		must(t, err)
		st, err := f.Stat()
		must(t, err)
		more, whole, err := f.Reveal(&st)
		if err != nil || more != want || !whole {
			t.Errorf("%s: %v, %v, %v", path, more, whole, err)
		}
		now, err := f.Stat()
		must(t, err)
		b, _ := os.ReadFile("/" + path)
		if now.Size != uint64(len(b)) {
			t.Errorf("%s: %d bytes, want %d", path, now.Size, len(b))
		}
		must(t, f.Close())
	}
}
