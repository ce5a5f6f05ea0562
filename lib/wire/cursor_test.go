package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Every number and every header is what the library takes it for.
func TestCursorAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	agreed := 0
	for round := range 60 {
		for code := range 256 {
			b := make([]byte, 1+rnd.IntN(12))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			if round%2 == 0 && len(b) > 8 { // small numbers in long forms
				clear(b[:rnd.IntN(8)])
			}
			b[0] = byte(code)
			if len(b) > 3 && (b[0] == msgpcode.Str32 || b[0] == msgpcode.Bin32) {
				clear(b[1:4]) // the library buys memory on the word of a length
			}
			lib := func() *msgpack.Decoder { return msgpack.NewDecoder(bytes.NewReader(b)) }
			same := func(what string, got, want int64, c *Cursor, err error) {
				t.Helper()
				if (c.Err() == nil) != (err == nil) {
					t.Fatalf("%s % x: %v, the library says %v", what, b, c.Err(), err)
				}
				if err == nil && got != want {
					t.Fatalf("%s % x: %d, the library says %d", what, b, got, want)
				}
				if err == nil {
					agreed++
				}
			}
			c := NewCursor(b, false)
			switch {
			case code <= 0x7f, code >= 0xe0, code >= int(msgpcode.Uint8) && code <= int(msgpcode.Int64):
				n, err := lib().DecodeInt64()
				if u, uerr := lib().DecodeUint64(); byte(code) == msgpcode.Uint64 && (uerr != nil || u > 1<<63-1) {
					if c.Int(); c.Err() == nil {
						t.Fatalf("% x: too large, and no error", b)
					}
					break
				}
				same("Int", c.Int(), n, c, err)
				if c = NewCursor(b, false); n >= 0 && err == nil {
					same("Uint", int64(c.Uint(1<<64-1)), n, c, nil)
				}
			case msgpcode.IsFixedMap(byte(code)), byte(code) == msgpcode.Map16, byte(code) == msgpcode.Map32:
				n, err := lib().DecodeMapLen()
				same("Map", int64(c.Map(1<<32)), int64(n), c, err)
			case msgpcode.IsFixedArray(byte(code)), byte(code) == msgpcode.Array16, byte(code) == msgpcode.Array32:
				n, err := lib().DecodeArrayLen()
				same("Array", int64(c.Array(1<<32)), int64(n), c, err)
			case msgpcode.IsString(byte(code)), msgpcode.IsBin(byte(code)):
				p, err := lib().DecodeBytes()
				read := c.Str
				if msgpcode.IsBin(byte(code)) {
					read = c.Bin
				}
				got := read(1 << 32)
				same("bytes", int64(len(got)), int64(len(p)), c, err)
				if err == nil && !bytes.Equal(got, p) {
					t.Fatalf("% x: %x, the library says %x", b, got, p)
				}
			}
		}
	}
	if agreed < 5_000 {
		t.Errorf("only %d values were compared", agreed)
	}
}
