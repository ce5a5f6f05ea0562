package walk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/wire"
)

// A maker seals what a test wants, right or wrong.
type maker struct {
	t      testing.TB
	master *key.Key
	box    *box.Sealer
	recs   []rec.Record
}

func newMaker(t testing.TB, n byte) *maker {
	master, err := key.FromMaster([32]byte(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := box.NewSealer(master, box.Fastest)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, master: master, box: b}
	m.recs = []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Down}, &rec.Session{Data: b.Session()}}
	return m
}

// blob seals a blob and returns its record without putting it into the stream.
func (m *maker) blob(kind uint8, refs []id.ID, plain []byte) *rec.Blob {
	var r []byte
	for _, i := range refs {
		r = append(r, i[:]...)
	}
	i := m.box.Name(kind, r, plain)
	data, err := m.box.Seal(nil, kind, i, r, plain)
	if err != nil {
		m.t.Fatal(err)
	}
	b := &rec.Blob{ID: i, Kind: kind, SID: m.box.SID(), Refs: r, Data: data}
	if kind == rec.KindSnapshot {
		b.Sig = m.box.Sign(i)
	}
	b.CRC = b.Sum()
	return b
}

func (m *maker) data(s string) *rec.Blob { return m.blob(rec.KindData, nil, []byte(s)) }

func (m *maker) page(refs []id.ID, es ...*rec.Entry) *rec.Blob {
	w := wire.NewWriter()
	page.Encode(w, es)
	return m.blob(rec.KindPage, refs, w.Bytes())
}

func (m *maker) index(kind uint8, keys []page.Key, refs ...id.ID) *rec.Blob {
	w := wire.NewWriter()
	page.EncodeIndex(w, keys)
	return m.blob(kind, refs, w.Bytes())
}

func (m *maker) snapshot(root id.ID, entries, bytes uint64) *rec.Blob {
	pk, name, cert := m.box.Writer()
	s := snap.Snapshot{WriterKey: pk, WriterName: name, WriterCert: cert, Entries: entries, Bytes: bytes}
	return m.snapshotOf(root, &s)
}

func (m *maker) snapshotOf(root id.ID, s *snap.Snapshot) *rec.Blob {
	plain, err := s.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.blob(rec.KindSnapshot, []id.ID{root}, plain)
}

func (m *maker) add(rs ...rec.Record) *maker { m.recs = append(m.recs, rs...); return m }

func (m *maker) stream() []byte {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, r := range append(slices.Clone(m.recs), &rec.End{}) {
		if err := w.Write(r); err != nil {
			m.t.Fatal(err)
		}
	}
	return b.Bytes()
}

// A recorder is a Sink that writes down what it is given.
type recorder struct {
	mu   sync.Mutex
	log  []string
	lost []Loss
	fail map[string]error // what it returns for a line
}

func (r *recorder) note(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
	return r.fail[r.log[len(r.log)-1]]
}

func (r *recorder) Snapshot(id.ID, *snap.Snapshot) error { return r.note("snapshot") }
func (r *recorder) Page(p *Page) error {
	for _, e := range p.Entries {
		if err := r.note("entry %s", page.KeyOf(e)); err != nil {
			return err
		}
	}
	return nil
}
func (r *recorder) Data(p *Page, ref int, plain []byte) error {
	for _, u := range p.Uses[ref] {
		if err := r.note("%s at %d: %s", p.Entries[u.Entry].Path, u.At, plain[u.Off:u.Off+u.Len]); err != nil {
			return err
		}
	}
	return nil
}
func (r *recorder) lose(l Loss) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, l)
}
func (r *recorder) Missing(p *Page, ref int, l Loss) error {
	r.lose(l)
	return r.note("missing %s", p.Where(ref))
}
func (r *recorder) Gap(first page.Key, next *page.Key, l Loss) error {
	r.lose(l)
	return r.note("gap %s %v", first, next)
}
func (r *recorder) End(e *rec.End) error {
	if e.Status != 0 {
		return r.note("end %d", e.Status)
	}
	return nil
}
func (r *recorder) Orphan(e *rec.Entry) error { return r.note("orphan %s", page.KeyOf(e)) }

func (m *maker) run(o Options) ([]string, error) {
	r, err := m.record(o)
	return r.log, err
}

