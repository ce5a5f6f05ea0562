package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// lists reads the lists of all packs, and takes the index away.
func lists(t *testing.T, r *Repo) (all []pack.List) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.String(), "packs", "*", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		name, entries, err := pack.ReadList(f, st.Size())
		if err := errors.Join(err, f.Close()); err != nil || name.String() != filepath.Base(path) {
			t.Fatalf("%s: %v, %v", path, name, err)
		}
		all = append(all, pack.List{Pack: pack.Pack{Name: name, Size: uint64(st.Size())}, Entries: entries})
	}
	if err := os.RemoveAll(filepath.Join(r.String(), "index")); err != nil {
		t.Fatal(err)
	}
	return all
}

// Whoever writes into the repository can write an index in which all checksums hold
// and that is wrong. What is then given is what was asked for, or nothing: the record
// says itself what it is.
func TestTamperedIndex(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	var data, pages []id.ID
	for _, b := range tree.Blobs {
		switch b.Kind {
		case rec.KindData:
			data = append(data, b.ID)
		case rec.KindPage:
			pages = append(pages, b.ID)
		}
	}
	// find returns the entry of an id.
	find := func(ls []pack.List, i id.ID) *pack.Entry {
		for _, l := range ls {
			for k := range l.Entries {
				if l.Entries[k].ID == i {
					return &l.Entries[k]
				}
			}
		}
		t.Fatalf("no entry of %s", i)
		return nil
	}
	for name, c := range map[string]struct {
		change  func(ls []pack.List)
		missing []id.ID
	}{
		"as it was": {func([]pack.List) {}, nil},
		"two ids exchanged": {func(ls []pack.List) {
			a, b := find(ls, data[0]), find(ls, data[1])
			a.ID, b.ID = b.ID, a.ID
		}, data[:2]},
		"a page for a page": {func(ls []pack.List) {
			a, b := find(ls, pages[0]), find(ls, pages[1])
			a.ID, b.ID = b.ID, a.ID
		}, pages[:2]},
		"another kind": {func(ls []pack.List) { find(ls, data[0]).Kind = rec.KindPage }, data[:1]},
		"a session's place": {func(ls []pack.List) {
			e := find(ls, data[0])
			e.Offset, e.Length = ls[0].Entries[0].Offset, ls[0].Entries[0].Length
		}, data[:1]},
		"a byte too early":   {func(ls []pack.List) { find(ls, data[0]).Offset-- }, data[:1]},
		"a byte less":        {func(ls []pack.List) { find(ls, data[0]).Length-- }, data[:1]},
		"a byte more":        {func(ls []pack.List) { find(ls, data[0]).Length++ }, data[:1]},
		"over several":       {func(ls []pack.List) { find(ls, data[0]).Length *= 2 }, data[:1]},
		"everything at once": {func(ls []pack.List) { e := find(ls, pages[0]); e.Offset, e.Length = 0, e.Offset+e.Length }, pages[:1]},
	} {
		dir := t.TempDir()
		putTree(t, dir, tree)
		r := mustOpen(t, dir, &log{})
		ls := lists(t, r)
		c.change(ls)
		segment, segName, err := pack.EncodeSegment(ls)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pack.ParseSegment(segment); err != nil {
			t.Fatalf("%s: the index itself is refused: %v", name, err) // it must get as far as the record
		}
		if err := errors.Join(os.Mkdir(r.path("index"), 0o700), os.WriteFile(r.path("index", segName.String()), segment, 0o600)); err != nil {
			t.Fatal(err)
		}
		l := &log{}
		r = mustOpen(t, dir, l)
		order, err := walkAll(r, tree.Snapshot().ID, false) // which checks that each is what was asked for
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, line := range order {
			i, gone := strings.CutPrefix(line, "missing ")
			if gone != slices.ContainsFunc(c.missing, func(m id.ID) bool { return m.String() == i }) {
				t.Errorf("%s: %s", name, line)
			}
		}
		for _, i := range c.missing {
			if _, err := r.Get(i, AnyBlob); !errors.Is(err, ErrMissing) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A snapshot object in another's place is not given for it.
func TestSnapshotObjectsExchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	maker := storetest.New(1)
	a, b := maker.Tree(1, 1, 1, 100), maker.Tree(1, 1, 2, 100)
	putTree(t, dir, a)
	putTree(t, dir, b)
	r := mustOpen(t, dir, &log{})
	from, to := r.path("snapshots", a.Snapshot().ID.String()), r.path("snapshots", b.Snapshot().ID.String())
	data, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.Remove(to), os.WriteFile(to, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseSnapshot(data, b.Snapshot().ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("another's object: %v", err)
	}
	// The copy in a pack is the right one.
	s, err := r.Snapshot(b.Snapshot().ID)
	if err != nil || s.Blob.ID != b.Snapshot().ID {
		t.Errorf("%+v, %v", s, err)
	}
}
