package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
		p = putTree(t, r.Dir(), tree)
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
		r := mustOpen(t, r.Dir(), &log{})
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
			if err := send(p, tree); !errors.Is(err, ErrConflict) {
				t.Errorf("%s, from before %v: %v", name, before, err)
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

// A collector that comes while a put is at work keeps it from committing.
func TestCollectorAtWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 10)
	p := mustPut(t, mustCreate(t, dir), nil)
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gc", strings.Repeat("0", 64)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); !errors.Is(err, ErrCollected) {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "snapshots")); len(list) != 0 {
		t.Fatal("committed")
	}
}

// errKilled ends a put like kill -9: no step after it is taken.
var errKilled = errors.New("killed")

// killAt lets all steps from the n-th on fail, and returns what was to be done.
func killAt(p *Put, n int64) (steps *[]string) {
	var mu sync.Mutex
	var count atomic.Int64
	steps = &[]string{}
	p.disk.before = func(step string) error {
		if count.Add(1) > n {
			return errKilled
		}
		mu.Lock()
		*steps = append(*steps, step)
		mu.Unlock()
		return nil
	}
	return steps
}

// Killed before any step, a put leaves no snapshot, or a whole one, and nothing
// that keeps the next run from succeeding.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 3, 2, 30000)
	all := []int64{1 << 40}
	for k := 0; k < len(all); k++ {
		dir := filepath.Join(t.TempDir(), "repo")
		r := mustCreate(t, dir)
		p, err := r.NewPut(nil, PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		steps := killAt(p, all[k])
		err = send(p, tree)
		if err == nil {
			_, err = p.Commit()
		}
		p.background.Wait() // and nothing else: its temporaries stay
		if all[k] == 1<<40 {
			if err != nil {
				t.Fatal(err)
			}
			checkSteps(t, *steps)
			for n := range *steps {
				all = append(all, int64(n))
			}
			continue
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("killed at step %d of %d: %v", all[k], len(all), err)
		}
		checkSound(t, dir)
		putTree(t, dir, tree)
		got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false)
		if err != nil || !same(got, downOrder(tree, false)) {
			t.Fatalf("after a kill at step %d: %v", all[k], err)
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d steps", len(all))
	}
}

