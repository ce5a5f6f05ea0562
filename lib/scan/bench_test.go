package scan

import (
	"os"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// BenchmarkWalk gives the time per entry of the tree named by PV_BENCH_TREE, /usr
// if there is none.
func BenchmarkWalk(b *testing.B) {
	dir := os.Getenv("PV_BENCH_TREE")
	if dir == "" {
		dir = "/usr"
	}
	n := 0
	for b.Loop() {
		err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &treetest.Told{}}, func(*rec.Entry) error { n++; return nil })
		treetest.Must(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
}

// BenchmarkOpen opens and closes files of a tree in path order.
func BenchmarkOpen(b *testing.B) {
	var es []*rec.Entry
	roots := []rec.Root{{Dir: "/", Path: "usr/share"}}
	treetest.Must(b, Walk(roots, Options{Report: &treetest.Told{}}, func(e *rec.Entry) error {
		if e.Type == rec.File && len(es) < 20000 {
			es = append(es, treetest.Clone(e))
		}
		return nil
	}))
	s, err := source.OpenRoots(roots)
	treetest.Must(b, err)
	defer s.Close()
	for i := 0; b.Loop(); i++ {
		f, err := s.Open(es[i%len(es)].Path)
		treetest.Must(b, err)
		f.Close()
	}
}
