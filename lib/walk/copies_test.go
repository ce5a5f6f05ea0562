package walk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

func symlink(p, target string) *rec.Entry {
	return &rec.Entry{Path: p, Type: rec.Symlink, Target: target}
}

func link(p, leader string) *rec.Entry {
	return &rec.Entry{Path: p, Type: rec.HardLink, Leader: leader}
}

func leader(e *rec.Entry, links uint32) *rec.Entry { e.Links = links; return e }

// A shower is a recorder that says what an entry is, too.
type shower struct{ recorder }

func (s *shower) Page(p *Page) error {
	for _, e := range p.Entries {
		line := fmt.Sprintf("%s %s", e.Type, page.KeyOf(e))
		switch {
		case e.Type == rec.HardLink:
			line += " = " + e.Leader
		case e.Type == rec.Symlink:
			line += " -> " + e.Target
		case e.Links > 1:
			line += fmt.Sprintf(" (%d)", e.Links)
		}
		if err := s.note("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// forest makes a tree of many pages, perPage entries in each, below as many index
// pages as fan makes. Each file's content is its path, in a blob of its own; one
// with a size has as many blobs.
func (m *maker) forest(perPage, fan int, es ...*rec.Entry) (p *peer, snap id.ID) {
	var blobs, level []*rec.Blob
	var keys []page.Key
	bytes := uint64(0)
	for at := 0; at < len(es); at += perPage {
		var refs []id.ID
		part := es[at:min(at+perPage, len(es))]
		for _, e := range part {
			if e.Type == rec.File && len(e.Extents) == 0 && e.Err == "" {
				texts := []string{e.Path}
				for n := range e.Size {
					texts = append(texts[:n], fmt.Sprint(e.Path, n))
				}
				e.Size = 0
				for _, text := range texts {
					d := m.data(text)
					blobs = append(blobs, d)
					e.Size += uint64(len(text))
					e.Extents = append(e.Extents, x(uint64(len(refs)), 0, uint64(len(text))))
					refs = append(refs, d.ID)
				}
			}
			n, _ := e.ContentLen()
			bytes += n
		}
		b := m.page(refs, part...)
		level, keys = append(level, b), append(keys, page.KeyOf(part[0]))
	}
	blobs = append(blobs, level...)
	for kind := uint8(2); len(level) > 1; kind++ {
		var up []*rec.Blob
		var upKeys []page.Key
		for at := 0; at < len(level); at += fan {
			var refs []id.ID
			for _, b := range level[at:min(at+fan, len(level))] {
				refs = append(refs, b.ID)
			}
			up = append(up, m.index(kind, keys[at:min(at+fan, len(level))], refs...))
			upKeys = append(upKeys, keys[at])
		}
		blobs = append(blobs, up...)
		level, keys = up, upKeys
	}
	names := 0
	for _, e := range es {
		if e.Off == 0 {
			names++
		}
	}
	s := m.snapshot(level[0].ID, uint64(names), bytes)
	return m.peer(append(blobs, s)...), s.ID
}

// shown walks a forest in pages of each size, which must not matter, and
// compares what the sink is told, and what stays a link.
func shown(t *testing.T, es func() []*rec.Entry, o Options, follow bool, want ...string) {
	t.Helper()
	for _, perPage := range []int{1, 2, 3, 100} {
		m := newMaker(t, 1)
		p, snap := m.forest(perPage, 2, es()...)
		o.Want = snap
		var s shower
		if follow {
			o.Follow = func(e *rec.Entry, why error) { _ = s.note("stays %s: %v", e.Path, why) }
		}
		err := p.drive(t, m, o, &s)
		got := s.log[1:]
		for _, line := range slices.Clone(got) {
			// All that is a file comes with its content, and nothing else does.
			if name, ok := strings.CutPrefix(line, "file "); ok && !slices.ContainsFunc(got, func(l string) bool {
				return strings.HasPrefix(l, strings.TrimSuffix(name, " (2)")+" at 0: ")
			}) {
				t.Errorf("%s has no content", line)
			}
		}
		got = slices.DeleteFunc(got, func(l string) bool {
			return strings.Contains(l, " at 0: ") && !strings.HasPrefix(l, "entry") && !slices.Contains(want, l)
		})
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d entries a page: %v\n%s\nwant\n%s", perPage, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// A further name that is chosen without the first becomes the first.
func TestDriveLeaderNotChosen(t *testing.T) {
	es := func() []*rec.Entry {
		return []*rec.Entry{dir("a"), leader(file("a/x"), 2), file("a/y"), dir("b"), link("b/x", "a/x"), file("b/y"), link("b/z", "a/x"), link("c", "a/x")}
	}
	shown(t, es, Options{Choose: pick{"b", "c"}}, false,
		"dir b", "file b/x (2)", "b/x at 0: a/x", "file b/y", "link b/z = b/x", "link c = b/x")
	shown(t, es, Options{Choose: pick{"b/z"}}, false, "dir b", "file b/z (2)", "b/z at 0: a/x")
	shown(t, es, Options{Choose: pick{"a/x", "c"}}, false, "dir a", "file a/x (2)", "link c = a/x")
	shown(t, es, Options{Unshare: true}, false, "dir a", "file a/x", "file a/y", "dir b", "file b/x", "b/x at 0: a/x", "file b/y", "file b/z", "file c", "c at 0: a/x")
}

func TestDriveFollow(t *testing.T) {
	es := func() []*rec.Entry {
		return []*rec.Entry{
			dir("d"), dir("d/e"), file("d/e/f"), symlink("d/e/up", "../../g"), leader(file("d/l"), 2), link("d/m", "d/l"),
			file("g"), dir("k"),
			symlink("k/absolute", "/d/e/f"), symlink("k/beyond", "../../../../../g"), symlink("k/dangling", "nothing"), symlink("k/dir", "../d/./e/"),
			symlink("k/filedir", "../g/"), symlink("k/loop", "loop"), symlink("k/outside", "/etc/passwd"), symlink("k/parent", ".."), symlink("k/self", "."),
			symlink("k/two", "dir/f"), symlink("k/x", "../d"), symlink("k/y", "../d/m"),
		}
	}
	shown(t, es, Options{Choose: pick{"k"}}, true,
		"dir k", "file k/absolute", "k/absolute at 0: d/e/f", "file k/beyond",
		"symlink k/dangling -> nothing", "stays k/dangling: what it leads to is not in the snapshot",
		"dir k/dir", "file k/dir/f", "file k/dir/up", "k/dir/up at 0: g",
		"symlink k/filedir -> ../g/", "stays k/filedir: what it leads to is not in the snapshot",
		"symlink k/loop -> loop", "stays k/loop: it leads in a circle",
		"symlink k/outside -> /etc/passwd", "stays k/outside: what it leads to is not in the snapshot",
		"symlink k/parent -> ..", "stays k/parent: it leads in a circle",
		"symlink k/self -> .", "stays k/self: it leads in a circle",
		"file k/two", "k/two at 0: d/e/f",
		"dir k/x", "dir k/x/e", "file k/x/e/f", "file k/x/e/up", "file k/x/l (2)", "k/x/l at 0: d/l", "link k/x/m = k/x/l",
		"file k/y", "k/y at 0: d/l")
	// A part of what a link leads to.
	shown(t, es, Options{Choose: pick{"k/x/e"}}, true, "dir k", "dir k/x", "dir k/x/e", "file k/x/e/f", "file k/x/e/up")
	// A further name inside, the first outside.
	shown(t, es, Options{Choose: pick{"k/x/m"}}, true, "dir k", "dir k/x", "file k/x/m (2)", "k/x/m at 0: d/l")
	// Links with several names are followed one by one.
	shown(t, func() []*rec.Entry {
		return []*rec.Entry{dir("a"), file("a/f"), leader(symlink("a/s", "f"), 2), dir("b"), link("b/s", "a/s")}
	}, Options{}, true, "dir a", "file a/f", "file a/s", "a/s at 0: a/f", "dir b", "symlink b/s -> f", "stays b/s: what it leads to is not in the snapshot")
}

// A file in several records is copied whole.
func TestDriveFollowPieces(t *testing.T) {
	es := func() []*rec.Entry {
		piece := func(off uint64, more bool) *rec.Entry {
			e := file("m")
			e.Off, e.More, e.Size = off, more, 3
			e.Extents = []rec.Extent{{Hole: true, Len: 1}}
			return e
		}
		return []*rec.Entry{symlink("l", "m"), piece(0, true), piece(1, true), piece(2, false), symlink("n", "m")}
	}
	got := func(o Options) []string {
		m := newMaker(t, 1)
		p, snap := m.forest(1, 2, es()...)
		o.Want = snap
		o.Follow = func(e *rec.Entry, why error) { t.Error(e.Path, why) }
		log, err := p.driven(t, m, o)
		if err != nil {
			t.Fatal(err)
		}
		return log[1:]
	}
	if all := got(Options{}); !slices.Equal(all, []string{"entry l", "entry l at 1", "entry l at 2", "entry m", "entry m at 1", "entry m at 2", "entry n", "entry n at 1", "entry n at 2"}) {
		t.Error(all)
	}
	if some := got(Options{Choose: pick{"n"}}); !slices.Equal(some, []string{"entry n", "entry n at 1", "entry n at 2"}) {
		t.Error(some)
	}
}

// Directories full of links to each other come to an end.
func TestDriveBomb(t *testing.T) {
	defer func(n int) { maxCopied = n }(maxCopied)
	maxCopied = 1000
	var es []*rec.Entry
	for _, d := range []string{"a", "b", "c", "d", "e", "f"} {
		es = append(es, dir(d))
		for n := range 5 {
			es = append(es, symlink(fmt.Sprintf("%s/%d", d, n), "../"+string(d[0]+1)))
		}
	}
	m := newMaker(t, 1)
	p, snap := m.forest(7, 3, es...)
	_, err := p.driven(t, m, Options{Want: snap, Follow: func(*rec.Entry, error) {}})
	if !errors.Is(err, ErrCopies) {
		t.Fatal(err)
	}
	// A ring: each directory once in each of the others.
	p, snap = m.forest(3, 3, dir("a"), symlink("a/n", "../b"), dir("b"), symlink("b/n", "../c"), dir("c"), symlink("c/n", "../a"))
	stays := 0
	got, err := p.driven(t, m, Options{Want: snap, Follow: func(_ *rec.Entry, why error) {
		if stays++; !errors.Is(why, ErrLoop) {
			t.Error(why)
		}
	}})
	if err != nil || stays != 3 || !slices.Contains(got, "entry a/n/n/n") || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "n/n/n/n") }) {
		t.Fatal(err, stays, got)
	}
	// A long way, and one with many names, are taken for circles.
	es = []*rec.Entry{file("a")}
	for n := range 60 {
		es = append(es, symlink(fmt.Sprintf("b%02d", n), fmt.Sprintf("b%02d", n+1)))
	}
	es[60].Target = "a"
	es = append(es, dir("c"), symlink("l", strings.Repeat("c/../", 5000)+"a"))
	p, snap = m.forest(7, 3, es...)
	var kept []string
	if _, err = p.driven(t, m, Options{Want: snap, Follow: func(e *rec.Entry, _ error) { kept = append(kept, e.Path) }}); err != nil || len(kept) != 20 || !slices.Contains(kept, "l") {
		t.Fatal(err, kept)
	}
}

// What a hostile writer can put around links does not get past the checks.
func TestDriveHostileLinks(t *testing.T) {
	for name, c := range map[string]struct {
		es   []*rec.Entry
		pick pick
	}{
		"leader is none":       {[]*rec.Entry{file("a"), dir("b"), link("b/l", "a")}, pick{"b"}},
		"leader is absent":     {[]*rec.Entry{file("b"), dir("c"), link("c/l", "a")}, pick{"c"}},
		"leader is a link":     {[]*rec.Entry{leader(file("a"), 2), link("b", "a"), dir("c"), link("c/l", "b")}, pick{"c"}},
		"below a followed one": {[]*rec.Entry{dir("a"), file("a/z"), symlink("b", "a"), file("b/x")}, nil},
	} {
		for _, perPage := range []int{1, 2, 100} {
			m := newMaker(t, 1)
			p, snap := m.forest(perPage, 2, c.es...)
			o := Options{Want: snap, Follow: func(*rec.Entry, error) {}}
			if c.pick != nil {
				o.Choose = c.pick
			}
			if got, err := p.driven(t, m, o); err == nil {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// Where pages are missing, links that need them are named.
func TestDriveLinksToMissing(t *testing.T) {
	m := newMaker(t, 1)
	p, snap := m.forest(2, 8, dir("a"), leader(file("a/f"), 2), dir("b"), file("b/f"), link("c", "a/f"), symlink("d", "a/f"), symlink("e", "b"), file("f"))
	var at []id.ID // the pages
	for i, b := range p.blobs {
		if b.Kind == rec.KindPage {
			at = append(at, i)
		}
	}
	for _, i := range at {
		q := m.peer()
		for j, b := range p.blobs {
			if i != j {
				q.blobs[j] = b
			}
		}
		q.box = p.box
		stays := map[string]error{}
		got, err := q.driven(t, m, Options{Want: snap, Unshare: true, Follow: func(e *rec.Entry, why error) { stays[e.Path] = why }})
		if err != nil {
			t.Fatal(err)
		}
		gap := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "gap ") })
		switch got[gap] {
		case "gap a b":
			if !slices.Contains(got, "orphan c") || !errors.Is(stays["d"], ErrLost) || stays["e"] != nil {
				t.Error(got, stays)
			}
		case "gap b c":
			if slices.Contains(got, "orphan c") || !errors.Is(stays["e"], ErrLost) || stays["d"] != nil {
				t.Error(got, stays)
			}
		}
	}
}
