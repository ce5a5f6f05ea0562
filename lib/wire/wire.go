// Package wire is msgpack as Preserve writes it: a Writer that always takes the
// shortest form, a Cursor that reads one value from memory and can insist on
// that form, and a Scanner that takes one whole value from a pipe without ever
// buying more memory than its limit.
//
// It is the only package that imports the msgpack library, and knows no record.
// Bytes are bin, our own words are str; extension types are refused.
package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Errors of this package; match them with errors.Is.
var (
	ErrLimit     = errors.New("over its limit")
	ErrType      = errors.New("wrong type")
	ErrCanonical = errors.New("not in its shortest form")
	ErrShort     = errors.New("ends in the middle of a value")
	ErrTrailing  = errors.New("bytes after the last value")
)

// A Writer appends msgpack values to a byte slice. The zero Writer is not
// ready: use NewWriter.
type Writer struct {
	sink sink
	enc  *msgpack.Encoder
}

type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) { s.b = append(s.b, p...); return len(p), nil }
func (s *sink) WriteByte(c byte) error      { s.b = append(s.b, c); return nil }

// NewWriter returns an empty Writer.
func NewWriter() *Writer {
	w := &Writer{}
	w.enc = msgpack.NewEncoder(&w.sink)
	return w
}

// Bytes returns what was written; it is valid until the next call on w.
func (w *Writer) Bytes() []byte { return w.sink.b }

// Len returns the number of bytes written.
func (w *Writer) Len() int { return len(w.sink.b) }

// Reset empties w and keeps its memory.
func (w *Writer) Reset() { w.sink.b = w.sink.b[:0] }

// Take returns what was written and leaves w empty, without the memory.
func (w *Writer) Take() []byte { b := w.sink.b; w.sink.b = nil; return b }

// The encoder's methods fail only when their writer does, and ours cannot.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Map begins a map of n pairs.
func (w *Writer) Map(n int) { must(w.enc.EncodeMapLen(n)) }

// Array begins an array of n values.
func (w *Writer) Array(n int) { must(w.enc.EncodeArrayLen(n)) }

// Str writes one of our own words.
func (w *Writer) Str(s string) { must(w.enc.EncodeString(s)) }

// Bin writes bytes.
func (w *Writer) Bin(b []byte) {
	w.BinLen(len(b))
	w.sink.b = append(w.sink.b, b...)
}

// BinString writes the bytes of s as bin.
func (w *Writer) BinString(s string) {
	w.BinLen(len(s))
	w.sink.b = append(w.sink.b, s...)
}

// BinLen writes only the header of n bytes that the caller sends itself.
func (w *Writer) BinLen(n int) { must(w.enc.EncodeBytesLen(n)) }

// Uint writes an unsigned number.
func (w *Writer) Uint(n uint64) { must(w.enc.EncodeUint(n)) }

// Int writes a signed number.
func (w *Writer) Int(n int64) { must(w.enc.EncodeInt(n)) }

// Bool writes true or false.
func (w *Writer) Bool(b bool) { must(w.enc.EncodeBool(b)) }

// Nil writes nil.
func (w *Writer) Nil() { must(w.enc.EncodeNil()) }

// Raw appends a value that is msgpack already.
func (w *Writer) Raw(b []byte) { w.sink.b = append(w.sink.b, b...) }

// A Cursor reads msgpack values from a byte slice, in order. Its first error
// sticks: every later call returns a zero value, so that a decoder asks Err
// once. Slices that it returns are parts of the input. In strict mode every
// number and length must be in its shortest form.
type Cursor struct {
	b      []byte
	r      *bytes.Reader
	d      *msgpack.Decoder
	strict bool
	err    error
}

// NewCursor returns a Cursor over b.
func NewCursor(b []byte, strict bool) *Cursor {
	c := &Cursor{r: bytes.NewReader(nil)}
	c.d = msgpack.NewDecoder(c.r)
	c.Reset(b, strict)
	return c
}

