package wire

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// A Cursor reads msgpack values from a byte slice, in order. Its first error
// sticks: every later call returns a zero value, so that a decoder asks Err
// once. Slices that it returns are parts of the input. In strict mode every
// number and length must be in its shortest form.
type Cursor struct {
	b      []byte
	at     int // of b was read
	strict bool
	err    error
}

// NewCursor returns a Cursor over b.
func NewCursor(b []byte, strict bool) *Cursor {
	return &Cursor{b: b, strict: strict}
}

// Reset points c at other bytes.
func (c *Cursor) Reset(b []byte, strict bool) {
	c.b, c.at, c.strict, c.err = b, 0, strict, nil
}

// Err returns the first error.
func (c *Cursor) Err() error { return c.err }

// Fail records err as the first error, unless there was one.
func (c *Cursor) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Pos returns the number of bytes read.
func (c *Cursor) Pos() int { return c.at }

// More reports whether bytes remain and no error happened.
func (c *Cursor) More() bool { return c.err == nil && c.at < len(c.b) }

// Finish returns the first error, or ErrTrailing if bytes remain.
func (c *Cursor) Finish() error {
	if c.err == nil && c.at < len(c.b) {
		return ErrTrailing
	}
	return c.err
}

// peek returns the next value's code, 0xc1 (never used) after an error.
func (c *Cursor) peek() byte {
	if c.err != nil {
		return 0xc1
	}
	if c.at == len(c.b) {
		c.err = ErrShort
		return 0xc1
	}
	return c.b[c.at]
}

// number reads a code, which is there, and the number in the size bytes behind
// it, big-endian. It reports false after an error.
func (c *Cursor) number(size int) (n uint64, ok bool) {
	if len(c.b)-c.at <= size {
		c.Fail(ErrShort)
		return 0, false
	}
	for _, d := range c.b[c.at+1 : c.at+1+size] {
		n = n<<8 | uint64(d)
	}
	c.at += 1 + size
	return n, true
}

// shortest insists, in strict mode, that a header that took used bytes took no
// more than want.
func (c *Cursor) shortest(used, want int) bool {
	if c.strict && used != want {
		c.Fail(ErrCanonical)
	}
	return c.err == nil
}

func (c *Cursor) wrong(what string, code byte) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s where %s belongs", ErrType, codeName(code), what)
	}
}

// Map reads the header of a map of at most limit pairs.
func (c *Cursor) Map(limit int) int {
	code := c.peek()
	if msgpcode.IsFixedMap(code) {
		c.at++
		return c.count(int(code&msgpcode.FixedMapMask), limit, "map")
	}
	return c.long(code, msgpcode.Map16, limit, "map")
}

// Array reads the header of an array of at most limit values.
func (c *Cursor) Array(limit int) int {
	code := c.peek()
	if msgpcode.IsFixedArray(code) {
		c.at++
		return c.count(int(code&msgpcode.FixedArrayMask), limit, "array")
	}
	return c.long(code, msgpcode.Array16, limit, "array")
}

// long reads the header of a map or array in one of its longer forms.
func (c *Cursor) long(code, code16 byte, limit int, what string) int {
	if code != code16 && code != code16+1 {
		c.wrong(map[string]string{"map": "a map", "array": "an array"}[what], code)
		return 0
	}
	size := 2 << (code - code16)
	n, ok := c.number(size)
	if !ok || !c.shortest(1+size, headerLen(int(n))) {
		return 0
	}
	return c.count(int(n), limit, what)
}

func (c *Cursor) count(n, limit int, what string) int {
	if n < 0 || n > limit {
		c.Fail(fmt.Errorf("%s of %d: %w of %d", what, n, ErrLimit, limit))
		return 0
	}
	return n
}

// headerLen is the shortest header of a map or array of n.
func headerLen(n int) int {
	switch {
	case n < 16:
		return 1
	case n < 1<<16:
		return 3
	}
	return 5
}

// Str reads one of our own words, at most limit bytes; whether they are UTF-8 is
// for the caller to ask. The result is a part of the input.
func (c *Cursor) Str(limit int) []byte {
	code := c.peek()
	if msgpcode.IsFixedString(code) {
		c.at++
		return c.bytes(int(code&msgpcode.FixedStrMask), limit)
	}
	if code != msgpcode.Str8 && code != msgpcode.Str16 && code != msgpcode.Str32 {
		c.wrong("a string", code)
		return nil
	}
	return c.sized(1<<(code-msgpcode.Str8), 32, limit)
}

// Bin reads bytes, at most limit. The result is a part of the input.
func (c *Cursor) Bin(limit int) []byte {
	code := c.peek()
	if !msgpcode.IsBin(code) {
		c.wrong("bytes", code)
		return nil
	}
	return c.sized(1<<(code-msgpcode.Bin8), 0, limit)
}

// sized reads a length of size bytes and as many bytes as it says. Lengths below
// fixed have a shorter form.
func (c *Cursor) sized(size, fixed, limit int) []byte {
	n, ok := c.number(size)
	want := 5
	switch {
	case n < uint64(fixed):
		want = 1
	case n < 1<<8:
		want = 2
	case n < 1<<16:
		want = 3
	}
	if !ok || !c.shortest(1+size, want) {
		return nil
	}
	return c.bytes(int(n), limit)
}

