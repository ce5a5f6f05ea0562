package cdc

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// stream returns n fixed bytes named by name: SHA-256 of the name and a counter,
// block after block.
func stream(name string, n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := uint64(0); len(b) < n; i++ {
		s := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), i))
		b = append(b, s[:]...)
	}
	return b[:n]
}

func material(name string) []byte { return stream("material "+name, MaterialSize) }

func newCutter(t testing.TB, name string, p Params) *Cutter {
	t.Helper()
	c, err := New(material(name), p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var small = Params{Min: 64, Avg: 256, Max: 2048} // many cuts in few bytes
var middle = Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}

// lengths cuts all of b.
func lengths(c *Cutter, b []byte) []int {
	var l []int
	for len(b) > 0 {
		n := c.Cut(b)
		l = append(l, n)
		b = b[n:]
	}
	return l
}

// slowCut is the package comment, word by word.
func slowCut(m []byte, p Params, b []byte) int {
	var g [256]uint64
	binary.Read(bytes.NewReader(m), binary.BigEndian, &g)
	log := int(math.Log2(float64(p.Avg)))
	pre := min(10, (log+1)/2)
	for n := p.Min; n < len(b) && n < p.Max; n++ {
		var h uint64
		for i, x := range b[n-64 : n] {
			h += g[x] << (63 - i)
		}
		s := log + 2
		if n >= p.Avg {
			s = log - 2
		}
		near := h*(h>>32)>>(64-pre) == 0
		if near && slowSip(m[2048:], b[n-64:n])>>(64-(s-pre)) == 0 {
			return n
		}
	}
	return min(len(b), p.Max)
}

// slowSip is SipHash-2-4 of b, of any length, under a key of 16 bytes.
func slowSip(key, b []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0], v[1], v[2], v[3] = sipRound(v[0], v[1], v[2], v[3])
		}
	}
	padded := append(slices.Clone(b), make([]byte, 8-len(b)%8)...)
	padded[len(padded)-1] = byte(len(b))
	for ; len(padded) > 0; padded = padded[8:] {
		w := binary.LittleEndian.Uint64(padded)
		v[3] ^= w
		rounds(2)
		v[0] ^= w
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// TestSip holds the general function to the vectors that SipHash's authors
// publish, and the one for windows to the general one.
func TestSip(t *testing.T) {
	count := make([]byte, 64)
	for i := range count {
		count[i] = byte(i)
	}
	key := count[:16]
	for n, want := range map[int]uint64{
		0:  0x726fdb47dd0e0e31,
		1:  0x74f839c593dc67fd,
		8:  0x93f5f5799a932462,
		15: 0xa129ca6149be45e5,
		63: 0x958a324ceb064572,
	} {
		if got := slowSip(key, count[:n]); got != want {
			t.Errorf("SipHash-2-4 of %d bytes is %016x, want %016x", n, got, want)
		}
	}
	b := stream("sip", 64*100)
	for ; len(b) > 0; b = b[64:] {
		got := sip(1<<63|1, 0xfedcba9876543210, (*[64]byte)(b))
		var k [16]byte
		binary.LittleEndian.PutUint64(k[:], 1<<63|1)
		binary.LittleEndian.PutUint64(k[8:], 0xfedcba9876543210)
		if want := slowSip(k[:], b[:64]); got != want {
			t.Fatalf("sip of a window is %016x, want %016x", got, want)
		}
	}
}

func TestFastIsSlow(t *testing.T) {
	m := material("a")
	for _, p := range []Params{
		small, middle,
		{Min: 64, Avg: 128, Max: 129}, {Min: 127, Avg: 128, Max: 4096},
		{Min: 100, Avg: 1 << 12, Max: 1<<13 + 1}, {Min: 65, Avg: 1 << 11, Max: 1 << 14},
	} {
		c, err := New(m, p)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{
			"random": stream("fast", 100_000),
			"text":   bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), 1000),
			"few":    bytes.ReplaceAll(stream("few", 20_000), []byte{0}, make([]byte, 1000)),
		} {
			for at := 0; at < len(b); {
				got, want := c.Cut(b[at:]), slowCut(m, p, b[at:])
				if got != want {
					t.Fatalf("%v, %s, chunk at %d: length %d, want %d", p, name, at, got, want)
				}
				at += got
			}
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(stream("fuzz", 5000), uint8(1))
	f.Add(make([]byte, 5000), uint8(2))
	f.Add(bytes.Repeat([]byte("abcdefg"), 800), uint8(3))
	m := material("fuzz")
	params := []Params{small, {64, 128, 129}, {200, 512, 1000}, {64, 1 << 11, 1 << 12}}
	f.Fuzz(func(t *testing.T, b []byte, which uint8) {
		p := params[int(which)%len(params)]
		c, err := New(m, p)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := c.Cut(b)
			if n <= 0 || n > p.Max || n > len(b) {
				t.Fatalf("length %d of %d bytes, at most %d", n, len(b), p.Max)
			}
			if want := slowCut(m, p, b); n != want {
				t.Fatalf("length %d, want %d", n, want)
			}
			b = b[n:]
		}
	})
}

