package id

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func nth(n uint64) ID { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)) }

func TestParseRoundTrip(t *testing.T) {
	for n := range uint64(50) {
		got, err := Parse(nth(n).String())
		if err != nil || got != nth(n) {
			t.Fatalf("Parse(String()) = %v, %v", got, err)
		}
	}
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64), strings.Repeat("0", 63) + "\n"} {
		if _, err := Parse(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("Parse(%q) = %v, want ErrSyntax", bad, err)
		}
	}
}

func TestFromBytes(t *testing.T) {
	want := nth(1)
	if got, ok := FromBytes(want[:]); !ok || got != want {
		t.Fatal("FromBytes does not return what it was given")
	}
	if _, ok := FromBytes(want[:31]); ok {
		t.Fatal("31 bytes accepted")
	}
}

func TestSetAgainstMap(t *testing.T) {
	var s Set
	ref := map[ID]bool{}
	if s.Has(nth(0)) || s.Has(ID{}) {
		t.Fatal("empty set has something")
	}
	for n := range uint64(20000) {
		i := nth(n * 7 % 9000)
		if n == 5000 {
			i = ID{}
		}
		if s.Add(i) == ref[i] {
			t.Fatalf("Add(%v) wrong about novelty", i)
		}
		ref[i] = true
	}
	if s.Len() != len(ref) {
		t.Fatalf("Len %d, want %d", s.Len(), len(ref))
	}
	for i := range ref {
		if !s.Has(i) {
			t.Fatalf("lost %v", i)
		}
	}
	if s.Has(nth(1 << 40)) {
		t.Fatal("has what was never added")
	}
}

// Ids that share their first bytes must not be taken for each other.
func TestSetCollidingPrefixes(t *testing.T) {
	var s Set
	for n := range 300 {
		var i ID
		i[30], i[31] = byte(n>>8), byte(n)
		i[0] = 9
		if !s.Add(i) {
			t.Fatalf("%v taken for another", i)
		}
	}
	if s.Len() != 300 {
		t.Fatal(s.Len())
	}
}
