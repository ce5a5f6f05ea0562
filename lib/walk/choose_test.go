package walk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// A chooseFunc is a Chooser that wants to see everything.
type chooseFunc func(e *rec.Entry) ([]*rec.Entry, error)

func (f chooseFunc) Choose(e *rec.Entry) ([]*rec.Entry, error) { return f(e) }
func (chooseFunc) Reaches(page.Key, *page.Key) bool            { return true }

// without leaves paths out.
func without(paths ...string) Chooser {
	return chooseFunc(func(e *rec.Entry) ([]*rec.Entry, error) {
		if slices.Contains(paths, e.Path) {
			return nil, nil
		}
		return []*rec.Entry{e}, nil
	})
}

func (m *maker) whole(tr tree) *maker {
	d1 := *tr.d1 // it is sent for each page that uses it
	return m.add(tr.snap, tr.root, tr.p1, tr.d1, tr.p2, tr.d2, &d1)
}

func same(t *testing.T, got []string, err error, want ...string) {
	t.Helper()
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Data goes where the entries have moved to that the chooser let through.
func TestChosen(t *testing.T) {
	m := newMaker(t, 1)
	m.whole(m.tree())
	got, err := m.run(Options{Choose: without("a/b", "a/d")})
	same(t, got, err, "snapshot", "entry a", "entry a/c", "entry e", "entry e/f", "a/c at 0: world", "e/f at 0: hello", "e/f at 8: d")
	got, err = m.run(Options{Choose: without("a", "a/b", "a/c", "a/d", "e", "e/f")})
	same(t, got, err, "snapshot")
	got, err = m.run(Options{MetaOnly: true, Choose: without("a/b", "a/d", "e")})
	same(t, got, err, "snapshot", "entry a", "entry a/c", "entry e/f")
}

// A chooser changes paths, leaves content out, and puts entries in front.
func TestChooserAddsAndChanges(t *testing.T) {
	m := newMaker(t, 1)
	m.whole(m.tree())
	got, err := m.run(Options{Choose: chooseFunc(func(e *rec.Entry) ([]*rec.Entry, error) {
		c := *e
		c.Path = "new/" + strings.ReplaceAll(e.Path, "/", "-")
		switch e.Path {
		case "a/c":
			c.Extents, c.Size = nil, 0
			return []*rec.Entry{dir("new"), dir("new/first"), &c}, nil
		case "a", "a/b":
			return nil, nil
		}
		return []*rec.Entry{&c}, nil
	})})
	same(t, got, err, "snapshot", "entry new", "entry new/first", "entry new/a-c", "entry new/a-d", "entry new/e", "entry new/e-f",
		"new/a-d at 0: another", "new/e-f at 0: hello", "new/e-f at 8: d")
}

// Of what nobody chose, nothing is told if it is missing.
func TestMissingAndChosen(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	d1 := *tr.d1
	m.add(tr.snap, tr.root, tr.p1, &rec.Missing{ID: tr.d1.ID}, tr.p2, &rec.Missing{ID: tr.d2.ID}, &d1)
	got, err := m.run(Options{Choose: without("a/b", "a/c")})
	same(t, got, err, "snapshot", "entry a", "entry a/d", "entry e", "entry e/f", "missing a/d", "e/f at 0: hello", "e/f at 8: d")
	got, err = m.run(Options{Choose: without("a/b", "a/d")})
	same(t, got, err, "snapshot", "entry a", "entry a/c", "entry e", "entry e/f", "missing a/c", "e/f at 0: hello", "e/f at 8: d")
}

// A gap is told whatever is chosen, and the chooser sees the directories that
// are made up behind it.
func TestGapAndChosen(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	d1 := *tr.d1
	m.add(tr.snap, tr.root, &rec.Missing{ID: tr.p1.ID}, tr.p2, tr.d2, &d1)
	var seen []string
	got, err := m.run(Options{Choose: chooseFunc(func(e *rec.Entry) ([]*rec.Entry, error) {
		seen = append(seen, e.Path)
		return nil, nil
	})})
	same(t, got, err, "snapshot", "gap a a/d")
	same(t, seen, nil, "a", "a/d", "e", "e/f")
}

// The chooser sees nothing that the checks refuse, and what it leaves out is
// checked like all else.
func TestChooserHidesNothing(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	bad := m.page([]id.ID{tr.d1.ID}, file("z", x(0, 0, 5)), dir("y"))
	over := m.page([]id.ID{tr.d1.ID}, file("y", x(0, 0, 5)), file("z", x(0, 0, 10)))
	d1 := func() *rec.Blob { b := *tr.d1; return &b }
	for name, c := range map[string]struct {
		recs []rec.Record
		want error
	}{
		"order":  {[]rec.Record{m.snapshot(bad.ID, 2, 5), bad, d1()}, rec.ErrOrder},
		"counts": {[]rec.Record{m.snapshot(over.ID, 2, 16), over, d1()}, ErrCounts},
		"end":    {[]rec.Record{m.snapshot(over.ID, 2, 15), over}, ErrIncomplete},
	} {
		n := newMaker(t, 1)
		n.add(&rec.Session{Data: m.box.Session()}).add(c.recs...)
		if _, err := n.run(Options{Choose: without("y", "z")}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	full := errors.New("enough")
	m.whole(tr)
	if _, err := m.run(Options{Choose: chooseFunc(func(e *rec.Entry) ([]*rec.Entry, error) { return nil, full })}); !errors.Is(err, full) {
		t.Error(err)
	}
}
