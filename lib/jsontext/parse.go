package jsontext

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"preserve/lib/rec"
	"preserve/lib/wire"
)

// Limits of a line: a record whose bytes are all escaped, and maps in the form
// of arrays.
const (
	maxLine  = 6*rec.MaxRecord + 1<<20
	maxDepth = 3*wire.MaxDepth + 3
)

var errJSON = errors.New("not a record as JSON")

// Lines reads JSON lines as the stream that they stand for. One Read returns
// bytes of one line at most, so that N is the line that the reader is at.
type Lines struct {
	r    *bufio.Reader
	line []byte
	p    parser
	rest []byte // of the record at hand
	N    int
	Err  error // the first, which sticks
}

// NewLines returns the Lines that r holds.
func NewLines(r io.Reader) *Lines { return &Lines{r: bufio.NewReaderSize(r, 256<<10)} }

// Read returns io.ErrUnexpectedEOF if the last line is cut off.
func (l *Lines) Read(b []byte) (int, error) {
	for len(l.rest) == 0 && l.Err == nil {
		l.rest, l.Err = l.next()
	}
	if len(l.rest) == 0 {
		return 0, l.Err
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// next returns the next line's record; nothing for an empty line.
func (l *Lines) next() ([]byte, error) {
	l.line = l.line[:0]
	var err error
	for more := true; more; {
		var part []byte
		part, err = l.r.ReadSlice('\n')
		l.line = append(l.line, part...)
		more = errors.Is(err, bufio.ErrBufferFull)
		if len(l.line) > maxLine {
			return nil, fmt.Errorf("line %d: %w of %d bytes", l.N+1, wire.ErrLimit, maxLine)
		}
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(l.line) > 0 {
		l.N++
	}
	if len(bytes.TrimSpace(l.line)) == 0 {
		return nil, err
	}
	if string(bytes.TrimSpace(l.line)) == "{" && err == nil {
		return nil, fmt.Errorf("line %d: %w: the object goes on in the next line, and must be one line (jq -c writes it so)", l.N, errJSON)
	}
	raw, perr := l.p.record(l.line)
	if perr != nil && err == io.EOF && l.line[0] == '{' {
		return nil, io.ErrUnexpectedEOF
	}
	if perr != nil {
		return nil, fmt.Errorf("line %d: %w", l.N, perr)
	}
	return raw, nil
}

// A parser turns one JSON text into msgpack.
type parser struct {
	s   []byte
	i   int
	err error
	out []*wire.Writer // one for each depth
	buf []byte
}

// record returns the msgpack map that the object s stands for, valid until the
// next call. The keys that every head begins with come first, whatever order a
// program between has brought them into.
func (p *parser) record(s []byte) ([]byte, error) {
	p.s, p.i, p.err = s, 0, nil
	if p.skip(); p.i < len(p.s) && p.s[p.i] != '{' {
		p.fail("a line must be an object")
	}
	w, sub := p.writer(0), p.writer(1)
	type span struct{ from, to int }
	var first, rest []span
	p.expect('{')
	n := p.items('}', func() {
		at := sub.Len()
		key := p.pair(sub, 1, placeOf)
		if key == "t" || key == "preserve" {
			first = append(first, span{at, sub.Len()})
		} else {
			rest = append(rest, span{at, sub.Len()})
		}
		if len(first) == 2 && key == "t" {
			first[0], first[1] = first[1], first[0]
		}
	})
	w.Map(n)
	for _, part := range append(first, rest...) {
		w.Raw(sub.Bytes()[part.from:part.to])
	}
	if p.skip(); p.err == nil && p.i < len(p.s) {
		p.fail("text behind the object")
	}
	return w.Bytes(), p.err
}

func (p *parser) writer(depth int) *wire.Writer {
	for len(p.out) <= depth {
		p.out = append(p.out, wire.NewWriter())
	}
	p.out[depth].Reset()
	return p.out[depth]
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: byte %d: %s", errJSON, p.i+1, fmt.Sprintf(format, args...))
	}
}

// skip passes over white space.
func (p *parser) skip() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

// next takes c, if it comes next.
func (p *parser) next(c byte) bool {
	if p.skip(); p.err == nil && p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) expect(c byte) {
	if !p.next(c) {
		p.fail("%q is expected", c)
	}
}

// items calls item for each part of a list up to the closing end.
func (p *parser) items(end byte, item func()) (n int) {
	if p.next(end) {
		return 0
	}
	for p.err == nil {
		item()
		n++
		if !p.next(',') {
			p.expect(end)
			break
		}
	}
	return n
}

// object writes a map to w.
func (p *parser) object(w *wire.Writer, depth int, at place) {
	sub := p.writer(depth + 1)
	p.expect('{')
	n := p.items('}', func() { p.pair(sub, depth+1, func(string) place { return at }) })
	w.Map(n)
	w.Raw(sub.Bytes())
}

// pair writes a key and its value to w and returns the key.
func (p *parser) pair(w *wire.Writer, depth int, at func(key string) place) string {
	p.skip()
	key := string(p.str())
	w.Str(key)
	p.expect(':')
	p.value(w, at(key), depth)
	return key
}

// value writes one value to w.
func (p *parser) value(w *wire.Writer, at place, depth int) {
	p.skip()
	switch {
	case p.err != nil:
	case p.i == len(p.s):
		p.fail("a value is expected")
	case depth > maxDepth:
		p.fail("nested too deeply")
	case p.s[p.i] == '{':
		from := p.i
		if p.tagged(w, at, depth) {
			return
		}
		p.i = from
		p.object(w, depth, at)
	case p.s[p.i] == '[':
		p.i++
		sub := p.writer(depth + 1)
		n := p.items(']', func() { p.value(sub, at, depth+1) })
		w.Array(n)
		w.Raw(sub.Bytes())
	case p.s[p.i] == '"':
		if b := p.str(); at == bytePlace {
			w.Bin(b)
		} else {
			w.Str(string(b))
		}
	case p.word("null"):
		w.Nil()
	case p.word("true"):
		w.Bool(true)
	case p.word("false"):
		w.Bool(false)
	default:
		p.number(w, at)
	}
}

func (p *parser) word(s string) bool {
	if bytes.HasPrefix(p.s[p.i:], []byte(s)) {
		p.i += len(s)
		return true
	}
	return false
}

// tagged writes the value that an object with one of the tags stands for. If
// the object at p.i is none it returns false, and may have moved on.
func (p *parser) tagged(w *wire.Writer, at place, depth int) bool {
	p.i++
	if p.skip(); p.i == len(p.s) || p.s[p.i] != '"' {
		return false
	}
	tag := string(p.str())
	if p.err != nil || !tags[tag] {
		return false
	}
	p.expect(':')
	p.skip()
	if tag == "map" {
		sub := p.writer(depth + 1)
		p.expect('[')
		n := p.items(']', func() {
			p.expect('[')
			p.value(sub, at, depth+1)
			p.expect(',')
			p.value(sub, at, depth+1)
			p.expect(']')
		})
		w.Map(n)
		w.Raw(sub.Bytes())
		p.expect('}')
		return true
	}
	from := p.i
	if p.i == len(p.s) || p.s[p.i] != '"' {
		p.skipValue(depth)
		if p.next(',') {
			return false
		}
		p.i = from
		p.fail("%q needs a string; an object with this key alone is written {\"map\":[[key,value]]}", tag)
		return true
	}
	text := p.str()
	if p.next(',') {
		return false
	}
	if p.expect('}'); p.err == nil {
		p.stand(w, tag, text)
	}
	return true
}

// skipValue passes over a value that is read again later.
func (p *parser) skipValue(depth int) { p.value(p.writer(depth+1), freePlace, depth+2) }

// stand writes what a tag and its text stand for.
func (p *parser) stand(w *wire.Writer, tag string, text []byte) {
	var err error
	switch tag {
	case "b64", "str":
		var b []byte
		if b, err = base64.StdEncoding.Strict().AppendDecode(nil, text); tag == "b64" {
			w.Bin(b)
		} else {
			w.Str(string(b))
		}
	case "int":
		err = integer(w, string(text))
	default:
		err = float(w, string(text), tag == "float32")
	}
	if err != nil {
		p.fail("%q: %s", tag, err)
	}
}

func integer(w *wire.Writer, s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		w.Int(n)
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil {
		w.Uint(n)
	}
	return err
}

func float(w *wire.Writer, s string, single bool) error {
	size, code := 64, byte(0xcb)
	if single {
		size, code = 32, 0xca
	}
	var bits uint64
	var err error
	if hex, ok := strings.CutPrefix(s, "0x"); ok && len(hex) == size/4 {
		bits, err = strconv.ParseUint(hex, 16, size)
	} else {
		var f float64
		f, err = strconv.ParseFloat(s, size)
		bits = math.Float64bits(f)
		if single {
			bits = uint64(math.Float32bits(float32(f)))
		}
	}
	b := binary.BigEndian.AppendUint64([]byte{code}, bits)
	if single {
		b = binary.BigEndian.AppendUint32([]byte{code}, uint32(bits))
	}
	w.Raw(b)
	return err
}

// number writes a number: an integer if it is written as one. In a record's own
// keys, which hold no floats, 1e3 and 2.0 are integers too: programs that count
// in floats write them so.
func (p *parser) number(w *wire.Writer, at place) {
	from := p.i
	for p.i < len(p.s) && strings.IndexByte("+-.0123456789eE", p.s[p.i]) >= 0 {
		p.i++
	}
	s := string(p.s[from:p.i])
	if !validNumber(s) {
		p.i = from
		p.fail("a value is expected")
		return
	}
	err := integer(w, s)
	if err != nil && strings.ContainsAny(s, ".eE") {
		var f float64
		f, err = strconv.ParseFloat(s, 64)
		switch {
		case err != nil:
		case at == freePlace:
			err = float(w, s, false)
		case f != math.Trunc(f) || math.Abs(f) > maxFloatInt:
			err = errors.New("not an integer, or one that has lost digits")
		default:
			w.Int(int64(f))
		}
	}
	if err != nil {
		p.fail("number %s: %s", s, err)
	}
}

// validNumber reports whether s is a number as JSON has them.
func validNumber(s string) bool {
	digits := func() bool {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	s = strings.TrimPrefix(s, "-")
	if strings.HasPrefix(s, "0") {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if strings.HasPrefix(s, ".") {
		if s = s[1:]; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		return digits() && s == ""
	}
	return s == ""
}

// str takes a string and returns its bytes, valid until the next one.
func (p *parser) str() []byte {
	p.expect('"')
	p.buf = p.buf[:0]
	for p.err == nil {
		from := p.i
		for p.i < len(p.s) && p.s[p.i] >= 0x20 && p.s[p.i] != '"' && p.s[p.i] != '\\' {
			p.i++
		}
		part := p.s[from:p.i]
		switch {
		case p.i == len(p.s):
			p.fail("a string without end")
		case p.s[p.i] < 0x20:
			p.fail("a control character in a string must be escaped")
		case !utf8.Valid(part):
			p.fail("a string that is not UTF-8 (bytes are written {\"b64\":\"…\"})")
		}
		if p.err != nil {
			break
		}
		p.buf = append(p.buf, part...)
		p.i++
		if p.s[p.i-1] == '"' {
			break
		}
		p.escape()
	}
	return p.buf
}

// escape takes what follows a backslash.
func (p *parser) escape() {
	if p.i == len(p.s) {
		p.fail("a string without end")
		return
	}
	c := p.s[p.i]
	p.i++
	if n := strings.IndexByte(`"\/bfnrt`, c); n >= 0 {
		p.buf = append(p.buf, "\"\\/\b\f\n\r\t"[n])
		return
	}
	if c != 'u' {
		p.fail("an unknown escape")
		return
	}
	r := p.hex()
	if utf16.IsSurrogate(r) {
		var low rune = -1
		if p.word(`\u`) {
			low = p.hex()
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			p.fail("half of a surrogate pair, which is no text (bytes are written {\"b64\":\"…\"})")
			return
		}
	}
	p.buf = utf8.AppendRune(p.buf, r)
}

func (p *parser) hex() rune {
	if p.i+4 > len(p.s) {
		p.i = len(p.s)
		p.fail("a string without end")
		return 0
	}
	var n rune
	for _, c := range p.s[p.i : p.i+4] {
		digit := strings.IndexByte("0123456789abcdef", c|0x20)
		if digit < 0 || c < '0' {
			p.fail("an escape that is not four hex digits")
		}
		n = n<<4 | rune(digit)
	}
	p.i += 4
	return n
}
