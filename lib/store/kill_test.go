package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// errKilled ends a put like kill -9: no step after it is taken.
var errKilled = errors.New("killed")

// killAt lets all steps from the n-th on fail, and returns what was to be done.
func killAt(p *Put, n int64) (steps *[]string) {
	var mu sync.Mutex
	var count atomic.Int64
	steps = &[]string{}
	dirOf(p.r).Before = func(step string) error {
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

// Killed before any step of a run with checkpoints, a put leaves those whole that
// are there, and the next need not send again what they reach.
func TestKilledAtEveryStepOfCheckpoints(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(4, 2, 2, 3000)
	last := run.Trees[len(run.Trees)-1]
	blobs := uint64(0)
	for _, v := range run.Records {
		if _, is := v.(*rec.Blob); is {
			blobs++
		}
	}
	total := int64(1 << 40)
	seen := map[int]bool{} // how many checkpoints a kill left
	for k := int64(-1); k < total; k++ {
		dir := filepath.Join(t.TempDir(), "repo")
		p := mustPut(t, mustCreate(t, dir), nil)
		n := k
		if k < 0 {
			n = total
		}
		steps := killAt(p, n)
		err := feed(p, run.Records)
		if err == nil {
			_, err = p.Commit()
		}
		p.background.Wait() // and nothing else: its temporaries stay
		if k < 0 {
			if err != nil {
				t.Fatal(err)
			}
			checkRoots(t, *steps, len(run.Trees))
			total = int64(len(*steps))
			continue
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("killed at step %d of %d: %v", k, total, err)
		}
		checkSound(t, dir)
		left := files(t, filepath.Join(dir, "checkpoints"))
		seen[len(left)] = true
		durable := uint64(0) // what the last of them reaches is not stored again
		for _, tree := range run.Trees {
			if slices.Contains(left, tree.Snapshot().ID.String()) {
				durable = uint64(len(tree.Blobs))
			}
		}
		again := mustPut(t, mustOpen(t, dir, &log{}), nil)
		if err := feed(again, run.Records); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Commit(); err != nil || again.Count.Had < durable || again.Count.Had+again.Count.New != blobs {
			t.Fatalf("after a kill at step %d: %v, %d had of %d: %+v", k, err, durable, blobs, again.Count)
		}
		checkSound(t, dir)
		if got, err := walkAll(mustOpen(t, dir, &log{}), last.Snapshot().ID, false); err != nil || !same(got, downOrder(last, false)) {
			t.Fatalf("after a kill at step %d: %v", k, err)
		}
	}
	if total < 80 || len(seen) != len(run.Trees)+1 {
		t.Fatalf("%d steps, %v", total, seen)
	}
}

// checkRoots makes sure that behind every segment, which follows the packs that it
// lists, there is one checkpoint, and one snapshot at the very end.
func checkRoots(t testing.TB, steps []string, n int) {
	t.Helper()
	var order []string
	for _, s := range steps {
		path, is := strings.CutPrefix(s, "publish ")
		for _, dir := range []string{"packs", "index", "checkpoints", "snapshots"} {
			if is && strings.HasPrefix(path, repoPart(steps, "/"+dir+"/")) && (len(order) == 0 || order[len(order)-1] != dir) {
				order = append(order, dir)
			}
		}
	}
	want := strings.Repeat("packs index checkpoints ", n) + "snapshots"
	if got := strings.Join(order, " "); got != want {
		t.Fatalf("%s\nwant %s\n%s", got, want, strings.Join(steps, "\n"))
	}
	for k, s := range steps {
		if dir := repoPart(steps, "/checkpoints"); strings.HasPrefix(s, "publish "+dir+"/") && steps[k+1] != "syncdir "+dir {
			t.Fatalf("not synced: %s", strings.Join(steps, "\n"))
		}
	}
}

// checkSound makes sure of invariants: what is listed is there and whole, and
// whatever a snapshot or checkpoint reaches is listed.
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
	roots, err := r.names("checkpoints")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range append(list, roots...) {
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
	// Two packs, in one directory or in two: their names are random.
	n := strings.Count(text, "publish "+repoPart(steps, "/packs/"))
	if n < 2 || strings.Count(text, "sync ") < 2 {
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
	if _, err := p.Commit(); !errors.Is(err, objects.ErrAborted) {
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
		dirOf(p.r).Before = func(s string) (err error) {
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
