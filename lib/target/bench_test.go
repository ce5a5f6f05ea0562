package target

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// BenchmarkCreate makes small files, 50 in a directory.
func BenchmarkCreate(b *testing.B) {
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			content := make([]byte, 3000)
			tg, err := NewTarget(filepath.Join(b.TempDir(), "out"))
			treetest.Must(b, err)
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
					treetest.Must(b, err)
				}
				n, err := tg.Begin(&rec.Entry{Path: fmt.Sprintf("%08d/%02d", i/50, i%50), Type: rec.File, Mode: 0o644,
					Size: uint64(len(content)), MTime: rec.Time{Sec: int64(i)}})
				treetest.Must(b, err)
				nodes <- n
			}
			close(nodes)
			wg.Wait()
			b.StopTimer()
			treetest.Must(b, tg.Close())
		})
	}
}
