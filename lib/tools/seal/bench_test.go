package seal

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// An unchanged tree, its content all by id, with a cache that is read and written.
// One operation is an entry.
func BenchmarkUnchanged(b *testing.B) {
	const n, perPage = 70_000, 256
	stream := func(base ...id.ID) []byte {
		var out bytes.Buffer
		w := rec.NewWriter(&out)
		put := func(r rec.Record) {
			if err := w.Write(r); err != nil {
				b.Fatal(err)
			}
		}
		h := head()
		h.Base = base
		put(h)
		for k := range n {
			e := file(fmt.Sprintf("home-%05d-src-file-%07d.go", k/50, k), rec.Extent{ID: id.ID{1, byte(k >> 16), byte(k >> 8)}, Off: uint64(k%256) * 5000, Len: 5000})
			e.MTime, e.CTime = rec.Time{Sec: 1700000000, Nsec: uint32(k)}, rec.Time{Sec: 1700000000, Nsec: 7}
			put(e)
			if k%perPage == perPage-1 || k == n-1 {
				put(&rec.Cut{})
			}
		}
		put(&rec.End{})
		return out.Bytes()
	}
	cache := filepath.Join(b.TempDir(), "cache")
	run := func(in []byte, flags ...string) id.ID {
		var out, said bytes.Buffer
		env := tool.NewEnv("pv-seal", append(append(writeKey(), "--cache", cache), flags...), bytes.NewReader(in), &out, &said)
		if status := env.Status(Run(env)); status != 0 || said.Len() > 0 {
			b.Fatal(status, said.String())
		}
		r := rec.NewReader(&out, rec.Sealed)
		for {
			v, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			switch v := v.(type) {
			case *rec.Blob:
				if v.Kind == rec.KindSnapshot {
					return v.ID
				}
			case *rec.End:
				return v.Unchanged
			}
		}
	}
	in := stream(run(stream()))
	b.ResetTimer()
	for done := 0; done < b.N; done += n {
		run(in, "--skip-if-unchanged")
	}
}