// TestGolden: cut points must never change under the name gear1. A repository
// whose chunks were cut by the old ones would be stored a second time.
func TestGolden(t *testing.T) {
	f, err := os.Open("testdata/gear1.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cases++
		var key, data, want string
		var p Params
		var size, chunks int
		if _, err := fmt.Sscan(line, &key, &p.Min, &p.Avg, &p.Max, &data, &size, &chunks, &want); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var b []byte
		switch data {
		case "zeros":
			b = make([]byte, size)
		case "count":
			for i := range size / 4 {
				b = binary.BigEndian.AppendUint32(b, uint32(i))
			}
		default:
			b = stream("data "+data, size)
		}
		h := sha256.New()
		l := lengths(newCutter(t, key, p), b)
		for _, n := range l {
			fmt.Fprintf(h, "%d\n", n)
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want || len(l) != chunks {
			t.Errorf("%s %d %d %d %s %d\ngot  %d %s\nwant %d %s\nlengths %v",
				key, p.Min, p.Avg, p.Max, data, size, len(l), got, chunks, want, l[:min(len(l), 20)])
		}
	}
	if cases < 8 || Name != "gear1" {
		t.Fatalf("%d cases for %s", cases, Name)
	}
}

func TestEdges(t *testing.T) {
	c := newCutter(t, "a", small)
	for _, n := range []int{0, 1, 63, 64} {
		if got := c.Cut(stream("edge", n)); got != n {
			t.Errorf("%d bytes, not above Min: cut at %d", n, got)
		}
	}
	if got := c.Cut(nil); got != 0 {
		t.Errorf("nil: cut at %d", got)
	}
	for _, p := range []Params{small, middle, Default} {
		c := newCutter(t, "a", p)
		for _, extra := range []int{-1, 0, 1, p.Max} {
			zeros := make([]byte, p.Max+extra)
			if got, want := c.Cut(zeros), min(p.Max, len(zeros)); got != want {
				t.Errorf("%v: %d zeros cut at %d, want %d", p, len(zeros), got, want)
			}
		}
		// What lies behind a cut, or behind Max, is of no influence.
		b := stream("behind", 3*p.Max)
		n := c.Cut(b)
		if got := c.Cut(b[:p.Max]); got != n {
			t.Errorf("%v: cut at %d, with Max bytes only at %d", p, n, got)
		}
		if got := c.Cut(b[:n]); got != n {
			t.Errorf("%v: cut at %d, ending there at %d", p, n, got)
		}
	}
}

func TestNew(t *testing.T) {
	m := material("a")
	for _, p := range []Params{
		{}, {63, 128, 256}, {128, 128, 256}, {64, 128, 128}, {64, 100, 256}, {64, 1 << 20, 8<<20 + 1}, {-1, 128, 256},
	} {
		if _, err := New(m, p); err == nil {
			t.Errorf("%v: no error", p)
		}
	}
	for _, p := range []Params{small, middle, Default, {64, 128, 129}, {64, 4 << 20, 8 << 20}} {
		if c, err := New(m, p); err != nil || c.Params() != p {
			t.Errorf("%v: %v", p, err)
		}
	}
	for _, n := range []int{0, MaterialSize - 1, MaterialSize + 1} {
		if _, err := New(make([]byte, n), small); err == nil {
			t.Errorf("material of %d bytes: no error", n)
		}
	}
	c, _ := New(m, middle)
	b := stream("kept", 100_000)
	before := lengths(c, b)
	clear(m)
	if !slices.Equal(before, lengths(c, b)) {
		t.Error("New kept the caller's material")
	}
}

// ends returns the cut points of b counted from its end.
func ends(c *Cutter, b []byte) map[int]bool {
	m := make(map[int]bool)
	for at := 0; at < len(b); {
		at += c.Cut(b[at:])
		m[len(b)-at] = true
	}
	return m
}

// TestEdits: after an insertion, a deletion or a change the old cut points are
// found again, soon.
func TestEdits(t *testing.T) {
	c := newCutter(t, "a", middle)
	b := stream("edits", 1<<20)
	old := ends(c, b)
	rng := rand.New(rand.NewPCG(1, 2))
	worst := 0
	for range 60 {
		at, n := rng.IntN(len(b)/2), 1+rng.IntN(5000)
		var edited []byte
		switch rng.IntN(3) {
		case 0:
			edited = slices.Concat(b[:at], stream("new", n), b[at:])
		case 1:
			edited = slices.Concat(b[:at], b[at+n:])
			at += n
		case 2:
			edited = slices.Concat(b[:at], stream("new", n), b[at+n:])
			at += n
		}
		far := 0 // the lowest point of the file, from the end, at which they differ
		now := ends(c, edited)
		for e := range old {
			if e <= len(b)-at && !now[e] {
				far = max(far, len(b)-at-e)
			}
		}
		for e := range now {
			if e <= len(b)-at && !old[e] {
				far = max(far, len(b)-at-e)
			}
		}
		worst = max(worst, far)
	}
	if worst > 20*middle.Avg {
		t.Errorf("cut points differ up to %d bytes behind an edit", worst)
	}
	t.Logf("cut points differ up to %d bytes behind an edit", worst)
}

func TestSizes(t *testing.T) {
	c := newCutter(t, "a", middle)
	b := stream("sizes", 16<<20)
	l := lengths(c, b)
	below, atMax, sum := 0, 0, 0
	for _, n := range l[:len(l)-1] {
		if n < middle.Min || n > middle.Max {
			t.Fatalf("a chunk of %d bytes", n)
		}
		if n < middle.Avg {
			below++
		}
		if n == middle.Max {
			atMax++
		}
		sum += n
	}
	// What the two rates predict: below Avg, 3/4 of it at a rate of 1/(4 Avg); then
	// exponential with a mean of Avg/4 up to Max, 12 such means away.
	chunks := float64(len(l) - 1)
	p := 1 - math.Exp(-0.75/4)
	t.Logf("%d chunks, mean %.0f, below Avg %.4f (want %.4f), at Max %.5f", len(l), float64(sum)/chunks, float64(below)/chunks, p, float64(atMax)/chunks)
	if got := float64(below) / chunks; math.Abs(got-p) > 4*math.Sqrt(p*(1-p)/chunks) {
		t.Errorf("%.4f of all chunks are below Avg, want %.4f", got, p)
	}
	want := p*0.625*float64(middle.Avg) + (1-p)*1.25*float64(middle.Avg)
	if got := float64(sum) / chunks; math.Abs(got/want-1) > 0.02 {
		t.Errorf("mean %.0f, want about %.0f", got, want)
	}
	if atMax > 3 {
		t.Errorf("%d chunks at Max", atMax)
	}
}

// TestKeyed: every part of the material matters. Under the same table the second
// test still chooses between the same places, so a few cut points are common.
func TestKeyed(t *testing.T) {
	b := stream("keyed", 4<<20)
	m := material("a")
	c, _ := New(m, middle)
	old := ends(c, b)
	for _, part := range []struct {
		name     string
		from, to int
	}{{"all", 0, MaterialSize}, {"table", 0, 2048}, {"first half of the key", 2048, 2056}, {"second half", 2056, 2064}} {
		other := slices.Clone(m)
		copy(other[part.from:part.to], material("b")[part.from:])
		c, _ := New(other, middle)
		same := 0
		for e := range ends(c, b) {
			if old[e] && e != 0 {
				same++
			}
		}
		if same > len(old)/20 {
			t.Errorf("other %s: %d of %d cut points are the same", part.name, same, len(old))
		}
	}
}

func TestConcurrent(t *testing.T) {
	c := newCutter(t, "a", middle)
	b := stream("concurrent", 1<<20)
	want := lengths(c, b)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if !slices.Equal(lengths(c, b), want) {
				t.Error("cut points differ")
			}
		})
	}
	wg.Wait()
}

// BenchmarkCut is a large file: the bytes that a chunk skips count as done.
func BenchmarkCut(b *testing.B) {
	data := stream("bench", 32<<20)
	c := newCutter(b, "a", Default)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		lengths(c, data)
	}
}

// BenchmarkScan is the loop alone, with no byte skipped and both tests.
func BenchmarkScan(b *testing.B) {
	data := stream("bench", 4<<20)
	c := newCutter(b, "a", Params{Min: 64, Avg: 4 << 20, Max: 8 << 20})
	c.hard, c.easy = 0, 0 // no cut point: to the end
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c.Cut(data)
	}
}

// BenchmarkSip is the second test alone.
func BenchmarkSip(b *testing.B) {
	var w [window]byte
	for b.Loop() {
		w[0] ^= byte(sip(1, 2, &w))
	}
}
