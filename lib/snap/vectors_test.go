package snap

import (
	"bytes"
	"errors"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/vectors"
	"preserve/lib/wire"
)

// classes are the words for errors in vector files and docs/format/snapshots.md.
var classes = map[string]error{
	"snapshot": ErrSnapshot, "not valid": rec.ErrBad, "limit": wire.ErrLimit, "type": wire.ErrType,
	"canonical": wire.ErrCanonical, "short": wire.ErrShort, "trailing": wire.ErrTrailing,
}

// Package rec compares the records of these vectors with their bytes.
func TestVectors(t *testing.T) {
	good, bad := 0, 0
	for _, c := range vectors.Read(t, "snapshots/snapshots.txt") {
		name, class, plain := c.Text("case"), c.Text("error"), c["bytes"]
		s, err := Decode(plain)
		switch {
		case class != "":
			bad++
			if classes[class] == nil || !errors.Is(err, classes[class]) || !errors.Is(err, ErrSnapshot) {
				t.Errorf("%s: error %v, want %q", name, err, class)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			good++
			if again, err := s.Encode(); err != nil || !bytes.Equal(again, plain) {
				t.Errorf("%s: written again: %v\n got %x\nwant %x", name, err, again, plain)
			}
		}
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d good vectors, %d bad ones", good, bad)
	}
}
