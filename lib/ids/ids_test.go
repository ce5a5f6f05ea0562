package ids

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"preserve/lib/id"
)

func nth(n int) id.ID { return sha256.Sum256(fmt.Append(nil, n)) }

// like returns ids of which many begin alike.
func like(n int) (i id.ID) {
	i = nth(n)
	copy(i[:], bytes.Repeat([]byte{byte(n % 3)}, n%31))
	return i
}

func sorted(list []id.ID) []id.ID {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

func listOf(t testing.TB, memory int, in []id.ID) *List {
	t.Helper()
	s := NewSorter(memory)
	for _, i := range in {
		if err := s.Add(i); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func contents(t testing.TB, l *List) (list []id.ID) {
	t.Helper()
	for i, err := range l.All() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, i)
	}
	return list
}

// In memory and on disk, with one run and with many, a list is the sorted set.
func TestSorterAgainstSlice(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, of := range map[string]func(int) id.ID{"even": nth, "alike": like} {
		for _, n := range []int{0, 1, 2, 63, 64, 65, 1023, 1024, 1025, 30_000} {
			var in []id.ID
			for k := range n {
				in = append(in, of(k*7%max(1, n-n/4))) // a quarter comes twice
			}
			want := sorted(in)
			for _, memory := range []int{0, 64 << 20} {
				l := listOf(t, memory, in)
				if got := contents(t, l); l.Len() != len(want) || !slices.Equal(got, want) {
					t.Fatalf("%s, %d ids, memory %d: %d ids come back, want %d", name, n, memory, len(got), len(want))
				}
				for k, i := range want {
					if has, err := l.Has(i); err != nil || !has {
						t.Fatalf("%s, %d ids: id %d: %v %v", name, n, k, has, err)
					}
					i[31] ^= 1
					if _, there := slices.BinarySearchFunc(want, i, compare); !there {
						if has, err := l.Has(i); err != nil || has {
							t.Fatalf("%s, %d ids: what is not there is: %v", name, n, err)
						}
					}
				}
				for _, i := range []id.ID{{}, {0: 255, 31: 255}} {
					if has, err := l.Has(i); err != nil || has {
						t.Fatal(has, err)
					}
				}
			}
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// counting counts reads.
type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) { c.n++; return c.ReaderAt.ReadAt(p, off) }

// What computes where an id stands must not be led astray for long by ids that
// are no hashes.
func TestHasReadsLittle(t *testing.T) {
	const n = 100_000
	even, steep := make([]id.ID, n), make([]id.ID, n)
	for k := range n {
		even[k] = nth(k)
		steep[k] = id.ID{0: 1 << (k % 8), 5: byte(k >> 16), 6: byte(k >> 8), 7: byte(k)}
	}
	for name, c := range map[string]struct {
		list    []id.ID
		average int
	}{"even": {even, 3}, "steep": {steep, 24}} {
		list := sorted(c.list)
		var b []byte
		for _, i := range list {
			b = append(b, i[:]...)
		}
		at := &counting{ReaderAt: bytes.NewReader(b)}
		l := NewList(at, len(list))
		for range 2000 {
			if has, err := l.Has(list[rand.IntN(len(list))]); err != nil || !has {
				t.Fatal(has, err)
			}
		}
		if average := at.n / 2000; average > c.average {
			t.Errorf("%s: %d reads on average, at most %d are expected", name, average, c.average)
		}
	}
}

func TestListForSeveral(t *testing.T) {
	var in []id.ID
	for k := range 5000 {
		in = append(in, nth(k))
	}
	l := listOf(t, 0, in)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := g; k < 10_000; k += 4 {
				if has, err := l.Has(nth(k)); err != nil || has != (k < 5000) {
					t.Error(k, has, err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestListErrors(t *testing.T) {
	var none *List
	if has, err := none.Has(nth(1)); has || err != nil || none.Len() != 0 || none.Close() != nil || len(contents(t, none)) != 0 {
		t.Error("a nil list is not an empty one")
	}
	short := NewList(bytes.NewReader(make([]byte, 100)), 4)
	if _, err := short.Has(nth(1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	for _, err := range short.All() {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	}
	l := listOf(t, 0, []id.ID{nth(1)})
	if err := l.Close(); err != nil || l.Len() != 0 {
		t.Error(err)
	}
	if has, err := l.Has(nth(1)); has || err != nil {
		t.Error("a closed list is not empty")
	}
}

// Where the temporary file cannot be made, the message says what to do.
func TestSorterWithoutDisk(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
	s := NewSorter(0)
	var err error
	for k := 0; err == nil && k < 100_000; k++ {
		err = s.Add(nth(k))
	}
	if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadText(t *testing.T) {
	a, b := nth(1).String(), nth(2).String()
	l, err := ReadText(iotest.OneByteReader(strings.NewReader(b + "\nmissing " + strings.ToUpper(a) + "\n" + b + "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, l); !slices.Equal(got, sorted([]id.ID{nth(1), nth(2)})) {
		t.Error(got)
	}
	if l, err := ReadText(strings.NewReader("")); err != nil || l.Len() != 0 {
		t.Error(err)
	}
	for bad, want := range map[string]string{
		a:                               "line 1: ",
		a + "\n" + b[:40]:               "line 2: ",
		a + "\n\n":                      "line 2: ",
		a + "\r\n":                      "line 1: ",
		"missing\n":                     "line 1: ",
		"stored " + a + "\n":            "line 1: ",
		a[:63] + "g\n":                  "line 1: ",
		strings.Repeat("0", 64) + "\n":  "line 1: ",
		strings.Repeat("a", 1<<17):      "line 1: ",
		a + " " + b + "\n":              "line 1: ",
		a + "\n" + b + "\n" + a + b[1:]: "line 3: ",
	} {
		if _, err := ReadText(strings.NewReader(bad)); !errors.Is(err, ErrText) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.80q: %v", bad, err)
		}
	}
	broken := errors.New("broken")
	if _, err := ReadText(io.MultiReader(strings.NewReader(a+"\n"), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
}

func FuzzReadText(f *testing.F) {
	f.Add([]byte(nth(1).String() + "\nmissing " + nth(2).String() + "\n"))
	f.Add([]byte("missing \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ReadText(bytes.NewReader(text))
		if err != nil {
			return
		}
		defer l.Close()
		// Only what the grammar allows is read, and all of it.
		var want []id.ID
		for _, line := range strings.SplitAfter(string(text), "\n") {
			if line == "" {
				continue
			}
			i, err := id.Parse(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "missing "))
			if err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("line %q was accepted", line)
			}
			want = append(want, i)
		}
		if got := contents(t, l); !slices.Equal(got, sorted(want)) {
			t.Fatalf("%d ids, want %d", len(got), len(want))
		}
	})
}

func BenchmarkSort(b *testing.B) {
	s := NewSorter(8 << 20)
	for k := range b.N {
		if err := s.Add(nth(k)); err != nil {
			b.Fatal(err)
		}
	}
	l, err := s.List()
	if err != nil {
		b.Fatal(err)
	}
	l.Close()
}
