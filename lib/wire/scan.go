package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// MaxDepth bounds how deeply maps and arrays nest.
const MaxDepth = 16

// A Scanner takes whole msgpack values from a byte stream.
type Scanner struct {
	r *bufio.Reader
	// Grow returns a slice of at least n bytes that begins with the bytes of
	// b; nil means append. It lets the caller choose where large values live.
	Grow func(b []byte, n int) []byte
	off  int64
}

// NewScanner returns a Scanner over r.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{r: bufio.NewReaderSize(r, 64<<10)}
}

// Offset returns the number of bytes taken so far.
func (s *Scanner) Offset() int64 { return s.off }

// Peek returns up to n of the next bytes without taking them.
func (s *Scanner) Peek(n int) []byte {
	b, _ := s.r.Peek(n)
	return b
}

// Next appends the next value to buf, which may be nil, and returns the result.
// The error is io.EOF if the stream ends before the value, io.ErrUnexpectedEOF
// if it ends inside, ErrLimit if the value takes more than limit bytes or nests
// too deeply, ErrType for extension types. Memory is bought as bytes arrive,
// never on the word of a length alone.
func (s *Scanner) Next(buf []byte, limit int) ([]byte, error) {
	start := len(buf)
	if p, _ := s.r.Peek(s.r.Buffered()); len(p) > 0 {
		if n := whole(p, min(limit, cap(buf)-start)); n > 0 {
			buf = append(buf, p[:n]...)
			_, err := s.r.Discard(n)
			s.off += int64(n)
			return buf, err
		}
	}
	// open counts the values still to come; a map of n pairs brings 2n. The
	// stack of counts gives the depth.
	var stack [MaxDepth + 1]uint64
	depth := 0
	stack[0] = 1
	for {
		for stack[depth] == 0 {
			if depth == 0 {
				return buf, nil
			}
			depth--
		}
		stack[depth]--
		c, err := s.r.ReadByte()
		if err != nil {
			if err == io.EOF && len(buf) > start {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
		s.off++
		buf = append(buf, c)
		size, payload, children, err := shape(c)
		if err != nil {
			return buf, err
		}
		if size > 0 {
			if buf, err = s.take(buf, size, start+limit); err != nil {
				return buf, err
			}
			var n uint64
			for _, d := range buf[len(buf)-size:] {
				n = n<<8 | uint64(d)
			}
			payload *= n
			children *= n
		}
		if payload > 0 {
			if payload > uint64(limit) {
				return buf, tooLong(limit)
			}
			if buf, err = s.take(buf, int(payload), start+limit); err != nil {
				return buf, err
			}
		}
		if len(buf)-start > limit {
			return buf, tooLong(limit)
		}
		if children > 0 {
			if children > uint64(limit) {
				return buf, tooLong(limit)
			}
			if depth == MaxDepth {
				return buf, fmt.Errorf("nesting: %w of %d", ErrLimit, MaxDepth)
			}
			depth++
			stack[depth] = children
		}
	}
}

func tooLong(limit int) error { return fmt.Errorf("record: %w of %d bytes", ErrLimit, limit) }

// step is how much memory a length alone can make us buy.
const step = 1 << 20

// whole returns the length of the value that p begins with, if all of it is in p, it
// takes at most limit bytes, and nothing is wrong with it; else 0. Most values are
// so, and then looking at them where they lie costs half of taking them bit by bit.
func whole(p []byte, limit int) int {
	p = p[:min(len(p), max(limit, 0))]
	var stack [MaxDepth + 1]uint64
	depth, at := 0, 0
	stack[0] = 1
	for {
		for stack[depth] == 0 {
			if depth == 0 {
				return at
			}
			depth--
		}
		stack[depth]--
		if at == len(p) {
			return 0
		}
		size, payload, children, err := shape(p[at])
		at++
		if err != nil || size > len(p)-at {
			return 0
		}
		if size > 0 {
			var n uint64
			for _, d := range p[at : at+size] {
				n = n<<8 | uint64(d)
			}
			at += size
			payload *= n
			children *= n
		}
		if payload > uint64(len(p)-at) || children > uint64(limit) || children > 0 && depth == MaxDepth {
			return 0
		}
		at += int(payload)
		if children > 0 {
			depth++
			stack[depth] = children
		}
	}
}

// take appends n bytes of the stream to buf.
func (s *Scanner) take(buf []byte, n, limit int) ([]byte, error) {
	if n > limit-len(buf) {
		return buf, tooLong(limit)
	}
	for n > 0 {
		part := min(n, step)
		at := len(buf)
		if cap(buf) < at+part {
			// The first step of a large value buys it all once its first
			// part is here; until then only a step's worth.
			want := at + part
			if at > step {
				want = at + n
			}
			if s.Grow != nil {
				buf = s.Grow(buf, want)[:at]
			} else {
				buf = append(make([]byte, 0, want), buf...)
			}
		}
		part = min(n, max(part, cap(buf)-at))
		buf = buf[:at+part]
		got, err := io.ReadFull(s.r, buf[at:])
		s.off += int64(got)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf[:at+got], err
		}
		n -= part
	}
	return buf, nil
}

// shape says what follows a code: size bytes of a length by which payload and
// children are to be multiplied, or with size 0 payload bytes and children
// values.
func shape(c byte) (size int, payload, children uint64, err error) {
	switch {
	case c <= 0x7f, c >= 0xe0, c == msgpcode.Nil, c == msgpcode.True, c == msgpcode.False:
		return 0, 0, 0, nil
	case msgpcode.IsFixedMap(c):
		return 0, 0, 2 * uint64(c&msgpcode.FixedMapMask), nil
	case msgpcode.IsFixedArray(c):
		return 0, 0, uint64(c & msgpcode.FixedArrayMask), nil
	case msgpcode.IsFixedString(c):
		return 0, uint64(c & msgpcode.FixedStrMask), 0, nil
	}
	switch c {
	case msgpcode.Bin8, msgpcode.Str8:
		return 1, 1, 0, nil
	case msgpcode.Bin16, msgpcode.Str16:
		return 2, 1, 0, nil
	case msgpcode.Bin32, msgpcode.Str32:
		return 4, 1, 0, nil
	case msgpcode.Array16:
		return 2, 0, 1, nil
	case msgpcode.Array32:
		return 4, 0, 1, nil
	case msgpcode.Map16:
		return 2, 0, 2, nil
	case msgpcode.Map32:
		return 4, 0, 2, nil
	case msgpcode.Uint8, msgpcode.Int8:
		return 0, 1, 0, nil
	case msgpcode.Uint16, msgpcode.Int16:
		return 0, 2, 0, nil
	case msgpcode.Uint32, msgpcode.Int32, msgpcode.Float:
		return 0, 4, 0, nil
	case msgpcode.Uint64, msgpcode.Int64, msgpcode.Double:
		return 0, 8, 0, nil
	}
	return 0, 0, 0, fmt.Errorf("%w: %s", ErrType, codeName(c))
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
