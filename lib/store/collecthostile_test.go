package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// loose stores blobs without a snapshot, as who may add can.
func loose(t testing.TB, dir string, s *rec.Session, blobs ...*rec.Blob) {
	t.Helper()
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := mustPut(t, r, nil)
	defer p.Close()
	if err := p.Session(s); err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if _, err := p.Heal(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
}

// as returns another blob under the id of one.
func as(m *storetest.Maker, i id.ID, kind uint8, refs ...*rec.Blob) *rec.Blob {
	b := m.Blob(kind, 300, refs...)
	b.ID = i
	b.CRC = b.Sum()
	return b
}

// A page that a hostile snapshot refers to as data, and which is marked first, is followed all
// the same when its own snapshot refers to it.
func TestCollectPageAsData(t *testing.T) {
	t.Parallel()
	for seed := byte(0); ; seed++ {
		tree := storetest.New(100).Tree(3, 2, 3, 300)
		m := storetest.New(seed)
		var pages []*rec.Blob
		for _, b := range tree.Blobs {
			if b.Kind > rec.KindData && b.Kind < rec.KindSnapshot {
				pages = append(pages, b)
			}
		}
		page := m.Blob(rec.KindPage, 300, pages...)
		snapshot := m.Blob(rec.KindSnapshot, 300, page)
		if compareIDs(snapshot.ID, tree.Snapshot().ID) > 0 {
			continue // it is to be marked first
		}
		dir := filepath.Join(t.TempDir(), "repo")
		stored(t, dir, tree)
		loose(t, dir, m.Session, page, snapshot)
		s := &Snapshot{rec.Stored{ID: snapshot.ID}, m.Session, snapshot}
		data, err := s.encode([rec.NonceSize]byte{1})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "snapshots", snapshot.ID.String()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		mustCollect(t, dir, now)
		r := mustOpen(t, dir, &log{})
		if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal("the other snapshot is not whole", err)
		}
		return
	}
}

