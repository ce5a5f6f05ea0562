package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os/exec"
)

// A fault makes a sample that a broken program would have made. Each must be found.
type fault struct {
	name string
	make func(p *planter) sample
}

// planter has what faults are planted in: a part of the real sample, and what the
// sealed forms have inside, for sealers of our own.
type planter struct {
	real   sample
	inside [][]byte
}

// How much of it is enough for each fault to be seen.
const plantSize = 8 * mb

var faults = []fault{
	{"a magic number every 64 KiB", every(64<<10, func(b []byte, _ int) { copy(b, "\x28\xb5\x2f\xfd") })},
	{"a counter every 4 KiB", every(4<<10, func(b []byte, i int) { binary.BigEndian.PutUint32(b, uint32(i)) })},
	{"4 KiB of plaintext in a MiB", every(1<<20, func(b []byte, i int) { copy(b[:4<<10], plainText(i)) })},
	{"one bit of 500 is set", (*planter).biasedBits},
	{"one byte of 100 is below 128", (*planter).biasedBytes},
	{"not encrypted", sealedBy(func(n int, nonce, inside []byte) []byte { return inside })},
	{"the last half not encrypted", sealedBy(func(n int, nonce, inside []byte) []byte {
		return append(ctr(key16(n), nonce, inside[:len(inside)/2]), inside[len(inside)/2:]...)
	})},
	{"the first 16 bytes not encrypted", sealedBy(func(n int, nonce, inside []byte) []byte {
		k := min(16, len(inside))
		return append(bytes.Clone(inside[:k]), ctr(key16(n), nonce, inside[k:])...)
	})},
	{"ECB", sealedBy(func(n int, nonce, inside []byte) []byte { return ecb(make([]byte, 16), inside) })},
	{"a key stream used again for each blob", sealedBy(func(n int, nonce, inside []byte) []byte {
		return ctr(make([]byte, 16), make([]byte, 12), inside)
	})},
	{"a key stream of 4 KiB, again and again", sealedBy(func(n int, nonce, inside []byte) []byte {
		stream, out := ctr(key16(n), nonce, make([]byte, 4<<10)), bytes.Clone(inside)
		for i := range out {
			out[i] ^= stream[i%len(stream)]
		}
		return out
	})},
	{"keys of 8 bits", sealedBy(func(n int, nonce, inside []byte) []byte {
		key := make([]byte, 16)
		key[0] = key16(n)[0]
		return ctr(key, make([]byte, 12), inside)
	})},
	{"one nonce for all", nonceOf(func(n int) []byte { return make([]byte, 12) })},
	{"nonces that count", nonceOf(func(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4), uint64(n)) })},
	{"nonces with 4 random bytes", nonceOf(func(n int) []byte { return append(random(4), make([]byte, 8)...) })},
	{"a nonce used twice", (*planter).nonceTwice},
}

func every(step int, put func(b []byte, i int)) func(*planter) sample {
	return func(p *planter) sample {
		s := p.real.head(plantSize)
		for i := 0; (i+1)*step <= len(s.all); i++ {
			put(s.all[i*step:], i)
		}
		return s
	}
}

func plainText(i int) []byte {
	var b bytes.Buffer
	_ = text(&b, uint64(i), 1) // a Buffer takes all
	return b.Bytes()
}

func (p *planter) biasedBits() sample {
	s := p.real.head(plantSize)
	for bit := 0; bit < 8*len(s.all); bit += 500 {
		s.all[bit/8] |= 1 << (bit % 8)
	}
	return s
}

func (p *planter) biasedBytes() sample {
	s := p.real.head(plantSize)
	for i := 0; i < len(s.all); i += 100 {
		s.all[i] &= 0x7f
	}
	return s
}

func (p *planter) nonceTwice() sample {
	s := p.real.head(plantSize)
	last := len(s.ends) - 1
	copy(s.all[s.ends[last-1]:][:12], s.all[:12])
	return s
}

// sealedBy makes a sample of all that is inside, with random nonces and tags.
func sealedBy(encrypt func(n int, nonce, inside []byte) []byte) func(*planter) sample {
	return func(p *planter) sample {
		var s sample
		for n, inside := range p.inside {
			nonce := random(12)
			s.add(append(append(nonce, encrypt(n, nonce, inside)...), random(16)...))
		}
		return s
	}
}

// nonceOf seals well, but for the nonces, which are part of what is stored.
func nonceOf(nonce func(n int) []byte) func(*planter) sample {
	return func(p *planter) sample {
		var s sample
		for n, inside := range p.inside {
			v := nonce(n)
			s.add(append(append(v, ctr(key16(n), random(12), inside)...), random(16)...))
		}
		return s
	}
}

// sound is the sealer of the planter without a fault: what is found in the others
// is not found here.
var sound = sealedBy(func(n int, nonce, inside []byte) []byte { return ctr(key16(n), nonce, inside) })

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func key16(int) []byte { return random(16) }

func ctr(key, nonce, plain []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys have 16 bytes here
	}
	out := make([]byte, len(plain))
	cipher.NewCTR(c, append(bytes.Clone(nonce), 0, 0, 0, 0)).XORKeyStream(out, plain)
	return out
}

func ecb(key, plain []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	out := append(bytes.Clone(plain), make([]byte, -len(plain)&15)...)
	for i := 0; i < len(out); i += 16 {
		c.Encrypt(out[i:], out[i:])
	}
	return out
}

// newPlanter makes what is inside as pv-seal does (docs/format/crypto.md, "Blob"),
// of the same plaintexts: zstd's frames of text and counters, and small blobs.
func newPlanter(real sample) (*planter, error) {
	p := &planter{real: real}
	for i := range 20_000 {
		p.inside = append(p.inside, inside(0, smallPlain(0, i)))
	}
	size := 0
	for round := uint64(0); size < plantSize; round++ {
		for _, plain := range []func(*bytes.Buffer) error{
			func(b *bytes.Buffer) error { return text(b, round, 1<<20) },
			func(b *bytes.Buffer) error { return counters(b, round, 1<<20) },
		} {
			var b bytes.Buffer
			if err := plain(&b); err != nil {
				return nil, err
			}
			cmd := exec.Command("zstd", "-q", "-1", "-c", "--no-check")
			cmd.Stdin = &b
			frame, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
			p.inside = append(p.inside, inside(1, frame))
			size += len(frame)
		}
	}
	return p, nil
}

// inside pads by the rule of Padmé.
func inside(codec byte, b []byte) []byte {
	n := 5 + len(b)
	e := bits.Len(uint(n)) - 1
	step := 1 << (e - bits.Len(uint(e)))
	out := make([]byte, (n+step-1)/step*step)
	out[0] = codec
	binary.BigEndian.PutUint32(out[1:], uint32(len(b)))
	copy(out[5:], b)
	return out
}
