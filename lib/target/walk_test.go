package target

import (
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// TestWalkDeep walks more directories than it may hold open, by a path longer
// than the system takes, and opens the file at its end.
func TestWalkDeep(t *testing.T) {
	dir := treetest.Tmp(t)
	name := strings.Repeat("n", 100)
	treetest.Deep(t, dir, name, 600)
	treetest.Write(t, filepath.Join(dir, name, "z"), "") // to be met on the way back
	treetest.Write(t, filepath.Join(dir, name, name, "z"), "")
	roots := []rec.Root{{Dir: dir}}
	es := walk(t, roots, true)
	if len(es) != 604 {
		t.Fatalf("%d entries", len(es))
	}
	end := strings.Repeat(name+"/", 600) + "end"
	if treetest.Find(es, end) == nil {
		t.Fatal("the end is missing")
	}
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	if c, _ := contentOf(t, s, end); string(c) != "the end" {
		t.Fatalf("%q", c)
	}
	out := filepath.Join(treetest.Tmp(t), "out")
	if w, _ := copyTree(t, roots, es, out, 4); len(w) > 0 {
		t.Fatal(w)
	}
	sameTrees(t, dir, out)
}
