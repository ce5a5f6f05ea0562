package cache

import (
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
)

const perPage = 256

// home returns n entries as a home directory has them, in pages.
func home(n int) (ps []page) {
	for k := 0; k < n; k += perPage {
		p := page{refs: []id.ID{nth(k), nth(k + 1)}, entries: []*rec.Entry{}}
		for j := k; j < min(n, k+perPage); j++ {
			p.entries = append(p.entries, &rec.Entry{Path: fmt.Sprintf("home/eve/work/project-%04d/src/file-%07d.go", j/50, j), Type: rec.File,
				Mode: 0o644, UID: 1000, GID: 1000, MTime: rec.Time{Sec: 1700000000 + int64(j), Nsec: uint32(j * 1000)}, Size: 5000,
				CTime: rec.Time{Sec: 1700000001 + int64(j), Nsec: uint32(j * 900)}, BTime: rec.Time{Sec: 1600000000, Nsec: 7}, Ino: 1000000 + uint64(j), Dev: 65024,
				Extents: []rec.Extent{{N: uint64(j % 2), Off: uint64(j%perPage) * 5000, Len: 5000}}})
		}
		ps = append(ps, p)
	}
	return ps
}

// One operation is an entry.
func BenchmarkWrite(b *testing.B) {
	const n = 70_000
	ps := home(n)
	b.ReportAllocs()
	for done := 0; done < b.N; done += n {
		w := create(b, filepath.Join(b.TempDir(), "c"))
		write(b, w, ps...)
		w.Abort()
	}
}

// One operation is an entry.
func BenchmarkRead(b *testing.B) {
	const n = 70_000
	dir := filepath.Join(b.TempDir(), "c")
	w := create(b, dir)
	write(b, w, home(n)...)
	if err := w.Finish(nth(1), nth(2), nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += n {
		r := openCache(b, dir, nth(1))
		if got, err := all(r); err != io.EOF || len(got) != n {
			b.Fatal(len(got), err)
		}
	}
}

func BenchmarkHas(b *testing.B) {
	const n = 1_000_000
	var list []id.ID
	for k := range n {
		list = append(list, nth(k))
	}
	dir := filepath.Join(b.TempDir(), "c")
	w := create(b, dir)
	write(b, w, home(1)...)
	if err := w.Finish(nth(1), nth(2), listOf(b, list...)); err != nil {
		b.Fatal(err)
	}
	l, err := OpenIDs(dir, nth(1), secret, job.Key)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	b.ReportAllocs()
	b.ResetTimer()
	for k := range b.N {
		if has, err := l.Has(list[k%n]); !has || err != nil {
			b.Fatal(has, err)
		}
	}
}
