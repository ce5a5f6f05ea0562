// Package wire is msgpack as Preserve writes it: a Writer that always takes the
// shortest form, a Cursor that reads one value from memory and can insist on
// that form, and a Scanner that takes one whole value from a pipe without ever
// buying more memory than its limit.
//
// It is the only package that imports the msgpack library, and knows no record.
// Bytes are bin, our own words are str; extension types are refused.
package wire

import (
	"errors"

	"github.com/vmihailenco/msgpack/v5"
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
