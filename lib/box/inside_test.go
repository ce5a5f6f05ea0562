package box

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"preserve/lib/id"
)

// names are the errors by the names that the vectors give them.
var errorNames = map[string]error{
	"": nil, "ErrLimit": ErrLimit, "ErrKind": ErrKind, "ErrRefs": ErrRefs, "ErrSession": ErrSession,
	"ErrNoSession": ErrNoSession, "ErrSealed": ErrSealed, "ErrPadding": ErrPadding, "ErrCodec": ErrCodec, "ErrID": ErrID,
	"ErrCert": ErrCert, "ErrSignature": ErrSignature,
}

// sealInside seals any bytes as the inside of a blob: what a hostile holder of a
// write or read key can do.
func sealInside(t testing.TB, w *Sealer, kind uint8, i id.ID, refs, inside []byte) []byte {
	t.Helper()
	aead, err := w.session.aead(kind, w.sid, i)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, inside, headOf(kind, refs))
}

// inside returns codec ‖ len ‖ body ‖ zeros.
func inside(codec byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{codec}, uint32(len(body)))
	b = append(b, body...)
	return append(b, make([]byte, padded(len(b))-len(b))...)
}

// frame returns a zstd frame (RFC 8878) of blocks whose content is claimed to
// have size bytes.
func frame(size uint64, blocks ...[]byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0} // magic, one segment, size in 8 bytes
	b = binary.LittleEndian.AppendUint64(b, size)
	return append(b, bytes.Join(blocks, nil)...)
}