// orders returns the copies of each id, in the order in which they are served, without what two
// copies have in common byte for byte.
func orders(t testing.TB, dir string) map[id.ID]string {
	t.Helper()
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, err := r.current()
	if err != nil {
		t.Fatal(err)
	}
	all := map[id.ID]string{}
	if err := r.IDs(func(i id.ID) error {
		rows, _ := r.copies(v, i, AnyBlob)
		var list []string
		for _, row := range rows {
			b, raw, err := r.readBlob(row)
			if err != nil {
				continue
			}
			if c := fmt.Sprint(b.Kind, b.CRC, b.Refs); !slices.Contains(list, c) {
				list = append(list, c)
			}
			putBuffer(raw)
		}
		all[i] = fmt.Sprint(list)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// Of pages there are rubbish copies, older and younger ones: what all of them refer to stays,
// and their order stays as it was.
func TestCollectRubbish(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "repo")
		tree := storetest.New(1).Tree(4, 3, 4, 2000)
		junk := storetest.New(2)
		stored(t, dir, junk.Tree(1, 1, 1, 100)) // makes the repository
		var rubbish []*rec.Blob
		for _, b := range tree.Blobs {
			if b.Kind == rec.KindPage {
				d := junk.Data(1, 100)
				rubbish = append(rubbish, d[0], as(junk, b.ID, rec.KindPage, d[0]))
			}
			if b.Kind == rec.KindData && len(rubbish) == 0 && !first {
				rubbish = append(rubbish, as(junk, b.ID, rec.KindPage, junk.Data(1, 5)[0]))
			}
		}
		if first {
			loose(t, dir, junk.Session, rubbish...)
		}
		// Most of what comes with it is not needed later.
		more := storetest.New(3).Tree(8, 3, 8, 3000)
		r, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p := mustPut(t, r, nil)
		for _, x := range []*storetest.Tree{more, tree} {
			if err := p.Session(x.Session); err != nil {
				t.Fatal(err)
			}
			for _, b := range x.Blobs[:len(x.Blobs)-1] {
				if err := p.Blob(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.Blob(tree.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		p.Close()
		r.Close()
		if !first {
			loose(t, dir, junk.Session, rubbish...)
		}
		before := orders(t, dir)
		rep, _ := mustCollect(t, dir, now)
		if rep.Rewritten+rep.Dropped == 0 && first {
			t.Errorf("nothing was done: %+v", rep)
		}
		after := orders(t, dir)
		for _, b := range tree.Blobs {
			if before[b.ID] != after[b.ID] {
				t.Errorf("kind %d, rubbish first %v: the order of copies has changed:\n%s\n%s", b.Kind, first, before[b.ID], after[b.ID])
			}
		}
		r, err = Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range tree.Blobs {
			found := false
			rows, _ := r.copies(must(r.current()), b.ID, AnyBlob)
			for _, row := range rows {
				if x, raw, err := r.readBlob(row); err == nil && x.CRC == b.CRC {
					found = true
					putBuffer(raw)
				}
			}
			if !found {
				t.Errorf("the true copy of a blob of kind %d is gone", b.Kind)
			}
		}
		r.Close()
	}
}

func must(v *view, err error) *view {
	if err != nil {
		panic(err)
	}
	return v
}

// The last good copy of what is needed stays, though no segment lists it any more, and a damaged
// one while there is no other.
func TestCollectLastGoodCopy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(1, 2, 2, 500)
	// The same blobs in two packs of data, the younger of which no segment lists: the put that
	// wrote it did not know of the other.
	r1 := mustCreate(t, dir)
	r2 := mustOpen(t, dir, &log{})
	p1, p2 := mustPut(t, r1, nil), mustPut(t, r2, nil)
	for _, p := range []*Put{p1, p2} {
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*Repo{r1, r2} {
		r.Close()
	}
	b := tree.Blobs[0]
	list, err := filepath.Glob(dir + "/packs/*/*")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, b.Data); at >= 0 {
			have = append(have, path)
		}
	}
	r := mustOpen(t, dir, &log{})
	rows := packsWith(t, r, b.ID)
	if len(have) != 2 || len(rows) != 1 {
		t.Fatalf("%d packs, %d rows", len(have), len(rows))
	}
	listedIn := r.packPath(rows[0].Pack)
	r.Close()
	flip(t, listedIn, int64(rows[0].Offset)+250)
	if _, _, err := collect(t, dir, now, -1); err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	// Whole again, the other copy is of no use.
	flip(t, listedIn, int64(rows[0].Offset)+250)
	mustCollect(t, dir, now)
	if _, err := os.Stat(listedIn); err != nil {
		t.Error(err)
	}
	isWhole(t, dir, tree)
	for _, path := range have {
		if _, err := os.Stat(path); path != listedIn && err == nil {
			t.Error("a copy that nobody gets stays")
		}
	}
}

// A pack in which something that is needed is damaged stays as it is; the others go.
func TestCollectDamagedData(t *testing.T) {
	t.Parallel()
	dir, stay := grown(t)
	r := mustOpen(t, dir, &log{})
	b := stay[0].Blobs[0]
	rows := packsWith(t, r, b.ID)
	r.Close()
	path := r.packPath(rows[0].Pack)
	flip(t, path, int64(rows[0].Offset)+300)
	rep, _ := mustCollect(t, dir, now)
	if rep.Dropped == 0 {
		t.Errorf("%+v", rep)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	flip(t, path, int64(rows[0].Offset)+300)
	isWhole(t, dir, stay...)
}

// twice stores a tree from two puts at once: what the second one stored no segment lists, but
// for sessions.
func twice(t testing.TB, dir string, tree *storetest.Tree) {
	t.Helper()
	r1, r2 := mustCreate(t, dir), mustOpen(t, dir, &log{})
	defer r1.Close()
	defer r2.Close()
	p1, p2 := mustPut(t, r1, nil), mustPut(t, r2, nil)
	for _, p := range []*Put{p1, p2} {
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// Packs of which little or nothing is listed stay in the tables of segments: else each put would
// find them again.
func TestCollectTablesStay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(1, 2, 2, 500)
	twice(t, dir, tree)
	// A segment that lists a pack with no rows at all.
	segments := files(t, filepath.Join(dir, "index"))
	for _, name := range segments {
		path := filepath.Join(dir, "index", name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := pack.ParseSegment(data)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() > 3 {
			continue // that of the first put
		}
		var lists []pack.List
		for _, p := range s.Packs() {
			lists = append(lists, pack.List{Pack: p})
		}
		data, empty, err := pack.EncodeSegment(lists)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "index", empty.String()), data, 0o600)
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	trees := []*storetest.Tree{tree}
	for n := range tidySegments {
		more := storetest.New(byte(n+2)).Tree(1, 2, 2, 50)
		stored(t, dir, more)
		trees = append(trees, more)
	}
	mustCollect(t, dir, now)
	if n := len(files(t, filepath.Join(dir, "index"))); n != 1 {
		t.Fatalf("%d segments", n)
	}
	r := mustOpen(t, dir, &log{})
	if p := mustPut(t, r, nil); p.Count.Adopted != 0 {
		t.Fatalf("%+v", p.Count)
	}
	r.Close()
	isWhole(t, dir, trees...)
}

// What is moved is as old as it was: other copies, stored since, do not come before it.
func TestCollectKeepsAge(t *testing.T) {
	t.Parallel()
	dir, stay := grown(t)
	age(t, dir, "packs/*/*", 1000*24*time.Hour)
	before := files(t, filepath.Join(dir, "packs"))
	mustCollect(t, dir, now)
	fresh := 0
	for _, name := range files(t, filepath.Join(dir, "packs")) {
		if slices.Contains(before, name) {
			continue
		}
		fresh++
		if st, err := os.Stat(filepath.Join(dir, "packs", name)); err != nil || time.Since(st.ModTime()) < 999*24*time.Hour {
			t.Error(name, err)
		}
	}
	if fresh == 0 {
		t.Error("nothing was moved")
	}
	isWhole(t, dir, stay...)
}
