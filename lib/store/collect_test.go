package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// collect runs a collector, and kills it before step n; negative is never.
func collect(t testing.TB, dir string, o CollectOptions, n int64) (rep *CollectReport, steps []string, err error) {
	t.Helper()
	r, err := OpenAlone(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mu sync.Mutex
	count := int64(0)
	dirOf(r).Before = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; n >= 0 && count > n {
			return errKilled
		}
		steps = append(steps, step)
		return nil
	}
	rep, err = r.Collect(o)
	return rep, steps, err
}

// now collects at once, however much goes.
var now = CollectOptions{Now: true, YesDrop: 1 << 40}

func mustCollect(t testing.TB, dir string, o CollectOptions) (*CollectReport, []string) {
	t.Helper()
	rep, steps, err := collect(t, dir, o, -1)
	if err != nil {
		t.Fatal(err)
	}
	return rep, steps
}

// stored stores a tree, and has the repository open no longer.
func stored(t testing.TB, dir string, tree *storetest.Tree) Count {
	t.Helper()
	r, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := mustPut(t, r, nil)
	defer p.Close()
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return p.Count
}

// sound is checkSound, and has the repository open no longer.
func sound(t *testing.T, dir string) {
	t.Helper()
	if !t.Run("sound", func(t *testing.T) { checkSound(t, dir) }) {
		t.FailNow()
	}
}

func forget(t testing.TB, dir string, i id.ID) {
	t.Helper()
	r := mustOpen(t, dir, &log{})
	defer r.Close()
	if _, err := r.Forget(i); err != nil {
		t.Fatal(err)
	}
}

