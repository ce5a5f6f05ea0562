package store

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

func sampleVerdict() *verdict {
	v := &verdict{
		Made:     rec.Time{Sec: 1764588319, Nsec: 5},
		Replaces: []id.ID{{9}, {3}},
		Drops: []drop{
			{Since: rec.Time{Sec: 1764588319, Nsec: 5}, Packs: []id.ID{{0x22}, {0x11}}, Segments: []id.ID{{0x33}}},
			{Since: rec.Time{Sec: 1764501919}, Packs: []id.ID{{0x44}}},
		},
		Seen: []sighting{
			{seenSnapshot, rec.Time{Sec: 1764588319, Nsec: 5}, []id.ID{{0x55}}},
			{seenForgotten, rec.Time{Sec: 1764501919}, []id.ID{{0x66}, {0x65}}},
			{seenSnapshot, rec.Time{Sec: -1}, []id.ID{{0x56}}},
		},
	}
	v.tidy()
	return v
}

func FuzzVerdict(f *testing.F) {
	f.Add(sampleVerdict().encode())
	f.Add((&verdict{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseVerdict(b); err == nil && string(v.encode()) != string(b) {
			t.Fatalf("%x is %x", b, v.encode())
		}
	})
}

// decide stores a verdict as a collector does.
func decide(t testing.TB, r *Repo, v verdict) id.ID {
	t.Helper()
	v.tidy()
	b := v.encode()
	name := id.ID(sha256.Sum256(b))
	if err := r.o.Put(object("gc", name), b); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return name
}

// retire lets all packs of a repository go, or those in which something of a kind is.
func retire(t testing.TB, r *Repo, which func(kind uint8) bool) (packs []id.ID) {
	t.Helper()
	if err := r.EachPack(func(name id.ID) error {
		f, err := r.OpenPack(name)
		if err != nil {
			return err
		}
		defer f.Close()
		l, err := readListOf(f)
		for _, e := range l.Entries {
			if err == nil && which(e.Kind) {
				packs = append(packs, name)
				break
			}
		}
		return err
	}); err != nil || len(packs) == 0 {
		t.Fatal(len(packs), err)
	}
	decide(t, r, verdict{Made: rec.Time{Sec: 7}, Drops: []drop{{Since: rec.Time{Sec: 7}, Packs: packs}}})
	return packs
}

func remove(t testing.TB, r *Repo, packs []id.ID) {
	t.Helper()
	for _, name := range packs {
		if err := r.o.Delete(packName(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func anyKind(uint8) bool { return true }

// begun is a put that has received all of a tree, of which another put stored the blobs before.
func begun(t testing.TB, dir string) (*Put, *storetest.Tree, *[]id.ID) {
	t.Helper()
	tree := storetest.New(1).Tree(5, 3, 2, 2000)
	r := mustCreate(t, dir)
	older := mustPut(t, r, nil)
	if err := older.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range tree.Blobs[:len(tree.Blobs)-1] {
		if _, err := older.Heal(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := older.Keep(); err != nil {
		t.Fatal(err)
	}
	var told []id.ID
	p, err := mustOpen(t, dir, &log{}).NewPut(nil, PutOptions{Missing: func(i id.ID) error { told = append(told, i); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := send(p, tree); err != nil || p.Count.New != 1 {
		t.Fatal(p.Count, err)
	}
	return p, tree, &told
}

// What a collector has let go while a put was at work is copied, whenever it came; and the
// snapshot is whole when the packs have been removed.
func TestPutSavesWhatIsLetGo(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"", "publish checkpoints/", "syncdir checkpoints", "publish snapshots/", "syncdir snapshots"} {
		for name, which := range map[string]func(uint8) bool{
			"all": anyKind, "data": func(k uint8) bool { return k == rec.KindData }, "metadata": func(k uint8) bool { return k == rec.KindPage },
		} {
			dir := filepath.Join(t.TempDir(), "repo")
			p, tree, _ := begun(t, dir)
			var packs []id.ID
			at := strings.ReplaceAll(when, " ", " "+dir+"/")
			done := when == ""
			if done {
				packs = retire(t, p.r, which)
			}
			dirOf(p.r).Before = func(step string) error {
				if !done && strings.HasPrefix(step, at) {
					done = true
					packs = retire(t, p.r, which)
				}
				return nil
			}
			i, err := p.Commit()
			if err != nil || !done {
				t.Fatalf("%s, %s: %v", when, name, err)
			}
			remove(t, p.r, packs)
			lg := &log{}
			if got, err := walkAll(mustOpen(t, dir, lg), i, false); err != nil || !same(got, downOrder(tree, false)) || len(lg.warns) > 0 {
				t.Fatalf("%s, %s: the snapshot is not whole: %v %q", when, name, err, lg.warns)
			}
			checkSound(t, dir)
		}
	}
}

// What was let go and is removed before it could be copied is missed: nothing is committed, and
// each blob is told. If the snapshot was there already, it is forgotten.
func TestPutMissesWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"syncdir checkpoints", "syncdir snapshots"} {
		dir := filepath.Join(t.TempDir(), "repo")
		p, tree, told := begun(t, dir)
		done := false
		dirOf(p.r).Before = func(step string) error {
			if !done && strings.HasPrefix(step, strings.ReplaceAll(when, " ", " "+dir+"/")) {
				done = true
				packs := retire(t, p.r, func(k uint8) bool { return k == rec.KindData })
				remove(t, p.r, packs)
				p.r.o.Close() // it has some of them open
			}
			return nil
		}
		if _, err := p.Commit(); !errors.Is(err, ErrMissing) || len(*told) != 15 {
			t.Fatalf("%s: %v, %d told", when, err, len(*told))
		}
		r := mustOpen(t, dir, &log{})
		if list, err := r.Snapshots(); err != nil || len(list) > 0 {
			t.Fatalf("%s: %v %v", when, list, err)
		}
		if has, err := r.HasSnapshot(tree.Snapshot().ID); has || err != nil {
			t.Fatalf("%s: the snapshot counts: %v", when, err)
		}
		// The next run stores it all.
		tree.Snapshot().ID = id.ID{7}
		tree.Snapshot().CRC = tree.Snapshot().Sum()
		putTree(t, dir, tree)
		if got, err := walkAll(mustOpen(t, dir, &log{}), id.ID{7}, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal(err)
		}
	}
}

// Somebody who knows the id of another's snapshot sends rubbish under it, with something that a collector
// removes while he does so: his put fails, and the snapshot is not forgotten for that, even if it has no
// checkpoint any more.
func TestOthersAreNotForgotten(t *testing.T) {
	t.Parallel()
	for _, checkpoint := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "repo")
		m, junk := storetest.New(1), storetest.New(2)
		tree := m.Tree(2, 2, 2, 100)
		putTree(t, dir, tree)
		i := tree.Snapshot().ID
		if !checkpoint {
			if err := os.Remove(filepath.Join(dir, "checkpoints", i.String())); err != nil {
				t.Fatal(err)
			}
		}
		page := junk.Blob(rec.KindPage, 50)
		snapshot := junk.Blob(rec.KindSnapshot, 50, page)
		snapshot.ID = i
		snapshot.CRC = snapshot.Sum()
		p := mustPut(t, mustOpen(t, dir, &log{}), nil)
		if err := send(p, &storetest.Tree{Session: junk.Session, Blobs: []*rec.Blob{page, snapshot}}); err != nil {
			t.Fatal(err)
		}
		if err := p.barrier(); err != nil {
			t.Fatal(err)
		}
		pack := packsWith(t, mustOpen(t, dir, &log{}), page.ID)[0].Pack
		done := false
		dirOf(p.r).Before = func(step string) error {
			if !done && strings.HasPrefix(step, "syncdir "+dir+"/checkpoints") {
				done = true
				decide(t, p.r, verdict{Made: rec.Time{Sec: 7}, Drops: []drop{{Since: rec.Time{Sec: 7}, Packs: []id.ID{pack}}}})
				remove(t, p.r, []id.ID{pack})
				p.r.o.Close() // it has some of them open
			}
			return nil
		}
		if _, err := p.Commit(); !errors.Is(err, ErrMissing) || !done {
			t.Fatal(done, err)
		}
		r := mustOpen(t, dir, &log{})
		if gone, err := r.Forgotten(); err != nil || len(gone) > 0 {
			t.Errorf("checkpoint %v: forgotten %v, %v", checkpoint, gone, err)
		}
		if got, err := walkAll(r, i, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Errorf("checkpoint %v: %v", checkpoint, err)
		}
	}
}

// Of what a collector lets go each copy is saved, and what each of them refers to: which is the true
// one is not known.
func TestPutSavesAllCopies(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	m, junk := storetest.New(1), storetest.New(2)
	tree := m.Tree(3, 2, 2, 100)
	page := firstPage(tree)
	mustCreate(t, dir)
	d := junk.Data(1, 50)[0]
	heal(t, dir, 9, junk, d, twin(junk, page, rec.KindPage, d), twin(junk, tree.Blobs[0], 0))
	heal(t, dir, 5, m, tree.Blobs[:len(tree.Blobs)-1]...)
	p := mustPut(t, mustOpen(t, dir, &log{}), nil)
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	old := retire(t, p.r, anyKind)
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	remove(t, p.r, old)
	for _, b := range tree.Blobs[:len(tree.Blobs)-1] {
		if n := tries(t, dir, b); n == 0 || n == 1 && (b == page || b == tree.Blobs[0]) {
			t.Errorf("the true copy of a blob of kind %d comes at try %d", b.Kind, n)
		}
	}
	if got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false); err != nil || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "missing") }) {
		t.Error(err, got)
	}
}

// A checkpoint is secured, too: a later run rests on it.
func TestCheckpointSavesWhatIsLetGo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	run := storetest.New(1).Run(3, 2, 2, 500)
	r := mustCreate(t, dir)
	first := mustPut(t, r, nil)
	if err := feed(first, run.Records); err != nil {
		t.Fatal(err)
	}
	if err := first.Keep(); err != nil {
		t.Fatal(err)
	}
	for _, c := range files(t, filepath.Join(dir, "checkpoints")) {
		if err := os.Remove(filepath.Join(dir, "checkpoints", c)); err != nil {
			t.Fatal(err)
		}
	}
	p := mustPut(t, mustOpen(t, dir, &log{}), nil)
	at := slices.IndexFunc(run.Records, func(v rec.Record) bool { _, is := v.(*rec.Checkpoint); return is })
	if err := feed(p, run.Records[:at]); err != nil {
		t.Fatal(err)
	}
	packs := retire(t, p.r, anyKind)
	if err := feed(p, run.Records[at:]); err != nil {
		t.Fatal(err)
	}
	remove(t, p.r, packs)
	if got, err := walkAll(mustOpen(t, dir, &log{}), run.Trees[0].Snapshot().ID, false); err != nil || !same(got, downOrder(run.Trees[0], false)) {
		t.Fatal(err)
	}
}

