package key

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// What follows from a master key, and from the cut key, is another value for each
// label, and another for each master key.
func TestNothingIsDerivedTwice(t *testing.T) {
	seen := map[string]string{}
	add := func(what string, b []byte) {
		t.Helper()
		if was := seen[string(b)]; was != "" || len(b) < IDSize {
			t.Errorf("%s is %s, or too short", what, was)
		}
		seen[string(b)] = what
	}
	other, err := FromMaster([SecretSize]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*Key{"": all(t)[Master], "other ": other} {
		id := k.ID()
		add(name+"key id", id[:])
		for f := field(0); f < numFields; f++ {
			add(name+"field", k.field(f))
		}
		cut, _ := k.Cut()
		add(name+"group", cut.Group().Bytes())
		add(name+"page", cut.Page().Bytes())
		add(name+"cache", cut.Cache().Bytes())
		for b := range slices.Chunk(cut.Gear(2048+16), SecretSize) { // all that the chunker takes
			add(name+"gear", b)
		}
	}
	// No id or secret is the beginning of another value either.
	for a := range seen {
		for b := range seen {
			if a != b && bytes.HasPrefix([]byte(b), []byte(a)) {
				t.Errorf("%s begins %s", seen[a], seen[b])
			}
		}
	}
}

// What a certificate signs can be read back in one way only, and is no snapshot's
// signature.
func TestCertificatesAreInjective(t *testing.T) {
	pk := bytes.Repeat([]byte{'a'}, 32)
	b := Certified(pk, "bc")
	const at = len("preserve/v1/writer") + 1
	if string(b[:at]) != "preserve/v1/writer\x00" || !bytes.Equal(b[at:at+32], pk) || string(b[at+32:]) != "bc" {
		t.Errorf("%q", b)
	}
	// Writers whose bytes are the same when they are joined without a thought.
	if bytes.Equal(b, Certified(append(pk[:31:31], 'b'), "ac")) || bytes.HasPrefix(b, []byte("preserve/v1/snapshot")) {
		t.Error("two writers have one certificate")
	}
}

// Whoever changes a wrapped key cannot have its passphrase tried with less work: the
// passphrase then is another one.
func TestWrappedCostIsBound(t *testing.T) {
	k := all(t)[Master]
	dear := Cost{Time: 3, Memory: 64, Threads: 2}
	b, err := k.wrap([]byte("x"), dear, make([]byte, wrapSalt))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Cost{
		"fewer passes": {1, 64, 2}, "less memory": {3, 16, 2}, "fewer lanes": {3, 64, 1}, "the least": cheap, "more": {4, 128, 4},
	} {
		bad := bytes.Clone(b)
		binary.BigEndian.PutUint32(bad[4:], c.Time)
		binary.BigEndian.PutUint32(bad[8:], c.Memory)
		bad[12] = c.Threads
		w, err := parseWrapped(bad)
		if err != nil || w.Cost != c {
			t.Fatalf("%s: %+v, %v", name, w, err)
		}
		if _, err := w.Open([]byte("x")); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
		// Nor with a check that was made right for that work: the key inside was sealed
		// under another.
		_, check := c.stretch([]byte("x"), w.salt)
		copy(w.check, check)
		if _, err := w.Open([]byte("x")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, with the right check: %v", name, err)
		}
	}
}
