package scan

import (
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// walk returns all entries of the roots and fails on reports.
func walk(t testing.TB, roots []rec.Root, attributes bool) []*rec.Entry {
	t.Helper()
	var r treetest.Told
	es := walkTo(t, roots, attributes, &r)
	if len(r.Warnings)+len(r.Gone)+len(r.Skips) > 0 {
		t.Fatalf("reports: %+v", r)
	}
	return es
}

func walkTo(t testing.TB, roots []rec.Root, attributes bool, r Reporter) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	err := Walk(roots, Options{Attributes: attributes, Report: r}, func(e *rec.Entry) error {
		if err := e.Check(); err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
		if len(es) > 0 && rec.ComparePaths(es[len(es)-1].Path, e.Path) >= 0 {
			t.Errorf("%q comes after %q", e.Path, es[len(es)-1].Path)
		}
		es = append(es, treetest.Clone(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// TestResolveLong resolves a path longer than the system takes at once.
func TestResolveLong(t *testing.T) {
	dir := treetest.Tmp(t)
	name := strings.Repeat("n", 200)
	treetest.Deep(t, dir, name, 30)
	path := strings.Repeat(name+"/", 30) + "end"
	got, err := source.Resolve(dir, []string{path}, nil)
	if err != nil || len(got) != 1 || got[0] != (rec.Root{Dir: dir, Path: path}) {
		t.Fatalf("%d roots, %v", len(got), err)
	}
	if es := walk(t, got, true); len(es) != 31 {
		t.Fatalf("%d entries", len(es))
	}
}