// Nobody who comes later relies on what is let go: it is not had, not in the list of ids, and
// not adopted; what replaces a segment counts in its place.
func TestRetired(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(3, 3, 2, 500)
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	old := retire(t, r, func(k uint8) bool { return k == rec.KindData })
	r = mustOpen(t, dir, &log{})
	n := 0
	if err := r.IDs(func(id.ID) error { n++; return nil }); err != nil || n != len(tree.Blobs)-9 {
		t.Fatal(n, err)
	}
	// It is there still, for who reads.
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	again := *tree
	again.Blobs = append(slices.Clone(tree.Blobs[:len(tree.Blobs)-1]), storetest.New(2).Blob(rec.KindSnapshot, 300, tree.Blobs[len(tree.Blobs)-2]))
	again.Blobs[len(again.Blobs)-1].SID = tree.Snapshot().SID
	again.Snapshot().CRC = again.Snapshot().Sum()
	if p := putTree(t, dir, &again); p.Count.New != 10 || p.Count.Adopted != 0 {
		t.Fatalf("%+v", p.Count)
	}
	remove(t, r, old)
	// The reader that had the repository open finds what was stored in its place.
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	// A replaced segment does not count, and its packs are not orphans while they are let go.
	segments, err := r.names("index")
	if err != nil {
		t.Fatal(err)
	}
	first := decide(t, r, verdict{Made: rec.Time{Sec: 8}, Drops: []drop{{Since: rec.Time{Sec: 8}, Segments: segments, Packs: retire(t, r, anyKind)}}})
	lg := &log{}
	v, err := mustOpen(t, dir, lg).current()
	if err != nil || len(v.rows) > 0 || len(lg.warns) > 0 {
		t.Fatal(len(v.rows), err, lg.warns)
	}
	if p := mustPut(t, mustOpen(t, dir, &log{}), nil); p.Count.Adopted != 0 {
		t.Fatalf("%+v", p.Count)
	}
	// A verdict that another one replaces does not count.
	s, err := r.readState()
	if err != nil {
		t.Fatal(err)
	}
	decide(t, r, verdict{Made: rec.Time{Sec: 9}, Replaces: s.epoch})
	if s, err = r.readState(); err != nil || len(s.current) != 1 || len(s.retired)+len(s.replaced) > 0 || !slices.Contains(s.epoch, first) {
		t.Fatalf("%+v %v", s, err)
	}
	if v, err := mustOpen(t, dir, &log{}).current(); err != nil || len(v.rows) == 0 {
		t.Fatal(err)
	}
}

// With a damaged verdict nothing is stored, since what it let go would be relied on; readers go on.
func TestDamagedVerdict(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(3, 3, 2, 500)
	putTree(t, dir, tree)
	name := decide(t, mustOpen(t, dir, &log{}), verdict{Made: rec.Time{Sec: 7}})
	flip(t, filepath.Join(dir, object("gc", name)), 20)
	lg := &log{}
	r := mustOpen(t, dir, lg)
	if _, err := r.NewPut(nil, PutOptions{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "pv-gc collect") {
		t.Fatal(err)
	}
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	if len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "is damaged") {
		t.Fatalf("%q", lg.notes)
	}
	// One of a later version ends everything.
	b := []byte("\x82\xa8preserve\x02\xa3abc\xc3")
	if err := r.o.Put(object("gc", id.ID(sha256.Sum256(b))), b); err != nil {
		t.Fatal(err)
	}
	r = mustOpen(t, dir, &log{})
	if _, err := r.current(); !errors.Is(err, ErrNewer) {
		t.Fatal(err)
	}
}
