package snap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/wire"
)

// classes are the words for errors in vector files and docs/format/snapshots.md.
var classes = map[string]error{
	"snapshot": ErrSnapshot, "not valid": rec.ErrBad, "limit": wire.ErrLimit, "type": wire.ErrType,
	"canonical": wire.ErrCanonical, "short": wire.ErrShort, "trailing": wire.ErrTrailing,
}

// Package rec compares the records of these vectors with their bytes.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/snapshots/snapshots.txt")
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, block := range strings.Split(strings.ReplaceAll(string(data), "\n ", ""), "\n\n") {
		var name, class string
		var plain []byte
		for _, line := range strings.Split(block, "\n") {
			key, value, _ := strings.Cut(line, " =")
			value = strings.TrimSpace(value)
			text, _ := strconv.Unquote(value)
			switch key {
			case "case":
				name = text
			case "error":
				class = text
			case "bytes":
				if plain, err = hex.DecodeString(strings.ReplaceAll(value, " ", "")); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		s, err := Decode(plain)
		switch {
		case name == "":
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
