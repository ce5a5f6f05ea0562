package walk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// A checkpoint is refused, unless it was asked for. Then its end is a gap, even in
// the middle of a file, and its counts must be right all the same.
func TestPartial(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	pk, name, cert := m.box.Writer()
	partial := func(root id.ID, entries, bytes uint64) *rec.Blob {
		return m.snapshotOf(root, &snap.Snapshot{WriterKey: pk, WriterName: name, WriterCert: cert, Partial: true, Entries: entries, Bytes: bytes})
	}
	begun := file("f", x(0, 0, 5))
	begun.More, begun.Size = true, 9
	cut := m.page([]id.ID{tr.d1.ID}, dir("a"), begun)
	for what, c := range map[string]struct {
		blobs []*rec.Blob // parents first; the data last
		want  string
		err   error
	}{
		"whole files": {[]*rec.Blob{partial(tr.p1.ID, 3, 10), tr.p1, tr.d1}, "a/b at 0: hello|a/c at 0: world|entry a|entry a/b|entry a/c|gap a/c at 1 <nil>|snapshot", nil},
		"in a file":   {[]*rec.Blob{partial(cut.ID, 2, 5), cut, tr.d1}, "entry a|entry f|f at 0: hello|gap f at 5 <nil>|snapshot", nil},
		"miscounted":  {[]*rec.Blob{partial(tr.p1.ID, 4, 10), tr.p1, tr.d1}, "", ErrCounts},
		"no snapshot": {[]*rec.Blob{m.snapshot(cut.ID, 2, 5), cut, tr.d1}, "", page.ErrPage},
	} {
		again := func() (list []rec.Record, clones []*rec.Blob) {
			for _, b := range c.blobs {
				x, y := *b, *b // readers free what they get
				list, clones = append(list, &x), append(clones, &y)
			}
			return list, clones
		}
		n := newMaker(t, 1)
		n.recs = []rec.Record{n.recs[0], &rec.Session{Data: m.box.Session()}}
		list, clones := again()
		n.add(list...)
		got, err := n.run(Options{Want: c.blobs[0].ID, Partial: true})
		if !errors.Is(err, c.err) || err == nil && strings.Join(got, "|") != c.want {
			t.Errorf("%s: %v\n%s\nwant %s", what, err, strings.Join(got, "|"), c.want)
		}
		r := &recorder{}
		err = m.peer(clones...).drive(t, m, Options{Want: c.blobs[0].ID, Partial: true}, r)
		slices.Sort(r.log)
		if !errors.Is(err, c.err) || err == nil && strings.Join(r.log, "|") != c.want {
			t.Errorf("%s, driven: %v\n%s\nwant %s", what, err, strings.Join(r.log, "|"), c.want)
		}
		if what == "no snapshot" {
			continue
		}
		n.recs = n.recs[:2]
		list, clones = again()
		n.add(list...)
		if _, err := n.run(Options{Want: c.blobs[0].ID}); !errors.Is(err, ErrPartial) {
			t.Errorf("%s: %v", what, err)
		}
		if err := m.peer(clones...).drive(t, m, Options{Want: c.blobs[0].ID}, &recorder{}); !errors.Is(err, ErrPartial) {
			t.Errorf("%s, driven: %v", what, err)
		}
	}
}