// block returns a block header, and what follows it.
func block(last bool, kind, size int, body ...byte) []byte {
	h := size<<3 | kind<<1
	if last {
		h |= 1
	}
	return append([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, body...)
}

const rawBlock, rleBlock, zipBlock = 0, 1, 2

// zeros returns the blocks of n zeros.
func zeros(n int) (b []byte) {
	for ; n > 128<<10; n -= 128 << 10 {
		b = append(b, block(false, rleBlock, 128<<10, 0)...)
	}
	return append(b, block(true, rleBlock, n, 0)...)
}

type insideCase struct {
	name, err string
	kind      uint8
	plain     []byte // what the id names
	inside    []byte
}

// hostile are insides that a holder of a write or read key can seal; those without an
// error are not what Seal writes, but mean something.
func hostile() []insideCase {
	hello := []byte("hello")
	helloFrame := frame(5, block(true, rawBlock, 5, hello...))
	small := frame(300, block(true, rleBlock, 300, 'a'))
	spare := func(b []byte, at int, c byte) []byte { b = slices.Clone(b); b[at] = c; return b }
	seven := inside(codecStored, bytes.Repeat([]byte{7}, 60)) // padded from 65 to 68
	return []insideCase{
		{"a zstd frame that is longer than its content", "", 0, hello, inside(codecZstd, helloFrame)},
		{"a zstd frame of runs", "", 0, bytes.Repeat([]byte{'a'}, 300), inside(codecZstd, small)},
		{"stored what zstd would shorten", "", 0, make([]byte, 200), inside(codecStored, make([]byte, 200))},
		{"as many zeros as data may have", "", 0, make([]byte, MaxData), inside(codecZstd, frame(MaxData, zeros(MaxData)))},
		{"another plaintext than the id names", "ErrID", 0, []byte("hellp"), inside(codecStored, hello)},
		{"a shorter one", "ErrID", 0, hello, inside(codecStored, hello[:4])},
		{"the plaintext of a page", "ErrID", 1, []byte("hellp"), inside(codecStored, hello)},
		{"codec 2", "ErrCodec", 0, hello, inside(2, hello)},
		{"codec 255", "ErrCodec", 0, hello, inside(255, hello)},
		{"no inside", "ErrSealed", 0, nil, nil},
		{"four bytes inside", "ErrSealed", 0, nil, make([]byte, 4)},
		{"a length beyond the end", "ErrPadding", 0, hello, spare(inside(codecStored, hello), 4, 6)},
		{"a length of 4 GiB", "ErrPadding", 0, hello, append([]byte{0, 255, 255, 255, 255}, make([]byte, 11)...)},
		{"padding not zero at its end", "ErrPadding", 0, bytes.Repeat([]byte{7}, 60), spare(seven, len(seven)-1, 1)},
		{"padding not zero at its beginning", "ErrPadding", 0, bytes.Repeat([]byte{7}, 60), spare(seven, 65, 1)},
		{"too little padding", "ErrPadding", 0, bytes.Repeat([]byte{7}, 60), seven[:66]},
		{"no padding", "ErrPadding", 0, bytes.Repeat([]byte{7}, 60), seven[:65]},
		{"too much padding", "ErrPadding", 0, hello, append(inside(codecStored, hello), 0, 0)},
		{"a page's worth of padding", "ErrPadding", 0, hello, append(inside(codecStored, hello), make([]byte, 4096)...)},
		{"an empty zstd frame, cut away", "ErrCodec", 0, nil, inside(codecZstd, nil)},
		{"not zstd", "ErrCodec", 0, hello, inside(codecZstd, []byte("hello, this is not zstd"))},
		{"a byte behind the frame", "ErrCodec", 0, hello, inside(codecZstd, append(slices.Clone(helloFrame), 0))},
		{"two frames", "ErrCodec", 0, append(hello, hello...), inside(codecZstd, append(slices.Clone(helloFrame), helloFrame...))},
		{"an empty frame behind the frame", "ErrCodec", 0, hello, inside(codecZstd, append(slices.Clone(helloFrame), frame(0, block(true, rawBlock, 0))...))},
		{"a skippable frame", "ErrCodec", 0, nil, inside(codecZstd, []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3})},
		{"a skippable frame before the frame", "ErrCodec", 0, hello, inside(codecZstd, append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, helloFrame...))},
		{"a skippable frame behind the frame", "ErrCodec", 0, hello, inside(codecZstd, append(slices.Clone(helloFrame), 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0))},
		{"the frame cut short", "ErrCodec", 0, hello, inside(codecZstd, helloFrame[:len(helloFrame)-1])},
		{"the frame without its last block", "ErrCodec", 0, hello, inside(codecZstd, frame(5, block(false, rawBlock, 5, hello...)))},
		{"a frame that does not tell its size", "ErrCodec", 0, hello, inside(codecZstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50}, block(true, rawBlock, 5, hello...)...))},
		{"a frame with a dictionary", "ErrCodec", 0, hello, inside(codecZstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 5}, block(true, rawBlock, 5, hello...)...))},
		{"a frame with the reserved bit", "ErrCodec", 0, hello, inside(codecZstd, spare(helloFrame, 4, 0xe8))},
		{"a block of the reserved type", "ErrCodec", 0, hello, inside(codecZstd, frame(5, block(true, 3, 5, hello...)))},
		{"more content than the frame says", "ErrCodec", 0, make([]byte, 6), inside(codecZstd, frame(5, zeros(6)))},
		{"less content than the frame says", "ErrCodec", 0, make([]byte, 4), inside(codecZstd, frame(5, zeros(4)))},
		{"16 MiB behind a frame that says 5", "ErrCodec", 0, make([]byte, 5), inside(codecZstd, frame(5, zeros(MaxData)))},
		{"a frame that says 1 TiB", "ErrLimit", 0, nil, inside(codecZstd, frame(1<<40, zeros(6)))},
		{"a frame that says 2^64 - 1", "ErrLimit", 0, nil, inside(codecZstd, frame(1<<64-1, zeros(6)))},
		{"a zero more than data may have", "ErrLimit", 0, nil, inside(codecZstd, frame(MaxData+1, zeros(MaxData+1)))},
		{"a zero more than a page may have", "ErrLimit", 1, nil, inside(codecZstd, frame(MaxMeta+1, zeros(MaxMeta+1)))},
		{"a zero more than a snapshot may have", "ErrLimit", 9, nil, inside(codecZstd, frame(MaxMeta+1, zeros(MaxMeta+1)))},
		{"a block larger than the content", "ErrCodec", 0, hello, inside(codecZstd, frame(5, block(true, zipBlock, 7, 5<<3, 'h', 'e', 'l', 'l', 'o', 0)))},
		{"a block of 128 KiB and a byte", "ErrCodec", 0, make([]byte, 128<<10+1), inside(codecZstd, frame(128<<10+1, block(true, rleBlock, 128<<10+1, 0)))},
		{"a block larger than the window", "ErrCodec", 0, make([]byte, 1025), inside(codecZstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x40, 0x00, 0x01, 0x03}, block(true, rleBlock, 1025, 0)...))},
		{"an empty compressed block", "ErrCodec", 0, nil, inside(codecZstd, frame(0, block(true, zipBlock, 0)))},
	}
}

