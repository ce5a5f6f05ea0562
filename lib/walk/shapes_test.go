package walk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// down adds what pv-get gives of a blob: its copies, each with what it refers to behind it.
func (m *maker) down(copies map[id.ID][]*rec.Blob, i id.ID, meta bool) {
	for _, b := range copies[i] {
		m.add(as(b, func(*rec.Blob) {}))
		if b.Kind == rec.KindData || meta && b.Kind == rec.KindPage {
			continue
		}
		for n := range b.NRefs() {
			if copies[b.Ref(n)] == nil {
				m.add(&rec.Missing{ID: b.Ref(n)})
			} else {
				m.down(copies, b.Ref(n), meta)
			}
		}
	}
}

// Under the id of a page, or of the root, lie others that refer to other blobs, before the true one
// and behind it: to what is there, to the true page's own in another order, to nothing. In a
// stream each is followed by what it refers to. The tree is whole all the same; and if the true
// page is not there, just it is lost.
func TestOtherReferences(t *testing.T) {
	t.Parallel()
	m := newMaker(t, 1)
	tr := m.tree()
	whole := []string{"a/b at 0: hello", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	names := []string{"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	rubbish := func(b *rec.Blob, kind uint8, refs ...id.ID) *rec.Blob {
		return as(spoiled(b), func(c *rec.Blob) {
			c.Kind, c.Refs = kind, nil
			for _, r := range refs {
				c.Refs = append(c.Refs, r[:]...)
			}
		})
	}
	x := id.ID{7}
	variants := map[*rec.Blob][]*rec.Blob{
		tr.p1: {rubbish(tr.p1, 1, tr.d2.ID, tr.d1.ID), rubbish(tr.p1, 1), rubbish(tr.p1, 1, x)},
		tr.p2: {rubbish(tr.p2, 1, tr.d1.ID, tr.d2.ID), rubbish(tr.p2, 1), rubbish(tr.p2, 1, x)},
		tr.root: {rubbish(tr.root, 2, tr.p2.ID, tr.p1.ID), rubbish(tr.root, 2, tr.p2.ID), rubbish(tr.root, 1, tr.d1.ID), rubbish(tr.root, 1),
			rubbish(tr.root, 2, x), rubbish(tr.root, 3, x)},
	}
	try := func(bad map[*rec.Blob][]*rec.Blob, meta bool) (*recorder, error) {
		copies := map[id.ID][]*rec.Blob{}
		for _, b := range []*rec.Blob{tr.snap, tr.root, tr.p1, tr.p2, tr.d1, tr.d2} {
			copies[b.ID] = []*rec.Blob{b}
			if l := bad[b]; l != nil {
				copies[b.ID] = l
			}
		}
		m.recs = m.recs[:2]
		m.recs[0].(*rec.Head).Meta = meta
		m.down(copies, tr.snap.ID, meta)
		return m.record(Options{Want: tr.snap.ID, MetaOnly: meta})
	}
	for b, list := range variants {
		for k, v := range list {
			other := list[(k+1)%len(list)]
			for name, copies := range map[string][]*rec.Blob{
				"before": {v, b}, "behind": {b, v}, "around": {v, b, other}, "two before": {v, other, b}, "two behind": {b, v, other},
				"of the same references": {spoiled(b), b, v},
			} {
				// The other pages too, so that what is passed over has copies of its own.
				bad := map[*rec.Blob][]*rec.Blob{b: copies}
				if b == tr.root {
					bad[tr.p1] = []*rec.Blob{variants[tr.p1][0], tr.p1}
					bad[tr.p2] = []*rec.Blob{tr.p2, variants[tr.p2][1]}
				}
				for _, meta := range []bool{false, true} {
					want := whole
					if meta {
						want = names
					}
					got, err := try(bad, meta)
					if err != nil || !slices.Equal(got.log, want) || len(got.lost) > 0 {
						t.Errorf("kind %d, rubbish %d %s, meta %v: %v, lost %v\n%s", b.Kind, k, name, meta, err, got.lost, strings.Join(got.log, "\n"))
					}
				}
			}
			got, err := try(map[*rec.Blob][]*rec.Blob{b: {v, other}}, false)
			switch {
			case b == tr.root && (err == nil || !strings.Contains(err.Error(), "root")):
				t.Errorf("kind %d, rubbish %d alone: %v", b.Kind, k, err)
			case b != tr.root && (err != nil || len(got.lost) != 1 || got.lost[0].ID != b.ID || !slices.Contains(got.log, map[*rec.Blob]string{tr.p1: "gap a a/d", tr.p2: "gap a/d <nil>"}[b])):
				t.Errorf("kind %d, rubbish %d alone: %v, lost %v\n%s", b.Kind, k, err, got.lost, strings.Join(got.log, "\n"))
			}
		}
	}
	// A copy of something else is none.
	m.recs = m.recs[:2]
	m.recs[0].(*rec.Head).Meta = false
	m.add(tr.snap, tr.root, tr.p1, as(tr.d1, func(*rec.Blob) {}), rubbish(tr.p1, 2, tr.p2.ID))
	if _, err := m.run(Options{}); !errors.Is(err, ErrUnexpected) {
		t.Error(err)
	}
}

// What is stored in the place of a page refers to pages that refer to each other, in so many ways
// that a stream of them does not come to an end while anybody waits: the reader ends it. What a snapshot can
// have is passed over to its end.
func TestEndlessRubbish(t *testing.T) {
	defer func(n, size uint64) { maxPassed, maxPassedBytes = n, size }(maxPassed, maxPassedBytes)
	m := newMaker(t, 1)
	var es []*rec.Entry
	for _, n := range "abcdefgh" {
		es = append(es, file(string(n)))
	}
	p, snap := m.forest(1, 2, es...)
	copies := map[id.ID][]*rec.Blob{}
	var bad *rec.Blob
	for i, b := range p.blobs {
		copies[i] = []*rec.Blob{b}
		if b.Kind == 3 {
			bad = b
		}
	}
	const fan = 15
	name := func(kind uint8, n int) id.ID { return id.ID{1, kind, byte(n)} }
	for kind := uint8(1); kind <= 3; kind++ {
		for n := range fan {
			b := as(spoiled(bad), func(c *rec.Blob) {
				c.Kind, c.ID, c.Refs = kind, name(kind, n), nil
				for k := range fan {
					if r := name(kind-1, k); kind > 1 {
						c.Refs = append(c.Refs, r[:]...)
					}
				}
			})
			if kind == 3 {
				b.ID = bad.ID
				b.CRC = b.Sum()
			}
			copies[b.ID] = []*rec.Blob{b}
		}
	}
	m.down(copies, snap, false)
	size := uint64(len(bad.Data))
	const passes = 1 + fan + fan*fan // and 64 more for eight entries
	for _, c := range []struct {
		blobs, bytes uint64
		want         error
	}{{passes, 1 << 30, nil}, {passes - 65, 1 << 30, ErrEndless}, {1 << 20, passes * size, nil}, {1 << 20, 200 * size, ErrEndless}} {
		maxPassed, maxPassedBytes = c.blobs, c.bytes
		got, err := m.record(Options{Want: snap})
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || len(got.lost) != 1 || got.lost[0].ID != bad.ID) {
			t.Errorf("%d, %d: %v, lost %v", c.blobs, c.bytes, err, got.lost)
		}
	}
}