// record returns the sink of a walk, its log sorted.
func (m *maker) record(o Options) (*recorder, error) {
	open, err := box.NewOpener(m.master)
	if err != nil {
		m.t.Fatal(err)
	}
	r := &recorder{}
	err = Run(rec.NewReader(bytes.NewReader(m.stream()), rec.Sealed), open, o, r)
	slices.Sort(r.log)
	return r, err
}

func dir(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o755} }

func file(p string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: p, Type: rec.File, Extents: ext}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

func x(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

// tree is two pages below an index page.
type tree struct {
	d1, d2, p1, p2, root, snap *rec.Blob
}

func (m *maker) tree() tree {
	var t tree
	t.d1, t.d2 = m.data("helloworld"), m.data("another")
	t.p1 = m.page([]id.ID{t.d1.ID}, dir("a"), file("a/b", x(0, 0, 5)), file("a/c", x(0, 5, 5)))
	t.p2 = m.page([]id.ID{t.d2.ID, t.d1.ID}, file("a/d", x(0, 0, 7)), dir("e"), file("e/f", x(1, 0, 5), rec.Extent{Hole: true, Len: 3}, x(1, 9, 1)))
	t.root = m.index(2, []page.Key{{Path: "a"}, {Path: "a/d"}}, t.p1.ID, t.p2.ID)
	t.snap = m.snapshot(t.root.ID, 6, 26)
	return t
}

func TestWholeTree(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	d1 := *tr.d1 // it is sent for each page that uses it
	m.add(tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, &d1)
	got, err := m.run(Options{Want: tr.snap.ID})
	want := []string{"a/b at 0: hello", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
	if got, err = m.run(Options{MetaOnly: true}); err != nil || len(got) != 7 {
		t.Fatalf("metadata only: %v %q", err, got)
	}
	b := m.stream()
	for n := 0; n < len(b); n += 101 {
		open, _ := box.NewOpener(m.master)
		if err := Run(rec.NewReader(bytes.NewReader(b[:n]), rec.Sealed), open, Options{}, &recorder{}); !errors.Is(err, rec.ErrCut) && !errors.Is(err, rec.ErrEmpty) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	other := newMaker(t, 2)
	foreign := other.tree()
	d1 := func() *rec.Blob { b := *tr.d1; return &b }
	onePage := func(entries, size uint64, refs []id.ID, es ...*rec.Entry) []rec.Record {
		p := m.page(refs, es...)
		return []rec.Record{m.snapshot(p.ID, entries, size), p}
	}
	forged := *tr.snap
	forged.Sig = foreign.snap.Sig
	forged.CRC = forged.Sum()
	short := m.data("tiny")
	badFirst := m.index(2, []page.Key{{Path: "a"}, {Path: "a/e"}}, tr.p1.ID, tr.p2.ID)
	twice := m.index(2, []page.Key{{Path: "a"}, {Path: "a/d"}}, tr.p1.ID, tr.p1.ID)
	pk, name, cert := m.box.Writer()
	partial := m.snapshotOf(tr.root.ID, &snap.Snapshot{WriterKey: pk, WriterName: name, WriterCert: cert, Partial: true})
	uncertified := m.snapshotOf(tr.root.ID, &snap.Snapshot{WriterKey: pk, WriterName: "x", WriterCert: cert})
	for name, c := range map[string]struct {
		recs []rec.Record
		want error
	}{
		"other snapshot":    {[]rec.Record{m.snapshot(tr.root.ID, 1, 1)}, ErrOther},
		"data first":        {[]rec.Record{d1()}, ErrUnexpected},
		"forged signature":  {[]rec.Record{&forged}, box.ErrSignature},
		"uncertified":       {[]rec.Record{uncertified}, box.ErrCert},
		"partial":           {[]rec.Record{partial}, ErrPartial},
		"foreign session":   {[]rec.Record{&rec.Session{Data: other.box.Session()}}, nil},
		"foreign blob":      {[]rec.Record{tr.snap, foreign.root}, ErrUnexpected},
		"wrong order":       {[]rec.Record{tr.snap, tr.root, tr.p2}, ErrUnexpected},
		"data out of turn":  {[]rec.Record{tr.snap, tr.root, tr.p1, tr.d2}, ErrUnexpected},
		"stops early":       {[]rec.Record{tr.snap, tr.root, tr.p1, d1()}, ErrIncomplete},
		"nothing":           {nil, ErrIncomplete},
		"more behind":       {[]rec.Record{tr.snap, tr.root, tr.p1, d1(), tr.p2, tr.d2, d1(), tr.d2}, ErrUnexpected},
		"first key differs": {[]rec.Record{m.snapshot(badFirst.ID, 6, 26), badFirst, tr.p1, d1(), tr.p2}, page.ErrPage},
		"a page twice":      {[]rec.Record{m.snapshot(twice.ID, 6, 26), twice}, page.ErrPage},
		"blob too short":    {append(onePage(1, 5, []id.ID{short.ID}, file("a", x(0, 0, 5))), short), page.ErrPage},
		"more than counted": {append(onePage(1, 4, []id.ID{tr.d1.ID}, file("a", x(0, 0, 5))), d1()), ErrCounts},
		"climbs out":        {onePage(1, 0, nil, &rec.Entry{Path: "a", Type: rec.Symlink, Target: "/etc"}, dir("a/b")), page.ErrPage},
		"stored record":     {[]rec.Record{&rec.Stored{ID: tr.snap.ID}}, ErrUnexpected},
		"missing snapshot":  {[]rec.Record{&rec.Missing{ID: tr.snap.ID}}, nil},
		"missing root":      {[]rec.Record{tr.snap, &rec.Missing{ID: tr.root.ID}}, nil},
		"missing unasked":   {[]rec.Record{tr.snap, tr.root, &rec.Missing{ID: tr.d1.ID}}, ErrUnexpected},
	} {
		n := newMaker(t, 1)
		n.recs = append(n.recs, &rec.Session{Data: m.box.Session()})
		n.add(c.recs...)
		o := Options{}
		if name == "other snapshot" {
			o.Want = tr.snap.ID
		}
		_, err := n.run(o)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A stream without file contents proves nothing about them.
func TestMetaIsNotAll(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	m.recs[0] = &rec.Head{Kind: rec.Sealed, Order: rec.Down, Meta: true}
	m.add(tr.snap, tr.root, tr.p1, tr.p2)
	if _, err := m.run(Options{}); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
	if _, err := m.run(Options{MetaOnly: true}); err != nil {
		t.Error(err)
	}
}

func TestOrderUpIsRefused(t *testing.T) {
	m := newMaker(t, 1)
	m.recs[0] = &rec.Head{Kind: rec.Sealed, Order: rec.Up}
	if _, err := m.run(Options{}); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
}

func TestMissingData(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	d1 := *tr.d1
	m.add(tr.snap, tr.root, tr.p1, &rec.Missing{ID: tr.d1.ID}, tr.p2, tr.d2, &d1)
	got, err := m.run(Options{})
	if err != nil || !slices.Contains(got, "missing a/b") || slices.Contains(got, "a/b at 0: hello") || !slices.Contains(got, "e/f at 0: hello") {
		t.Fatal(err, got)
	}
}

// A lost page loses its entries only: those behind it come with directories
// made up for them, and what needs more is named.
func TestMissingPage(t *testing.T) {
	m := newMaker(t, 1)
	d := m.data("helloworld")
	lead := file("a/b", x(0, 0, 5))
	lead.Links = 2
	big := &rec.Entry{Path: "a/c", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{x(0, 0, 5)}}
	rest := &rec.Entry{Path: "a/c", Type: rec.File, Size: 9, Off: 5, Extents: []rec.Extent{x(0, 0, 4)}}
	p1 := m.page([]id.ID{d.ID}, dir("a"), lead, big)
	p2 := m.page([]id.ID{d.ID}, rest, &rec.Entry{Path: "a/l", Type: rec.HardLink, Leader: "a/b"}, file("a/z", x(0, 0, 1)))
	root := m.index(2, []page.Key{{Path: "a"}, {Path: "a/c", Off: 5}}, p1.ID, p2.ID)
	m.add(m.snapshot(root.ID, 5, 15), root, &rec.Missing{ID: p1.ID}, p2, d)
	got, err := m.run(Options{})
	want := []string{"a/z at 0: h", "entry a", "entry a/z", "gap a a/c at 5", "orphan a/c at 5", "orphan a/l", "snapshot"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
}

// Whatever bytes come, a walk ends with a verdict.
func FuzzWalk(f *testing.F) {
	m := newMaker(f, 1)
	tr := m.tree()
	d1 := *tr.d1
	m.add(tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, &d1)
	f.Add(m.stream())
	f.Fuzz(func(t *testing.T, b []byte) {
		open, err := box.NewOpener(m.master)
		if err != nil {
			t.Fatal(err)
		}
		_ = Run(rec.NewReader(bytes.NewReader(b), rec.Sealed), open, Options{}, &recorder{})
	})
}