func TestHostileInsides(t *testing.T) {
	w := sealer(t, master(t))
	o := opener(t, master(t), w)
	for _, c := range hostile() {
		var r []byte
		if c.kind > 0 {
			r = refs(1)
		}
		i := w.Name(c.kind, r, c.plain)
		data := sealInside(t, w, c.kind, i, r, c.inside)
		got, err := o.Open(nil, c.kind, i, w.SID(), r, data)
		if want := errorNames[c.err]; !errors.Is(err, want) || (err == nil) != (want == nil) || err != nil && len(got) > 0 {
			t.Errorf("%s: %v, want %v", c.name, err, want)
		}
		if err == nil && !bytes.Equal(got, c.plain) {
			t.Errorf("%s: wrong plaintext", c.name)
		}
	}
	// A stored page over its limit, within what padding lets through.
	plain := make([]byte, MaxMeta+1)
	i := w.Name(1, nil, plain)
	if _, err := o.Open(nil, 1, i, w.SID(), nil, sealInside(t, w, 1, i, nil, inside(codecStored, plain))); !errors.Is(err, ErrLimit) {
		t.Errorf("a stored page over its limit: %v", err)
	}
}

// What cannot be a blob takes no memory.
func TestBombsTakeNoMemory(t *testing.T) {
	o := opener(t, master(t))
	for _, c := range hostile() {
		if c.err == "" || len(c.inside) < insideHead {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			_, _ = o.zip.appendPlain(nil, c.inside, maxPlain(c.kind))
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / 10; got > 64<<10 {
			t.Errorf("%s: takes %d KiB", c.name, got>>10)
		}
	}
}

// FuzzInside is what a hostile holder of a key can put into a blob: past
// the AEAD.
func FuzzInside(f *testing.F) {
	for _, c := range hostile() {
		if len(c.inside) >= insideHead {
			f.Add(c.inside, c.kind)
		}
	}
	w := sealer(f, master(f))
	for _, plain := range [][]byte{prose(70000), prose(300), noise(100)} {
		f.Add(w.appendInside(nil, plain), uint8(0))
	}
	o := opener(f, master(f))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		if len(b) < insideHead {
			return
		}
		got, err := o.zip.appendPlain([]byte("x"), b, maxPlain(kind))
		if got[0] != 'x' || len(got)-1 > maxPlain(kind) || err != nil && len(got) != 1 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err == nil && b[0] == codecStored && !bytes.Equal(inside(codecStored, got[1:]), b) {
			t.Fatal("two forms of one stored plaintext")
		}
		if err == nil && b[0] == codecZstd {
			n := binary.BigEndian.Uint32(b[1:])
			if !bytes.Equal(inside(codecZstd, b[insideHead:insideHead+n]), b) {
				t.Fatal("two forms of one frame")
			}
		}
	})
}
