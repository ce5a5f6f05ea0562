package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
)

// zeros writes n of them.
func zeros(w io.Writer, n int) error {
	buf := make([]byte, 64<<10)
	for ; n > 0; n -= len(buf) {
		if _, err := w.Write(buf[:min(n, len(buf))]); err != nil {
			return err
		}
	}
	return nil
}

// counters writes n bytes of numbers that follow each other, 8 bytes each.
func counters(w io.Writer, round uint64, n int) error {
	buf := make([]byte, 64<<10)
	for at := round << 40; n > 0; n -= len(buf) {
		for i := 0; i < len(buf); i += 8 {
			binary.BigEndian.PutUint64(buf[i:], at)
			at++
		}
		if _, err := w.Write(buf[:min(n, len(buf))]); err != nil {
			return err
		}
	}
	return nil
}

var words = [16]string{"the ", "backup ", "of ", "a ", "file ", "and ", "its ", "name ",
	"is ", "not ", "what ", "it ", "was ", "yesterday ", "again ", "but\n"}

// text writes at least n bytes of few words in no order.
func text(w io.Writer, round uint64, n int) error {
	r := rand.New(rand.NewPCG(round, 1))
	var buf []byte
	for n > 0 {
		buf = buf[:0]
		for len(buf) < 64<<10 {
			for v, k := r.Uint64(), 0; k < 16; k++ {
				buf = append(buf, words[v>>(4*k)&15]...)
			}
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		n -= len(buf)
	}
	return nil
}

// smallPlain is the content of small blob number i: zeros, a line of text or a
// number, too short for zstd to make it shorter, so that it is sealed as it is.
func smallPlain(round uint64, i int) []byte {
	switch {
	case i%3 == 0 && i/3 < 4096 && round == 0:
		return make([]byte, i/3+1)
	case i%3 == 1:
		return fmt.Appendf(nil, "line %d: not\n", round<<32+uint64(i))
	default:
		return binary.BigEndian.AppendUint64(nil, round<<32+uint64(i))
	}
}

// small writes a content stream (docs/format/streams.md) of n files, each with a
// chunk of its own, so that each becomes a blob of its own.
func small(w io.Writer, round uint64, n int) error {
	m := &packer{w: w}
	m.fields(8)
	m.text("t", "head")
	m.number("preserve", 1)
	m.text("kind", "content")
	m.text("host", "")
	m.text("user", "")
	m.time("time")
	m.str("roots")
	m.raw(0x91, 0x92)
	m.bin([]byte("/"))
	m.bin([]byte("f"))
	m.str("chunker")
	m.raw(0x94)
	m.str("gear1")
	m.uint(262144)
	m.uint(1048576)
	m.uint(4194304)

	m.fields(7)
	m.entry("f", "dir")

	total := 0
	const perPage = 1000
	for i := range n {
		plain := smallPlain(round, i)
		total += len(plain)
		m.fields(3)
		m.text("t", "chunk")
		m.number("n", i%perPage)
		m.str("data")
		m.bin(plain)
		m.fields(9)
		m.entry(fmt.Sprintf("f/%08d", i), "file")
		m.number("size", len(plain))
		m.str("ext")
		m.raw(0x91, 0x93)
		m.uint(i % perPage)
		m.uint(0)
		m.uint(len(plain))
		if i%perPage == perPage-1 || i == n-1 {
			m.fields(1)
			m.text("t", "cut")
		}
	}
	m.fields(8)
	m.text("t", "end")
	m.number("status", 0)
	m.number("entries", n+1)
	m.number("bytes", total)
	m.number("warnings", 0)
	for _, k := range []string{"warned", "users", "groups"} {
		m.str(k)
		m.raw(0x90)
	}
	return m.err
}

// A packer writes msgpack in its shortest form.
type packer struct {
	w   io.Writer
	err error
}

func (m *packer) raw(b ...byte) {
	if m.err == nil {
		_, m.err = m.w.Write(b)
	}
}

func (m *packer) fields(n int) { m.raw(0x80 + byte(n)) }

func (m *packer) str(s string) { // of at most 31 bytes
	m.raw(0xa0 + byte(len(s)))
	m.raw([]byte(s)...)
}

func (m *packer) bin(b []byte) {
	if len(b) < 1<<8 {
		m.raw(0xc4, byte(len(b)))
	} else {
		m.raw(0xc5, byte(len(b)>>8), byte(len(b)))
	}
	m.raw(b...)
}

func (m *packer) uint(n int) {
	switch {
	case n < 1<<7:
		m.raw(byte(n))
	case n < 1<<8:
		m.raw(0xcc, byte(n))
	case n < 1<<16:
		m.raw(binary.BigEndian.AppendUint16([]byte{0xcd}, uint16(n))...)
	default:
		m.raw(binary.BigEndian.AppendUint32([]byte{0xce}, uint32(n))...)
	}
}

func (m *packer) text(key, value string) { m.str(key); m.str(value) }

func (m *packer) number(key string, n int) { m.str(key); m.uint(n) }

func (m *packer) time(key string) { m.str(key); m.raw(0x92, 0, 0) }

func (m *packer) entry(path, kind string) {
	m.text("t", "entry")
	m.str("path")
	m.bin([]byte(path))
	m.text("type", kind)
	m.number("mode", 0o755)
	m.number("uid", 0)
	m.number("gid", 0)
	m.time("mtime")
}
