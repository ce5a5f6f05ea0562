package box

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/key"
)

// source returns n bytes of the standard library's source, as a group holds it.
func source(b *testing.B, n int) []byte {
	b.Helper()
	var text []byte
	err := filepath.WalkDir(filepath.Join(build.Default.GOROOT, "src", "net"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || len(text) >= n || !strings.HasSuffix(path, ".go") {
			return err
		}
		data, err := os.ReadFile(path)
		text = append(text, data...)
		return err
	})
	if err != nil || len(text) < n {
		b.Skipf("no Go source here: %d bytes, %v", len(text), err)
	}
	return text[:n]
}

const group = 512 << 10

func benchmarkSeal(b *testing.B, level Level, plain []byte) {
	w, err := NewSealer(master(b), level)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		i := w.Name(0, nil, plain)
		if buf, err = w.Seal(buf[:0], 0, i, nil, plain); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(plain))/float64(len(buf)), "ratio")
}

func BenchmarkSealText(b *testing.B) {
	for level, name := range []string{"fastest", "default", "better"} {
		b.Run(name, func(b *testing.B) { benchmarkSeal(b, Level(level), source(b, group)) })
	}
}

func BenchmarkSealNoise(b *testing.B) {
	for level, name := range []string{"fastest", "default", "better"} {
		b.Run(name, func(b *testing.B) { benchmarkSeal(b, Level(level), noise(1<<20)) })
	}
}

func BenchmarkName(b *testing.B) {
	w := sealer(b, master(b))
	plain := noise(1 << 20)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		w.Name(0, nil, plain)
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, plain := range map[string][]byte{"text": source(b, group), "noise": noise(1 << 20)} {
		b.Run(name, func(b *testing.B) {
			w := sealer(b, master(b))
			o := opener(b, master(b), w)
			i := w.Name(0, nil, plain)
			data, err := w.Seal(nil, 0, i, nil, plain)
			if err != nil {
				b.Fatal(err)
			}
			var buf []byte
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = o.Open(buf[:0], 0, i, w.SID(), nil, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSession(b *testing.B) {
	write, read := derived(b, key.Write, "laptop"), derived(b, key.Read, "")
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			sealer(b, write)
		}
	})
	b.Run("open", func(b *testing.B) {
		session := sealer(b, write).Session()
		for b.Loop() {
			if _, err := openSession(read, session); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for name, plain := range map[string][]byte{"text": source(b, group), "noise": noise(1 << 20)} {
		b.Run(name, func(b *testing.B) {
			w := sealer(b, master(b))
			sum, i := SumOf(nil, plain), w.Name(0, nil, plain)
			data, err := w.Seal(nil, 0, i, nil, plain)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Check(sum, 0, i, nil, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