// checkSound makes sure of invariants: what is listed is there and whole, and
// whatever a snapshot reaches is listed.
func checkSound(t testing.TB, dir string) {
	t.Helper()
	lg := &log{}
	r := mustOpen(t, dir, lg)
	if err := r.IDs(func(i id.ID) error {
		for _, row := range packsWith(t, r, i) {
			if _, _, err := r.read(row); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	packs, _ := filepath.Glob(dir + "/packs/*/*")
	for _, path := range packs {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _, err := pack.Check(f)
		f.Close()
		if err != nil || name.String() != filepath.Base(path) {
			t.Fatalf("%s: %v", path, err)
		}
	}
	list, err := r.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		got, err := walkAll(r, i, false)
		if err != nil || strings.Contains(strings.Join(got, " "), "missing") {
			t.Fatalf("snapshot %s: %v", i, err)
		}
	}
	if len(lg.warns)+len(lg.notes) > 0 {
		t.Fatal(lg.warns, lg.notes)
	}
}

// checkSteps makes sure of the order that survives a loss of power: contents
// before names, names of packs before the segment, the segment before the
// checkpoint, that before the snapshot.
func checkSteps(t testing.TB, steps []string) {
	t.Helper()
	text := strings.Join(steps, "\n") + "\n"
	at := func(part string) int {
		n := strings.Index(text, part)
		if n < 0 {
			t.Fatalf("no %q in\n%s", part, text)
		}
		return n
	}
	last := func(part string) int { return max(at(part), strings.LastIndex(text, part)) }
	n := strings.Count(text, "/packs/") - strings.Count(text, "mkdir")
	if n < 4 || strings.Count(text, "sync ") < 2 {
		t.Fatalf("steps:\n%s", text)
	}
	order := []int{last("publish " + repoPart(steps, "/packs/")), last("syncdir " + repoPart(steps, "/packs")), at("publish " + repoPart(steps, "/index/")), at("syncdir " + repoPart(steps, "/index")),
		at("publish " + repoPart(steps, "/checkpoints/")), at("syncdir " + repoPart(steps, "/checkpoints")), at("publish " + repoPart(steps, "/snapshots/")), at("syncdir " + repoPart(steps, "/snapshots"))}
	if !slices.IsSorted(order) {
		t.Fatalf("out of order %v:\n%s", order, text)
	}
	for k, s := range steps {
		if strings.HasPrefix(s, "publish ") && !strings.HasPrefix(steps[k-1], "sync ") && !strings.HasPrefix(steps[k-1], "mkdir ") && !strings.HasPrefix(steps[k-1], "publish ") {
			t.Fatalf("published without a sync before: %d\n%s", k, text)
		}
	}
}

// repoPart returns the path of the repository, as the steps have it, with part.
func repoPart(steps []string, part string) string {
	path := strings.Fields(steps[0])[1]
	return path[:strings.Index(path, "/tmp/put-")] + part
}

func TestAbortRemovesTemporaries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(3, 3, 2, 1000)
	p := mustPut(t, mustCreate(t, dir), nil)
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if got := files(t, filepath.Join(dir, "tmp")); len(got) != 2 {
		t.Fatalf("two packs should be open: %q", got)
	}
	p.Abort()
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left behind: %q", got)
	}
	if _, err := p.Commit(); !errors.Is(err, errAborted) {
		t.Fatal(err)
	}
	p.Close()
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left behind: %q", got)
	}
}

// After a failed sync nothing is retried on the file: the pack is given up.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"sync ", "publish ", "syncdir ", "create ", "write ", "mkdir "} {
		dir := t.TempDir()
		tree := storetest.New(1).Tree(3, 3, 2, 100000)
		p := mustPut(t, mustCreate(t, dir), nil)
		boom := errors.New("input/output error")
		var once sync.Once
		p.disk.before = func(s string) (err error) {
			if strings.HasPrefix(s, step) {
				once.Do(func() { err = boom })
			}
			return err
		}
		err := send(p, tree)
		if err == nil {
			_, err = p.Commit()
		}
		if !errors.Is(err, boom) {
			t.Fatalf("%s: %v", step, err)
		}
		// The tool keeps what is whole.
		_ = p.Keep()
		p.Close()
		if got := files(t, filepath.Join(dir, "tmp")); len(got) != 0 {
			t.Fatalf("%s: left behind: %q", step, got)
		}
		checkSound(t, dir)
		putTree(t, dir, tree)
	}
}

func TestConcurrentPuts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	common := storetest.New(100).Tree(5, 5, 3, 500)
	var wg sync.WaitGroup
	var trees [6]*storetest.Tree
	for k := range trees {
		trees[k] = storetest.New(byte(k)).Tree(4, 4, 2, 300)
		wg.Go(func() {
			for _, tree := range []*storetest.Tree{trees[k], common} {
				r, err := Create(dir, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				p, err := r.NewPut(nil, PutOptions{})
				if err == nil {
					err = send(p, tree)
				}
				if err == nil {
					_, err = p.Commit()
				}
				if err != nil {
					t.Error(err)
				}
				p.Close()
				r.Close()
			}
		})
	}
	wg.Wait()
	checkSound(t, dir)
	r := mustOpen(t, dir, &log{})
	if list, _ := r.Snapshots(); len(list) != len(trees)+1 {
		t.Fatalf("%d snapshots", len(list))
	}
	for _, tree := range append(trees[:], common) {
		if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal(err)
		}
	}
}