// Reset points c at other bytes.
func (c *Cursor) Reset(b []byte, strict bool) {
	c.b, c.strict, c.err = b, strict, nil
	c.r.Reset(b)
	c.d.Reset(c.r)
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
func (c *Cursor) Pos() int { return len(c.b) - c.r.Len() }

// More reports whether bytes remain and no error happened.
func (c *Cursor) More() bool { return c.err == nil && c.r.Len() > 0 }

// Finish returns the first error, or ErrTrailing if bytes remain.
func (c *Cursor) Finish() error {
	if c.err == nil && c.r.Len() > 0 {
		return ErrTrailing
	}
	return c.err
}

// peek returns the next value's code, 0xc1 (never used) after an error.
func (c *Cursor) peek() byte {
	if c.err != nil {
		return 0xc1
	}
	p := c.Pos()
	if p == len(c.b) {
		c.err = ErrShort
		return 0xc1
	}
	return c.b[p]
}

// check notes the library's error and, in strict mode, that the header of a
// value took used bytes where want would do.
func (c *Cursor) check(err error, start, want int) bool {
	if err != nil {
		c.Fail(ErrShort)
	} else if c.strict && c.Pos()-start != want {
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
	if !msgpcode.IsFixedMap(code) && code != msgpcode.Map16 && code != msgpcode.Map32 {
		c.wrong("a map", code)
		return 0
	}
	start := c.Pos()
	n, err := c.d.DecodeMapLen()
	if !c.check(err, start, headerLen(n)) {
		return 0
	}
	return c.count(n, limit, "map")
}

// Array reads the header of an array of at most limit values.
func (c *Cursor) Array(limit int) int {
	code := c.peek()
	if !msgpcode.IsFixedArray(code) && code != msgpcode.Array16 && code != msgpcode.Array32 {
		c.wrong("an array", code)
		return 0
	}
	start := c.Pos()
	n, err := c.d.DecodeArrayLen()
	if !c.check(err, start, headerLen(n)) {
		return 0
	}
	return c.count(n, limit, "array")
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
	if !msgpcode.IsFixedString(code) && code != msgpcode.Str8 && code != msgpcode.Str16 && code != msgpcode.Str32 {
		c.wrong("a string", code)
		return nil
	}
	return c.bytes(limit, 32)
}

// Bin reads bytes, at most limit. The result is a part of the input.
func (c *Cursor) Bin(limit int) []byte {
	code := c.peek()
	if !msgpcode.IsBin(code) {
		c.wrong("bytes", code)
		return nil
	}
	return c.bytes(limit, 0)
}

func (c *Cursor) bytes(limit, fixed int) []byte {
	start := c.Pos()
	n, err := c.d.DecodeBytesLen()
	want := 5
	switch {
	case n < fixed:
		want = 1
	case n < 1<<8:
		want = 2
	case n < 1<<16:
		want = 3
	}
	if !c.check(err, start, want) {
		return nil
	}
	if n > limit {
		c.Fail(fmt.Errorf("%d bytes: %w of %d", n, ErrLimit, limit))
		return nil
	}
	if n > c.r.Len() {
		c.Fail(ErrShort)
		return nil
	}
	p := c.Pos()
	c.r.Reset(c.b[p+n:])
	return c.b[p : p+n : p+n]
}

// Uint reads a number from 0 to limit.
func (c *Cursor) Uint(limit uint64) uint64 {
	code := c.peek()
	if code > 0x7f && (code < msgpcode.Uint8 || code > msgpcode.Uint64) {
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
	start := c.Pos()
	n, err := c.d.DecodeUint64()
	if !c.check(err, start, uintLen(n)) {
		return 0
	}
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
	if code == msgpcode.Uint64 {
		return int64(c.Uint(1<<63 - 1))
	}
	start := c.Pos()
	n, err := c.d.DecodeInt64()
	want := 1
	switch {
	case n >= 0:
		want = uintLen(uint64(n))
	case n >= -32:
	case n >= -1<<7:
		want = 2
	case n >= -1<<15:
		want = 3
	case n >= -1<<31:
		want = 5
	default:
		want = 9
	}
	if c.check(err, start, want) && c.strict && n >= 0 && code >= msgpcode.Int8 && code <= msgpcode.Int64 {
		c.Fail(ErrCanonical)
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
	v, err := c.d.DecodeBool()
	if err != nil {
		c.Fail(ErrShort)
	}
	return v
}

// IsNil reports whether the next value is nil, and reads it if so.
func (c *Cursor) IsNil() bool {
	if c.peek() != msgpcode.Nil {
		return false
	}
	if err := c.d.DecodeNil(); err != nil {
		c.Fail(ErrShort)
	}
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
	left := c.r.Len()
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
		if _, err := c.d.DecodeFloat64(); err != nil {
			c.Fail(ErrShort)
		}
	default:
		c.wrong("a value", code)
	}
}

// codeName names the type that a code begins, for messages.
func codeName(c byte) string {
	switch {
	case c <= 0x7f, c >= 0xe0, c >= msgpcode.Uint8 && c <= msgpcode.Int64:
		return "a number"
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return "a map"
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		return "an array"
	case msgpcode.IsString(c):
		return "a string"
	case msgpcode.IsBin(c):
		return "bytes"
	case c == msgpcode.Nil:
		return "nil"
	case c == msgpcode.True, c == msgpcode.False:
		return "true or false"
	case c == msgpcode.Float, c == msgpcode.Double:
		return "a float"
	case msgpcode.IsExt(c):
		return "an extension type"
	}
	return fmt.Sprintf("code %#02x", c)
}

// Annotate replaces the error of c, if there is one, by err, which should wrap
// it.
func (c *Cursor) Annotate(err error) {
	if c.err != nil {
		c.err = err
	}
}
