package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-size", "7", "-bin", "b", "-extract", "x"}, io.Discard)
	if err != nil || o.size != 7*mb || o.bin != "b" || o.extract != "x" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-size 0", "-size x", "more", "-what"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	var help bytes.Buffer
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(help.String(), "usage: ") {
		t.Errorf("-h: %v, %q", err, help.String())
	}
}

// TestSealed takes the sealed forms out of the repository of the first release: the
// secrets' seals of two sessions, which are in two packs each, and all blobs.
func TestSealed(t *testing.T) {
	blobs, sessions, total := 0, 0, 0
	err := sealed("../../testdata/released/v1/repo", func(b blob) error {
		if b.session {
			sessions++
			if len(b.data) != 48 {
				t.Errorf("%d bytes of a session", len(b.data))
			}
		} else {
			blobs++
			total += len(b.data)
		}
		return nil
	})
	if err != nil || blobs != 20 || sessions != 8 || total < 3000 {
		t.Errorf("%d blobs of %d bytes, %d sessions' halves: %v", blobs, total, sessions, err)
	}
	if err := sealed(t.TempDir(), func(blob) error { return nil }); err == nil {
		t.Error("no repository: no error")
	}
}

// noise is a sample that a sound sealer made, of fewer blobs than the real ones are.
func noise() (*planter, sample) {
	p := &planter{}
	for i := range 40_000 {
		p.inside = append(p.inside, inside(0, smallPlain(1, i)))
	}
	p.inside = append(p.inside, inside(0, make([]byte, 4*mb)))
	p.real = sound(p)
	return p, p.real
}

// own is the part of the battery that takes no program of others.
func own(s sample) string {
	found := append(bytesAndBits(s.all), pairs(s.all)...)
	found = append(found, correlation(s.all)...)
	found = append(found, positions(s)...)
	return caught(append(found, nonces(s), blocks(s)))
}

// TestBattery: noise passes, once of two times at the least, and faults do not.
func TestBattery(t *testing.T) {
	p, s := noise()
	if first := own(s); first != "" {
		if _, s = noise(); own(s) != "" {
			t.Errorf("noise is bad twice: %s; %s", first, own(s))
		}
	}
	for _, f := range faults {
		if own(f.make(p)) == "" {
			t.Errorf("%s: nothing was found", f.name)
		}
	}
}

func TestChiSquare(t *testing.T) {
	// The 99.9th percentile of 255 degrees of freedom is 330.52, that is 3.09 deviations.
	if z := normal(330.52, 255); math.Abs(z-3.09) > 0.01 {
		t.Errorf("%v", z)
	}
	if z := chiSquare([]uint64{100, 100, 100, 100}); z > -3 {
		t.Errorf("all the same: %v", z)
	}
	if f := deviation("x", math.NaN()); !f.bad {
		t.Error("what is no number passes")
	}
}
