// Package cdc finds the cut points of a byte stream: where one chunk ends and
// the next begins. A cut point depends on the 64 bytes before it, on the
// distance to the cut point before it, and on key material; so an insertion or
// a deletion changes the chunks around it, and the stream finds back to its old
// cut points after it. The package knows no files and no keys: whoever calls it
// derives the material and holds the data.
//
// # The algorithm "gear1"
//
// All arithmetic is on unsigned 64-bit integers, modulo 2^64. With g the table
// of the material, and b[n] the bytes of the chunk counted from 0,
//
//	h(n)    = sum over i in 0..63 of g[b[n-1-i]] << i         a gear hash
//	near(n) = h(n) * (h(n) >> 32) < 2^(64-p)                  one n in 2^p
//	far(n)  = SipHash-2-4(k, b[n-64:n]) < 2^(64-(s-p))        one n in 2^(s-p)
//
// a chunk ends at the first n >= Min where near(n) and far(n) hold, with
// s = log2(Avg)+2 while n < Avg and s = log2(Avg)-2 from there on (the
// normalised chunking of FastCDC: lengths gather a little above Avg), or at Max,
// or at the end of the stream. p is half of log2(Avg), rounded up, but at most 10.
//
// Bytes before Min-64 are not looked at. A run of equal bytes has one hash all
// along: in all but one of about Avg/4 tables it is cut at Max, and in the
// others at Min or Avg; both are right, and the chunks are equal either way.
//
// # Why two tests
//
// Bits of a gear hash are sums of table entries, and who sees where known data
// was cut can solve such sums for the table. So no bit of the decision may be a
// bit of the hash itself. Judging every byte by a keyed multiplication costs
// more than the hash, and does little: a multiplication by a secret, and an
// addition of one, is another gear hash with another table, and an exclusive or
// before it leaves the oldest bytes in the highest bits. A cheap first test on
// hash bits with the strong one behind it would be the fastest, but every cut
// point tells the first test's bits as well, in the clear.
//
// Here the first test is a product of two halves of the hash. It costs one shift
// and one multiplication, is neither linear in the table nor confined to high
// bits, and tells ten bits of a cut point at most. What passes is judged by a
// pseudo-random function of the window itself, under a key of its own, for the
// remaining bits. That runs once in 1024 bytes and costs a twentieth of what the
// hash does; and even who had the table would know from it only where data may be
// cut, one place in 1024, not where it is.
//
// None of this has a proof. Sizes of chunks are a fingerprint that a key makes
// harder to take, not impossible; the algorithm is named in everything that
// depends on it, so that it can be replaced.
package cdc

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Name names the algorithm in the heads of streams and in snapshots. Data cut
// under one name is not expected to deduplicate against data cut under another.
const Name = "gear1"

// MaterialSize is the number of bytes of key material that New takes: 256
// entries of the gear table as big-endian 64-bit integers, and the 16 bytes of
// the SipHash key, as SipHash numbers them.
const MaterialSize = 256*8 + 16

const (
	window  = 64      // bytes that a cut point depends on: all that 64 bits of hash still hold
	harder  = 2       // a cut before Avg is 2^harder times as rare as one in Avg bytes, after it as much more frequent
	maxNear = 10      // bits of the first test
	maxSize = 8 << 20 // the longest chunk that streams and repositories carry
)

// Params are the sizes in bytes that chunks are cut to: none is shorter than Min
// but the last of a stream, none is longer than Max, and most are a little
// longer than Avg. 64 <= Min < Avg < Max <= 8 MiB, and Avg is a power of two.
type Params struct{ Min, Avg, Max int }

// Default are the sizes that measurement recommends: docs/chunking.md.
var Default = Params{Min: 256 << 10, Avg: 512 << 10, Max: 2 << 20}

// check returns an error that names the rule that p breaks, or nil.
func (p Params) check() error {
	switch {
	case p.Min < window:
		return fmt.Errorf("cdc: smallest chunk of %d bytes is less than %d", p.Min, window)
	case p.Min >= p.Avg:
		return fmt.Errorf("cdc: smallest chunk of %d bytes is not below the average of %d", p.Min, p.Avg)
	case p.Avg&(p.Avg-1) != 0:
		return fmt.Errorf("cdc: average chunk of %d bytes is not a power of two", p.Avg)
	case p.Avg >= p.Max:
		return fmt.Errorf("cdc: average chunk of %d bytes is not below the largest of %d", p.Avg, p.Max)
	case p.Max > maxSize:
		return fmt.Errorf("cdc: largest chunk of %d bytes is more than %d", p.Max, maxSize)
	}
	return nil
}

// A Cutter cuts by one key and one set of sizes. It does not change once made:
// many goroutines may use it at the same time.
type Cutter struct {
	gear   [256]uint64
	near   uint64 // the first test passes below this
	k0, k1 uint64
	hard   uint // the second test's shifts: what it leaves must be zero
	easy   uint
	p      Params
}

