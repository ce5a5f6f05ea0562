package box

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"preserve/lib/id"
	"preserve/lib/key"
)

// Of two sessions a store can make a third, which opens: nothing says that both
// halves were made at once. But its name is another, so that no blob fits it.
func TestSessionsRecombined(t *testing.T) {
	a, err := newSealer(master(t), Default, newSession(suiteAES))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSealer(derived(t, key.Write, "laptop"), Default, newSession(suiteAES))
	if err != nil {
		t.Fatal(err)
	}
	mixed := slices.Concat(a.sealed[:dataAt], b.sealed[dataAt:])
	for _, reader := range []*key.Key{master(t), derived(t, key.Read, ""), derived(t, key.List, "")} {
		o := opener(t, reader, a, b)
		sid, err := o.AddSession(mixed)
		if err != nil || sid == a.SID() || sid == b.SID() {
			t.Fatalf("%v: %v", reader, err)
		}
		for _, w := range []*Sealer{a, b} {
			i := w.Name(1, refs(1), []byte("a page"))
			data, err := w.Seal(nil, 1, i, refs(1), []byte("a page"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Open(nil, 1, i, sid, refs(1), data); !errors.Is(err, ErrSealed) {
				t.Errorf("%v: opened under a session made of two: %v", reader, err)
			}
		}
	}
}

// A session of another master key does not open as ours, whatever key id it says, and
// neither does one whose suite was changed, for any kind of reader.
func TestSessionsRelabelled(t *testing.T) {
	foreign, err := key.FromMaster([key.SecretSize]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	ours := master(t).ID()
	for _, kind := range []key.Kind{key.Read, key.List} {
		o := opener(t, derived(t, kind, ""))
		for _, su := range []suite{suiteAES, suiteChaCha} {
			w, err := newSealer(foreign, Default, newSession(su))
			if err != nil {
				t.Fatal(err)
			}
			b := w.Session()
			copy(b[keyIDAt:], ours[:])
			if _, err := o.AddSession(b); !errors.Is(err, ErrSession) {
				t.Errorf("%s key: a session of another master key under our id: %v", kind, err)
			}
			if w, err = newSealer(master(t), Default, newSession(su)); err != nil {
				t.Fatal(err)
			}
			b = w.Session()
			b[suiteAt] ^= byte(suiteAES ^ suiteChaCha)
			if _, err := o.AddSession(b); !errors.Is(err, ErrSession) {
				t.Errorf("%s key: the other suite: %v", kind, err)
			}
			// Made with it, by a writer of a later version.
			if b, err = newSession(suiteChaCha + su).seal(master(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := o.AddSession(b); !errors.Is(err, ErrSession) {
				t.Errorf("%s key: a suite that is none: %v", kind, err)
			}
		}
	}
}

// A blob's key is another for every kind of secret, session and id: flip any bit of
// what it comes from.
func TestBlobKeysDiffer(t *testing.T) {
	s := newSession(suiteAES)
	i, sid := id.ID(noise(id.Size)), id.ID(noise(id.Size + 1)[1:])
	seen := map[string]bool{}
	add := func(what string, k []byte) {
		if len(k) != 32 || seen[string(k)] {
			t.Errorf("%s: a key of %d bytes that came before", what, len(k))
		}
		seen[string(k)] = true
	}
	add("data", s.blobKey(0, sid, i))
	add("metadata", s.blobKey(1, sid, i))
	add("exchanged", s.blobKey(0, i, sid))
	for bit := range 8 * id.Size {
		j, other := i, sid
		j[bit/8] ^= 1 << (bit % 8)
		other[bit/8] ^= 1 << (bit % 8)
		add("another id", s.blobKey(0, sid, j))
		add("another session", s.blobKey(0, other, i))
	}
	add("another run", newSession(suiteAES).blobKey(0, sid, i))
}

// What an id names has one form: kind, references and plaintext can be read back
// from head ‖ plaintext, so that no others give the same bytes, however a border
// between them is moved.
func TestHeadsAreInjective(t *testing.T) {
	all := map[string]bool{}
	both := noise(4 * id.Size) // the same bytes, as references and as plaintext
	for kind := range uint8(10) {
		for n := range 5 {
			refs, plain := both[:n*id.Size], both[n*id.Size:]
			b := append(headOf(kind, refs), plain...)
			all[string(b)] = true
			end := 5 + id.Size*int(binary.BigEndian.Uint32(b[1:]))
			if b[0] != kind || !bytes.Equal(b[5:end], refs) || !bytes.Equal(b[end:], plain) {
				t.Errorf("kind %d, %d references: %x", kind, n, b[:5])
			}
		}
	}
	if len(all) != 50 {
		t.Errorf("%d forms of 50", len(all))
	}
}

// chi returns the chi-square statistic of counts that should all be the same.
func chi(counts []int) (x float64) {
	n := 0
	for _, c := range counts {
		n += c
	}
	want := float64(n) / float64(len(counts))
	for _, c := range counts {
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	return x
}

// below is a bound of chi-square with k degrees of freedom that is passed by less than
// one in a billion (Wilson and Hilferty). The keys here are fixed: it is passed never.
func below(k int) float64 {
	v := 2 / (9 * float64(k))
	z := 1 - v + 6*math.Sqrt(v)
	return float64(k) * z * z * z
}

// Ids look like noise, whatever is named: each byte, and each pair of neighbours, of

func TestIDsAreUniform(t *testing.T) {
	const n = 1 << 15
	w := sealer(t, master(t))
	for _, kind := range []uint8{0, 1, 9} {
		var r []byte
		if kind == kindSnapshot {
			r = refs(1)
		}
		var bytesAt [id.Size][]int
		for at := range bytesAt {
			bytesAt[at] = make([]int, 256)
		}
		last := id.ID{}
		flipped := 0
		var plain [8]byte
		for c := range uint64(n) {
			binary.BigEndian.PutUint64(plain[:], c)
			i := w.Name(kind, r, plain[:])
			for at, b := range i {
				bytesAt[at][b]++
				for bit := range 8 {
					flipped += int((b^last[at])>>bit) & 1
				}
			}
			last = i
		}
		for at, counts := range bytesAt {
			if x := chi(counts); x > below(255) {
				t.Errorf("kind %d, byte %d: chi-square is %.0f, over %.0f", kind, at, x, below(255))
			}
		}
		// From one plaintext to the next, half of the bits change: 6 standard deviations.
		if d := math.Abs(float64(flipped) - 128*n); d > 6*math.Sqrt(64*n) {
			t.Errorf("kind %d: %d bits of %d change", kind, flipped, 256*n)
		}
	}
	// The test itself can fail: a byte that is three times as frequent as it should be.
	skewed := slices.Repeat([]int{n / 256}, 256)
	skewed[7] *= 3
	if chi(skewed) < below(255) || below(255) < 390 || below(255) > 420 {
		t.Errorf("chi-square %.0f passes the bound of %.0f", chi(skewed), below(255))
	}
}

// A sealed blob tells little of its length: of all lengths up to 16 MiB no more than a few
// hundred remain, each no more than 12 % over the least that it can stand for.
func TestPaddedLengths(t *testing.T) {
	// By algorithm 1 of the paper, for a length of e+1 bits ⌊log₂ e⌋+1 bits below the first
	// are told: so many lengths from 2^e up to 2^(e+1).
	want := 0
	for e := 3; e < 24; e++ {
		want += 1 << (int(math.Log2(float64(e))) + 1)
	}
	lengths := map[int]bool{}
	for n := 8; n < 1<<24; n++ {
		lengths[padded(n)] = true
	}
	delete(lengths, 1<<24) // where the next power begins
	if len(lengths) != want {
		t.Errorf("%d lengths, want %d", len(lengths), want)
	}
	if want > 500 {
		t.Errorf("%d lengths tell too much", want)
	}
	// The smallest blobs share few lengths too: an honest sealer's, not only the rule's.
	w := sealer(t, master(t))
	sealed := map[int]bool{}
	for n := range 2000 {
		plain := noise(n)
		data, err := w.Seal(nil, 0, w.Name(0, nil, plain), nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(data)-overhead != padded(insideHead+n) {
			t.Fatalf("%d bytes of noise are sealed to %d", n, len(data))
		}
		sealed[len(data)] = true
	}
	if len(sealed) > 100 {
		t.Errorf("2000 lengths are sealed to %d", len(sealed))
	}
}

// Sealed bytes look like noise: the most regular plaintext, many times.
func TestSealedIsUniform(t *testing.T) {
	counts := make([]int, 256)
	s := &session{suite: suiteAES, hasData: true, meta: pattern(1), data: pattern(2)}
	for n := range 4000 {
		i := id.ID(bytes.Repeat([]byte{byte(n), byte(n >> 8)}, id.Size/2))
		aead, err := s.aead(0, id.ID{}, i)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range aead.Seal(nil, make([]byte, nonceSize), make([]byte, 64), nil) { // fixed, so that it never fails by chance
			counts[b]++
		}
	}
	if x := chi(counts); x > below(255) {
		t.Errorf("chi-square is %.0f, over %.0f", x, below(255))
	}
}

// Somebody who can make sessions cannot fill a reader's memory with them.
func TestSessionsAreBounded(t *testing.T) {
	w, more := sealer(t, master(t)), sealer(t, master(t))
	o := opener(t, master(t), w)
	var i id.ID
	for n := uint64(1); len(o.sessions) < MaxSessions; n++ {
		binary.BigEndian.PutUint64(i[:], n)
		o.sessions[i] = session{}
	}
	if _, err := o.AddSession(more.Session()); !errors.Is(err, ErrSessions) || len(o.sessions) != MaxSessions {
		t.Errorf("one more than a reader keeps: %v", err)
	}
	if sid, err := o.AddSession(w.Session()); err != nil || sid != w.SID() {
		t.Errorf("one that is known: %v", err)
	}
}
