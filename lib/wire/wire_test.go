package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/vmihailenco/msgpack/v5"
)

func written(fn func(w *Writer)) []byte {
	w := NewWriter()
	fn(w)
	return w.Bytes()
}

// Every number and length at the edges of its forms comes back, and its
// encoding is the shortest that the library knows.
func TestNumbers(t *testing.T) {
	for _, n := range []uint64{0, 1, 127, 128, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, math.MaxUint64} {
		b := written(func(w *Writer) { w.Uint(n) })
		c := NewCursor(b, true)
		if got := c.Uint(math.MaxUint64); got != n || c.Finish() != nil {
			t.Errorf("%d: %d, %v", n, got, c.Finish())
		}
		if n > 0 {
			if c.Reset(b, true); c.Uint(n-1) != 0 || !errors.Is(c.Err(), ErrLimit) {
				t.Errorf("%d over its limit: %v", n, c.Err())
			}
		}
	}
	for _, n := range []int64{0, -1, -32, -33, -128, -129, -32768, -32769, -1 << 31, -1<<31 - 1, math.MinInt64, 127, 128, math.MaxInt64} {
		c := NewCursor(written(func(w *Writer) { w.Int(n) }), true)
		if got := c.Int(); got != n || c.Finish() != nil {
			t.Errorf("%d: %d, %v", n, got, c.Finish())
		}
	}
}

func TestLongFormsAreLenientOnly(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		read func(c *Cursor)
	}{
		"uint8":   {"\xcc\x01", func(c *Cursor) { c.Uint(9) }},
		"uint64":  {"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", func(c *Cursor) { c.Uint(9) }},
		"int8":    {"\xd0\x01", func(c *Cursor) { c.Uint(9) }},
		"int as":  {"\xd0\x01", func(c *Cursor) { c.Int() }},
		"neg":     {"\xd1\xff\xff", func(c *Cursor) { c.Int() }},
		"str8":    {"\xd9\x01a", func(c *Cursor) { c.Str(9) }},
		"bin16":   {"\xc5\x00\x01a", func(c *Cursor) { c.Bin(9) }},
		"map16":   {"\xde\x00\x00", func(c *Cursor) { c.Map(9) }},
		"array32": {"\xdd\x00\x00\x00\x00", func(c *Cursor) { c.Array(9) }},
		"nested":  {"\x91\xcc\x01", func(c *Cursor) { c.Raw() }},
	} {
		cur := NewCursor([]byte(c.in), false)
		if c.read(cur); cur.Finish() != nil {
			t.Errorf("%s: lenient: %v", name, cur.Finish())
		}
		cur.Reset([]byte(c.in), true)
		if c.read(cur); !errors.Is(cur.Err(), ErrCanonical) && !errors.Is(cur.Err(), ErrType) {
			t.Errorf("%s: strict: %v", name, cur.Err())
		}
	}
}

func TestWrongTypes(t *testing.T) {
	values := map[string]string{"nil": "\xc0", "bool": "\xc3", "number": "\x05", "negative": "\xff", "string": "\xa1a", "bytes": "\xc4\x01a",
		"array": "\x90", "map": "\x80", "float": "\xca\x00\x00\x00\x00", "ext": "\xd4\x01\x00", "unused": "\xc1"}
	for name, read := range map[string]func(c *Cursor){
		"number": func(c *Cursor) { c.Uint(9) }, "string": func(c *Cursor) { c.Str(9) }, "bytes": func(c *Cursor) { c.Bin(9) },
		"array": func(c *Cursor) { c.Array(9) }, "map": func(c *Cursor) { c.Map(9) }, "bool": func(c *Cursor) { c.Bool() }} {
		for have, b := range values {
			c := NewCursor([]byte(b), false)
			if read(c); (c.Err() == nil) != (have == name) {
				t.Errorf("%s read as %s: %v", have, name, c.Err())
			}
		}
	}
}

func TestFirstErrorSticks(t *testing.T) {
	c := NewCursor([]byte("\xc0\x05"), false)
	c.Uint(9)
	first := c.Err()
	if c.Uint(9) != 0 || c.Err() != first || c.More() || first == nil {
		t.Fatal(first, c.Err())
	}
	c.Reset([]byte("\x05\x06"), false)
	if c.Uint(9) != 5 || c.Finish() != ErrTrailing {
		t.Fatal(c.Finish())
	}
}

