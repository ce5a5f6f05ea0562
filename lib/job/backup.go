package job

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"preserve/lib/id"
	"preserve/lib/remote"
	"preserve/lib/tool"
)

// A Request is what a backup is asked for.
type Request struct {
	Repos    []remote.Address
	Key      string // a key file's name
	Label    string
	Scan     []string // options for pv-scan, and, behind "--", paths
	Paths    []string
	Stdin    bool // a list of paths is on stdin
	Chunk    []string
	Seal     []string
	Put      []string // where a repository is a directory: a pv-serve may not take them
	Sources  []string // what the job is known by, beside its label
	Cache    string   // the job's directory, if the user chooses it
	Skip     bool     // no new snapshot if nothing has changed
	Rescan   bool     // a second pass after the first
	Existing bool     // make no repository
	NewRepo  bool     // that a repository is not the one of the last run is meant so
}

// A Backup is the state of a backup. Targets are named by their place.
//
// A round brings a snapshot into each target of Pending: Set, those that have what the
// run rests on, get it in one pass; what is missing there is healed; the Others get a
// copy from the first target that took it, or else are Pending for a run of their own.
type Backup struct {
	Request
	Dir    string // of the job; empty if nothing is remembered
	Broken bool   // a run before this one did not come to its end

	Pending, Set, Others   []int
	Again, Heal, HealStore []int
	Base                   []string
	KnownFile              string
	Distrust               bool
	Tries                  int
	Lead                   int    // the first target that has this round's snapshot; -1: none
	Kind                   string // of the pass under way: "" none, store, heal, bring
	Now                    []int  // the targets of it
	Second                 bool   // this is the second round
	Spare                  bool   // no snapshot if nothing has changed
}

// Passes of a backup, as the script names them.
const (
	passStore   = "store"   // pv-scan | pv-chunk | pv-seal | pv-put
	passSeveral = "several" // … | pv-tee
	passCopy    = "copy"    // pv-get | pv-put
)

// maxTries bounds how often a run is repeated since blobs are missing that it rests on.
const maxTries = 10

// Begin begins a backup. Its targets are asked what they have.
func Begin(env *tool.Env, talk string, q Request) (*Run, error) {
	dir, err := openJob(env, q.Cache, q.Label, q.Sources)
	if err != nil {
		return nil, err
	}
	if dir == "" && (q.Skip || q.Rescan) {
		return nil, fmt.Errorf("--skip-if-unchanged and --rescan need a cache, and there is none: choose one with --cache DIR")
	}
	b := &Backup{Request: q, Dir: dir, Lead: -1}
	if dir != "" {
		b.Broken = sweep(dir, runPrefix)
	}
	sweep(os.TempDir(), "preserve."+runPrefix)
	r, err := newRun(env, dir)
	if err != nil {
		return nil, err
	}
	r.Verb, r.Talk, r.Backup = "backup", talk, b
	if err := r.begin(b); err != nil {
		_ = os.RemoveAll(r.dir)
		return nil, err
	}
	return r, nil
}

func (r *Run) begin(b *Backup) error {
	for _, a := range b.Repos {
		r.Targets = append(r.Targets, &Target{Repo: a, Where: a.Where()})
	}
	if b.Stdin {
		name, err := r.slurp()
		if err != nil {
			return err
		}
		b.Scan = append(b.Scan, "--files-from="+name)
	}
	m := &memory{}
	if b.Dir != "" {
		var err error
		if m, err = recall(b.Dir); err != nil {
			r.env.Say("%v: whether this is the repository of the last run is not known", err)
		}
		b.Broken = b.Broken || m.Broken
		r.remember(func(m *memory) { m.Label, m.Sources, m.Broken = b.Label, b.Sources, b.Broken })
	}
	b.look(r, m)
	for n, t := range r.Targets {
		if t.Status == 0 {
			b.Pending = append(b.Pending, n)
		} else {
			r.failed(t, t.Status)
		}
	}
	if len(b.Pending) == 0 {
		return ErrFailed
	}
	b.Spare = b.Skip
	return r.save()
}

// remember changes the job's memory, if there is one. If that fails, the next run knows
// less.
func (r *Run) remember(fn func(*memory)) {
	if r.Backup.Dir == "" {
		return
	}
	if err := change(r.Backup.Dir, fn); err != nil {
		r.env.Notice("not remembered for the next run: %v", err)
	}
}

