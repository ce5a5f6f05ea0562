package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// What a put has written and holds back does not come before what others store and list
// meanwhile, whoever lists it then.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	for _, adopted := range []bool{false, true} {
		dir := t.TempDir()
		m := storetest.New(1)
		tree := m.Tree(2, 2, 2, 100)
		page := tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.Kind == rec.KindPage })]
		mustCreate(t, dir)
		honest, thief := mustPut(t, mustOpen(t, dir, &log{}), nil), mustPut(t, mustOpen(t, dir, &log{}), nil)
		err := thief.Session(m.Session)
		for _, b := range []*rec.Blob{twin(m, tree.Blobs[0], 0), twin(m, page, rec.KindPage, tree.Blobs[1])} {
			_, herr := thief.Heal(b)
			err = errors.Join(err, herr)
		}
		for k, o := range thief.open { // full: they become durable, and are not listed
			thief.open[k] = nil
			err = errors.Join(err, thief.finish(o))
		}
		thief.background.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := send(honest, tree); err != nil {
			t.Fatal(err)
		}
		if _, err := honest.Commit(); err != nil {
			t.Fatal(err)
		}
		if adopted {
			if p := mustPut(t, mustOpen(t, dir, &log{}), nil); p.Count.Adopted != 2 {
				t.Fatal(p.Count.Adopted)
			}
		} else if err := thief.Keep(); err != nil {
			t.Fatal(err)
		}
		r := mustOpen(t, dir, &log{})
		if rows := packsWith(t, r, page.ID); len(rows) != 2 {
			t.Errorf("the page is listed in %d places", len(rows))
		}
		seen := map[id.ID]bool{}
		err = r.Down(mustSnapshot(t, r, tree), false, func(a *Answer) error {
			if a.ID == page.ID && seen[a.ID] {
				return nil // the other one comes behind it
			}
			seen[a.ID] = true
			if want := blobOf(tree, a.ID); a.Blob == nil || a.Blob.CRC != want.CRC || len(a.More) != 0 {
				t.Errorf("adopted %v, blob %s: %+v", adopted, a.ID.Short(), a)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A pack has no time until it is listed, that of the listing then, and keeps it when it is
// listed again.
func TestPackTimes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	mustCreate(t, dir)
	p := mustPut(t, mustOpen(t, dir, &log{}), nil)
	if err := errors.Join(p.Session(m.Session), p.Blob(m.Data(1, 20)[0])); err != nil {
		t.Fatal(err)
	}
	o := p.open[0]
	p.open[0] = nil
	if err := p.finish(o); err != nil {
		t.Fatal(err)
	}
	p.background.Wait()
	stat := func() os.FileInfo {
		packs, _ := filepath.Glob(dir + "/packs/*/*")
		st, err := os.Stat(packs[0])
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if stat().ModTime().UnixNano() != 0 {
		t.Fatal(stat().ModTime())
	}
	began := time.Now().Add(-time.Minute)
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	listed := stat().ModTime()
	if listed.Before(began) {
		t.Fatal(listed)
	}
	segments, _ := filepath.Glob(dir + "/index/*")
	if err := os.Remove(segments[0]); err != nil {
		t.Fatal(err)
	}
	if p := mustPut(t, mustOpen(t, dir, &log{}), nil); p.Count.Adopted != 1 || !stat().ModTime().Equal(listed) {
		t.Fatal(p.Count.Adopted, stat().ModTime())
	}
}

// However many copies somebody has stored before it, and however large they are, the one that
// came last is given with the first.
func TestYoungestIsGiven(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ copies, size, good int }{"many": {2 * maxCopies, 50, 100}, "large": {3, 14 << 20, 5 << 20}} {
		dir := t.TempDir()
		m := storetest.New(1)
		tree := m.Tree(1, 1, 2, c.good)
		b := tree.Blobs[0]
		first := m.Blob(rec.KindData, c.size)
		first.ID = b.ID
		first.CRC = first.Sum()
		mustCreate(t, dir)
		rubbish := []*rec.Blob{first}
		for range c.copies {
			r := m.Blob(rec.KindData, c.size)
			r.ID = b.ID
			r.CRC = r.Sum()
			rubbish = append(rubbish, r)
		}
		heal(t, dir, 2, m, rubbish...)
		putTree(t, dir, tree)
		heal(t, dir, 1, m, b)
		r := mustOpen(t, dir, &log{})
		err := r.Down(mustSnapshot(t, r, tree), false, func(a *Answer) error {
			if n := len(a.More); a.ID == b.ID && (a.Blob.CRC != first.CRC || n == 0 || a.More[0].Blob.CRC != b.CRC || name == "many" && a.More[1].Blob.CRC != rubbish[1].CRC) {
				t.Errorf("%s: %d more", name, n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A slowWriter lets something happen before it gives packs their time.
type slowWriter struct {
	objects.Writer
	first func()
}

func (w *slowWriter) Date(name string) error {
	err := w.Writer.Date(name)
	if f := w.first; err == nil && f != nil {
		w.first = nil
		f()
	}
	return err
}

// It may take long to give many packs their time. What others list meanwhile is younger than they
// are, and is not listed behind them.
func TestListedWhilePacksAreDated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	page := firstPage(tree)
	mustCreate(t, dir)
	honest := mustPut(t, mustOpen(t, dir, &log{}), nil) // else it adopts the packs
	p, err := mustOpen(t, dir, &log{}).NewPut(nil, PutOptions{Log: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	other := m.Data(1, 20)[0]
	err = p.Session(m.Session)
	for _, b := range []*rec.Blob{twin(m, tree.Blobs[0], 0), twin(m, page, rec.KindPage), other} {
		_, herr := p.Heal(b)
		err = errors.Join(err, herr)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.w = &slowWriter{p.w, func() {
		time.Sleep(20 * time.Millisecond)
		if err := send(honest, tree); err != nil {
			t.Error(err)
		}
		if _, err := honest.Commit(); err != nil {
			t.Error(err)
		}
	}}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, dir, &log{})
	for _, b := range []*rec.Blob{tree.Blobs[0], page, other} {
		if rows := packsWith(t, r, b.ID); len(rows) != 1 {
			t.Errorf("kind %d is listed in %d places", b.Kind, len(rows))
		}
		item, err := r.Get(b.ID, AnyBlob)
		if err != nil || item.Blob.CRC != b.CRC {
			t.Errorf("kind %d: %v", b.Kind, err)
		}
	}
	segments, err := filepath.Glob(dir + "/index/*")
	if err != nil {
		t.Fatal(err)
	}
	names := named(readLog(t, dir))
	found := 0
	for _, s := range segments {
		if slices.Contains(names, filepath.Base(s)) {
			found++
		}
	}
	if found != 1 { // the other put keeps no log
		t.Errorf("%d segments are in the log", found)
	}
}
