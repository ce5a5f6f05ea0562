package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/objects/objectstest"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

const day = 24 * time.Hour

// age makes files older.
func age(t testing.TB, dir string, pattern string, by time.Duration) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		st, err := os.Stat(path)
		if err == nil {
			err = os.Chtimes(path, time.Time{}, st.ModTime().Add(-by))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A site is a repository in memory, with a clock.
type site struct {
	t   testing.TB
	m   *objectstest.Mem
	now atomic.Int64 // nanoseconds
}

// pass lets time pass, or go back.
func (s *site) pass(d time.Duration) { s.now.Add(int64(d)) }

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, m: objectstest.NewMem()}
	s.now.Store(1_764_000_000e9)
	s.m.Clock = func() time.Time { return time.Unix(0, s.now.Load()) }
	if err := Make(s.m); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) open() *Repo {
	s.t.Helper()
	r, err := OpenStore(s.m, Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// begin is a put that has sent all of a tree.
func (s *site) begin(tree *storetest.Tree) (*Repo, *Put) {
	s.t.Helper()
	r := s.open()
	p := mustPut(s.t, r, nil)
	if err := send(p, tree); err != nil {
		s.t.Fatal(err)
	}
	return r, p
}

func (s *site) put(tree *storetest.Tree) Count {
	s.t.Helper()
	r, p := s.begin(tree)
	defer r.Close()
	defer p.Close()
	if _, err := p.Commit(); err != nil {
		s.t.Fatal(err)
	}
	return p.Count
}

func (s *site) forget(i id.ID) {
	s.t.Helper()
	r := s.open()
	defer r.Close()
	if _, err := r.Forget(i); err != nil {
		s.t.Fatal(err)
	}
}

// try collects beside others; alone if it does not wait.
func (s *site) try(o CollectOptions) (*CollectReport, error) {
	s.t.Helper()
	r, err := openStore(s.m, Options{}, o.Now && !o.DryRun)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Collect(o)
}

func (s *site) collect() *CollectReport {
	s.t.Helper()
	rep, err := s.try(CollectOptions{YesDrop: 1 << 40})
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

// whole makes sure that a snapshot can be read to its last blob.
func (s *site) whole(tree *storetest.Tree) error {
	r, err := OpenStore(s.m, Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if err == nil && !same(got, downOrder(tree, false)) {
		err = errors.New("not whole")
	}
	return err
}

func (s *site) mustBeWhole(trees ...*storetest.Tree) {
	s.t.Helper()
	for _, tree := range trees {
		if err := s.whole(tree); err != nil {
			s.t.Fatalf("snapshot %s: %v", tree.Snapshot().ID.Short(), err)
		}
	}
}

func (s *site) packs() (n int) {
	for _, name := range s.m.Names() {
		if strings.HasPrefix(name, "packs/") {
			n++
		}
	}
	return n
}

// grown is a site in which two of four snapshots are forgotten.
func grownSite(t testing.TB) (s *site, stay []*storetest.Tree, big *storetest.Tree) {
	t.Helper()
	s = newSite(t)
	m := storetest.New(1)
	big = m.Tree(10, 3, 10, 3000)
	s.put(big)
	part := of(m, big, func(n int) bool { return n%5 == 0 })
	s.put(part)
	other := storetest.New(2).Tree(3, 3, 3, 300)
	s.put(other)
	gone := storetest.New(3).Tree(3, 3, 3, 300)
	s.put(gone)
	s.forget(big.Snapshot().ID)
	s.forget(gone.Snapshot().ID)
	return s, []*storetest.Tree{part, other}, big
}

// Beside others, what is forgotten goes in steps: a week from when its mark was seen, a day from
// when the packs were let go; and each step is one that an earlier run has seen coming.
func TestCollectWaits(t *testing.T) {
	t.Parallel()
	s, stay, big := grownSite(t)
	s.pass(1000 * day) // however old the marks are
	if rep := s.collect(); rep.Waiting != 2 || len(rep.Gone) != 0 || rep.Dropped+rep.Rewritten > 0 {
		t.Fatalf("%+v", rep)
	}
	s.pass(6 * day)
	if rep := s.collect(); !rep.Idle {
		t.Fatalf("%+v", rep)
	}
	// Unforgotten and forgotten again, it begins to wait again.
	r := s.open()
	if had, err := r.Unforget(big.Snapshot().ID); !had || err != nil {
		t.Fatal(had, err)
	}
	r.Close()
	s.mustBeWhole(append(slices.Clone(stay), big)...)
	s.forget(big.Snapshot().ID)
	s.pass(2 * day)
	rep := s.collect()
	if rep.Waiting != 1 || len(rep.Gone) != 1 || rep.Dropped == 0 || rep.Later != rep.Dropped || rep.Removed != 0 {
		t.Fatalf("%+v", rep)
	}
	n := s.packs()
	s.pass(23 * time.Hour)
	if rep := s.collect(); rep.Removed != 0 || s.packs() != n {
		t.Fatalf("%+v", rep)
	}
	s.pass(2 * time.Hour)
	if rep := s.collect(); rep.Removed == 0 || s.packs() >= n {
		t.Fatalf("%+v: %d packs of %d", rep, s.packs(), n)
	}
	s.pass(6 * day)
	if rep := s.collect(); len(rep.Gone) != 1 || rep.Rewritten == 0 {
		t.Fatalf("%+v", rep)
	}
	s.mustBeWhole(stay...)
	s.pass(2 * day)
	s.collect()
	s.mustBeWhole(stay...)
	// What is left is one verdict, and nothing that was let go.
	s.pass(2 * day)
	s.collect()
	if list, err := s.m.List("gc"); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	r = s.open()
	defer r.Close()
	if st, err := r.readState(); err != nil || len(st.retired)+len(st.replaced) > 0 {
		t.Fatalf("%d packs, %d segments, %v", len(st.retired), len(st.replaced), err)
	}
	// A clock that steps back makes nothing old, and does no harm.
	s.pass(-1000 * day)
	s.collect()
	s.mustBeWhole(stay...)
	if n := s.put(stay[0]); n.New != 0 {
		t.Fatalf("%+v", n)
	}
}

// Young packs stay, whether anything refers to them or not: their put may still be at work.
func TestCollectYoung(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tree := storetest.New(1).Tree(3, 3, 3, 300)
	r, p := s.begin(tree)
	if err := p.barrier(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if rep := s.collect(); rep.Dropped > 0 {
			t.Fatalf("%+v", rep)
		}
		s.pass(3 * day)
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	r.Close()
	s.mustBeWhole(tree)
	if rep := s.collect(); rep.Dropped > 0 || rep.Snapshots != 1 {
		t.Fatalf("%+v", rep)
	}
	// What nothing refers to after a week is let go.
	r, p = s.begin(storetest.New(2).Tree(3, 3, 3, 300))
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	r.Close()
	s.collect()
	s.pass(8 * day)
	if rep := s.collect(); rep.Dropped == 0 {
		t.Fatalf("%+v", rep)
	}
	s.mustBeWhole(tree)
}

// A checkpoint stays for 30 days from when it was seen; what is marked to be kept stays for ever.
func TestCollectCheckpoints(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	run := storetest.New(1).Run(4, 2, 2, 300)
	r := s.open()
	p := mustPut(t, r, nil)
	if err := feed(p, run.Records[:len(run.Records)-3]); err != nil {
		t.Fatal(err)
	}
	p.Close()
	r.Close()
	if rep := s.collect(); rep.Checkpoints != 3 {
		t.Fatalf("%+v", rep)
	}
	s.pass(29 * day)
	if rep := s.collect(); rep.Checkpoints != 3 && !rep.Idle {
		t.Fatalf("%+v", rep)
	}
	kept := run.Trees[1]
	r = s.open()
	if _, err := r.Keep(kept.Snapshot().ID); err != nil {
		t.Fatal(err)
	}
	r.Close()
	s.pass(2 * day)
	if rep := s.collect(); rep.Checkpoints != 1 || len(rep.GoneCheckpoints) != 2 {
		t.Fatalf("%+v", rep)
	}
	s.pass(2 * day)
	s.collect()
	s.mustBeWhole(kept)
}

// A run in which nothing has come, gone or come of age changes nothing and reads no page.
func TestCollectIdle(t *testing.T) {
	t.Parallel()
	s, stay, _ := grownSite(t)
	s.collect()
	for range 20 {
		s.pass(5 * day)
		s.collect()
	}
	before := s.m.Names()
	s.pass(400 * day)
	var read []string
	s.m.SetBefore(func(step string) error {
		if !strings.HasPrefix(step, "list") && !strings.HasPrefix(step, "create") {
			read = append(read, step)
		}
		return nil
	})
	if rep := s.collect(); !rep.Idle || len(read) > 0 || !slices.Equal(before, s.m.Names()) {
		t.Fatalf("%+v %q", rep, read)
	}
	s.m.SetBefore(nil)
	s.mustBeWhole(stay...)
}

// A dry run says what would go, and changes nothing.
func TestCollectDryRun(t *testing.T) {
	t.Parallel()
	s, _, _ := grownSite(t)
	before := s.m.Names()
	dry, err := s.try(CollectOptions{Now: true, DryRun: true})
	if err != nil || !slices.Equal(before, s.m.Names()) {
		t.Fatal(err)
	}
	done, err := s.try(now)
	if err != nil {
		t.Fatal(err)
	}
	done.Removed, done.RemovedBytes, done.Later = 0, 0, 0
	if fmt.Sprint(dry) != fmt.Sprint(done) {
		t.Fatalf("%+v\n%+v", dry, done)
	}
}

// A listing that fails stops the collector; one that lacks snapshots does, too.
func TestCollectListings(t *testing.T) {
	t.Parallel()
	boom := errors.New("input/output error")
	for _, dir := range []string{"gc", "index", "packs", "snapshots", "checkpoints", "forgotten", "kept"} {
		s, stay, big := grownSite(t)
		s.collect()
		s.pass(8 * day)
		before := s.m.Names()
		s.m.SetBefore(func(step string) error {
			if step == "list "+dir {
				return boom
			}
			return nil
		})
		if _, err := s.try(CollectOptions{YesDrop: 1 << 40}); !errors.Is(err, boom) {
			t.Errorf("%s: %v", dir, err)
		}
		s.m.SetBefore(nil)
		if !slices.Equal(before, s.m.Names()) {
			t.Errorf("%s: something has changed", dir)
		}
		s.mustBeWhole(stay...)
		_ = big
	}
}

// steps returns what a function changes, step by step.
func (s *site) steps(fn func()) (list []string) {
	var mu sync.Mutex
	s.m.SetBefore(func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, step)
		return nil
	})
	fn()
	s.m.SetBefore(nil)
	return list
}

// at runs fn before the n-th step of what is done next.
func (s *site) at(n int, fn func()) {
	var k atomic.Int64
	var hook func(string) error
	hook = func(string) error {
		if k.Add(1) == int64(n)+1 {
			s.m.SetBefore(nil)
			fn()
			s.m.SetBefore(hook)
		}
		return nil
	}
	s.m.SetBefore(hook)
}

// killed is a hook that lets all steps from the n-th on fail.
func killed(n int) func(string) error {
	var k atomic.Int64
	return func(string) error {
		if k.Add(1) > int64(n) {
			return errKilled
		}
		return nil
	}
}

// A put rests on data that nothing needs any more. It stops before any of its steps, and collectors
// let the data go, remove it, or both, whatever the clock does meanwhile. Then the put goes on: it
// commits a snapshot that is whole, or none.
func TestPutPausedAtEveryStep(t *testing.T) {
	t.Parallel()
	runs := map[string]func(s *site){
		"one": func(s *site) { s.collect() },
		"two": func(s *site) { s.collect(); s.collect() },
		"a day later": func(s *site) {
			s.collect()
			s.pass(25 * time.Hour)
			s.collect()
		},
		"the clock jumps": func(s *site) {
			for range 4 {
				s.pass(9000 * day)
				s.collect()
			}
		},
		"the clock jumps back and forth": func(s *site) {
			s.pass(9000 * day)
			s.collect()
			s.pass(-8999 * day)
			s.collect()
			s.pass(9000 * day)
			s.collect()
		},
	}
	for name, run := range runs {
		committed, refused := 0, 0
		total := 1
		for n := 0; n < total; n++ {
			s := newSite(t)
			m := storetest.New(1)
			tree := m.Tree(3, 2, 3, 300)
			// A forgotten snapshot has all that the put needs, and its packs are old.
			old := *tree
			old.Blobs = append(slices.Clone(tree.Blobs[:len(tree.Blobs)-1]), m.Blob(rec.KindSnapshot, 300, tree.Blobs[len(tree.Blobs)-2]))
			s.put(&old)
			s.collect()
			s.forget(old.Snapshot().ID)
			s.collect()
			s.pass(8 * day)
			r := s.open()
			if n == 0 {
				p := mustPut(t, r, nil)
				total = len(s.steps(func() {
					if err := send(p, tree); err != nil {
						t.Fatal(err)
					}
					if _, err := p.Commit(); err != nil {
						t.Fatal(err)
					}
				}))
				p.Close()
				r.Close()
				if total < 10 {
					t.Fatalf("only %d steps", total)
				}
				continue
			}
			p := mustPut(t, r, nil)
			s.at(n, func() { run(s) })
			err := send(p, tree)
			if err == nil {
				_, err = p.Commit()
			}
			s.m.SetBefore(nil)
			p.Close()
			r.Close()
			switch {
			case err == nil:
				committed++
				s.mustBeWhole(tree)
			case errors.Is(err, ErrMissing):
				refused++
				r := s.open()
				if has, herr := r.HasSnapshot(tree.Snapshot().ID); has || herr != nil {
					t.Errorf("%s, step %d: refused (%v), and the snapshot counts", name, n, err)
				}
				r.Close()
			default:
				t.Errorf("%s, step %d: %v", name, n, err)
			}
			for range 4 { // whatever comes later
				s.pass(2 * day)
				s.collect()
			}
			if err == nil {
				s.mustBeWhole(tree)
			}
		}
		if committed == 0 {
			t.Errorf("%s: no put has committed anything", name)
		}
		if strings.HasPrefix(name, "the clock") && refused == 0 {
			t.Errorf("%s: no put was refused", name)
		}
	}
}

// A collector stops before any of its steps, and a put runs from its beginning to its end; or another
// collector does. Then the first one goes on.
func TestCollectPausedAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"put", "collector", "collector, a day later", "put and collector, the clock jumps", "unforget"} {
		total, saved := 1, 0
		for n := 0; n < total; n++ {
			s, stay, big := grownSite(t)
			s.collect()
			s.pass(8 * day)
			if what != "unforget" { // the next one removes the snapshots, and then packs
				s.collect()
				s.pass(2 * day)
			}
			again := of(storetest.New(9), big, func(n int) bool { return n%2 == 0 })
			again.Session = big.Session
			for _, b := range again.Blobs {
				b.SID = big.Snapshot().SID
				b.CRC = b.Sum()
			}
			if n == 0 {
				total = len(s.steps(func() { s.collect() }))
				if total < 10 {
					t.Fatalf("only %d steps", total)
				}
				continue
			}
			fresh := stay
			unforgot := false
			s.at(n, func() {
				switch what {
				case "put":
					s.put(again)
					fresh = append(slices.Clone(stay), again)
				case "collector":
					s.collect()
				case "collector, a day later":
					s.pass(2 * day)
					s.collect()
				case "unforget":
					r := s.open()
					_, err := r.Unforget(big.Snapshot().ID)
					unforgot = err == nil
					r.Close()
				default:
					s.put(again)
					fresh = append(slices.Clone(stay), again)
					s.pass(9000 * day)
					s.collect()
					s.pass(9000 * day)
					s.collect()
				}
			})
			_, err := s.try(CollectOptions{YesDrop: 1 << 40})
			s.m.SetBefore(nil)
			if err != nil && !strings.HasPrefix(what, "collector") && !strings.HasPrefix(what, "put and") {
				t.Errorf("%s, step %d: %v", what, n, err)
			}
			if unforgot {
				fresh = append(slices.Clone(stay), big)
				saved++
			}
			s.mustBeWhole(fresh...)
			for range 4 {
				s.pass(2 * day)
				s.collect()
			}
			s.mustBeWhole(fresh...)
		}
		if what == "unforget" && saved < 10 {
			t.Errorf("only %d times the mark was removed in time", saved)
		}
	}
}

// A put that was at work before packs were let go is killed when its checkpoint is there, while a
// collector removes them. The checkpoint is whole, if it came before the collector's last look; if
// not, it keeps no collector from its work.
func TestCollectSecuresWhatComes(t *testing.T) {
	t.Parallel()
	total, looks := 1, 0
	for n := 0; n < total; n++ {
		s := newSite(t)
		m := storetest.New(1)
		tree := m.Tree(3, 2, 3, 300)
		old := *tree
		old.Blobs = append(slices.Clone(tree.Blobs[:len(tree.Blobs)-1]), m.Blob(rec.KindSnapshot, 300, tree.Blobs[len(tree.Blobs)-2]))
		s.put(&old)
		s.collect()
		s.forget(old.Snapshot().ID)
		s.collect()
		s.pass(8 * day)
		r, p := s.begin(tree)
		s.collect() // lets go
		s.pass(2 * day)
		if n == 0 {
			steps := s.steps(func() { s.collect() })
			total = len(steps)
			for k, step := range steps {
				if step == "list checkpoints" {
					looks = k
				}
			}
			p.Close()
			r.Close()
			continue
		}
		s.at(n, func() {
			var dead atomic.Bool
			s.m.SetBefore(func(step string) error {
				if dead.Load() {
					return errKilled
				}
				if strings.HasPrefix(step, "sync checkpoints") {
					dead.Store(true)
				}
				return nil
			})
			if _, err := p.Commit(); !errors.Is(err, errKilled) {
				t.Fatalf("step %d: %v", n, err)
			}
			s.m.SetBefore(nil)
			r.Close()
		})
		if _, err := s.try(CollectOptions{YesDrop: 1 << 40}); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		s.m.SetBefore(nil)
		if n < looks {
			s.mustBeWhole(tree)
		}
		for range 4 {
			s.pass(5 * day)
			s.collect()
		}
		if n < looks {
			s.mustBeWhole(tree)
		}
	}
	if looks < 10 {
		t.Errorf("the last look is step %d", looks)
	}
}

// Killed before any step, a collector beside others leaves every snapshot whole, and the next ones end
// its work.
func TestCollectKilledBesideOthers(t *testing.T) {
	t.Parallel()
	for _, phase := range []int{1, 2, 3} { // it sees, lets go, removes
		total := 1
		for n := 0; n < total; n++ {
			s, stay, _ := grownSite(t)
			for k := 1; k < phase; k++ {
				s.collect()
				s.pass(8 * day)
			}
			if n == 0 {
				total = len(s.steps(func() { s.collect() }))
				continue
			}
			s.m.SetBefore(killed(n))
			if _, err := s.try(CollectOptions{YesDrop: 1 << 40}); err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("phase %d, step %d: %v", phase, n, err)
			}
			s.m.SetBefore(nil)
			s.mustBeWhole(stay...)
			for range 6 {
				s.pass(8 * day)
				s.collect()
			}
			s.mustBeWhole(stay...)
			if got := s.packs(); got > 6 {
				t.Fatalf("phase %d, killed at step %d: %d packs stay", phase, n, got)
			}
		}
	}
}