// cached is the snapshots and checkpoints that there are caches of, the newest last. Those that are in
// no list are of runs that were killed: newer than the others.
func (b *Backup) cached(m *memory) []string {
	if b.Dir == "" {
		return nil
	}
	list, err := os.ReadDir(b.Dir)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list, func(x, y os.DirEntry) int {
		xi, xerr := x.Info()
		yi, yerr := y.Info()
		if xerr != nil || yerr != nil {
			return 0
		}
		return xi.ModTime().Compare(yi.ModTime())
	})
	there := map[string]bool{}
	for _, d := range list {
		there[d.Name()] = isID(d.Name())
	}
	var ids []string
	for _, i := range m.Order {
		if there[i] {
			ids = append(ids, i)
			there[i] = false
		}
	}
	for _, d := range list {
		if there[d.Name()] {
			ids = append(ids, d.Name())
		}
	}
	return ids
}

// whole reports whether a cache is of a whole snapshot.
func (b *Backup) whole(i string) bool {
	_, err := os.Lstat(filepath.Join(b.Dir, i+".ids"))
	return err == nil
}

// choose decides what the run of the pending targets rests on: the newest snapshot
// that all of them have, or else that the first has which has any; and, after a run
// that did not succeed, its last checkpoint. Without a snapshot it is two checkpoints, since those of one
// run are equally old.
func (r *Run) choose(b *Backup) {
	m := &memory{}
	if b.Dir != "" {
		m, _ = recall(b.Dir) // what is damaged was named in the beginning
	}
	caches := b.cached(m)
	slices.Reverse(caches)
	pending := b.Pending
	b.Base, b.Set, b.Others, b.Pending = nil, nil, nil, nil
	base := r.newest(b, caches, true, 1, pending)
	for i := 0; len(base) == 0 && i < len(pending); i++ {
		base = r.newest(b, caches, true, 1, pending[i:i+1])
	}
	for _, n := range pending {
		if len(base) == 0 || r.Targets[n].Has[base[0]] {
			b.Set = append(b.Set, n)
		} else {
			b.Others = append(b.Others, n)
		}
	}
	b.Base = base
	if b.Broken {
		b.Base = append(b.Base, r.newest(b, caches, false, 2-len(base), b.Set)...)
	}
	// A base that nobody remembers may not have been committed.
	b.Spare = (b.Skip || b.Second) && len(base) > 0 && slices.Contains(m.Order, base[0])
}

// newest is the newest of the caches that all these targets have, at most count of them: of whole
// snapshots, or of checkpoints that are newer than each whole one.
func (r *Run) newest(b *Backup, caches []string, whole bool, count int, of []int) (found []string) {
	for _, i := range caches {
		switch is := b.whole(i); {
		case len(found) == count:
			return found
		case whole && !is:
			continue
		case !whole && is:
			return found
		}
		if !slices.ContainsFunc(of, func(n int) bool { return !r.Targets[n].Has[i] }) {
			found = append(found, i)
		}
	}
	return found
}

// backup is Next of a backup.
func (r *Run) backup(status int) (string, error) {
	b := r.Backup
	r.settle(b, r.exitOf(b, status))
	for {
		switch {
		case len(b.Again) > 0:
			r.mend(b)
		case len(b.Heal) > 0:
			n := b.Heal[0]
			b.Heal = b.Heal[1:]
			if b.Lead >= 0 && r.readable(b.Lead) {
				if b.KnownFile = r.learn(r.Targets[n]); b.KnownFile != "" {
					b.Kind, b.Now = "heal", []int{n}
					return passCopy, r.copyPass(b, n, "")
				}
			}
			b.HealStore = append(b.HealStore, n)
		case len(b.HealStore) > 0:
			set := b.HealStore
			b.HealStore, b.KnownFile = nil, ""
			return r.storePass(b, set)
		case len(b.Others) > 0:
			n := b.Others[0]
			b.Others = b.Others[1:]
			if b.Lead >= 0 && r.readable(b.Lead) {
				b.Kind, b.Now, b.KnownFile = "bring", []int{n}, r.learn(r.Targets[n])
				return passCopy, r.copyPass(b, n, r.since(b, n))
			}
			b.Pending = append(b.Pending, n)
		case len(b.Pending) > 0:
			b.Tries, b.Distrust, b.KnownFile = 0, false, ""
			r.choose(b)
			if len(b.Base) == 0 || b.Broken {
				b.KnownFile = r.learn(r.these(b.Set)...)
			}
			return r.storePass(b, b.Set)
		case b.Rescan && !b.Second && r.again(b):
		default:
			return "", ErrDone
		}
	}
}

