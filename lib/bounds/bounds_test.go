package bounds

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

func testBounds(b byte) *Bounds { return New([]byte{b, 1}, []byte{b, 2}, nil) }

// The rates are what they are said to be, and nested: a path that begins an
// index page begins a page.
func TestRates(t *testing.T) {
	b := testBounds(1)
	const n = 200000
	var pages, index, groups, pieces float64
	for i := range n {
		p := fmt.Sprintf("dir%d/file%d", i%100, i)
		page, idx := b.PageBegins(p), b.IndexBegins(1, p)
		if idx && !page || b.IndexBegins(2, p) && !idx {
			t.Fatalf("%s begins an index page but no page", p)
		}
		for _, c := range []struct {
			on bool
			n  *float64
		}{{page, &pages}, {idx, &index}, {b.GroupEnds([]byte(p)), &groups}, {b.PieceEnds([]byte(p)), &pieces}} {
			if c.on {
				*c.n++
			}
		}
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"pages": {pages, n >> pageBits}, "index": {index, n >> (pageBits + indexBits)}, "groups": {groups, n >> groupBits}, "pieces": {pieces, n >> pieceBits}} {
		if math.Abs(c.got-c.want) > 6*math.Sqrt(c.want) {
			t.Errorf("%s: %v of %v, want about %v", name, c.got, float64(n), c.want)
		}
	}
}

// Other keys decide otherwise, and each input counts.
func TestKeyed(t *testing.T) {
	a, b := testBounds(1), testBounds(2)
	same := 0
	for i := range 4000 {
		p := fmt.Sprint(i)
		if a.GroupEnds([]byte(p)) && b.GroupEnds([]byte(p)) {
			same++
		}
	}
	if same > 200 { // 4000/64 expected by chance
		t.Errorf("%d common decisions under different keys", same)
	}
	// Each of the decisions, and each key: none is made without its own.
	for name, decides := range map[string]func(*Bounds, string) bool{
		"page":  (*Bounds).PageBegins,
		"index": func(b *Bounds, p string) bool { return b.IndexBegins(0, p) },
		"piece": func(b *Bounds, p string) bool { return b.PieceEnds([]byte(p)) },
	} {
		both, either := 0, 0
		for i := range 40000 {
			p := fmt.Sprint(i)
			x, y := decides(a, p), decides(b, p)
			if x && y {
				both++
			}
			if x || y {
				either++
			}
		}
		if both > 10 || either < 100 { // by chance 40000/65536 and 40000/128
			t.Errorf("%s: %d of %d decisions are common under different keys", name, both, either)
		}
	}
	long := make([]byte, 1000)
	changed := 0
	for i := range 256 {
		long[500] = byte(i) // the middle does not count
		if a.GroupEnds(long) != a.GroupEnds(make([]byte, 1000)) {
			t.Fatal("the middle of a file decides")
		}
		long[999] = byte(i)
		if a.GroupEnds(long) {
			changed++
		}
		long[999] = 0
	}
	if changed == 0 || changed == 256 {
		t.Error("the end of a file does not decide")
	}
}

// A tree is cut in the same places wherever it stands.
func TestRootsDoNotDecide(t *testing.T) {
	here, there := New([]byte{1}, []byte{2}, []string{"home/ann", "etc"}), New([]byte{1}, []byte{2}, []string{"srv/backup/ann", "x"})
	plain := New([]byte{1}, []byte{2}, []string{""})
	same := 0
	for i := range 20000 {
		p := fmt.Sprintf("a/%d", i)
		if here.PageBegins("home/ann/"+p) != there.PageBegins("srv/backup/ann/"+p) || here.PageBegins("etc/"+p) != plain.PageBegins(p) {
			t.Fatal(p)
		}
		if here.PageBegins("home/annex/"+p) && here.PageBegins("home/ann/"+p) {
			same++
		}
	}
	if same > 5 { // 20000/65536 expected by chance
		t.Errorf("a path beside the root is taken for one below it: %d", same)
	}
	if here.PageBegins("home/ann") != there.PageBegins("x") {
		t.Error("the root itself")
	}
}

func TestWeight(t *testing.T) {
	text, err := os.ReadFile("bounds.go")
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 5000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // it never fails
	for name, c := range map[string]struct {
		b    []byte
		want int
	}{"text": {text, len(text)}, "noise": {noise, 4 * len(noise)}, "short": {noise[:1000], 1000}, "zeros": {make([]byte, 9000), 9000}, "empty": {nil, 0}} {
		if got := Weight(c.b); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