// A world is a repository and a simple model of it.
type world struct {
	*site
	r         *rand.Rand
	made      []*storetest.Tree
	there     map[id.ID]*storetest.Tree // committed, and somebody was told
	forgotten map[id.ID]bool
	untold    map[id.ID]bool // committed by a put that was killed before it told anybody
	log       []string
	depth     int
	removed   int
}

// Puts, collectors of both kinds, marks, kills, pauses, losses and clocks in any order: what was
// committed and is not forgotten is there to the last blob, after each step; and what was forgotten
// can be had back until a collector may remove it. PV_SCHEDULES is the number of schedules, 300 if it
// is not set.
func TestCollectSchedules(t *testing.T) {
	t.Parallel()
	all := uint64(300)
	if text := os.Getenv("PV_SCHEDULES"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		all = n
	}
	removed := 0
	for seed := range all {
		removed += schedule(t, seed)
		if t.Failed() {
			return
		}
	}
	if removed < int(all/10) {
		t.Errorf("only %d snapshots were removed", removed)
	}
}

func schedule(t *testing.T, seed uint64) (removed int) {
	w := &world{site: newSite(t), r: rand.New(rand.NewPCG(seed, 1)), there: map[id.ID]*storetest.Tree{}, forgotten: map[id.ID]bool{}, untold: map[id.ID]bool{}}
	m := storetest.New(byte(seed))
	base := m.Tree(4, 2, 4, 60)
	for n := range 5 {
		mask := w.r.IntN(15) + 1
		w.made = append(w.made, of(m, base, func(k int) bool { return mask&(1<<k) != 0 }))
		if n%2 == 0 {
			w.made = append(w.made, m.Tree(1+w.r.IntN(2), 2, 2, 60))
		}
	}
	w.step()
	for range 14 {
		w.step()
		w.check()
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(w.log, "\n"))
			break
		}
	}
	return w.removed
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, strings.Repeat("  ", w.depth)+fmt.Sprintf(format, args...))
}

