// Package jsontext is msgpack as JSON text, and back, without loss: bytes that are UTF-8 are
// strings, others {"b64": …}; what JSON does not have is an object with one of a few tags. No
// character in it plays tricks on a terminal. docs/man/pv-json.md describes the form.
package jsontext

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"preserve/lib/visible"
	"preserve/lib/wire"
)

// byteKeys are the keys of records whose values hold bytes, not words.
var byteKeys = map[string]bool{
	"path": true, "target": true, "leader": true, "xattrs": true, "omitted": true, "ext": true, // entry
	"roots": true, "base": true, "nonce": true, // head
	"data":  true,                 // chunk, session, blob
	"users": true, "groups": true, // names, end
	"id": true, "sid": true, "refs": true, "sig": true, // blob, stored, missing
	"rows":      true, // toc
	"unchanged": true, // end
}

// A place says how strings are meant.
type place int

const (
	wordPlace place = iota // a string is one of our own words
	bytePlace              // a string is bytes
	freePlace              // the value of an "x-" key: a string is a str
)

func placeOf(key string) place {
	switch {
	case byteKeys[key]:
		return bytePlace
	case strings.HasPrefix(key, "x-"):
		return freePlace
	}
	return wordPlace
}

// tags are the keys of the objects that stand for what JSON does not have.
var tags = map[string]bool{"b64": true, "str": true, "int": true, "float": true, "float32": true, "map": true}

// maxFloatInt is the largest number up to which every integer is a float.
const maxFloatInt = 1 << 53

// A Printer writes records as lines.
type Printer struct {
	out *bufio.Writer
	cur []*wire.Cursor // one for each depth
	num []byte
}

// NewPrinter returns a Printer to out.
func NewPrinter(out *bufio.Writer) *Printer { return &Printer{out: out} }

// Free writes the value of a key that is foreign to us, as Line would. Errors of writing come
// when out is flushed.
func (p *Printer) Free(raw []byte) error { return p.value(raw, freePlace, 1) }

// Line writes a record and a newline. Errors of writing come with the newline.
func (p *Printer) Line(raw []byte) error {
	c := p.cursor(raw, 0)
	n := c.Map(len(raw))
	_ = p.out.WriteByte('{')
	for i := range n {
		if i > 0 {
			_ = p.out.WriteByte(',')
		}
		key := c.Str(len(raw))
		p.text(key)
		_ = p.out.WriteByte(':')
		if err := p.value(c.Raw(), placeOf(string(key)), 1); err != nil {
			return err
		}
	}
	if err := c.Finish(); err != nil {
		return err
	}
	_, err := p.out.WriteString("}\n")
	return err
}

// cursor returns the cursor of a depth, over raw. Deeper ones are used while it
// is.
func (p *Printer) cursor(raw []byte, depth int) *wire.Cursor {
	for len(p.cur) <= depth {
		p.cur = append(p.cur, wire.NewCursor(nil, false))
	}
	p.cur[depth].Reset(raw, false)
	return p.cur[depth]
}

// value writes one msgpack value, which is whole.
func (p *Printer) value(raw []byte, at place, depth int) error {
	if len(raw) == 0 {
		return wire.ErrShort
	}
	c := p.cursor(raw, depth)
	switch code := raw[0]; {
	case code == 0xc0:
		_, _ = p.out.WriteString("null")
	case code == 0xc2:
		_, _ = p.out.WriteString("false")
	case code == 0xc3:
		_, _ = p.out.WriteString("true")
	case code <= 0x7f, code >= 0xcc && code <= 0xcf:
		n := c.Uint(math.MaxUint64)
		p.integer(strconv.AppendUint(p.num[:0], n, 10), n > maxFloatInt)
	case code >= 0xe0, code >= 0xd0 && code <= 0xd3:
		n := c.Int()
		p.integer(strconv.AppendInt(p.num[:0], n, 10), n > maxFloatInt || n < -maxFloatInt)
	case code == 0xca, code == 0xcb:
		p.float(raw)
	case code >= 0xc4 && code <= 0xc6:
		b := c.Bin(len(raw))
		if at == bytePlace && utf8.Valid(b) {
			p.text(b)
		} else {
			p.base64("b64", b)
		}
	case code >= 0xa0 && code <= 0xbf, code >= 0xd9 && code <= 0xdb:
		s := c.Str(len(raw))
		if at != bytePlace && utf8.Valid(s) {
			p.text(s)
		} else {
			p.base64("str", s)
		}
	case code >= 0x90 && code <= 0x9f, code == 0xdc, code == 0xdd:
		_ = p.out.WriteByte('[')
		for i := range c.Array(len(raw)) {
			if i > 0 {
				_ = p.out.WriteByte(',')
			}
			if err := p.value(c.Raw(), at, depth+1); err != nil {
				return err
			}
		}
		_ = p.out.WriteByte(']')
	default:
		return p.object(c, raw, at, depth)
	}
	return c.Err()
}

