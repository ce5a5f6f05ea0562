package diff

import (
	"testing"

	"preserve/lib/rec"
)

// Roots tell how much of a live tree the snapshot speaks of.
func TestCover(t *testing.T) {
	c := cover{roots: []rec.Root{{Dir: "/", Path: "home/eve"}, {Dir: "/srv", Path: "data/x"}}}
	for path, want := range map[string][2]bool{
		"home": {false, true}, "home/eve": {true, false}, "home/eve/a": {true, false}, "home/bob": {}, "eve": {},
		"srv": {}, "data": {false, true}, "data/x": {true, false}, "x": {}, "etc": {}, "homes": {},
	} {
		if at, above := c.covers(path); at != want[0] || above != want[1] {
			t.Errorf("%s: at %v, above %v", path, at, above)
		}
	}
	c.all = true
	if at, _ := c.covers("anything"); !at {
		t.Error("not all is covered")
	}
}
