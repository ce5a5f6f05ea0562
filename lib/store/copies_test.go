package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// twin makes another blob under the id of b: of the same kind and references, if refs
// are not given.
func twin(m *storetest.Maker, b *rec.Blob, kind uint8, refs ...*rec.Blob) *rec.Blob {
	t := m.Blob(kind, 50, refs...)
	t.ID = b.ID
	if kind == b.Kind && len(refs) == 0 {
		t.Refs = b.Refs
	}
	t.CRC = t.Sum()
	return t
}

// heal stores blobs in order loose, and makes what it stored that many hours older.
func heal(t *testing.T, dir string, older int, m *storetest.Maker, blobs ...*rec.Blob) {
	t.Helper()
	r := mustOpen(t, dir, &log{})
	p := mustPut(t, r, nil)
	had := files(t, dir)
	if err := p.Session(m.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if stored, err := p.Heal(b); err != nil || !stored {
			t.Fatal(stored, err)
		}
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Duration(older) * time.Hour)
	for _, f := range files(t, dir) {
		if strings.HasPrefix(f, "packs/") && !slices.Contains(had, f) {
			if err := os.Chtimes(filepath.Join(dir, f), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Of several copies the oldest is given first, whatever packs and segments are
// called, and each of the others to whoever asks for it: the youngest, the oldest of
// the others, and so on.
func TestOldestFirst(t *testing.T) {
	t.Parallel()
	for seed := range byte(4) {
		dir := t.TempDir()
		m := storetest.New(seed)
		b := m.Data(1, 20)[0]
		mustCreate(t, dir)
		second, third := twin(m, b, 0), twin(m, b, 0)
		heal(t, dir, 1, m, third)
		heal(t, dir, 3, m, b)
		heal(t, dir, 2, m, second)
		want := []*rec.Blob{b, third, second}
		r := mustOpen(t, dir, &log{})
		n := 0
		for k, w := range want {
			item, err := r.Copy(b.ID, AnyBlob, k)
			if err != nil || item.Blob.CRC != w.CRC || (item.Next != 0) != (k < 2) {
				t.Fatalf("seed %d, copy %d: %+v, %v", seed, k, item, err)
			}
			item.Free()
			n++
		}
		if _, err := r.Copy(b.ID, AnyBlob, 3); !errors.Is(err, ErrMissing) {
			t.Fatal(err)
		}
		asked := 0
		err := r.Asked(func() (id.ID, int, error) {
			if asked++; asked > 4 {
				return id.ID{}, 0, errEnough
			}
			return b.ID, asked - 1, nil
		}, func(a *Answer) error {
			if k := 3 - n; k < 3 && (a.Blob == nil || a.Blob.CRC != want[k].CRC) || k == 3 && a.Blob != nil || len(a.More) > 0 {
				t.Errorf("seed %d, asked for copy %d: %+v", seed, k, a)
			}
			n--
			return nil
		}, nil)
		if err != errEnough {
			t.Fatal(err)
		}
	}
}

// A put that was begun earlier, and is sent an id that has been stored since, does not
// list it once more; nor does it come first if nobody lists what it stored.
func TestStoredMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	mustCreate(t, dir)
	early := mustPut(t, mustOpen(t, dir, &log{}), nil)
	killed := mustPut(t, mustOpen(t, dir, &log{}), nil)
	putTree(t, dir, tree)
	page := tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.Kind == rec.KindPage })]
	rubbish := []*rec.Blob{twin(m, tree.Blobs[0], 0), twin(m, page, rec.KindPage), twin(m, tree.Blobs[1], rec.KindPage)}
	other := twin(m, page, rec.KindPage, tree.Blobs[0])
	for _, p := range []*Put{early, killed} {
		if err := p.Session(m.Session); err != nil {
			t.Fatal(err)
		}
		for _, b := range append(slices.Clone(rubbish), other) {
			if _, err := p.Heal(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := early.Keep(); err != nil {
		t.Fatal(err)
	}
	// The other one's packs are whole, and it is killed before it lists them.
	for k, o := range killed.open {
		killed.open[k] = nil
		if err := killed.finish(o); err != nil {
			t.Fatal(err)
		}
	}
	killed.background.Wait()
	for _, adopted := range []bool{false, true} {
		lg := &log{}
		r := mustOpen(t, dir, lg)
		if adopted {
			if p := mustPut(t, r, nil); p.Count.Adopted == 0 {
				t.Fatal("nothing was adopted")
			}
		}
		if rows := packsWith(t, r, tree.Blobs[0].ID); len(rows) != 1 {
			t.Errorf("data is listed in %d places", len(rows))
		}
		kinds := map[uint8]int{}
		for _, row := range packsWith(t, r, page.ID) {
			kinds[row.Kind]++
		}
		if kinds[rec.KindPage] < 2 { // with other references it is another blob
			t.Errorf("the page is listed as %v", kinds)
		}
		seen := map[id.ID]bool{}
		err := r.Down(mustSnapshot(t, r, tree), false, func(a *Answer) error {
			if a.ID == page.ID && seen[a.ID] {
				return nil // another one comes behind it
			}
			seen[a.ID] = true
			if want := blobOf(tree, a.ID); a.Blob == nil || a.Blob.CRC != want.CRC || len(a.More) != 0 {
				t.Errorf("blob %s: %+v", a.ID.Short(), a)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func mustSnapshot(t *testing.T, r *Repo, tree *storetest.Tree) *Snapshot {
	t.Helper()
	s, err := r.Snapshot(tree.Snapshot().ID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func blobOf(tree *storetest.Tree, i id.ID) *rec.Blob {
	return tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.ID == i })]
}

// A pack that a segment listed which is lost now is older than what was stored under
// its ids since: it is listed again, and comes first.
func TestAdoptedIsOlder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	b := m.Data(1, 20)[0]
	mustCreate(t, dir)
	heal(t, dir, 2, m, b)
	segments, _ := filepath.Glob(dir + "/index/*")
	if err := os.Remove(segments[0]); err != nil {
		t.Fatal(err)
	}
	// A put that does not know of the pack.
	p := mustPut(t, mustOpen(t, dir, &log{}), nil)
	p.view.rows = nil
	if err := errors.Join(p.Session(m.Session), p.Blob(twin(m, b, 0)), p.Keep()); err != nil {
		t.Fatal(err)
	}
	segments, _ = filepath.Glob(dir + "/index/*")
	for _, s := range segments { // what it adopted when it began
		data, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		if seg, err := pack.ParseSegment(data); err == nil && len(seg.Packs()) == 1 && old(dir, seg.Packs()[0].Name) {
			if err := os.Remove(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := mustOpen(t, dir, &log{})
	if rows := packsWith(t, r, b.ID); len(rows) != 1 {
		t.Fatalf("%v", rows)
	}
	mustPut(t, r, nil)
	item, err := r.Get(b.ID, AnyBlob)
	if err != nil || item.Blob.CRC != b.CRC || item.Next == 0 {
		t.Fatalf("%+v, %v", item, err)
	}
}

func old(dir string, name id.ID) bool {
	st, err := os.Stat(filepath.Join(dir, "packs", name.String()[:2], name.String()))
	return err == nil && time.Since(st.ModTime()) > time.Hour
}

// What is stored under an id as another kind, or with other references, neither ends a
// put nor counts as had, and is named once.
func TestStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	mustCreate(t, dir)
	var rubbish []*rec.Blob
	for _, b := range tree.Blobs[:len(tree.Blobs)-1] {
		rubbish = append(rubbish, twin(m, b, (b.Kind+1)%3))
		if b.Kind > 0 {
			rubbish = append(rubbish, twin(m, b, b.Kind, tree.Blobs[0]))
		}
	}
	heal(t, dir, 2, m, rubbish...)
	lg := &log{}
	p := mustPut(t, mustOpen(t, dir, lg), nil)
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil || p.Count.Had != 0 || p.Count.New != uint64(len(tree.Blobs)) {
		t.Fatalf("%v, %+v", err, p.Count)
	}
	if n := len(lg.notes); n == 0 || n > maxStrange {
		t.Errorf("%d notes: %q", n, lg.notes)
	}
	// Once more: all of it is had. And a snapshot above what was stored before.
	p = putTree(t, dir, tree)
	if p.Count.New != 0 {
		t.Errorf("%+v", p.Count)
	}
}

// Copies that agree in kind and references are given behind each other, stored so by
// whoever gets them, and given again.
func TestCopiesAreCarried(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	putTree(t, dir, tree)
	page := tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.Kind == rec.KindPage })]
	twins := []*rec.Blob{twin(m, tree.Blobs[0], 0), twin(m, page, rec.KindPage), twin(m, page, rec.KindPage, &rec.Blob{ID: id.ID{1}})}
	heal(t, dir, 9, m, twins...)
	p := mustPut(t, mustCreate(t, to), nil)
	if err := p.Session(m.Session); err != nil {
		t.Fatal(err)
	}
	carried := map[id.ID]int{}
	count := func(a *Answer, want int) {
		carried[a.ID]++
		if a.Blob == nil || len(a.More) != want {
			t.Errorf("blob %s: %d more, not %d", a.ID.Short(), len(a.More), want)
		}
	}
	want := func(i id.ID) int {
		if i == tree.Blobs[0].ID || i == page.ID {
			return 1
		}
		return 0
	}
	r := mustOpen(t, dir, &log{})
	err := r.Up(mustSnapshot(t, r, tree), UpOptions{}, func(a *Answer) error {
		count(a, want(a.ID))
		err := errors.Join(p.Session(a.Session), p.Blob(a.Blob))
		for _, o := range a.More {
			err = errors.Join(err, p.Session(o.Session), p.Blob(o.Blob), p.Blob(o.Blob))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil || p.Count.New != uint64(len(tree.Blobs)+2) {
		t.Fatalf("%v, %+v", err, p.Count)
	}
	r = mustOpen(t, to, &log{})
	if err := r.Down(mustSnapshot(t, r, tree), false, func(a *Answer) error { count(a, want(a.ID)); return nil }); err != nil {
		t.Fatal(err)
	}
}

// Without an index a reader asks the packs what is in them: nothing is missing, and
// nothing comes twice.
func TestLostIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	data := m.Data(3, 100)
	one, two := m.Blob(rec.KindPage, 30, data[0], data[1]), m.Blob(rec.KindPage, 30, data[1], data[2])
	root := m.Blob(2, 30, one, two)
	tree := &storetest.Tree{Session: m.Session, Blobs: append(slices.Clone(data), one, two, root, m.Blob(rec.KindSnapshot, 30, root))}
	putTree(t, dir, tree)
	segments, _ := filepath.Glob(dir + "/index/*")
	for _, s := range segments {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	lg := &log{}
	r := mustOpen(t, dir, lg)
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if err != nil || !same(got, downOrder(tree, false)) || len(lg.warns) != 0 || len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "2 packs are in no index segment") {
		t.Fatalf("%q, %v, %q, %q", got, err, lg.warns, lg.notes)
	}
	r = mustOpen(t, dir, &log{})
	n := 0
	if err := r.Up(mustSnapshot(t, r, tree), UpOptions{}, func(a *Answer) error { n++; return a.Err }); err != nil || n != len(tree.Blobs) {
		t.Fatalf("%d of %d, %v", n, len(tree.Blobs), err)
	}
}

// A page that somebody has stored first under an id, with references of his own, neither makes
// the puts of others fail that rest on the true one, nor ends them; what the true one lacks is
// told all the same.
func TestStrangersBelow(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	data, gone := m.Data(2, 100), m.Data(3, 100)
	page := m.Blob(rec.KindPage, 300, data...)
	top := m.Blob(2, 200, page)
	tree := &storetest.Tree{Session: m.Session, Blobs: append(slices.Clone(data), page, top, m.Blob(rec.KindSnapshot, 400, top))}
	fresh, next := m.Blob(rec.KindPage, 50), m.Blob(3, 200, top)
	later := &storetest.Tree{Session: m.Session, Blobs: []*rec.Blob{fresh, next, m.Blob(rec.KindSnapshot, 400, next)}}
	for name, c := range map[string]struct {
		pages []*rec.Blob // rubbish for the page
		tops  []*rec.Blob
		lacks bool // the true page's data
	}{
		"missing":           {pages: []*rec.Blob{twin(m, page, rec.KindPage, gone[0]), twin(m, page, rec.KindPage, gone[1])}},
		"of another kind":   {pages: []*rec.Blob{twin(m, page, rec.KindPage, fresh)}},
		"on two levels":     {pages: []*rec.Blob{twin(m, page, rec.KindPage, gone[0])}, tops: []*rec.Blob{twin(m, top, 2, gone[2])}},
		"and the true lack": {pages: []*rec.Blob{twin(m, page, rec.KindPage, gone[0])}, lacks: true},
	} {
		dir := t.TempDir()
		mustCreate(t, dir)
		for k, b := range append(slices.Clone(c.pages), c.tops...) {
			heal(t, dir, 20-k, m, b)
		}
		if c.lacks {
			heal(t, dir, 2, m, page, top)
		} else {
			putTree(t, dir, tree)
		}
		missing := 0
		r := mustOpen(t, dir, &log{})
		p, err := r.NewPut(nil, PutOptions{Missing: func(id.ID) error { missing++; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := send(p, later); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := p.Commit(); c.lacks != errors.Is(err, ErrMissing) || (err == nil) == c.lacks || c.lacks != (missing > 0) {
			t.Errorf("%s: %v, %d are missing", name, err, missing)
		}
	}
}
