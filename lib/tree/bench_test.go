package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"preserve/lib/rec"
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
		err := Walk([]rec.Root{{Dir: dir}}, Options{Report: &told{}}, func(*rec.Entry) error { n++; return nil })
		must(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
}

// BenchmarkCreate makes small files, 50 in a directory.
func BenchmarkCreate(b *testing.B) {
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			content := make([]byte, 3000)
			tg, err := NewTarget(filepath.Join(b.TempDir(), "out"))
			must(b, err)
			nodes := make(chan *Node, 256)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for n := range nodes {
						o, err := n.Create()
						if err != nil {
							b.Error(err)
							return
						}
						if _, err := o.WriteAt(content, 0); err != nil {
							b.Error(err)
						}
						if err := o.Finish(n.e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := 0; b.Loop(); i++ {
				if i%50 == 0 {
					_, err := tg.Begin(&rec.Entry{Path: fmt.Sprintf("%08d", i/50), Type: rec.Dir, Mode: 0o755})
					must(b, err)
				}
				n, err := tg.Begin(&rec.Entry{Path: fmt.Sprintf("%08d/%02d", i/50, i%50), Type: rec.File, Mode: 0o644,
					Size: uint64(len(content)), MTime: rec.Time{Sec: int64(i)}})
				must(b, err)
				nodes <- n
			}
			close(nodes)
			wg.Wait()
			b.StopTimer()
			must(b, tg.Close())
		})
	}
}

// BenchmarkOpen opens and closes files of a tree in path order.
func BenchmarkOpen(b *testing.B) {
	var es []*rec.Entry
	roots := []rec.Root{{Dir: "/", Path: "usr/share"}}
	must(b, Walk(roots, Options{Report: &told{}}, func(e *rec.Entry) error {
		if e.Type == rec.File && len(es) < 20000 {
			es = append(es, clone(e))
		}
		return nil
	}))
	s, err := OpenRoots(roots)
	must(b, err)
	defer s.Close()
	for i := 0; b.Loop(); i++ {
		f, err := s.Open(es[i%len(es)].Path)
		must(b, err)
		f.Close()
	}
}
