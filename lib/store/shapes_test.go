package store

import (
	"errors"
	"slices"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// given returns the copies that a walk gives of each id, by their checksums, and what is missing.
func given(t *testing.T, walk func(give func(*Answer) error) error) (copies map[id.ID][]uint32, missing int) {
	t.Helper()
	copies = map[id.ID][]uint32{}
	err := walk(func(a *Answer) error {
		if a.Blob == nil {
			missing++
			return nil
		}
		copies[a.ID] = append(copies[a.ID], a.Blob.CRC)
		for _, o := range a.More {
			copies[a.ID] = append(copies[a.ID], o.Blob.CRC)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return copies, missing
}

func crcs(blobs ...*rec.Blob) (list []uint32) {
	for _, b := range blobs {
		list = append(list, b.CRC)
	}
	return list
}

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return true
}

// Of a page of which copies refer to different blobs all those are given that are whole, and what they
// refer to: in a snapshot, in a copy, and in a copy of that copy. One that refers to
// nothing, at whatever depth, is left out without a word, so that nothing counts as missing. If
// none is whole, what is missing is told.
func TestOtherReferencesAreCarried(t *testing.T) {
	t.Parallel()
	m, junk := storetest.New(1), storetest.New(2)
	tree := m.Tree(4, 2, 2, 100)
	page := firstPage(tree)
	var index, root *rec.Blob
	for _, b := range tree.Blobs {
		if b.Kind == 2 && index == nil {
			index = b
		}
		if b.Kind == 3 {
			root = b
		}
	}
	nothing := junk.Data(6, 40)
	d := junk.Data(2, 40)
	empty := junk.Blob(rec.KindPage, 40, d[0])
	lacking := junk.Blob(rec.KindPage, 40, nothing[0])
	dir := t.TempDir()
	mustCreate(t, dir)
	heal(t, dir, 9, junk, d[0], d[1], empty, lacking)
	rubbish := map[id.ID][]*rec.Blob{
		page.ID:  {twin(junk, page, 1, nothing[1]), twin(junk, page, 1, d[1], tree.Blobs[0])},
		index.ID: {twin(junk, index, 2, empty), twin(junk, index, 2, lacking), twin(junk, index, 2, &rec.Blob{ID: nothing[2].ID})},
		root.ID:  {twin(junk, root, 2, empty), twin(junk, root, 3, nothing[3]), twin(junk, root, 1, nothing[4])},
	}
	for _, l := range rubbish {
		heal(t, dir, 5, junk, l...)
	}
	putTree(t, dir, tree)
	want := map[id.ID][]uint32{
		page.ID:  crcs(page, rubbish[page.ID][1]),
		index.ID: crcs(rubbish[index.ID][0], index),
		root.ID:  crcs(rubbish[root.ID][0], root),
	}
	for hop := range 3 {
		r := mustOpen(t, dir, &log{})
		s := mustSnapshot(t, r, tree)
		for name, walk := range map[string]func(func(*Answer) error) error{
			"down": func(give func(*Answer) error) error { return r.Down(s, false, give) },
			"meta": func(give func(*Answer) error) error { return r.Down(s, true, give) },
			"up":   func(give func(*Answer) error) error { return r.Up(s, UpOptions{}, give) },
		} {
			copies, missing := given(t, walk)
			if missing > 0 {
				t.Errorf("hop %d, %s: %d are missing", hop, name, missing)
			}
			for i, w := range want {
				got := copies[i]
				if hop == 0 && name != "up" && i != page.ID && !equal(got, w) || len(got) != 2 || got[0] != w[0] && got[0] != w[1] || got[1] != w[0] && got[1] != w[1] || got[0] == got[1] {
					t.Errorf("hop %d, %s, %s: %x, want %x", hop, name, i.Short(), got, w)
				}
			}
			for _, b := range tree.Blobs {
				if n := len(copies[b.ID]); n == 0 && (name != "meta" || b.Kind != rec.KindData) {
					t.Errorf("hop %d, %s: a blob of kind %d was not given", hop, name, b.Kind)
				}
			}
		}
		to := t.TempDir()
		p := mustPut(t, mustCreate(t, to), nil)
		if err := r.Up(s, UpOptions{}, func(a *Answer) error {
			err := errors.Join(p.Session(a.Session), p.Blob(a.Blob))
			for _, o := range a.More {
				err = errors.Join(err, p.Session(o.Session), p.Blob(o.Blob))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		dir = to
	}
	// Not behind each other, another copy is an error of the stream; and no more than a few are taken.
	p := mustPut(t, mustCreate(t, t.TempDir()), nil)
	if err := errors.Join(p.Session(junk.Session), p.Blob(d[0]), p.Blob(d[1]), p.Blob(empty)); err != nil {
		t.Fatal(err)
	}
	was := p.Count.New
	for range maxShapes {
		if err := errors.Join(p.Blob(twin(junk, empty, 1, d[0], d[1])), p.Blob(twin(junk, empty, 1, d[1]))); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Count.New - was; n > maxShapes {
		t.Errorf("%d copies were stored", n)
	}
	if err := errors.Join(p.Blob(d[0]), p.Blob(twin(junk, empty, 1, d[0]))); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	// None is whole.
	dir = t.TempDir()
	mustCreate(t, dir)
	heal(t, dir, 5, junk, twin(junk, page, 1, nothing[0]), twin(junk, page, 1, nothing[1]))
	heal(t, dir, 3, m, page)
	heal(t, dir, 2, m, tree.Blobs[len(tree.Blobs)-4:len(tree.Blobs)-1]...)
	r := mustOpen(t, dir, &log{})
	s := &Snapshot{rec.Stored{ID: tree.Snapshot().ID}, m.Session, tree.Snapshot()}
	if copies, missing := given(t, func(give func(*Answer) error) error { return r.Down(s, false, give) }); missing == 0 || len(copies[page.ID]) != 2 || copies[page.ID][1] != page.CRC {
		t.Errorf("%d are missing, %x", missing, copies[page.ID])
	}
}

// However many pages somebody has stored under an id before the true one and after it, all of
// which refer to what is there, the true one is given with them, and copied.
func TestManyOtherReferences(t *testing.T) {
	t.Parallel()
	m, junk := storetest.New(1), storetest.New(2)
	tree := m.Tree(2, 2, 2, 100)
	page := firstPage(tree)
	dir := t.TempDir()
	mustCreate(t, dir)
	const many = 60
	data := junk.Data(2*many, 20)
	heal(t, dir, 9, junk, data...)
	for n, d := range data {
		if n == many {
			putTree(t, dir, tree)
		}
		heal(t, dir, map[bool]int{true: 5, false: -5}[n < many], junk, twin(junk, page, rec.KindPage, d))
	}
	to := t.TempDir()
	p := mustPut(t, mustCreate(t, to), nil)
	r := mustOpen(t, dir, &log{})
	s := mustSnapshot(t, r, tree)
	for name, walk := range map[string]func(func(*Answer) error) error{
		"down": func(give func(*Answer) error) error { return r.Down(s, false, give) },
		"up": func(give func(*Answer) error) error {
			return r.Up(s, UpOptions{}, func(a *Answer) error {
				return errors.Join(give(a), p.Session(a.Session), p.Blob(a.Blob))
			})
		},
	} {
		copies, missing := given(t, walk)
		if list := copies[page.ID]; missing > 0 || len(list) != 2*many+1 || list[0] == page.CRC || !slices.Contains(list, page.CRC) {
			t.Errorf("%s: %d copies, %d are missing", name, len(list), missing)
		}
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if tries(t, to, page) == 0 {
		t.Error("the true page was not copied")
	}
}
