package chunk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/id"
	"preserve/lib/rec"
)

// worst returns the largest number of blobs that the small files of a page lie in.
func (s *snapshot) worst() (n int) {
	for _, p := range s.pages {
		n = max(n, p.blobs)
	}
	return n
}

// One file changes, a run follows, again and again: without regrouping each change
// would leave its page with one more blob.
func TestScatteredEdits(t *testing.T) {
	dir := t.TempDir()
	want := map[string][]byte{}
	edit := func(i, n int) {
		name := fmt.Sprintf("f%03d", i)
		want[name] = random(byte(n), 300+n)
		write(t, filepath.Join(dir, name), want[name])
	}
	for i := range 60 {
		edit(i, 0)
	}
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil))
	regrouped := 0
	for n := range 40 {
		edit(n, n+1)
		s := v.run(scannedAt(t, dir, start(), nil), v.on(old)...)
		if s.stderr != "" || s.status != 0 {
			t.Fatalf("edit %d: status %d: %s", n, s.status, s.stderr)
		}
		if s.worst() > rottenBlobs {
			t.Fatalf("edit %d: a page's small files lie in %d blobs", n, s.worst())
		}
		if len(old.pages) != len(s.pages) {
			t.Errorf("edit %d: %d pages, %d before", n, len(s.pages), len(old.pages))
		}
		if s.read > 2000 {
			regrouped++
		}
		s.holds(t, want)
		old = s
	}
	if regrouped < 1 || regrouped > 3 {
		t.Errorf("%d regroupings in 40 runs", regrouped)
	}
	if s := v.run(scannedAt(t, dir, start(), nil), v.on(old)...); s.read != 0 || s.root != old.root {
		t.Errorf("nothing has changed, and %d bytes are read", s.read)
	}
}

// Nothing that is stored is changed by a regrouping: a file that is another by now,
// or has gone, stays as the cache has it.
func TestRegroupingMeetsChanges(t *testing.T) {
	dir := t.TempDir()
	in := func(i int) string { return filepath.Join(dir, fmt.Sprintf("f%02d", i)) }
	put := func(i int, text string) { write(t, in(i), []byte(text)) }
	for i := range 40 {
		put(i, fmt.Sprintf("first %d", i))
	}
	if err := os.Link(in(30), in(30)+"-link"); err != nil {
		t.Fatal(err)
	}
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil))
	for n := range rottenBlobs - 1 {
		put(n, fmt.Sprintf("second %d", n))
		old = v.run(scannedAt(t, dir, start(), nil), v.on(old)...)
	}
	if old.worst() != rottenBlobs {
		t.Fatalf("%d blobs", old.worst())
	}
	put(20, "the last edit")
	stream := scannedAt(t, dir, start(), nil)
	if err := os.Remove(in(30)); err != nil {
		t.Fatal(err)
	}
	put(31, "not the same any more")
	if err := os.Remove(in(32)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f01", in(32)); err != nil {
		t.Fatal(err)
	}
	s := v.run(stream, v.on(old)...)
	if s.status != 0 || s.stderr != "" {
		t.Errorf("status %d: %s", s.status, s.stderr)
	}
	if s.worst() > 3 {
		t.Errorf("%d blobs after the regrouping", s.worst())
	}
	for i := range 40 {
		name, text := fmt.Sprintf("f%02d", i), fmt.Sprintf("first %d", i)
		switch {
		case i == 20:
			text = "the last edit"
		case i < rottenBlobs-1:
			text = fmt.Sprintf("second %d", i)
		}
		if string(s.data[name]) != text {
			t.Errorf("%s: %q, want %q", name, s.data[name], text)
		}
	}
	if e := s.entries["f30-link"]; e == nil || e.Leader != "f30" {
		t.Errorf("%+v", e)
	}
}

