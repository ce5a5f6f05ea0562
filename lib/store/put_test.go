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

// misses collects what a put says is missing.
func misses(t testing.TB, r *Repo) (*Put, *[]id.ID) {
	t.Helper()
	var list []id.ID
	p, err := r.NewPut(nil, PutOptions{Missing: func(i id.ID) error { list = append(list, i); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, &list
}

func TestMissingReferences(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(4, 3, 2, 50)
	for skip, left := range tree.Blobs[:len(tree.Blobs)-1] {
		r := mustCreate(t, t.TempDir())
		p, list := misses(t, r)
		some := &storetest.Tree{Session: tree.Session, Blobs: slices.Delete(slices.Clone(tree.Blobs), skip, skip+1)}
		if err := send(p, some); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); !errors.Is(err, ErrMissing) {
			t.Fatalf("without %v: %v", left.ID, err)
		}
		if !slices.Equal(*list, []id.ID{left.ID}) {
			t.Fatalf("without %v: told %v", left.ID, *list)
		}
		if err := p.Keep(); err != nil {
			t.Fatal(err)
		}
		if has, _ := r.HasSnapshot(tree.Snapshot().ID); has {
			t.Fatal("committed")
		}
		// The next run sends the rest only.
		p = putTree(t, r.String(), tree)
		if p.Count.New != 1 || p.Count.Had != uint64(len(some.Blobs)) {
			t.Fatalf("second run: %+v", p.Count)
		}
	}
}

// That a page is there does not mean that its children are (I6): an index page
// that refers to an old page is followed down to what that refers to.
func TestOldPageWithoutChildren(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	data := m.Data(3, 20)
	page := m.Blob(rec.KindPage, 30, data...)
	index := m.Blob(2, 30, page)
	r := mustCreate(t, t.TempDir())
	p, _ := misses(t, r)
	if err := send(p, &storetest.Tree{Session: m.Session, Blobs: []*rec.Blob{data[0], data[2], page, index}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	for name, blobs := range map[string][]*rec.Blob{
		"page":       {m.Blob(9, 10, page)},
		"index page": {m.Blob(9, 10, index)},
		"two levels": {m.Blob(3, 10, index)},
		"sent again": {page, m.Blob(9, 10, page)},
	} {
		r := mustOpen(t, r.String(), &log{})
		p, list := misses(t, r)
		if err := send(p, &storetest.Tree{Session: m.Session, Blobs: blobs}); err != nil {
			t.Fatal(name, err)
		}
		if !slices.Equal(*list, []id.ID{data[1].ID}) {
			t.Errorf("%s: told %v", name, *list)
		}
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	data := m.Data(3, 20)
	page := m.Blob(rec.KindPage, 30, data[0], data[1])
	index := m.Blob(2, 30, page)
	as := func(i id.ID, kind uint8, refs ...*rec.Blob) *rec.Blob {
		b := m.Blob(kind, 20, refs...)
		b.ID = i
		b.CRC = b.Sum()
		return b
	}
	dir := t.TempDir()
	p := mustPut(t, mustCreate(t, dir), nil)
	first := []*rec.Blob{data[0], data[1], data[2], page, index}
	if err := send(p, &storetest.Tree{Session: m.Session, Blobs: first}); err != nil {
		t.Fatal(err)
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*rec.Blob{
		"data as page":           as(data[0].ID, 1),
		"page as data":           as(page.ID, 0),
		"page as index page":     as(page.ID, 2, page),
		"other references":       as(page.ID, 1, data[0], data[2]),
		"other order":            as(page.ID, 1, data[1], data[0]),
		"fewer references":       as(page.ID, 1, data[0]),
		"page over a page":       m.Blob(1, 9, page),
		"index over data":        m.Blob(2, 9, data[0]),
		"index over two levels":  m.Blob(3, 9, page),
		"snapshot over data":     m.Blob(9, 9, data[0]),
		"page over a session":    m.Blob(1, 9, &rec.Blob{ID: pack.SID(m.Session)}),
		"index over itself down": m.Blob(2, 9, index),
	} {
		for _, before := range []bool{true, false} { // known from the index, or from this run
			p := mustPut(t, mustCreate(t, map[bool]string{true: dir, false: t.TempDir()}[before]), nil)
			tree := &storetest.Tree{Session: m.Session, Blobs: append(slices.Clone(first), b)}
			if before {
				tree.Blobs = []*rec.Blob{b}
			} else if name == "page over a session" {
				continue // it is no blob of this run
			}
			err := send(p, tree)
			if before { // somebody else may have stored that
				if err != nil || p.Count.New != 1 {
					t.Errorf("%s, from before: %v, %+v", name, err, p.Count)
				}
				if refs := strings.Contains(name, " over "); refs != (p.missing.Len() == 1) {
					t.Errorf("%s, from before: %d missing", name, p.missing.Len())
				}
			} else if !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestRefusedBlobs(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	other := storetest.New(2)
	d := m.Data(1, 20)[0]
	damaged := *d
	damaged.Data = append([]byte{1}, d.Data[1:]...)
	for name, c := range map[string]struct {
		blobs []*rec.Blob
		want  error
	}{
		"damaged":        {[]*rec.Blob{&damaged}, ErrChecksum},
		"no session":     {other.Data(1, 5), ErrOrder},
		"twice the same": {[]*rec.Blob{d, m.Blob(1, 5, d, d)}, rec.ErrBad},
		"two snapshots":  {[]*rec.Blob{m.Blob(9, 5, d), m.Blob(9, 5, d)}, nil},
		"huge page":      {[]*rec.Blob{m.Blob(1, MaxMeta+1)}, nil},
	} {
		p := mustPut(t, mustCreate(t, t.TempDir()), nil)
		err := send(p, &storetest.Tree{Session: m.Session, Blobs: c.blobs})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := mustPut(t, mustCreate(t, t.TempDir()), nil)
	if _, err := p.Commit(); err == nil {
		t.Error("nothing was committed, without an error")
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 10)
	putTree(t, dir, tree)
	base := tree.Snapshot().ID
	r := mustOpen(t, dir, &log{})
	if _, err := r.NewPut([]id.ID{base, {1}}, PutOptions{}); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	// A checkpoint will do; a mark makes it useless.
	if err := os.Remove(filepath.Join(dir, "snapshots", base.String())); err != nil {
		t.Fatal(err)
	}
	if list, err := r.Snapshots(); err != nil || len(list) != 0 {
		t.Fatal("a checkpoint is listed", list, err)
	}
	m := storetest.New(2)
	next := &storetest.Tree{Session: m.Session, Blobs: []*rec.Blob{m.Blob(9, 10, tree.Blobs[len(tree.Blobs)-2])}}
	putTree(t, dir, next, base)
	if err := os.WriteFile(filepath.Join(dir, "forgotten", base.String()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.NewPut([]id.ID{base}, PutOptions{}); !errors.Is(err, ErrForgotten) {
		t.Fatal(err)
	}
	if has, err := r.HasSnapshot(base); has || err != nil {
		t.Fatal(has, err)
	}
	if _, err := r.Snapshot(base); !errors.Is(err, ErrForgotten) {
		t.Fatal(err)
	}
	// It does not come back by being sent again.
	p := mustPut(t, r, nil)
	if err := send(p, tree); !errors.Is(err, ErrForgotten) {
		t.Fatal(err)
	}
	if list, err := r.Snapshots(); err != nil || len(list) != 1 || list[0] != next.Snapshot().ID {
		t.Fatal(list, err)
	}
}
