package walk

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
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
		other := func(l Loss) bool { return l.ID != c.bad.ID || !errors.Is(l.Why, box.ErrSealed) }
		got, err := m.record(Options{Want: tr.snap.ID})
		if err != nil || !slices.Equal(got.log, c.want) || len(got.lost) == 0 || slices.ContainsFunc(got.lost, other) {
			t.Errorf("%s: %v, lost are %v\n%s\nand not\n%s", name, err, got.lost, strings.Join(got.log, "\n"), strings.Join(c.want, "\n"))
		}
		p := m.peer(is(tr.snap), is(tr.root), is(tr.p1), is(tr.d1), is(tr.p2), is(tr.d2))
		got = &recorder{}
		err = p.drive(t, m, Options{Want: tr.snap.ID}, got)
		slices.Sort(got.log)
		if err != nil || !slices.Equal(got.log, c.want) || len(got.lost) == 0 || slices.ContainsFunc(got.lost, other) {
			t.Errorf("%s, asked for: %v, lost are %v\n%s", name, err, got.lost, strings.Join(got.log, "\n"))
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
		if _, err := m.run(Options{}); !errors.Is(err, box.ErrSealed) {
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
	got, err := m.run(Options{})
	if want := []string{"entry f", "gap a f", "snapshot"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %q", err, got)
	}
	m.recs = m.recs[:2]
	wrong := m.blob(rec.KindPage, nil, []byte{0x81})
	root := m.index(2, []page.Key{{Path: "a"}, {Path: "b"}}, m.page(nil, file("a")).ID, wrong.ID)
	m.add(m.snapshot(root.ID, 2, 0), root, m.page(nil, file("a")), wrong)
	if _, err := m.run(Options{}); !errors.Is(err, page.ErrPage) {
		t.Error(err)
	}
}

// Behind a page that is lost, or passed over, a directory may be absent; a name that came as a link or a
// file is none, whatever a snapshot says below it.
func TestNoDirectoryOfALink(t *testing.T) {
	m := newMaker(t, 1)
	link := &rec.Entry{Path: "a", Type: rec.Symlink, Target: "/etc"}
	first := m.page(nil, link)
	lost := m.page(nil, file("a/b"))
	last := m.page(nil, file("a/c"), file("d"))
	root := m.index(2, []page.Key{{Path: "a"}, {Path: "a/b"}, {Path: "a/c"}}, first.ID, lost.ID, last.ID)
	sn := m.snapshot(root.ID, 4, 0)
	check := func(how string, log []string, err error) {
		t.Helper()
		made := slices.DeleteFunc(slices.Clone(log), func(s string) bool { return s != "entry a" && s != "entry a/c" })
		if !errors.Is(err, page.ErrPage) || len(made) > 1 || slices.Contains(made, "entry a/c") {
			t.Errorf("%s: %v %q", how, err, log)
		}
	}
	m.add(sn, root, first, &rec.Missing{ID: lost.ID}, last)
	log, err := m.run(Options{})
	check("in a stream", log, err)
	log, err = m.peer(sn, root, first, last).driven(t, m, Options{Want: sn.ID})
	check("asked for", log, err)
	// Of the page that is passed over, nobody asks what is in it.
	log, err = m.peer(sn, root, first, last).driven(t, m, Options{Want: sn.ID, Choose: pick{"a/c"}})
	check("a part", log, err)
}

// A directory that was lost is made up: as a way, of which nobody knows what else is in it.
func TestMadeUpDirectory(t *testing.T) {
	m := newMaker(t, 1)
	lost := m.page(nil, dir("a"))
	last := m.page(nil, file("a/c"))
	root := m.index(2, []page.Key{{Path: "a"}, {Path: "a/c"}}, lost.ID, last.ID)
	sn := m.snapshot(root.ID, 2, 0)
	for how, walk := range map[string]func(Sink) error{
		"in a stream": func(s Sink) error {
			m.recs = m.recs[:2]
			m.add(as(sn, func(*rec.Blob) {}), as(root, func(*rec.Blob) {}), &rec.Missing{ID: lost.ID}, as(last, func(*rec.Blob) {}))
			open, err := box.NewOpener(m.master)
			if err != nil {
				return err
			}
			return Run(rec.NewReader(bytes.NewReader(m.stream()), rec.Sealed), open, Options{}, s)
		},
		"asked for": func(s Sink) error { return m.peer(sn, root, last).drive(t, m, Options{Want: sn.ID}, s) },
	} {
		var s entries
		if err := walk(&s); err != nil || len(s.got) != 2 || !s.got[0].Way || !s.got[0].Unread || s.got[0].Path != "a" || s.got[1].Way {
			t.Errorf("%s: %v %+v", how, err, s.got)
		}
	}
}

// entries is a Sink that keeps them.
type entries struct {
	recorder
	got []*rec.Entry
}

func (s *entries) Page(p *Page) error {
	s.got = append(s.got, p.Entries...)
	return s.recorder.Page(p)
}

// Of a blob of another kind under the id that is due nothing is used; but if a writer has named it so, the
// snapshot is not valid.
func TestOtherKind(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	rubbish := func(b *rec.Blob, kind uint8, refs []byte) *rec.Blob {
		return as(b, func(c *rec.Blob) {
			c.Kind, c.Refs, c.Data = kind, refs, bytes.Repeat([]byte{7}, 60)
			if kind == rec.KindSnapshot {
				c.Sig = bytes.Repeat([]byte{7}, 64)
			}
		})
	}
	for name, c := range map[string]struct {
		bad  *rec.Blob
		lost string
	}{
		"a page in the place of data":      {rubbish(tr.d2, rec.KindPage, nil), "missing a/d"},
		"data in the place of a page":      {rubbish(tr.p1, rec.KindData, nil), "gap a a/d"},
		"an index in the place of a page":  {rubbish(tr.p1, 2, tr.p2.ID[:]), "gap a a/d"},
		"a snapshot in the place of data":  {rubbish(tr.d2, rec.KindSnapshot, tr.root.ID[:]), "missing a/d"},
		"a snapshot in the place of pages": {rubbish(tr.p2, rec.KindSnapshot, tr.root.ID[:]), "gap a/d <nil>"},
	} {
		m.recs = m.recs[:2]
		var blobs []*rec.Blob
		for _, b := range []*rec.Blob{tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, tr.d1} {
			switch {
			case b.ID == c.bad.ID:
				b = c.bad
			case b == tr.d1 && c.bad.ID == tr.p1.ID && len(blobs) == 3:
				continue // pv-get does not follow it
			case (b == tr.d2 || b == tr.d1 && len(blobs) > 4) && c.bad.ID == tr.p2.ID:
				continue
			}
			blobs = append(blobs, b)
		}
		for _, b := range blobs {
			m.add(as(b, func(*rec.Blob) {}))
		}
		got, err := m.run(Options{})
		if err != nil || !slices.Contains(got, c.lost) || !slices.Contains(got, "snapshot") {
			t.Errorf("%s: %v %q", name, err, got)
		}
		got, err = m.peer(tr.d1, tr.d2, tr.p1, tr.p2, tr.root, tr.snap, c.bad).driven(t, m, Options{Want: tr.snap.ID})
		if err != nil || !slices.Contains(got, c.lost) {
			t.Errorf("%s, asked for: %v %q", name, err, got)
		}
	}
	m.recs = m.recs[:2]
	low := m.page(nil, dir("a"))
	high := m.index(3, []page.Key{{Path: "a"}}, low.ID)
	sn := m.snapshot(high.ID, 1, 0)
	if _, err := m.peer(low, high, sn).driven(t, m, Options{Want: sn.ID}); !errors.Is(err, ErrUnexpected) {
		t.Errorf("named so, asked for: %v", err)
	}
	m.add(sn, high, low)
	if _, err := m.run(Options{}); !errors.Is(err, ErrUnexpected) {
		t.Errorf("named so: %v", err)
	}
}

// Where one copy of a blob does not open, another one serves: one that stands behind
// it in a stream, and one that is asked for. If none opens, what was wrong with the first
// is told.
func TestCopies(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	blobs := []*rec.Blob{tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, tr.d1}
	whole := []string{"a/b at 0: hello", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	again := func(b *rec.Blob) *rec.Blob { c := *b; return &c }
	for _, bad := range blobs {
		for _, c := range []struct {
			rubbish, good int // copies, before and behind which another stands
		}{{1, 1}, {3, 1}, {0, 2}, {2, 2}, {50, 1}} {
			m.recs = m.recs[:2]
			p := m.peer()
			p.copies = map[id.ID][]*rec.Blob{}
			for _, b := range blobs {
				var all []*rec.Blob
				if b == bad {
					for range c.rubbish {
						all = append(all, spoiled(b))
					}
					for range c.good {
						all = append(all, again(b))
					}
					all = append(all, spoiled(b))
				} else {
					all = append(all, again(b))
				}
				if b == tr.snap && b == bad { // pv-get gives it once, out of its object
					m.add(again(b))
				} else {
					for _, one := range all {
						m.add(again(one))
					}
				}
				p.blobs[b.ID], p.copies[b.ID] = all[0], all[1:]
			}
			got, err := m.record(Options{Want: tr.snap.ID})
			if err != nil || !slices.Equal(got.log, whole) || len(got.lost) > 0 {
				t.Errorf("%+v: %v, lost %v\n%s", c, err, got.lost, strings.Join(got.log, "\n"))
			}
			got = &recorder{}
			err = p.drive(t, m, Options{Want: tr.snap.ID}, got)
			slices.Sort(got.log)
			if err != nil || !slices.Equal(got.log, whole) || len(got.lost) > 0 {
				t.Errorf("%+v, asked for: %v, lost %v\n%s", c, err, got.lost, strings.Join(got.log, "\n"))
			}
		}
	}
	// One copy that is cut short, and then others that do not open either.
	m.recs = m.recs[:2]
	short := again(tr.d2)
	short.Data = short.Data[:3]
	short.CRC = short.Sum()
	m.add(tr.snap, tr.root, tr.p1, again(tr.d1), tr.p2, again(short), spoiled(tr.d2), spoiled(tr.d2), again(tr.d1))
	got, err := m.record(Options{Want: tr.snap.ID})
	if err != nil || len(got.lost) != 1 || got.lost[0].ID != tr.d2.ID {
		t.Errorf("%v, lost %v", err, got.lost)
	}
	p := m.peer(tr.snap, tr.root, tr.p1, again(tr.d1), tr.p2)
	p.blobs[tr.d2.ID] = again(short)
	p.copies = map[id.ID][]*rec.Blob{tr.d2.ID: {}}
	for range 3 * maxCopies {
		p.copies[tr.d2.ID] = append(p.copies[tr.d2.ID], spoiled(tr.d2))
	}
	got = &recorder{}
	if err := p.drive(t, m, Options{Want: tr.snap.ID}, got); err != nil || len(got.lost) != 1 || got.lost[0].ID != tr.d2.ID {
		t.Errorf("asked for: %v, lost %v", err, got.lost)
	}
}

// A list key opens no data. That is no damage: the walk ends, and names no file as lost.
func TestListKeyOpensNoData(t *testing.T) {
	t.Parallel()
	m := newMaker(t, 1)
	tr := m.tree()
	k, err := m.master.Derive(key.List, "")
	if err != nil {
		t.Fatal(err)
	}
	open, err := box.NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	m.add(tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, as(tr.d1, func(*rec.Blob) {}))
	got := &recorder{}
	if err := Run(rec.NewReader(bytes.NewReader(m.stream()), rec.Sealed), open, Options{}, got); !errors.Is(err, box.ErrCannot) || len(got.lost) > 0 {
		t.Errorf("%v, lost %v", err, got.lost)
	}
}
