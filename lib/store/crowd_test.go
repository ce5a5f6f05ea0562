package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// crowd stores n copies of a page, each with references of its own that nothing has.
func crowd(t *testing.T, dir string, older, n int, seed byte, page *rec.Blob) {
	t.Helper()
	m := storetest.New(seed)
	var list []*rec.Blob
	for range n {
		list = append(list, twin(m, page, page.Kind, &rec.Blob{ID: id.ID(m.Bytes(id.Size))}))
	}
	heal(t, dir, older, m, list...)
}

func firstPage(tree *storetest.Tree) *rec.Blob {
	for _, b := range tree.Blobs {
		if b.Kind == rec.KindPage {
			return b
		}
	}
	return nil
}

// tries returns how many copies of a blob are asked for until a certain one comes; 0 if it
// does not come.
func tries(t *testing.T, dir string, b *rec.Blob) int {
	t.Helper()
	r := mustOpen(t, dir, &log{})
	for n := 0; ; n++ {
		item, err := r.Copy(b.ID, Just(b.Kind), n)
		if errors.Is(err, ErrMissing) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		found := item.Blob.CRC == b.CRC
		item.Free()
		if found {
			return n + 1
		}
	}
}

// However many copies somebody has stored under an id, a true one that came before or after them
// is among the first that are tried, is had, and is not stored again by every put. One in
// the middle of a crowd is stored again, and then it is the youngest.
func TestCrowdOfCopies(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	page := firstPage(tree)
	for name, c := range map[string]struct {
		before, after int
		tries         int // at most
		again         uint64
	}{
		"before":            {before: 3 * maxRows, tries: 2},
		"after":             {after: 3 * maxRows, tries: 1},
		"around":            {before: 20, after: 30, tries: 42},
		"a large one":       {before: maxRows / 5, after: 2 * maxRows, tries: maxRows/2 + 2, again: 1},
		"more than is kept": {before: 2 * maxRows, after: 2 * maxRows, again: 1},
	} {
		dir := t.TempDir()
		mustCreate(t, dir)
		if c.before > 0 {
			crowd(t, dir, 30, c.before, 2, page)
		}
		putTree(t, dir, tree)
		if c.after > 0 {
			crowd(t, dir, -30, c.after, 3, page)
		}
		if n := tries(t, dir, page); n > c.tries || c.tries > 0 && n == 0 {
			t.Errorf("%s: the true copy comes at try %d", name, n)
		}
		if p := putTree(t, dir, tree); p.Count.New != c.again {
			t.Errorf("%s: %d blobs were stored again", name, p.Count.New)
		}
	}
}

// What is there twice is counted once: then few copies may be left, and none of them is passed over.
func TestFewCopies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 9, maxRows / 2, maxRows/2 + 1, maxRows} {
		if got := len(ends(make([]Row, n))); got != min(n, maxRows/2) {
			t.Errorf("%d of %d copies are left", got, n)
		}
	}
}

// A blob of which the copy that is there is damaged is stored again when it comes again, data too,
// and then all is whole.
func TestDamagedIsStoredAgain(t *testing.T) {
	t.Parallel()
	for n, kinds := 0, map[uint8]bool{}; n < 20; n++ {
		dir := t.TempDir()
		tree := storetest.New(1).Tree(2, 2, 2, 100)
		putTree(t, dir, tree)
		if n == len(tree.Blobs)-1 { // but for the snapshot, which is an object
			if len(kinds) < 3 {
				t.Error("too few kinds", kinds)
			}
			break
		}
		b := tree.Blobs[n]
		kinds[b.Kind] = true
		r := mustOpen(t, dir, &log{})
		for _, row := range packsWith(t, r, b.ID) {
			flip(t, filepath.Join(dir, "packs", row.Pack.String()[:2], row.Pack.String()), int64(row.Offset)+int64(row.Length)-60)
		}
		if _, err := mustOpen(t, dir, &log{}).Get(b.ID, AnyBlob); !errors.Is(err, ErrMissing) {
			t.Fatal(err)
		}
		if p := putTree(t, dir, tree); p.Count.New != 1 {
			t.Errorf("kind %d: %d blobs were stored again", b.Kind, p.Count.New)
		}
		if p := putTree(t, dir, tree); p.Count.New != 0 {
			t.Errorf("kind %d: %d blobs were stored once more", b.Kind, p.Count.New)
		}
		if got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Errorf("kind %d: %v %q", b.Kind, err, got)
		}
	}
}

// Somebody has stored another blob under the id of a snapshot, with the same root: the true one is
// stored beside it, so that the snapshot can be had from the packs if its objects are lost.
func TestSnapshotRubbishFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	mustCreate(t, dir)
	rubbish := twin(m, tree.Snapshot(), rec.KindSnapshot)
	heal(t, dir, 5, m, rubbish)
	putTree(t, dir, tree)
	for _, kind := range []string{"snapshots", "checkpoints"} {
		if err := os.Remove(filepath.Join(dir, kind, tree.Snapshot().ID.String())); err != nil {
			t.Fatal(err)
		}
	}
	if n := tries(t, dir, tree.Snapshot()); n != 2 {
		t.Errorf("the true snapshot comes at try %d", n)
	}
	if p := putTree(t, dir, tree); p.Count.New != 0 {
		t.Errorf("%d blobs were stored again", p.Count.New)
	}
}