// New returns a Cutter for MaterialSize bytes of secret, uniform key material,
// of which it keeps a copy, and for sizes p. The same material and sizes give
// the same cut points, always and on every machine.
func New(material []byte, p Params) (*Cutter, error) {
	if len(material) != MaterialSize {
		return nil, fmt.Errorf("cdc: key material of %d bytes, want %d", len(material), MaterialSize)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	c := &Cutter{p: p}
	for i := range c.gear {
		c.gear[i] = binary.BigEndian.Uint64(material[8*i:])
	}
	c.k0 = binary.LittleEndian.Uint64(material[256*8:])
	c.k1 = binary.LittleEndian.Uint64(material[256*8+8:])

	avg := uint(bits.TrailingZeros(uint(p.Avg)))
	pre := min(maxNear, (avg+1)/2)
	c.near = 1 << (64 - pre)
	c.hard = 64 - (avg + harder - pre)
	c.easy = 64 - (avg - harder - pre)
	return c, nil
}

// Params returns the sizes that c cuts to.
func (c *Cutter) Params() Params { return c.p }

// Cut returns the length of the first chunk of b, at most Max and 0 for an empty
// b only. b must hold at least Max bytes or all that remains of the stream:
// otherwise its end is taken for the stream's. Cut does not keep b and remembers
// nothing: the next chunk is found by Cut of what follows.
func (c *Cutter) Cut(b []byte) int {
	if len(b) <= c.p.Min {
		return len(b)
	}
	b = b[:min(len(b), c.p.Max)]

	var h uint64
	n := c.p.Min - 1
	for _, x := range b[n+1-window : n] {
		h = h<<1 + c.gear[x]
	}
	for {
		var k int
		h, k = c.scan(h, b[n:])
		n += k
		if n == len(b) {
			return n
		}
		shift := c.easy
		if n < c.p.Avg {
			shift = c.hard
		}
		if sip(c.k0, c.k1, (*[window]byte)(b[n-window:]))>>shift == 0 {
			return n
		}
	}
}

// scan rolls h over b, which is not empty, up to and with the first byte at
// which the first test passes, or else to the end. It returns the hash there and
// the number of bytes taken.
//
// This loop is where the time goes. It is written out because a loop over single
// bytes pays for its counter as much as for the hash.
func (c *Cutter) scan(h uint64, b []byte) (uint64, int) {
	near, n := c.near, len(b)
	for len(b) >= 16 {
		p := (*[16]byte)(b)
		if h = h<<1 + c.gear[p[0]]; h*(h>>32) < near {
			return h, n - len(b) + 1
		}
		if h = h<<1 + c.gear[p[1]]; h*(h>>32) < near {
			return h, n - len(b) + 2
		}
		if h = h<<1 + c.gear[p[2]]; h*(h>>32) < near {
			return h, n - len(b) + 3
		}
		if h = h<<1 + c.gear[p[3]]; h*(h>>32) < near {
			return h, n - len(b) + 4
		}
		if h = h<<1 + c.gear[p[4]]; h*(h>>32) < near {
			return h, n - len(b) + 5
		}
		if h = h<<1 + c.gear[p[5]]; h*(h>>32) < near {
			return h, n - len(b) + 6
		}
		if h = h<<1 + c.gear[p[6]]; h*(h>>32) < near {
			return h, n - len(b) + 7
		}
		if h = h<<1 + c.gear[p[7]]; h*(h>>32) < near {
			return h, n - len(b) + 8
		}
		if h = h<<1 + c.gear[p[8]]; h*(h>>32) < near {
			return h, n - len(b) + 9
		}
		if h = h<<1 + c.gear[p[9]]; h*(h>>32) < near {
			return h, n - len(b) + 10
		}
		if h = h<<1 + c.gear[p[10]]; h*(h>>32) < near {
			return h, n - len(b) + 11
		}
		if h = h<<1 + c.gear[p[11]]; h*(h>>32) < near {
			return h, n - len(b) + 12
		}
		if h = h<<1 + c.gear[p[12]]; h*(h>>32) < near {
			return h, n - len(b) + 13
		}
		if h = h<<1 + c.gear[p[13]]; h*(h>>32) < near {
			return h, n - len(b) + 14
		}
		if h = h<<1 + c.gear[p[14]]; h*(h>>32) < near {
			return h, n - len(b) + 15
		}
		if h = h<<1 + c.gear[p[15]]; h*(h>>32) < near {
			return h, n - len(b) + 16
		}
		b = b[16:]
	}
	for i, x := range b {
		if h = h<<1 + c.gear[x]; h*(h>>32) < near {
			return h, n - len(b) + i + 1
		}
	}
	return h, n
}