// exitOf is exit, for the pass under way.
func (r *Run) exitOf(b *Backup, status int) int {
	if b.Kind == "" {
		return 0
	}
	return r.exit(status)
}

func (r *Run) these(places []int) (list []*Target) {
	for _, n := range places {
		list = append(list, r.Targets[n])
	}
	return list
}

// again begins the second round, for what has changed since the first one read it. It returns false
// if there is nothing to do.
func (r *Run) again(b *Backup) bool {
	b.Second = true
	var done []int
	for n, t := range r.Targets {
		if t.Snapshot != "" {
			done = append(done, n)
		}
	}
	if len(done) == 0 {
		return false
	}
	if !b.whole(r.Targets[b.Lead].Snapshot) {
		r.env.Say("the first pass has left no cache: the second one is left out")
		for _, n := range done {
			r.Targets[n].Status = 3
		}
		return false
	}
	b.Broken, b.Pending, b.Lead = false, done, -1
	return true
}

// storePass prepares a pass that reads the sources and stores them in these targets.
func (r *Run) storePass(b *Backup, set []int) (string, error) {
	b.Kind, b.Now = "store", set
	talk := r.talk()
	err := r.arguments("scan", slices.Concat(talk, b.Scan, []string{"--"}, b.Paths)...)
	chunk := slices.Concat(talk, []string{"-k", b.Key}, b.Chunk)
	seal := slices.Concat(talk, []string{"-k", b.Key}, b.Seal)
	distrust := ""
	if b.Distrust {
		distrust = r.path("distrust")
	}
	if b.Dir != "" {
		seal = append(seal, "--cache="+b.Dir)
	}
	if b.Dir != "" && len(b.Base) > 0 {
		chunk = append(chunk, "--cache="+b.Dir, "--base="+strings.Join(b.Base, ","))
		if distrust != "" {
			chunk = append(chunk, "--distrust="+distrust)
		}
	}
	if b.KnownFile != "" {
		seal = append(seal, "--known="+b.KnownFile)
	}
	if distrust != "" {
		seal = append(seal, "--distrust="+distrust)
	}
	if b.Spare {
		seal = append(seal, "--skip-if-unchanged")
	}
	seal = append(seal, "--id-file="+r.path(sealedName))
	if err == nil {
		err = clearRoom(r.path(sealedName), sealedRoom)
	}
	if err == nil {
		err = r.arguments("chunk", chunk...)
	}
	if err == nil {
		err = r.arguments("seal", seal...)
	}
	pass := passStore
	put := slices.Concat(talk, b.putWords(r.Targets[set[0]].Repo))
	if len(set) > 1 {
		pass, put = passSeveral, talk
		for _, t := range r.these(set) {
			put = append(put, remote.Quote(slices.Concat([]string{"pv-put"}, talk, b.putWords(t.Repo))...))
		}
	}
	if err == nil {
		err = r.arguments("put", put...)
	}
	return pass, r.stuck(b, err)
}

// stuck is an error that keeps a run from going on: for its targets it has failed.
func (r *Run) stuck(b *Backup, err error) error {
	if err == nil {
		return nil
	}
	r.env.Say("%v", err)
	for _, t := range r.Targets {
		if t.Snapshot == "" && t.Status == 0 {
			r.failed(t, 1)
		} else if t.Snapshot != "" {
			t.Status = 3
		}
	}
	*b = Backup{Request: b.Request, Dir: b.Dir, Broken: true, Second: true, Lead: b.Lead}
	return ErrDone
}

func (r *Run) talk() []string {
	if r.Talk == "" {
		return nil
	}
	return []string{r.Talk}
}

func (b *Backup) putWords(a remote.Address) []string {
	name := a.Text
	if strings.HasPrefix(name, "-") {
		name = a.Path
	}
	words := []string{name}
	if b.Existing {
		words = append(words, "--existing")
	}
	if !a.Remote() {
		words = append(words, b.Put...)
	}
	return words
}

// settle looks at what the pass before has come to.
func (r *Run) settle(b *Backup, status int) {
	kind := b.Kind
	if kind == "" {
		return
	}
	b.Kind = ""
	answers := readReport(r.path(reportName), len(b.Now), status)
	for place, n := range b.Now {
		t, a := r.Targets[n], answers[place]
		for _, line := range a.other {
			r.env.Say("%s: %s", t.Repo, line)
		}
		switch sent := r.sent(b, kind); {
		case a.id != "" && a.id != sent && (a.status == 0 || a.status == 3):
			r.otherID(t, a.id, sent)
			r.failed(t, 1)
		case a.id != "" && (a.status == 0 || a.status == 3):
			r.stored(t, n, a)
		case len(a.missing) > 0 && kind == "store":
			if err := r.gone(n, a.missing); err != nil {
				r.env.Say("%v", err)
				r.failed(t, 1)
				break
			}
			b.Again = append(b.Again, n)
		case len(a.missing) > 0 && kind == "heal":
			b.HealStore = append(b.HealStore, n)
		case len(a.missing) > 0:
			b.Pending = append(b.Pending, n)
		default:
			r.failed(t, a.status)
		}
	}
}

