package walk

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// spoiled is a blob with a bit turned over, and a checksum that holds.
func spoiled(b *rec.Blob) *rec.Blob {
	c := *b
	c.Data = bytes.Clone(b.Data)
	c.Data[len(c.Data)/2] ^= 4
	c.CRC = c.Sum()
	return &c
}

// A collector of what Bad hears.
type collector struct {
	mu  sync.Mutex
	ids []id.ID
}

func (c *collector) bad(i id.ID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(err, box.ErrSealed) {
		panic(err)
	}
	c.ids = append(c.ids, i)
}

// What does not open is passed over with all that hangs on it, and the rest comes;
// in a stream, and where blobs are asked for.
func TestBad(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	whole := []string{"a/b at 0: hello", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	without := func(gone []string, more ...string) []string {
		w := slices.DeleteFunc(slices.Clone(whole), func(s string) bool {
			return slices.ContainsFunc(gone, func(g string) bool { return strings.Contains(s, g) })
		})
		w = append(w, more...)
		slices.Sort(w)
		return w
	}
	for name, c := range map[string]struct {
		bad  *rec.Blob
		want []string
	}{
		"data":        {tr.d2, without([]string{"a/d at"}, "missing a/d")},
		"shared data": {tr.d1, without([]string{"hello", "world", "f at 8"}, "missing a/b", "missing e/f")},
		"first page":  {tr.p1, without([]string{"a/b", "a/c"}, "gap a a/d")}, // a itself is put in again
		"last page":   {tr.p2, without([]string{"a/d", "e"}, "gap a/d <nil>")},
	} {
		if name == "last page" { // "e" is in every "entry"
			c.want = []string{"a/b at 0: hello", "a/c at 0: world", "entry a", "entry a/b", "entry a/c", "gap a/d <nil>", "snapshot"}
		}
		is := func(b *rec.Blob) *rec.Blob {
			if again := *b; b != c.bad {
				return &again
			}
			return spoiled(b)
		}
		m.recs = m.recs[:2]
		m.add(is(tr.snap), is(tr.root), is(tr.p1), is(tr.d1), is(tr.p2), is(tr.d2), is(tr.d1))
		var bad collector
		got, err := m.run(Options{Want: tr.snap.ID, Bad: bad.bad})
		if err != nil || !slices.Equal(got, c.want) || len(bad.ids) == 0 || bad.ids[0] != c.bad.ID {
			t.Errorf("%s: %v, bad are %v\n%s\nand not\n%s", name, err, bad.ids, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		if _, err := m.run(Options{Want: tr.snap.ID}); !errors.Is(err, box.ErrSealed) {
			t.Errorf("%s: without Bad it goes on: %v", name, err)
		}
		bad = collector{}
		p := m.peer(is(tr.snap), is(tr.root), is(tr.p1), is(tr.d1), is(tr.p2), is(tr.d2))
		got, err = p.driven(t, m, Options{Want: tr.snap.ID, Bad: bad.bad})
		slices.Sort(got)
		// Of shared data it hears twice if the second page needs it when the first has lost it.
		other := func(i id.ID) bool { return i != c.bad.ID }
		if err != nil || !slices.Equal(got, c.want) || len(bad.ids) == 0 || slices.ContainsFunc(bad.ids, other) {
			t.Errorf("%s, asked for: %v, bad are %v\n%s", name, err, bad.ids, strings.Join(got, "\n"))
		}
	}
	for _, top := range []*rec.Blob{tr.snap, tr.root} {
		m.recs = m.recs[:2]
		for _, b := range []*rec.Blob{tr.snap, tr.root, tr.p1} {
			if b == top {
				b = spoiled(b)
			}
			m.add(b)
		}
		if _, err := m.run(Options{Bad: func(id.ID, error) {}}); !errors.Is(err, box.ErrSealed) {
			t.Errorf("nothing can be read, and yet: %v", err)
		}
	}
}

// An index page that does not open is passed over with the pages below it; and
// what was sealed, and is wrong, ends the walk all the same.
func TestBadIndex(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	low := m.index(2, []page.Key{{Path: "f"}}, m.page(nil, file("f")).ID)
	top := m.index(3, []page.Key{{Path: "a"}, {Path: "f"}}, tr.root.ID, low.ID)
	sn := m.snapshot(top.ID, 7, 26)
	d1 := *tr.d1
	m.add(sn, top, spoiled(tr.root), tr.p1, tr.d1, tr.p2, &rec.Missing{ID: tr.d2.ID}, &d1, low, m.page(nil, file("f")))
	var bad collector
	got, err := m.run(Options{Bad: bad.bad})
	if want := []string{"entry f", "gap a f", "snapshot"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %q", err, got)
	}
	m.recs = m.recs[:2]
	wrong := m.blob(rec.KindPage, nil, []byte{0x81})
	root := m.index(2, []page.Key{{Path: "a"}, {Path: "b"}}, m.page(nil, file("a")).ID, wrong.ID)
	m.add(m.snapshot(root.ID, 2, 0), root, m.page(nil, file("a")), wrong)
	if _, err := m.run(Options{Bad: bad.bad}); !errors.Is(err, page.ErrPage) {
		t.Error(err)
	}
}
