package walk

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// as returns a copy of a blob's record that is changed.
func as(b *rec.Blob, change func(*rec.Blob)) *rec.Blob {
	c := *b
	c.Refs, c.Data, c.Sig = slices.Clone(b.Refs), slices.Clone(b.Data), slices.Clone(b.Sig)
	change(&c)
	c.CRC = c.Sum()
	return &c
}

// writer returns a maker of another writer, or another session, of m's master key.
func (m *maker) writer(name string) *maker {
	k, err := m.master.Derive(key.Write, name)
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := box.NewSealer(k, box.Fastest)
	if err != nil {
		m.t.Fatal(err)
	}
	return &maker{t: m.t, master: m.master, box: b}
}

// TestStoreAttacks plays what a store can do with the blobs of several snapshots, and
// what a writer or reader can do beyond his rights, in a stream and where blobs are
// asked for. Each dies at the check that docs/format/crypto.md ("Reading") names.
func TestStoreAttacks(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	// The next run, in a session of its own: a/b has changed, the rest has not.
	n := m.writer("laptop")
	d := n.data("HELLOworld")
	p := n.page([]id.ID{d.ID}, dir("a"), file("a/b", x(0, 0, 5)), file("a/c", x(0, 5, 5)))
	root := n.index(2, []page.Key{{Path: "a"}, {Path: "a/d"}}, p.ID, tr.p2.ID)
	sn := n.snapshot(root.ID, 6, 26)
	all := func(change ...*rec.Blob) []*rec.Blob { // the blobs of the new snapshot, some of them changed
		bs := []*rec.Blob{sn, root, p, d, tr.p2, tr.d2, tr.d1}
		for i, b := range bs {
			for _, c := range change {
				if c.ID == b.ID {
					bs[i] = c
				}
			}
		}
		return bs
	}
	like := func(b, other *rec.Blob) *rec.Blob { // other's seal under b's name
		return as(b, func(c *rec.Blob) { c.Data, c.SID = slices.Clone(other.Data), other.SID })
	}
	under := func(b, root *rec.Blob) *rec.Blob { return as(b, func(c *rec.Blob) { c.Refs = root.ID[:] }) }
	// What needs more than a store has: a snapshot that says who made it.
	claim := func(pk []byte, name string, cert, sig []byte, partial bool) *rec.Blob {
		b := n.snapshotOf(root.ID, &snap.Snapshot{WriterKey: pk, WriterName: name, WriterCert: cert, Entries: 6, Bytes: 26, Partial: partial})
		if sig != nil {
			b = as(b, func(c *rec.Blob) { c.Sig = sig })
		}
		return b
	}
	pk, name, cert := n.box.Writer()
	masterPK, masterName, masterCert := m.box.Writer()
	other := newMaker(t, 2)
	otherPK, otherName, otherCert := other.box.Writer()
	ownPK, own, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(sk ed25519.PrivateKey, pk []byte, name string, cert []byte) *rec.Blob {
		b := claim(pk, name, cert, nil, false)
		return as(b, func(c *rec.Blob) { c.Sig = ed25519.Sign(sk, append([]byte("preserve/v1/snapshot\x00"), c.ID[:]...)) })
	}
	selfMade := ed25519.Sign(own, key.Certified(ownPK, "laptop"))
	deep := m.index(3, []page.Key{{Path: "a"}}, p.ID)
	level := m.index(2, []page.Key{{Path: "a"}}, root.ID)
	twice := n.page([]id.ID{d.ID, d.ID}, file("a", x(0, 0, 5), x(1, 0, 5)))
	with := func(first *rec.Blob, more ...*rec.Blob) []*rec.Blob { return append([]*rec.Blob{first}, more...) }
	stored := []string{"a/b at 0: HELLO", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	for name, c := range map[string]struct {
		blobs  []*rec.Blob
		want   error
		stream bool // only in a stream: who asks gets what he asks for
	}{
		"nothing": {blobs: all()},
		// Seals of other blobs.
		"old root under the new snapshot":         {all(under(sn, tr.root)), box.ErrSealed, false},
		"old snapshot under the new name":         {all(like(sn, tr.snap)), box.ErrSealed, false},
		"old snapshot for the new one":            {with(tr.snap, all()[1:]...), ErrOther, true},
		"old root in the new one's place":         {with(sn, tr.root, tr.p1, tr.d1, tr.p2, tr.d2), ErrUnexpected, true},
		"old root under the new one's name":       {all(like(root, tr.root)), box.ErrSealed, false},
		"old page in the new one's place":         {with(sn, root, tr.p1, tr.d1, tr.p2, tr.d2), ErrUnexpected, true},
		"old page under the new one's name":       {all(like(p, tr.p1)), box.ErrSealed, false},
		"old data under the new one's name":       {all(like(d, tr.d1)), box.ErrSealed, false},
		"data exchanged between two files":        {all(like(tr.d1, tr.d2), like(tr.d2, tr.d1)), box.ErrSealed, false},
		"another session's name":                  {all(as(d, func(c *rec.Blob) { c.SID = m.box.SID() })), box.ErrSealed, false},
		"a session that nobody knows":             {all(as(d, func(c *rec.Blob) { c.SID = id.ID{1} })), box.ErrNoSession, false},
		"a data blob as a page":                   {all(as(p, func(c *rec.Blob) { c.Kind, c.Refs, c.Data = 0, nil, d.Data })), ErrUnexpected, false},
		"the root as an index page of index ones": {all(as(root, func(c *rec.Blob) { c.Kind = 3 })), box.ErrSealed, false},
		"the root as a page":                      {all(as(root, func(c *rec.Blob) { c.Kind = 1 })), box.ErrSealed, false},
		"references exchanged":                    {all(as(root, func(c *rec.Blob) { c.Refs = slices.Concat(c.Refs[32:], c.Refs[:32]) })), box.ErrSealed, false},
		"a reference twice":                       {all(as(root, func(c *rec.Blob) { c.Refs = slices.Concat(c.Refs[:32], c.Refs[:32]) })), box.ErrSealed, false},
		"a reference taken away":                  {all(as(root, func(c *rec.Blob) { c.Refs = c.Refs[:32] })), box.ErrSealed, false},
		// In an order of the store's own.
		"pages exchanged":     {with(sn, root, tr.p2, tr.d2, tr.d1, p, d), ErrUnexpected, true},
		"a page left out":     {with(sn, root, tr.p2, tr.d2, tr.d1), ErrUnexpected, true},
		"the last one absent": {all()[:6], ErrIncomplete, true},
		// Beyond one's rights.
		"a writer of his own making":                      {with(signed(own, ownPK, "laptop", selfMade), all()[1:]...), box.ErrCert, false},
		"with the certificate of a real writer":           {with(signed(own, ownPK, name, cert), all()[1:]...), box.ErrCert, false},
		"a certificate of another master key":             {with(claim(otherPK, otherName, otherCert, nil, false), all()[1:]...), box.ErrCert, false},
		"a certificate for another name":                  {with(claim(pk, "server", cert, nil, false), all()[1:]...), box.ErrCert, false},
		"no certificate":                                  {with(claim(pk, name, nil, nil, false), all()[1:]...), box.ErrCert, false},
		"signed by another writer of this master":         {with(claim(masterPK, masterName, masterCert, nil, false), all()[1:]...), box.ErrSignature, false},
		"with the signature of an earlier snapshot":       {with(claim(pk, name, cert, sn.Sig[:64:64], true), all()[1:]...), box.ErrSignature, false},
		"signed by whoever stored it":                     {with(as(sn, func(c *rec.Blob) { c.Sig = ed25519.Sign(own, c.ID[:]) }), all()[1:]...), box.ErrSignature, false},
		"a part of a run, passed off as the whole":        {with(claim(pk, name, cert, nil, true), all()[1:]...), ErrPartial, false},
		"signed, and says more entries than it has":       {with(n.snapshot(root.ID, 7, 26), all()[1:]...), ErrCounts, false},
		"signed, and says fewer entries":                  {with(n.snapshot(root.ID, 5, 26), all()[1:]...), ErrCounts, false},
		"signed, and says more bytes":                     {with(n.snapshot(root.ID, 6, 27), all()[1:]...), ErrCounts, false},
		"signed, and says fewer bytes":                    {with(n.snapshot(root.ID, 6, 25), all()[1:]...), ErrCounts, false},
		"signed, an index page above the wrong kind":      {with(n.snapshot(deep.ID, 3, 10), deep, p, d), ErrUnexpected, false},
		"signed, an index page above one of its own kind": {with(n.snapshot(level.ID, 6, 26), append([]*rec.Blob{level}, all()[1:]...)...), ErrUnexpected, false},
		"signed, a snapshot as its own root":              {with(n.snapshot(sn.ID, 6, 26), sn), ErrUnexpected, false},
		"signed, a reference twice":                       {with(n.snapshot(twice.ID, 1, 10), twice, d), page.ErrPage, false},
	} {
		s := newMaker(t, 1)
		s.add(&rec.Session{Data: m.box.Session()}, &rec.Session{Data: n.box.Session()})
		for _, b := range c.blobs {
			s.add(as(b, func(*rec.Blob) {}))
		}
		want := c.blobs[0].ID
		if c.stream {
			want = sn.ID
		}
		if c.want == nil && name != "nothing" {
			t.Fatalf("%s: what is it refused for?", name)
		}
		// What can be gone without is named as lost, for the same reason, and nothing else comes of it.
		judge := func(how string, got *recorder, err error) {
			for _, l := range got.lost {
				err = errors.Join(err, l.Why)
			}
			given := func(line string) bool {
				return !slices.Contains(stored, line) && !strings.HasPrefix(line, "gap ") && !strings.HasPrefix(line, "missing ")
			}
			if !errors.Is(err, c.want) || err == nil && (c.want != nil || len(got.log) != 12) || err != nil && slices.ContainsFunc(got.log, given) {
				t.Errorf("%s%s: %v, want %v\n%s", name, how, err, c.want, strings.Join(got.log, "\n"))
			}
		}
		got, err := s.record(Options{Want: want})
		judge("", got, err)
		if c.stream {
			continue
		}
		peer := s.peer(c.blobs...)
		peer.sessions = [][]byte{m.box.Session(), n.box.Session()}
		got = &recorder{}
		err = peer.drive(t, m, Options{Want: want}, got)
		judge(", asked for", got, err)
	}
	if bytes.Equal(sn.Sig, tr.snap.Sig) {
		t.Error("two snapshots have one signature")
	}
}