func (c *Cursor) bytes(n, limit int) []byte {
	if n > limit {
		c.Fail(fmt.Errorf("%d bytes: %w of %d", n, ErrLimit, limit))
		return nil
	}
	if n > len(c.b)-c.at {
		c.Fail(ErrShort)
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at : c.at]
}

// Uint reads a number from 0 to limit.
func (c *Cursor) Uint(limit uint64) uint64 {
	code := c.peek()
	if code <= 0x7f {
		c.at++
		return c.within(uint64(code), limit)
	}
	if code < msgpcode.Uint8 || code > msgpcode.Uint64 {
		// A number that other libraries write in a signed form although it
		// is not negative.
		if code >= msgpcode.Int8 && code <= msgpcode.Int64 && !c.strict {
			n := c.Int()
			if c.err == nil && (n < 0 || uint64(n) > limit) {
				c.Fail(fmt.Errorf("number %d: %w of %d", n, ErrLimit, limit))
			}
			if c.err != nil {
				return 0
			}
			return uint64(n)
		}
		if code >= 0xe0 {
			c.Fail(fmt.Errorf("%w: a negative number", ErrType))
			return 0
		}
		c.wrong("a number", code)
		return 0
	}
	size := 1 << (code - msgpcode.Uint8)
	n, ok := c.number(size)
	if !ok || !c.shortest(1+size, uintLen(n)) {
		return 0
	}
	return c.within(n, limit)
}

// within returns n, unless it is over its limit.
func (c *Cursor) within(n, limit uint64) uint64 {
	if n > limit {
		c.Fail(fmt.Errorf("number %d: %w of %d", n, ErrLimit, limit))
		return 0
	}
	return n
}

// Int reads a signed number.
func (c *Cursor) Int() int64 {
	code := c.peek()
	if code > 0x7f && code < 0xe0 && (code < msgpcode.Uint8 || code > msgpcode.Int64) {
		c.wrong("a number", code)
		return 0
	}
	switch {
	case code == msgpcode.Uint64:
		return int64(c.Uint(1<<63 - 1))
	case code <= 0x7f, code >= 0xe0:
		c.at++
		return int64(int8(code))
	}
	signed := code >= msgpcode.Int8
	size := 1 << ((code - msgpcode.Uint8) & 3) // Int8 is 4 codes behind
	u, ok := c.number(size)
	n := int64(u)
	if signed {
		n = n << (64 - 8*size) >> (64 - 8*size)
	}
	want := 9
	switch {
	case n >= 0:
		want = uintLen(uint64(n))
	case n >= -32:
		want = 1
	case n >= -1<<7:
		want = 2
	case n >= -1<<15:
		want = 3
	case n >= -1<<31:
		want = 5
	}
	if signed && n >= 0 {
		want = 0 // there is an unsigned form
	}
	if !ok || !c.shortest(1+size, want) {
		return 0
	}
	return n
}

func uintLen(n uint64) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	case n < 1<<32:
		return 5
	}
	return 9
}

// Bool reads true or false.
func (c *Cursor) Bool() bool {
	code := c.peek()
	if code != msgpcode.True && code != msgpcode.False {
		c.wrong("true or false", code)
		return false
	}
	c.at++
	return code == msgpcode.True
}

// IsNil reports whether the next value is nil, and reads it if so.
func (c *Cursor) IsNil() bool {
	if c.peek() != msgpcode.Nil {
		return false
	}
	c.at++
	return true
}

// NextIsBin reports whether the next value is bin.
func (c *Cursor) NextIsBin() bool { return msgpcode.IsBin(c.peek()) }

// Raw reads one value inside a record, of any type, and returns its bytes, a
// part of the input. Nesting deeper than MaxDepth, extension types and, in strict mode, long
// forms are errors.
func (c *Cursor) Raw() []byte {
	start := c.Pos()
	c.skip(1)
	if c.err != nil {
		return nil
	}
	return c.b[start:c.Pos()]
}

func (c *Cursor) skip(depth int) {
	code := c.peek()
	left := len(c.b) - c.at
	if depth >= MaxDepth && (msgpcode.IsFixedMap(code) || msgpcode.IsFixedArray(code) || code >= msgpcode.Array16 && code <= msgpcode.Map32) {
		c.Fail(fmt.Errorf("nesting: %w of %d", ErrLimit, MaxDepth))
	}
	if c.err != nil {
		return
	}
	switch {
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		for n := 2 * c.Map(left); n > 0 && c.err == nil; n-- {
			c.skip(depth + 1)
		}
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		for n := c.Array(left); n > 0 && c.err == nil; n-- {
			c.skip(depth + 1)
		}
	case msgpcode.IsString(code):
		c.Str(left)
	case msgpcode.IsBin(code):
		c.Bin(left)
	case code == msgpcode.Nil:
		c.IsNil()
	case code == msgpcode.True, code == msgpcode.False:
		c.Bool()
	case code <= 0x7f, code >= msgpcode.Uint8 && code <= msgpcode.Uint64:
		c.Uint(1<<64 - 1)
	case code >= 0xe0, code >= msgpcode.Int8 && code <= msgpcode.Int64:
		c.Int()
	case code == msgpcode.Float, code == msgpcode.Double:
		c.number(4 << (code - msgpcode.Float))
	default:
		c.wrong("a value", code)
	}
}

// Annotate replaces the error of c, if there is one, by err, which should wrap
// it.
func (c *Cursor) Annotate(err error) {
	if c.err != nil {
		c.err = err
	}
}
