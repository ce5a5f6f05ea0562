package box

import (
	"bytes"
	"errors"
	"testing"
)

// TestCheckFindsFlips: a bit flips in memory, at each moment between the first look at a
// plaintext and the sending of its sealed form.
func TestCheckFindsFlips(t *testing.T) {
	w := sealer(t, master(t))
	flip := func(b []byte, at int) { b[at] ^= 1 << (at % 8) }
	for _, c := range []struct {
		name string
		// What happens to references and plaintext after the sum was taken, after the naming and
		// after the sealing; and to what was sealed.
		summed, named, sealed func(refs, plain []byte)
		sent                  func(data []byte) []byte
		bad                   bool
	}{
		{name: "nothing"},
		{name: "plaintext, before it is named", bad: true, summed: func(_, p []byte) { flip(p, 100) }},
		{name: "plaintext, before it is sealed", bad: true, named: func(_, p []byte) { flip(p, len(p)-1) }},
		{name: "plaintext, once it is sealed", sealed: func(_, p []byte) { flip(p, 0) }},
		{name: "references, before it is named", bad: true, summed: func(r, _ []byte) { flip(r, 5) }},
		{name: "references, before it is sealed", bad: true, named: func(r, _ []byte) { flip(r, 5) }},
		{name: "references, once it is sealed", bad: true, sealed: func(r, _ []byte) { flip(r, 5) }},
		{name: "nonce", bad: true, sent: func(d []byte) []byte { flip(d, 0); return d }},
		{name: "ciphertext", bad: true, sent: func(d []byte) []byte { flip(d, 50); return d }},
		{name: "tag", bad: true, sent: func(d []byte) []byte { flip(d, len(d)-1); return d }},
		{name: "cut off", bad: true, sent: func(d []byte) []byte { return d[:20] }},
	} {
		for _, plain := range [][]byte{prose(5000), noise(5000)} {
			r := refs(2)
			step := func(f func(_, _ []byte)) {
				if f != nil {
					f(r, plain)
				}
			}
			sum := SumOf(r, plain)
			step(c.summed)
			i := w.Name(1, r, plain)
			step(c.named)
			data, err := w.Seal(nil, 1, i, r, plain)
			if err != nil {
				t.Fatal(err)
			}
			step(c.sealed)
			if c.sent != nil {
				data = c.sent(data)
			}
			if err := w.Check(sum, 1, i, r, data); c.bad != errors.Is(err, ErrAltered) || !c.bad && err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// TestCheckFindsErrors: the compressor has made a frame of something else, or none; the seal is right.
func TestCheckFindsErrors(t *testing.T) {
	w := sealer(t, master(t))
	plain := prose(3000)
	sum, i := SumOf(nil, plain), w.Name(0, nil, plain)
	sealed := func(inside []byte) []byte {
		aead, err := w.session.aead(0, w.SID(), i)
		if err != nil {
			t.Fatal(err)
		}
		nonce := make([]byte, nonceSize)
		return aead.Seal(nonce, nonce, inside, headOf(0, nil))
	}
	other := bytes.Clone(plain)
	other[2999] ^= 1
	frame := func(b []byte) []byte { return inside(codecZstd, w.zip.compress(nil, b)) }
	broken := frame(plain)
	broken[60] ^= 4
	for name, c := range map[string]struct {
		inside []byte
		bad    bool
	}{
		"right":        {frame(plain), false},
		"stored":       {inside(codecStored, plain), false},
		"another":      {frame(other), true},
		"shorter":      {frame(plain[:2999]), true},
		"longer":       {frame(append(bytes.Clone(plain), 0)), true},
		"broken":       {broken, true},
		"not a frame":  {inside(codecZstd, plain), true},
		"stored other": {inside(codecStored, other), true},
	} {
		if err := w.Check(sum, 0, i, nil, sealed(c.inside)); c.bad != errors.Is(err, ErrAltered) || !c.bad && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
