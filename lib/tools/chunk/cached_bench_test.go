package chunk

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/cdc"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// unchanged is a tree stream of n small files that are nowhere, and the words for a
// run on a cache that vouches for all of them.
func unchanged(b *testing.B, n int) (stream []byte, words []string) {
	b.Helper()
	dir := b.TempDir()
	var out bytes.Buffer
	w := rec.NewWriter(&out)
	put := func(r rec.Record) {
		if err := w.Write(r); err != nil {
			b.Fatal(err)
		}
	}
	at := rec.Time{Sec: 1_700_000_000}
	head := &rec.Head{Kind: rec.Tree, Host: "h", User: "u", Roots: []rec.Root{{Dir: dir, Path: "src"}}, Time: rec.Time{Sec: 1_800_000_000}}
	put(head)
	entry := func(path string, typ rec.Type) *rec.Entry {
		n := uint64(out.Len() + 1)
		return &rec.Entry{Path: path, Type: typ, Mode: 0o644, UID: 1000, GID: 1000, MTime: at, CTime: at, BTime: at, Ino: 100000 + n, Dev: 2049}
	}
	put(entry("src", rec.Dir))
	for i := 0; i < n; i++ {
		if i%20 == 0 {
			put(entry(fmt.Sprintf("src/directory-%05d", i/20), rec.Dir))
		}
		e := entry(fmt.Sprintf("src/directory-%05d/some_file_name_%06d.go", i/20, i), rec.File)
		e.Size = 50
		put(e)
	}
	put(&rec.End{})
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	// The content stream that reading these files would have given, with files of
	// zeros in chunks of a hundred.
	v := newVault(b)
	var content bytes.Buffer
	w = rec.NewWriter(&content)
	in := rec.NewReader(bytes.NewReader(out.Bytes()), rec.Tree)
	h, err := in.Head()
	if err != nil {
		b.Fatal(err)
	}
	c := *h
	rules, err := (&work{key: v.key, params: cdc.Default}).rules(rec.Paths(h.Roots))
	if err != nil {
		b.Fatal(err)
	}
	c.Kind, c.Chunker = rec.Content, rules.chunker
	put(&c)
	files, chunks := 0, uint64(0)
	page := 0
	for {
		r, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		e, ok := r.(*rec.Entry)
		if !ok {
			put(&rec.Cut{})
			put(r)
			continue
		}
		if page > 0 && rules.pageBegins(e.Path) || page == 1000 {
			put(&rec.Cut{})
			files, chunks, page = 0, 0, 0
		}
		page++
		if e.Type == rec.File {
			if files%100 == 0 {
				put(&rec.Chunk{N: chunks, Data: make([]byte, 5000)})
				chunks++
			}
			e.Extents = []rec.Extent{{N: chunks - 1, Off: uint64(files % 100 * 50), Len: 50}}
			files++
		}
		put(e)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	s := v.keep(content.Bytes())
	return out.Bytes(), append([]string{"-q", "-k", keyFile(b, "master")}, v.on(s)...)
}

// BenchmarkUnchanged runs over 70,000 files of which none has changed: what one of
// them costs, of all processors.
func BenchmarkUnchanged(b *testing.B) {
	const n = 70_000
	stream, words := unchanged(b, n)
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	before := used()
	for b.Loop() {
		env := tool.NewEnv("pv-chunk", words, bytes.NewReader(stream), io.Discard, b.Output())
		if status := env.Status(Run(env)); status != 0 {
			b.Fatal(status)
		}
	}
	b.ReportMetric(float64((used()-before).Nanoseconds())/float64(b.N)/n, "cpu-ns/entry")
}