// stored notes that a target has got a snapshot.
func (r *Run) stored(t *Target, n int, a answer) {
	b := r.Backup
	t.Snapshot, t.Status = a.id, a.status
	t.took(a.id)
	if b.Lead < 0 {
		b.Lead = n
	}
	if t.ID == "" && b.Dir != "" {
		_ = t.inquire(r, nil) // it was made in this run; if it does not say, the next run asks
	}
	r.remember(func(m *memory) { m.took(t.ID, t.Where, a.id) })
	if len(r.Targets) > 1 {
		r.env.Notice("%s: snapshot %s", t.Repo, a.id)
	}
}

// failed notes that a target has got none; in a second round, no second one.
func (r *Run) failed(t *Target, status int) {
	if t.Snapshot != "" {
		t.Status = 3
	} else {
		t.Status = max(status, 1)
	}
	if len(r.Targets) > 1 && !r.interrupted {
		r.env.Say("%s: failed, nothing was committed there", t.Repo)
	}
}

// mend decides how what is missing comes to the targets of Again: what is missing below a
// page that is missing too only the next attempt tells, so it goes on as long as an
// attempt names what none has named before.
func (r *Run) mend(b *Backup) {
	set := b.Again
	b.Again = nil
	if b.Tries == 0 {
		_ = os.Remove(r.path("distrust")) // of another round
	}
	b.Tries++
	fresh, err := r.lacking(set)
	if err != nil {
		r.env.Say("%v", err)
	}
	if err != nil || !fresh || b.Tries > maxTries {
		for _, t := range r.these(set) {
			r.failed(t, 1)
		}
		return
	}
	for _, n := range set {
		r.env.Say("%s: %s: this backup needs what is missing, and stores it again", r.Targets[n].Repo, plural(len(r.missing(n)), "blob is missing", "blobs are missing"))
	}
	b.Distrust, b.Heal = true, set
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (r *Run) goneFile(n int) string { return r.path(fmt.Sprintf("gone.%d", n)) }

// gone keeps the ids that a target has named as missing.
func (r *Run) gone(n int, ids []string) error {
	return os.WriteFile(r.goneFile(n), []byte(strings.Join(ids, "\n")+"\n"), 0o600)
}

func (r *Run) missing(n int) []string { return readIDs(r.goneFile(n)) }

// lacking adds what these targets lack to the list of what is not trusted, and reports
// whether any of it is new there.
func (r *Run) lacking(set []int) (fresh bool, err error) {
	all := readIDs(r.path("distrust"))
	before := len(all)
	for _, n := range set {
		all = append(all, r.missing(n)...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == before {
		return false, nil
	}
	return true, os.WriteFile(r.path("distrust"), []byte(strings.Join(all, "\n")+"\n"), 0o600)
}

// readIDs is the ids in a file, none if there is none.
func readIDs(file string) (ids []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if _, err := id.Parse(s.Text()); err == nil {
			ids = append(ids, s.Text())
		}
	}
	return ids
}

// endBackup prints the id and returns what decides the exit status.
func (r *Run) endBackup(interrupted bool) error {
	if r.interrupted = interrupted; interrupted {
		r.settle(r.Backup, 3) // pv-put prints an id only when it has committed
	}
	best, worst, done := "", 0, 0
	for _, t := range r.Targets {
		if t.Snapshot != "" {
			done++
			if best == "" {
				best = t.Snapshot
			}
		}
		worst = max(worst, t.Status)
		if t.Status == 1 {
			worst = max(worst, 3)
		}
	}
	finished := done > 0 && !interrupted
	r.remember(func(m *memory) { m.Broken = !finished })
	if done == 0 {
		return ErrFailed
	}
	if !interrupted {
		r.remind()
	}
	if _, err := fmt.Fprintln(r.env.Stdout, best); err != nil {
		r.env.Warn("snapshot %s was committed, but its id could not be printed: %v", best, err)
	}
	if interrupted || worst != 0 {
		return tool.ErrPartial
	}
	return nil
}
