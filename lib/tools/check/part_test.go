package check

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"preserve/lib/id"
)

// N/M: each pack is in just one of the parts. Shares are about that large.
func TestPart(t *testing.T) {
	var packs []id.ID
	for n := range 2000 {
		packs = append(packs, sha256.Sum256(fmt.Append(nil, n)))
	}
	count := func(s string) (n int) {
		p, err := parsePart(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range packs {
			if p.has(name, 1) {
				n++
			}
		}
		return n
	}
	for s, want := range map[string]int{"all": 2000, "none": 0, "1/1": 2000, "100%": 2000} {
		if n := count(s); n != want {
			t.Errorf("%s: %d", s, n)
		}
	}
	sum := 0
	for n := range 7 {
		sum += count(fmt.Sprintf("%d/7", n+1))
	}
	if sum != 2000 {
		t.Errorf("seven parts have %d", sum)
	}
	if n := count("25%"); n < 350 || n > 650 { // more than seven standard deviations
		t.Errorf("25%%: %d", n)
	}
	for _, s := range []string{"", "x", "0/3", "4/3", "1/0", "-1/3", "1/3/4", "0%", "101%", "-1%", "%", "0", "-5", "NaN%", "+1/3", "5Q"} {
		if p, err := parsePart(s); err == nil {
			t.Errorf("%q: %+v", s, p)
		}
	}
}