// disturb lets something happen before a step of what is done next: a kill, or another step of the
// world, while this one is paused. It reports how it will have been.
func (w *world) disturb() (what string) {
	if w.depth > 1 {
		return ""
	}
	n := w.r.IntN(50)
	switch w.r.IntN(3) {
	case 0:
		w.m.SetBefore(killed(n))
		return fmt.Sprintf("killed at step %d", n)
	case 1:
		w.at(n, func() {
			w.depth++
			w.step()
			w.depth--
		})
		return fmt.Sprintf("paused at step %d", n)
	}
	return "undisturbed"
}

func (w *world) step() {
	outer := w.m.Before()
	defer w.m.SetBefore(outer)
	w.m.SetBefore(nil)
	switch w.r.IntN(8) {
	case 0, 1, 2:
		w.put()
	case 3, 4:
		w.collectAny()
	case 5:
		w.mark()
	case 6:
		by := time.Duration(w.r.IntN(40)-4) * day
		if w.r.IntN(6) == 0 {
			by = time.Duration(w.r.IntN(20000)-10000) * day
		}
		w.say("the clock steps by %d days", by/day)
		w.pass(by)
	case 7:
		if w.depth > 0 {
			return
		}
		for _, name := range w.m.Names() { // a loss that heals itself: the index, or a part of it
			if strings.HasPrefix(name, "index/") && w.r.IntN(3) == 0 {
				w.say("lose %s", name[:14])
				if err := w.m.Delete(name); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

func (w *world) put() {
	tree := w.made[w.r.IntN(len(w.made))]
	i := tree.Snapshot().ID
	r, err := OpenStore(w.m, Options{})
	if errors.Is(err, ErrLocked) {
		w.say("put: locked")
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	w.say("put %s, %s", i.Short(), w.disturb())
	var base []id.ID
	for i := range w.there {
		if w.r.IntN(3) == 0 && !w.forgotten[i] && len(base) < 2 {
			base = append(base, i)
		}
	}
	p, err := r.NewPut(base, PutOptions{})
	if err == nil {
		err = send(p, tree)
		if err == nil {
			_, err = p.Commit()
		}
		p.background.Wait()
		w.m.SetBefore(nil)
		p.Close()
	}
	w.m.SetBefore(nil)
	_, serr := w.m.Stat(object("snapshots", i))
	_, ferr := w.m.Stat(object("forgotten", i))
	w.say("= %v", err)
	switch {
	case err == nil:
		w.there[i] = tree
		delete(w.untold, i)
	case errors.Is(err, errKilled):
		if serr == nil && w.there[i] == nil {
			w.untold[i] = true
		}
	case errors.Is(err, ErrMissing):
		if serr == nil && ferr != nil && w.there[i] == nil {
			w.t.Errorf("put: %v, and the snapshot counts", err)
		}
		if ferr == nil && w.there[i] != nil { // it was there before, and is whole no more: it says so
			w.forgotten[i] = true
		}
	case errors.Is(err, ErrForgotten):
	default:
		w.t.Errorf("put: %v", err)
	}
}

func (w *world) collectAny() {
	o := CollectOptions{Now: w.r.IntN(3) == 0, YesDrop: 1 << 40}
	w.say("collect, now %v, %s", o.Now, w.disturb())
	had := map[id.ID]bool{}
	for i := range w.there {
		had[i] = true
	}
	_, err := w.try(o)
	w.m.SetBefore(nil)
	w.say("= %v", err)
	switch {
	case err == nil, errors.Is(err, errKilled), errors.Is(err, ErrBusy), errors.Is(err, ErrLocked):
	case len(w.untold) > 0 && (errors.Is(err, ErrMissing) || errors.Is(err, ErrGone)):
		r, oerr := OpenStore(w.m, Options{})
		if oerr != nil {
			return
		}
		for i := range w.untold { // a put that was killed: nobody was told
			if _, ferr := r.Forget(i); ferr != nil && !errors.Is(ferr, ErrMissing) {
				w.t.Error(ferr)
			}
			w.forgotten[i] = true
		}
		r.Close()
	case w.depth > 0 || strings.Contains(strings.Join(w.log[max(0, len(w.log)-12):], " "), "paused"):
		// Another collector was at work: it stops, and the next one goes on.
	default:
		w.t.Errorf("collect: %v", err)
	}
	for i := range had {
		if _, err := w.m.Stat(object("snapshots", i)); err == nil {
			continue
		}
		if !w.forgotten[i] {
			w.t.Errorf("%s was removed, and nobody had forgotten it", i.Short())
		}
		w.removed++
		delete(w.there, i)
	}
}

// mark forgets, or takes that back.
func (w *world) mark() {
	r, err := OpenStore(w.m, Options{})
	if errors.Is(err, ErrLocked) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	var ids []id.ID
	for _, tree := range w.made {
		ids = append(ids, tree.Snapshot().ID)
	}
	for _, i := range ids {
		if w.forgotten[i] && w.r.IntN(3) == 0 {
			w.say("unforget %s", i.Short())
			_, err := r.Unforget(i)
			if err != nil && (w.there[i] != nil && w.depth == 0 || !errors.Is(err, ErrMissing)) {
				w.t.Errorf("unforget: %v", err)
			}
			delete(w.forgotten, i)
			if err != nil {
				delete(w.there, i)
			}
			return
		}
	}
	for _, i := range ids {
		if w.there[i] != nil && !w.forgotten[i] && w.r.IntN(2) == 0 {
			w.say("forget %s", i.Short())
			if _, err := r.Forget(i); err != nil {
				w.t.Errorf("forget: %v", err)
			}
			w.forgotten[i] = true
			return
		}
	}
}

// check compares the repository with the model.
func (w *world) check() {
	for i, tree := range w.there {
		if !w.forgotten[i] {
			if err := w.whole(tree); err != nil {
				w.t.Errorf("snapshot %s: %v", i.Short(), err)
			}
		}
	}
}