// object writes a map: as an object if the way back cannot mistake it.
func (p *Printer) object(c *wire.Cursor, raw []byte, at place, depth int) error {
	plain := true
	n := c.Map(len(raw))
	seen := make(map[string]bool, n)
	for range n {
		key := c.Raw()
		if c.Raw(); c.Err() != nil {
			return c.Err()
		}
		word, ok := strOf(key)
		if plain = plain && ok && !seen[word] && !(n == 1 && tags[word]); !plain {
			break
		}
		seen[word] = true
	}
	open, between, end := "{", ":", "}"
	if !plain {
		open, between, end = `{"map":[`, ",", "]}"
	}
	c.Reset(raw, false)
	c.Map(len(raw))
	_, _ = p.out.WriteString(open)
	for i := range n {
		if i > 0 {
			_ = p.out.WriteByte(',')
		}
		key, value := c.Raw(), c.Raw()
		if !plain {
			_ = p.out.WriteByte('[')
		}
		if err := p.value(key, at, depth+1); err != nil {
			return err
		}
		_, _ = p.out.WriteString(between)
		if err := p.value(value, at, depth+1); err != nil {
			return err
		}
		if !plain {
			_ = p.out.WriteByte(']')
		}
	}
	_, _ = p.out.WriteString(end)
	return c.Err()
}

// strOf returns the text of a msgpack value that is a str in UTF-8.
func strOf(raw []byte) (string, bool) {
	c := wire.NewCursor(raw, false)
	s := c.Str(len(raw))
	return string(s), c.Finish() == nil && utf8.Valid(s)
}

func (p *Printer) integer(digits []byte, large bool) {
	p.num = digits
	if large {
		_, _ = fmt.Fprintf(p.out, `{"int":"%s"}`, digits)
		return
	}
	_, _ = p.out.Write(digits)
}

// float writes the float that raw, a code and 4 or 8 bytes, is.
func (p *Printer) float(raw []byte) {
	name, size := "float", 64
	var bits uint64
	var f float64
	if raw[0] == 0xca {
		name, size = "float32", 32
		bits = uint64(binary.BigEndian.Uint32(raw[1:]))
		f = float64(math.Float32frombits(uint32(bits)))
	} else {
		bits = binary.BigEndian.Uint64(raw[1:])
		f = math.Float64frombits(bits)
	}
	text := strconv.FormatFloat(f, 'g', -1, size)
	if f != f {
		text = fmt.Sprintf("0x%0*x", size/4, bits)
	}
	_, _ = fmt.Fprintf(p.out, `{"%s":"%s"}`, name, text)
}

func (p *Printer) base64(tag string, b []byte) {
	_, _ = fmt.Fprintf(p.out, `{"%s":"`, tag)
	e := base64.NewEncoder(base64.StdEncoding, p.out)
	_, _ = e.Write(b)
	_ = e.Close()
	_, _ = p.out.WriteString(`"}`)
}

// text writes a JSON string, without what could play tricks on a terminal.
func (p *Printer) text(s []byte) {
	_ = p.out.WriteByte('"')
	from := 0
	for i := 0; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(s[i:])
		}
		if visible.Rune(r) && r != '"' && r != '\\' {
			i += size
			continue
		}
		_, _ = p.out.Write(s[from:i])
		switch r {
		case '"', '\\':
			_, _ = p.out.Write([]byte{'\\', byte(r)})
		case '\n':
			_, _ = p.out.WriteString(`\n`)
		case '\t':
			_, _ = p.out.WriteString(`\t`)
		default:
			for _, u := range utf16.AppendRune(nil, r) {
				_, _ = fmt.Fprintf(p.out, `\u%04x`, u)
			}
		}
		i += size
		from = i
	}
	_, _ = p.out.Write(s[from:])
	_ = p.out.WriteByte('"')
}