// isWhole makes sure that the snapshots in a repository are just those of the trees, and that
// each can be read to the last blob.
func isWhole(t testing.TB, dir string, trees ...*storetest.Tree) {
	t.Helper()
	r, err := Open(dir, Options{Warn: func(format string, args ...any) { t.Errorf(format, args...) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []id.ID
	for _, tree := range trees {
		want = append(want, tree.Snapshot().ID)
	}
	slices.SortFunc(want, compareIDs)
	if got, err := r.Snapshots(); err != nil || !slices.Equal(got, want) {
		t.Fatalf("%d snapshots, %v; want %d", len(got), err, len(want))
	}
	for _, tree := range trees {
		got, err := walkAll(r, tree.Snapshot().ID, false)
		if err != nil || !same(got, downOrder(tree, false)) {
			t.Fatalf("snapshot %s is not whole: %v", tree.Snapshot().ID.Short(), err)
		}
	}
}

// of returns a tree over some of the pages of another: their data is the same.
func of(m *storetest.Maker, t *storetest.Tree, pages func(n int) bool) *storetest.Tree {
	out := &storetest.Tree{Session: m.Session}
	byID := map[id.ID]*rec.Blob{}
	var level []*rec.Blob
	n := 0
	for _, b := range t.Blobs {
		byID[b.ID] = b
		if b.Kind != rec.KindPage {
			continue
		}
		if n++; pages(n - 1) {
			for k := range b.NRefs() {
				out.Blobs = append(out.Blobs, byID[b.Ref(k)])
			}
			out.Blobs = append(out.Blobs, b)
			level = append(level, b)
		}
	}
	if len(level) > 1 {
		top := m.Blob(2, 200, level...)
		out.Blobs = append(out.Blobs, top)
		level = []*rec.Blob{top}
	}
	out.Blobs = append(out.Blobs, m.Blob(rec.KindSnapshot, 400, level[0]))
	return out
}

// grown is a repository in which a collector has everything to do: packs that nobody needs, packs
// that are mostly not needed, many small segments, a snapshot that is forgotten, a
// checkpoint that is none any more, an orphan. It returns the trees that stay.
func grown(t testing.TB) (dir string, stay []*storetest.Tree) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	m := storetest.New(1)
	big := m.Tree(10, 3, 10, 3000)
	stored(t, dir, big)
	part := of(m, big, func(n int) bool { return n%5 == 0 })
	stored(t, dir, part)
	other := storetest.New(2).Tree(3, 3, 3, 300)
	stored(t, dir, other)
	gone := storetest.New(3).Tree(3, 3, 3, 300)
	stored(t, dir, gone)
	forget(t, dir, big.Snapshot().ID)
	forget(t, dir, gone.Snapshot().ID)
	return dir, []*storetest.Tree{part, other}
}

func packsOf(t testing.TB, dir string) (n int, size int64) {
	t.Helper()
	list, err := filepath.Glob(dir + "/packs/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	return len(list), size
}

// What is needed stays, what is not goes, and a second collector has nothing to do.
func TestCollect(t *testing.T) {
	t.Parallel()
	dir, stay := grown(t)
	_, before := packsOf(t, dir)
	rep, _ := mustCollect(t, dir, now)
	isWhole(t, dir, stay...)
	sound(t, dir)
	n, after := packsOf(t, dir)
	if rep.Snapshots != 2 || len(rep.Gone) != 2 || rep.Dropped == 0 || rep.Rewritten == 0 || rep.DroppedBytes <= 0 || after >= before/2 {
		t.Fatalf("%+v: %d packs, %d bytes of %d", rep, n, after, before)
	}
	// About what a fresh repository of the same snapshots has. (In packs as small as these
	// a session that is there once more counts.)
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, tree := range stay {
		stored(t, fresh, tree)
	}
	if _, size := packsOf(t, fresh); after > size*110/100 {
		t.Errorf("%d bytes, a fresh repository %d", after, size)
	}
	mustCollect(t, dir, now) // what was let go is gone by now
	rep, steps := mustCollect(t, dir, now)
	if rep.Dropped+rep.Rewritten != 0 || slices.ContainsFunc(steps, func(s string) bool {
		return strings.HasPrefix(s, "publish") || strings.HasPrefix(s, "unlink")
	}) {
		t.Fatalf("%+v %q", rep, steps)
	}
	for _, tree := range stay {
		if n := stored(t, dir, tree); n.New != 0 {
			t.Fatalf("%+v", n)
		}
	}
}

// Killed before any step, a collector leaves every snapshot whole, and the next one ends its
// work.
func TestCollectKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	_, steps := mustCollect(t, dir, now)
	_, want := packsOf(t, dir)
	if len(steps) < 40 {
		t.Fatalf("only %d steps", len(steps))
	}
	for n := range steps {
		dir, stay := grown(t)
		if _, _, err := collect(t, dir, now, int64(n)); err != nil && !errors.Is(err, errKilled) {
			t.Fatalf("step %d: %v", n, err)
		}
		isWhole(t, dir, stay...)
		again := storetest.New(9).Tree(1, 1, 1, 100)
		if n%2 == 0 { // a put in between
			stored(t, dir, again)
			isWhole(t, dir, append(slices.Clone(stay), again)...)
			forget(t, dir, again.Snapshot().ID)
		}
		mustCollect(t, dir, now)
		mustCollect(t, dir, now)
		isWhole(t, dir, stay...)
		sound(t, dir)
		if _, size := packsOf(t, dir); size > want*11/10 {
			t.Fatalf("killed at step %d (%s): %d bytes stay, %d without the kill", n, steps[n], size, want)
		}
	}
}

// Contents before names, what replaces before what is replaced, objects before packs.
func TestCollectOrder(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	_, steps := mustCollect(t, dir, now)
	first := func(part string) int {
		n := slices.IndexFunc(steps, func(s string) bool { return strings.HasPrefix(s, part) })
		if n < 0 {
			t.Fatalf("no %q in\n%s", part, strings.Join(steps, "\n"))
		}
		return n
	}
	last := func(part string) int {
		at := first(part)
		for n, s := range steps {
			if strings.HasPrefix(s, part) {
				at = n
			}
		}
		return at
	}
	order := []int{last("publish " + dir + "/packs"), first("publish " + dir + "/index"), last("publish " + dir + "/index"), first("publish " + dir + "/gc"), first("unlink " + dir + "/snapshots"),
		last("unlink " + dir + "/checkpoints"), first("unlink " + dir + "/index"), last("unlink " + dir + "/index"), last("syncdir " + dir + "/index"), first("unlink " + dir + "/packs")}
	if !slices.IsSorted(order) {
		t.Fatalf("out of order %v:\n%s", order, strings.Join(steps, "\n"))
	}
	if at := last("publish " + dir + "/index"); !strings.HasPrefix(steps[at+1], "syncdir "+dir+"/index") {
		t.Fatal("the segments are not synced before others are removed")
	}
}

// An error of the disk at any step stops the collector, and loses nothing.
func TestCollectFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("input/output error")
	for _, step := range []string{"create ", "write ", "sync ", "mkdir ", "publish ", "syncdir ", "unlink "} {
		for nth := range 4 {
			dir, stay := grown(t)
			r, err := OpenAlone(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var n atomic.Int64
			dirOf(r).Before = func(s string) error {
				if strings.HasPrefix(s, step) && n.Add(1) == int64(nth)+1 {
					return boom
				}
				return nil
			}
			_, err = r.Collect(now)
			r.Close()
			if n.Load() > int64(nth) && !errors.Is(err, boom) {
				t.Fatalf("%s %d: %v", step, nth, err)
			}
			isWhole(t, dir, stay...)
			mustCollect(t, dir, now)
			isWhole(t, dir, stay...)
			sound(t, dir)
		}
	}
}

// Nobody else is there while a collector works, and it does not begin while somebody is.
func TestCollectExclusive(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	r := mustOpen(t, dir, &log{})
	if _, err := OpenAlone(dir, Options{}); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if _, err := r.Collect(now); err == nil {
		t.Fatal("collected under a shared lock")
	}
	r.Close()
	x, err := OpenAlone(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if _, err := OpenAlone(dir, Options{}); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
}

// snapshotOf lists all files with their sizes and times: nothing has changed if it is equal.
func snapshotOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range files(t, dir) {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(f, "gc/") {
			all[f] = fmt.Sprint(st.Size(), st.ModTime())
		}
	}
	return all
}

// Where anything is not as it should be, nothing is removed.
func TestCollectStops(t *testing.T) {
	t.Parallel()
	page := func(tree *storetest.Tree) *rec.Blob {
		return tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.Kind == rec.KindPage })]
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string, tree *storetest.Tree)
		o     CollectOptions
		want  error
	}{
		"a page is damaged": {func(t *testing.T, dir string, tree *storetest.Tree) {
			r := mustOpen(t, dir, &log{})
			defer r.Close()
			for _, row := range packsWith(t, r, page(tree).ID) {
				flip(t, r.packPath(row.Pack), int64(row.Offset)+200)
			}
		}, now, ErrDamaged},
		"a pack with pages is gone": {func(t *testing.T, dir string, tree *storetest.Tree) {
			r := mustOpen(t, dir, &log{})
			defer r.Close()
			for _, row := range packsWith(t, r, page(tree).ID) {
				if err := os.Remove(r.packPath(row.Pack)); err != nil {
					t.Fatal(err)
				}
			}
		}, now, nil},
		"too much":          {func(*testing.T, string, *storetest.Tree) {}, CollectOptions{Now: true, MaxDrop: 0.2}, ErrTooMuch},
		"a little too much": {func(*testing.T, string, *storetest.Tree) {}, CollectOptions{Now: true, YesDrop: 5000}, ErrTooMuch},
		"a snapshot is gone": {func(t *testing.T, dir string, tree *storetest.Tree) {
			mustCollect(t, dir, CollectOptions{YesDrop: 0}) // it sees
			if err := os.Rename(filepath.Join(dir, "snapshots", tree.Snapshot().ID.String()), filepath.Join(t.TempDir(), "x")); err != nil {
				t.Fatal(err)
			}
		}, now, ErrGone},
		"all snapshots are gone": {func(t *testing.T, dir string, tree *storetest.Tree) {
			mustCollect(t, dir, CollectOptions{})
			if err := os.Rename(filepath.Join(dir, "snapshots"), filepath.Join(dir, "tmp", "x")); err != nil {
				t.Fatal(err)
			}
		}, now, ErrGone},
	} {
		dir, stay := grown(t)
		c.spoil(t, dir, stay[0])
		before := snapshotOf(t, dir)
		r, err := OpenAlone(dir, Options{})
		if err == nil {
			_, err = r.Collect(c.o)
			r.Close()
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if after := snapshotOf(t, dir); !maps.Equal(before, after) {
			t.Errorf("%s: something has changed\n%v\n%v", name, before, after)
		}
	}
}