// Barriers in the middle of a stream list what is there, and the run goes on.
func TestBarriers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(30, 10, 4, 50)
	p := mustPut(t, mustCreate(t, dir), nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for k, b := range tree.Blobs {
		if k%50 == 49 {
			p.since = time.Now().Add(-2 * barrierTime)
		}
		if err := p.Blob(b); err != nil {
			t.Fatal(err)
		}
		if k%50 == 49 && (p.data.Len() != 0 || p.pendingRows != 0) {
			t.Fatal("no barrier")
		}
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, _ := filepath.Glob(dir + "/index/*"); len(got) < 5 {
		t.Fatalf("%d segments", len(got))
	}
	checkSound(t, dir)
	if p := putTree(t, dir, tree); p.Count.New != 0 {
		t.Fatalf("%+v", p.Count)
	}
}

func TestHeal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(3, 3, 2, 2000)
	putTree(t, dir, tree)
	lg := &log{}
	bad := []*rec.Blob{tree.Blobs[1], tree.Blobs[7]} // data, and the next page
	for _, b := range bad {
		r := mustOpen(t, dir, lg)
		row := packsWith(t, r, b.ID)[0]
		flip(t, r.packPath(row.Pack), int64(row.Offset+row.Length)-3)
	}
	r := mustOpen(t, dir, lg)
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if n := strings.Count(strings.Join(got, " "), "missing"); err != nil || n != 2 {
		t.Fatalf("%d missing, %v", n, err)
	}
	p := mustPut(t, r, nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range 2 { // what was healed once needs it no more
		for _, b := range tree.Blobs {
			stored, err := p.Heal(b)
			if err != nil {
				t.Fatal(err)
			}
			if stored {
				n++
			}
		}
	}
	if err := p.Keep(); err != nil || n != len(bad) {
		t.Fatalf("%d healed, %v", n, err)
	}
	lg = &log{}
	r = mustOpen(t, dir, lg)
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatalf("%v, %q", err, got)
	}
	if len(packsWith(t, r, bad[0].ID)) != 2 {
		t.Fatal("the damaged copy's row is gone")
	}
	other := *bad[1]
	other.Refs = other.Refs[:32]
	other.CRC = other.Sum()
	p = mustPut(t, r, nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Heal(&other); !errors.Is(err, ErrConflict) {
		t.Fatal(err)
	}
}

// A pack that is gone makes its blobs missing, unless the index has changed
// meanwhile: then it is read again.
func TestPackGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	putTree(t, dir, tree)
	lg := &log{}
	r := mustOpen(t, dir, lg)
	if _, err := r.current(); err != nil {
		t.Fatal(err)
	}
	row := packsWith(t, r, tree.Blobs[0].ID)[0]
	if err := os.Rename(r.packPath(row.Pack), dir+"/aside"); err != nil {
		t.Fatal(err)
	}
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if n := strings.Count(strings.Join(got, " "), "missing"); err != nil || n != 4 {
		t.Fatalf("%d missing, %v", n, err)
	}
	p := mustPut(t, mustOpen(t, dir, lg), nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range tree.Blobs {
		if _, err := p.Heal(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatalf("the old view was kept: %q, %v", got, err)
	}
}

func TestSnapshotObjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	started := time.Now().Add(-5 * time.Second)
	r := mustCreate(t, dir)
	p, err := r.NewPut(nil, PutOptions{As: "nas/é"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	i := tree.Snapshot().ID
	s, err := r.Snapshot(i)
	if err != nil || s.As != "nas/é" || s.Received.Std().Before(started) || s.Received.Std().After(time.Now().Add(5*time.Second)) || !bytes.Equal(s.Blob.Data, tree.Snapshot().Data) {
		t.Fatalf("%+v, %v", s, err)
	}
	path := filepath.Join(dir, "snapshots", i.String())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k := range data {
		bad := bytes.Clone(data)
		bad[k] ^= 4
		if s, err := parseSnapshot(bad, i); err == nil && (s.Stored == (rec.Stored{ID: i, Received: s.Received, As: s.As}) && s.Received == mustSnapshot(t, data, i).Received && s.As == "nas/é") && !nonceAt(data, k) {
			t.Fatalf("byte %d of %d changed unnoticed", k, len(data))
		} else if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if _, err := parseSnapshot(data[:k], i); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", k, err)
		}
	}
	// A damaged object is replaced by the copy in a pack.
	flip(t, path, int64(len(data)/2))
	lg := &log{}
	if got, err := walkAll(mustOpen(t, dir, lg), i, false); err != nil || !same(got, downOrder(tree, false)) || len(lg.notes) != 1 {
		t.Fatalf("%v, %q", err, lg.notes)
	}
}

func mustSnapshot(t testing.TB, data []byte, i id.ID) *Snapshot {
	t.Helper()
	s, err := parseSnapshot(data, i)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nonceAt tells the bytes of the head's nonce, which may be any.
func nonceAt(data []byte, k int) bool {
	at := bytes.Index(data, []byte("\xa5nonce")) + 6 + 2
	return k >= at && k < at+rec.NonceSize
}

// A reference graph that a hostile holder of a write key made, with far more
// paths than blobs, is walked in bounded memory.
func TestHostileGraph(t *testing.T) {
	m := storetest.New(1)
	dir := t.TempDir()
	tree := &storetest.Tree{Session: m.Session}
	level := m.Data(40, 10)
	tree.Blobs = append(tree.Blobs, level...)
	for kind := uint8(1); kind <= 8; kind++ {
		var up []*rec.Blob
		for range 40 {
			up = append(up, m.Blob(kind, 10, level...))
		}
		tree.Blobs = append(tree.Blobs, up...)
		level = up
	}
	tree.Blobs = append(tree.Blobs, m.Blob(9, 10, level[0]))
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	s, err := r.Snapshot(tree.Snapshot().ID)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	enough := errors.New("enough")
	err = r.Down(s, false, func(a *Answer) error {
		if n++; n == 30000 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			return enough
		}
		return a.Err
	})
	if err != enough {
		t.Fatal(err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Fatalf("%d bytes held after %d blobs", grown, n)
	}
}

// Answers come in order however large they are, and within the budget.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	tree := &storetest.Tree{Session: m.Session}
	var data []*rec.Blob
	for k := range 30 {
		data = append(data, m.Blob(0, []int{10, 9 << 20, 100, 700 << 10}[k%4]))
	}
	tree.Blobs = append(tree.Blobs, data...)
	var pages []*rec.Blob
	for k := range 10 {
		pages = append(pages, m.Blob(1, []int{100, 4 << 20}[k%2], data[3*k:3*k+3]...))
	}
	tree.Blobs = append(tree.Blobs, pages...)
	tree.Blobs = append(tree.Blobs, m.Blob(2, 10, pages...))
	tree.Blobs = append(tree.Blobs, m.Blob(9, 10, tree.Blobs[len(tree.Blobs)-1]))
	dir := t.TempDir()
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	// The same through Asked, with unknown ids in between.
	var asked []id.ID
	for k, b := range tree.Blobs {
		asked = append(asked, b.ID, id.ID{byte(k + 1)})
	}
	next, answered, idle := 0, 0, 0
	err := r.Asked(func() (id.ID, error) {
		if next == len(asked) {
			return id.ID{}, errors.New("end of the list")
		}
		next++
		return asked[next-1], nil
	}, func(a *Answer) error {
		if a.ID != asked[answered] || (a.Blob == nil) != (answered%2 == 1) || a.Blob == nil && !errors.Is(a.Err, ErrMissing) {
			return fmt.Errorf("answer %d: %v %v", answered, a.ID, a.Err)
		}
		answered++
		return nil
	}, func() error { idle++; return nil })
	if fmt.Sprint(err) != "end of the list" || answered != len(asked) || idle == 0 {
		t.Fatal(err, answered, idle)
	}
}