func sample() []byte {
	return written(func(w *Writer) {
		w.Map(4)
		w.Str("t")
		w.Str("x")
		w.Str("data")
		w.Bin(bytes.Repeat([]byte{7}, 70000))
		w.Str("list")
		w.Array(3)
		w.Uint(300)
		w.Nil()
		w.Bool(true)
		w.Str(strings.Repeat("long", 20))
		w.Int(-70000)
	})
}

func TestScanner(t *testing.T) {
	one := sample()
	two := append(bytes.Clone(one), one...)
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(two), "bytewise": iotest.OneByteReader(bytes.NewReader(two))} {
		s := NewScanner(r)
		for range 2 {
			if got, err := s.Next(nil, 1<<20); err != nil || !bytes.Equal(got, one) {
				t.Fatalf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		if _, err := s.Next(nil, 1<<20); err != io.EOF || s.Offset() != int64(len(two)) {
			t.Fatalf("%s: %v at %d", name, err, s.Offset())
		}
	}
	// In memory, with room for it or almost.
	for _, room := range []int{0, 10, len(one) - 1, len(one), len(one) + 1} {
		s := NewScanner(bytes.NewReader(two))
		s.Peek(1)
		for range 2 {
			if got, err := s.Next(make([]byte, 0, room), 1<<20); err != nil || !bytes.Equal(got, one) {
				t.Fatalf("room %d: %d bytes, %v", room, len(got), err)
			}
		}
		if s.Offset() != int64(len(two)) {
			t.Fatalf("room %d: at %d", room, s.Offset())
		}
	}
	for n := 1; n < len(one); n += 97 {
		if _, err := NewScanner(bytes.NewReader(one[:n])).Next(nil, 1<<20); err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for _, limit := range []int{1, 100, 70000, len(one) - 1} {
		if _, err := NewScanner(bytes.NewReader(one)).Next(nil, limit); !errors.Is(err, ErrLimit) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, err := NewScanner(bytes.NewReader(one)).Next(nil, len(one)); err != nil {
		t.Error(err)
	}
	nested := strings.Repeat("\x91", MaxDepth+1) + "\x01"
	if _, err := NewScanner(strings.NewReader(nested)).Next(nil, 1000); !errors.Is(err, ErrLimit) {
		t.Errorf("nested too deeply: %v", err)
	}
	if _, err := NewScanner(strings.NewReader(nested[1:])).Next(nil, 1000); err != nil {
		t.Errorf("nested as deeply as may be: %v", err)
	}
}

// A length alone buys no memory.
func TestScannerBuysNothingOnCredit(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 {
		_, err := NewScanner(strings.NewReader("\xc6\x01\x00\x00\x00abc")).Next(nil, 1<<25)
		if err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 50; n > step+200<<10 {
		t.Errorf("%d bytes for a value that never came", n)
	}
}

// Scanner, Cursor and the library agree about what is a value.
func FuzzValue(f *testing.F) {
	f.Add(sample()[:200])
	f.Add([]byte("\x82\xa1t\xa4head\xa8preserve\x01"))
	f.Add([]byte("\x93\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xd1\xff\x00\xc0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := NewScanner(bytes.NewReader(b)).Next(nil, 1<<16)
		// What lies in memory is looked at there, to the same end.
		for _, limit := range []int{1 << 16, len(got), max(0, len(got)-1)} {
			slow, slowErr := NewScanner(iotest.OneByteReader(bytes.NewReader(b))).Next(make([]byte, 0, 1<<17), limit)
			s := NewScanner(bytes.NewReader(b))
			s.Peek(1)
			fast, fastErr := s.Next(make([]byte, 0, 1<<17), limit)
			if fmt.Sprint(slowErr) != fmt.Sprint(fastErr) || fastErr == nil && (!bytes.Equal(slow, fast) || s.Offset() != int64(len(fast))) {
				t.Fatalf("limit %d: bytewise %x, %v; at once %x, %v", limit, slow, slowErr, fast, fastErr)
			}
		}
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, got) {
			t.Fatal("the scanner invents bytes")
		}
		c := NewCursor(append([]byte{0x91}, got...), false) // Raw reads what is inside a record
		c.Array(1)
		if raw := c.Raw(); c.Err() == nil && !bytes.Equal(raw, got) {
			t.Fatalf("scanner %x, cursor %x", got, raw)
		}
		r := bytes.NewReader(got)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || r.Len() != 0 {
			t.Fatalf("the library takes %d of %d bytes: %v", len(got)-r.Len(), len(got), err)
		}
	})
}