// A snapshot that somebody removed by hand can be forgotten, so that collectors go on.
func TestCollectAfterALoss(t *testing.T) {
	t.Parallel()
	dir, stay := grown(t)
	mustCollect(t, dir, CollectOptions{})
	i := stay[0].Snapshot().ID
	for _, d := range []string{"snapshots", "checkpoints"} {
		if err := os.Remove(filepath.Join(dir, d, i.String())); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := collect(t, dir, now, -1); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	forget(t, dir, i)
	mustCollect(t, dir, now)
	isWhole(t, dir, stay[1:]...)
}

// A mark that a snapshot is kept is stronger than one that it is forgotten, should both be
// there.
func TestCollectKept(t *testing.T) {
	t.Parallel()
	dir, stay := grown(t)
	big := storetest.New(1).Tree(10, 3, 10, 3000)
	if err := os.WriteFile(filepath.Join(dir, "kept", big.Snapshot().ID.String()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustCollect(t, dir, now)
	if err := os.Remove(filepath.Join(dir, "forgotten", big.Snapshot().ID.String())); err != nil {
		t.Fatal(err)
	}
	isWhole(t, dir, append(stay, big)...)
}

// What is verified before anything is removed does not rest on the plan: a plan that is wrong
// removes nothing.
func TestCollectVerifies(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"a pack with what is needed goes", "a segment goes without a replacement"} {
		dir, stay := grown(t)
		before := snapshotOf(t, dir)
		r, err := OpenAlone(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := &collector{r: r, o: now, rep: &CollectReport{}, known: map[id.ID]bool{}, there: map[id.ID]*packUse{}, old: map[id.ID]bool{}}
		c.o.Explain = func(string, ...any) {}
		for _, step := range []func() error{c.open, c.findRoots, c.ages, c.mark, c.plan} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if what == "a pack with what is needed goes" {
			for _, u := range c.there {
				if u.live > 0 && !u.dropped {
					u.dropped = true
					c.drop = append(c.drop, &packUse{name: u.name, dropped: true}) // nothing of it is moved
					break
				}
			}
			err = c.execute()
		} else {
			names, nerr := r.Segments()
			if nerr != nil {
				t.Fatal(nerr)
			}
			c.replaced = names
			err = c.verify()
		}
		c.p.Close()
		r.Close()
		if err == nil || !strings.Contains(err.Error(), "would be lost") {
			t.Fatalf("%s: %v", what, err)
		}
		isWhole(t, dir, stay...)
		after := snapshotOf(t, dir)
		for f, st := range before {
			if after[f] != st {
				t.Fatalf("%s: %s is gone", what, f)
			}
		}
	}
}

// Segments that are many and small become one; what they list stays as it was.
func TestCollectTidies(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	var trees []*storetest.Tree
	for n := range tidySegments + 2 {
		tree := storetest.New(byte(n)).Tree(1, 2, 2, 50)
		stored(t, dir, tree)
		trees = append(trees, tree)
	}
	mustCollect(t, dir, now)
	if n := len(files(t, filepath.Join(dir, "index"))); n != 1 {
		t.Fatalf("%d segments", n)
	}
	isWhole(t, dir, trees...)
	sound(t, dir)
}