// A page that needs many blobs has them, and is left alone: of large small files, of
// files that do not compress, of very many owners.
func TestManyBlobsAreNotRegrouped(t *testing.T) {
	for name, c := range map[string]struct {
		files, size int
		owner       func(i int) uint32
	}{
		"files that do not compress": {90, 200 << 10, func(int) uint32 { return 0 }},
		"owners in turn":             {100, 400, func(i int) uint32 { return uint32(i % 20) }},
		"owners each with one":       {100, 400, func(i int) uint32 { return uint32(i) }},
		"two large owners":           {90, 150 << 10, func(i int) uint32 { return uint32(i % 2) }},
	} {
		dir := t.TempDir()
		want := map[string][]byte{}
		put := func(i, n int) {
			file := fmt.Sprintf("f%03d", i)
			want[file] = random(byte(n), c.size)
			write(t, filepath.Join(dir, file), want[file])
		}
		for i := range c.files {
			put(i, i)
		}
		owners := func(e *rec.Entry) {
			var i int
			if _, err := fmt.Sscanf(e.Path, "f%03d", &i); err == nil {
				e.UID = c.owner(i)
			}
		}
		v := newVault(t)
		// What is in the cache has these owners, too: to the tree stream they are
		// what the scan saw.
		first := v.run(scannedAt(t, dir, start(), owners))
		if first.worst() <= rottenBlobs {
			t.Errorf("%s: the page has %d blobs: too few to test this", name, first.worst())
		}
		s := v.run(scannedAt(t, dir, start(), owners), v.on(first)...)
		if s.read != 0 || s.root != first.root {
			t.Errorf("%s: regrouped without a change: %d bytes read", name, s.read)
		}
		put(50, 200)
		s = v.run(scannedAt(t, dir, start(), owners), v.on(s)...)
		if s.read != c.size {
			t.Errorf("%s: regrouped at a change: %d bytes read", name, s.read)
		}
		s.holds(t, want)
	}
}

func TestLayout(t *testing.T) {
	file := func(uid uint32, blob byte, size uint64) *rec.Entry {
		return &rec.Entry{Type: rec.File, UID: uid, Size: size, Extents: []rec.Extent{{ID: id.ID{blob}, Len: size}}}
	}
	var many []*rec.Entry
	for i := range 17 {
		many = append(many, file(1, byte(i+1), 100))
	}
	var eighty []*rec.Entry
	for i := range 80 {
		eighty = append(eighty, file(1, byte(i%20+1), bounds.SmallFile))
	}
	for name, c := range map[string]struct {
		entries []*rec.Entry
		groups  int
		want    layout
		rotten  bool
	}{
		"few":            {many[:16], 0, layout{16, 1600, 1, 0}, false},
		"one more":       {many, 0, layout{17, 1700, 1, 0}, true},
		"a fresh group":  {many[:16], 1, layout{17, 1600, 1, 0}, true},
		"shared":         {append(many[:16:16], file(1, 3, 100)), 0, layout{16, 1700, 1, 0}, false},
		"each alone":     {eighty[:20], 0, layout{20, 20 * bounds.SmallFile, 1, 0}, true},
		"they need them": {eighty, 0, layout{20, 80 * bounds.SmallFile, 1, 0}, false},
		"large files do not count": {append(many[:16:16], file(1, 40, bounds.SmallFile+1),
			&rec.Entry{Type: rec.File, Off: 7, Extents: many[0].Extents}, &rec.Entry{Type: rec.Dir}), 0, layout{16, 1600, 1, 0}, false},
		"holes do not count": {append(many[:16:16], &rec.Entry{Type: rec.File, UID: 9, Size: 5, Extents: []rec.Extent{{Hole: true, Len: 5}}}), 0, layout{16, 1600, 1, 0}, false},
		"owners":             {append([]*rec.Entry{file(2, 99, 1), file(3, 98, 1)}, many[:15]...), 0, layout{17, 1502, 3, 2}, true},
	} {
		l := layoutOf(c.entries, c.groups, nil)
		if l != c.want || l.rotten() != c.rotten {
			t.Errorf("%s: %+v, rotten %v; want %+v, %v", name, l, l.rotten(), c.want, c.rotten)
		}
	}
}
