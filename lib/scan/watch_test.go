package scan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// watched walks a tree of n files in a directory d, and returns the watch.
func watched(t *testing.T, dir string, n int) *source.Watch {
	t.Helper()
	for i := range n {
		treetest.Write(t, filepath.Join(dir, "src/d", fmt.Sprint(i)), "")
	}
	roots := []rec.Root{{Dir: dir, Path: "src"}}
	w := source.NewWatch(roots)
	treetest.Must(t, Walk(roots, Options{Report: &treetest.Told{}}, func(e *rec.Entry) error { w.Entry(e); return nil }))
	return w
}

func TestWatch(t *testing.T) {
	dir := treetest.Tmp(t)
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
		"moved away": {func(t *testing.T, src string) { treetest.Must(t, os.Rename(src, src+"2")) }, false, false},
		"in its place": {func(t *testing.T, src string) {
			treetest.Must(t, os.Rename(src, src+"2"))
			treetest.Must(t, os.Mkdir(src, 0o755))
		}, false, false},
		"all gone": {func(t *testing.T, src string) { treetest.Must(t, os.Rename(src, src+"2")) }, true, true},
	} {
		dir := treetest.Tmp(t)
		w := watched(t, dir, 3)
		c.do(t, filepath.Join(dir, "src"))
		if c.vanish {
			for _, p := range []string{"src/d", "src/d/0", "src/d/1", "src/d/2"} {
				w.Vanished(p)
			}
		}
		lost, nothing := w.End()
		if len(lost) != 1 || !errors.Is(lost[0].Err, source.ErrElsewhere) || nothing != c.nothing {
			t.Errorf("%s: %+v, %v", name, lost, nothing)
		}
	}
}
