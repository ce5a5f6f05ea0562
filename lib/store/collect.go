package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// How long something stays that nothing needs any more. All ages count from when a collector saw it
// first, by the store's clock, and not in the run that saw it: whatever a clock does, there are two runs.
const (
	forgottenAge  = 7 * 24 * time.Hour  // a snapshot, since its mark was seen
	checkpointAge = 30 * 24 * time.Hour // a checkpoint
	packAge       = 7 * 24 * time.Hour  // a pack, since a segment that lists it was seen
	grace         = 24 * time.Hour      // what was let go, until it is removed
	// tidySegments is how many small segments are left as they are.
	tidySegments = 16
)

// CollectOptions of a collector.
type CollectOptions struct {
	// Now waits for nothing: all ages are 0. It takes a repository that nobody else has open.
	Now bool
	// DryRun changes nothing.
	DryRun bool
	// MaxDrop is the part of all bytes that may be let go, from 0 to 1.
	MaxDrop float64
	// YesDrop is how many bytes may be let go, if that is more.
	YesDrop int64
	// Explain is told of each pack and snapshot what becomes of it. It may be nil.
	Explain func(format string, args ...any)
}

// A CollectReport says what a collector did, or would do.
type CollectReport struct {
	Snapshots, Checkpoints int // that stay
	Waiting                int // of the snapshots, those that are forgotten, and whose time has not come
	Gone                   []id.ID
	GoneCheckpoints        []id.ID
	Packs                  int   // before, that were not let go yet
	Bytes, LiveBytes       int64 // of them
	Dropped, Rewritten     int   // packs that are let go, without and with blobs that stay
	DroppedBytes           int64 // of them
	MovedBytes             int64
	Removed                int // packs that were let go, now or before
	RemovedBytes           int64
	Idle                   bool // nothing has come, gone or come of age since the last run: no more was looked at
	Later                  int  // packs that are let go, and are removed a day later at the earliest
}

// ErrTooMuch is returned by Collect if more would go than may.
var ErrTooMuch = errors.New("more would be removed than may be")

// ErrGone is returned by Collect if a snapshot is not there that was there the last time, and
// that nobody has forgotten.
var ErrGone = errors.New("gone since the last collection")

// A TooMuchError is an ErrTooMuch.
type TooMuchError struct{ Drop, All int64 }

func (e *TooMuchError) Error() string {
	return fmt.Sprintf("%v: %d bytes of %d in packs", ErrTooMuch, e.Drop, e.All)
}

func (e *TooMuchError) Is(err error) bool { return err == ErrTooMuch }

// A collector lets go, and removes, what no snapshot and no checkpoint needs.
type collector struct {
	r    *Repo
	p    *Put // writes what is moved
	o    CollectOptions
	v    *view // with the rows that are retired
	now  rec.Time
	rep  *CollectReport
	live *marks // ids that something needs
	down *marks // of those, the pages whose references were followed

	// What was there in the beginning, before the index was read: so all that it reaches is in that.
	snapshots, checkpoints, forgotten, kept map[id.ID]bool

	known map[id.ID]bool // snapshots and checkpoints that were there then, or were looked through since
	roots []id.ID        // those that stay
	lacks id.Set         // data blobs that are needed and are in no index segment
	there map[id.ID]*packUse
	old   map[id.ID]bool // packs that are not young
	drop  []*packUse     // that are let go, now or before; those of now without anything that stays first
	bad   int            // segments that were damaged before anything was read
	moved bool

	verdict  verdict
	replaced []id.ID // segments, in this run
	changed  bool    // there is something to be decided or noted
}

// A packUse is what of a pack something needs.
type packUse struct {
	name    id.ID
	size    int64
	age     int64
	live    int   // records, listed or not
	bytes   int64 // that a pack of those that are listed would have, or a little more
	dropped bool  // let go, now or before
	before  bool  // before
	stays   bool  // it is not removed, although it was let go
	removed bool
	moves   []pack.Entry
}

// Collect lets go what no snapshot and no checkpoint needs, puts together what is left of
// packs that are mostly not needed, and removes what was let go a day ago or longer. Others may
// store and read meanwhile, and other collectors may be at work. In a repository that was opened
// with OpenAlone what is let go is removed at once.
//
// Order: what is moved is durable and listed, and segments are that replace others; all that
// is needed is looked for once more in what will count; then the verdict is written, which is
// the switch. Snapshots that came meanwhile are looked through: what they need of what was let go
// is copied. Only then objects of snapshots that are forgotten, packs and segments are removed.
// So a collector that ends anywhere, in whatever way, leaves everything that is needed.
//
// It stops, and lets nothing go, if a snapshot, checkpoint or page cannot be read, if
// a snapshot is gone that nobody has forgotten (ErrGone), or if more bytes would go than
// MaxDrop and YesDrop allow (ErrTooMuch).
func (r *Repo) Collect(o CollectOptions) (rep *CollectReport, err error) {
	if o.Now && !r.alone && !o.DryRun {
		return nil, errors.New("collect: others may have the repository open")
	}
	if o.Explain == nil {
		o.Explain = func(string, ...any) {}
	}
	c := &collector{r: r, o: o, rep: &CollectReport{}, known: map[id.ID]bool{}, there: map[id.ID]*packUse{}, old: map[id.ID]bool{}}
	defer func() {
		if c.p != nil {
			c.p.Close()
		}
		if !o.DryRun {
			c.restoreBallast()
		}
	}()
	for _, step := range []func() error{c.open, c.findRoots, c.ages, c.idle, c.mark, c.plan, c.allowed} {
		if err := step(); err == errIdle {
			return c.rep, nil
		} else if err != nil {
			return c.rep, err
		}
	}
	if o.DryRun {
		return c.rep, nil
	}
	return c.rep, c.execute()
}

// list lists snapshots, checkpoints and marks.
func (c *collector) list() error {
	for dir, set := range map[string]*map[id.ID]bool{"snapshots": &c.snapshots, "checkpoints": &c.checkpoints, "forgotten": &c.forgotten, "kept": &c.kept} {
		ids, err := c.r.names(dir)
		if err != nil {
			return err
		}
		*set = map[id.ID]bool{}
		for _, i := range ids {
			(*set)[i] = true
		}
	}
	return nil
}

// open gets a view in which every pack is listed, and a place to write.
func (c *collector) open() (err error) {
	if err := c.list(); err != nil {
		return err
	}
	if c.o.DryRun {
		c.now = rec.TimeOf(time.Now()) // good enough to say what would go
	} else {
		if err := c.takeBallast(); err != nil {
			return err
		}
		if c.p, err = c.r.NewPut(nil, PutOptions{collector: true}); err != nil {
			return err
		}
		if c.now, err = c.p.now(); err != nil {
			if !full(err) {
				return err
			}
			c.now = rec.Time{} // nothing is old
		}
	}
	// What is written from now on is not in it: marks are numbers of its rows.
	if c.v, err = c.r.loadAll(); err != nil {
		return err
	}
	if c.o.DryRun {
		if c.v, err = c.r.withOrphans(c.v); err != nil {
			return err
		}
	}
	if c.r.alone && !c.o.DryRun {
		if err := c.r.orphans(c.v, func(l pack.List) error {
			return fmt.Errorf("pack %s is only in index segments that are damaged: remove those (see pv-check)", l.Name)
		}); err != nil {
			return err
		}
	}
	c.live, c.down = newMarks(c.v), newMarks(c.v)
	c.bad = c.r.badSegments()
	c.changed = len(c.v.state.damaged) > 0
	return nil
}

// errIdle ends a run in which there is nothing to do.
var errIdle = errors.New("nothing to do")

// idle ends the run if nothing has come, gone or come of age since the last one.
func (c *collector) idle() error {
	if c.changed || c.o.Now || c.o.DryRun || c.r.alone {
		return nil
	}
	for _, d := range c.v.state.drops {
		if c.due(d.Since) {
			return nil
		}
	}
	c.rep.Idle = true
	return errIdle
}

// badSegments returns how many segments were found damaged.
func (r *Repo) badSegments() int {
	r.bad.Lock()
	defer r.bad.Unlock()
	return len(r.told)
}

// steady returns an error if a segment could not be read since the view was loaded: then not all
// rows were seen.
func (c *collector) steady() error {
	if c.r.badSegments() > c.bad {
		return fmt.Errorf("an index segment could not be read: %w", ErrDamaged)
	}
	return nil
}

// ripe reports whether something that was first seen at a time has its age.
func (c *collector) ripe(seen map[id.ID]rec.Time, i id.ID, age time.Duration) bool {
	at, was := seen[i]
	return was && c.now.Std().Sub(at.Std()) >= age
}

// takeBallast removes the ballast on a full disk: what is removed later is listed first.
func (c *collector) takeBallast() error {
	s, err := c.r.o.Space()
	if err != nil || s.Free >= 4<<20 && !s.NoInodes {
		return err
	}
	err = c.r.o.Delete("ballast")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the ballast: %w", err)
	}
	return nil
}

// restoreBallast writes the ballast if it is not there. Where there is still no room there is
// none.
func (c *collector) restoreBallast() {
	if _, err := c.r.o.Stat("ballast"); err == nil {
		return
	}
	err := c.r.o.Put("ballast", make([]byte, ballastSize))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		c.r.opts.Note("write the ballast again: %v", err)
	}
}

// allowed stops what would let too much go.
func (c *collector) allowed() error {
	if err := c.steady(); err != nil {
		return err
	}
	if f := c.rep.DroppedBytes - c.rep.MovedBytes; !c.o.DryRun && float64(f) > float64(c.rep.Bytes)*c.o.MaxDrop && f > c.o.YesDrop {
		return &TooMuchError{f, c.rep.Bytes}
	}
	return nil
}

// execute does what was planned.
func (c *collector) execute() error {
	err := c.prepare()
	if full(err) && c.r.alone {
		// Packs that nobody needs can go before the index says so: nobody is there, and who comes
		// relies on no pack that is missing (checkPacks). That makes room for the rest.
		c.r.opts.Note("%v: packs that nothing needs are removed first", err)
		if err = c.removeRoots(); err == nil {
			err = c.removePacks(func(u *packUse) bool { return u.live == 0 })
		}
		if err == nil {
			c.p.Close()
			c.p, err = c.r.NewPut(nil, PutOptions{collector: true})
		}
		if err == nil {
			err = c.prepare()
		}
	}
	if err != nil {
		return err
	}
	for _, step := range []func() error{c.secureMore, c.removeRoots, c.removeDue} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func full(err error) bool {
	var space *SpaceError
	return errors.As(err, &space) || errors.Is(err, unix.ENOSPC)
}

// prepare writes what is to be there afterwards, and the verdict.
func (c *collector) prepare() error {
	if !c.moved {
		if err := c.move(); err != nil {
			return err
		}
		c.moved = true
	}
	for _, step := range []func() error{c.replace, c.verify, c.decide} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// move copies what stays of packs that go.
func (c *collector) move() error {
	for _, u := range c.drop {
		for _, e := range u.moves {
			if err := c.moveOne(u, e); err != nil {
				return err
			}
		}
	}
	return c.p.barrier()
}

func (c *collector) moveOne(u *packUse, e pack.Entry) error {
	item, err := c.r.item(Row{e.ID, u.name, e.Offset, e.Length, e.Kind})
	if err != nil {
		return fmt.Errorf("blob %s: %w", e.ID, err)
	}
	defer item.Free()
	if len(c.p.sessions) >= maxSessions {
		c.p.NextStream()
	}
	c.p.sessions[item.Blob.SID] = item.Session
	if err := c.p.append(item.Blob); err != nil {
		return err
	}
	for _, o := range c.p.open {
		if o != nil && (o.age == 0 || u.age < o.age) {
			o.age = u.age
		}
	}
	return nil
}

// verify looks for everything that is needed in what will count: segments that are not
// replaced, and packs that are not let go. It is written without regard to how that was
// planned.
func (c *collector) verify() error {
	if err := c.steady(); err != nil {
		return err
	}
	names, err := c.r.names("index")
	if err != nil {
		return err
	}
	after := &view{names: map[id.ID]bool{}, state: c.v.state}
	for _, name := range names {
		if c.v.state.replaced[name] || slices.Contains(c.replaced, name) {
			continue
		}
		if err := c.r.loadNamed(after, name); err != nil {
			return err
		}
	}
	slices.SortFunc(after.rows, compareRows)
	stays := map[id.ID]bool{}
	if err := c.r.EachPack(func(name id.ID) error {
		u := c.there[name]
		stays[name] = u == nil || !u.dropped
		return nil
	}); err != nil {
		return err
	}
	bad := func(name id.ID, err error) { c.r.badSegment(name, err) }
	has := func(v *view, i id.ID, in func(id.ID) bool) bool {
		for row := range v.lookup(i, bad) {
			if in(row.Pack) {
				return true
			}
		}
		return false
	}
	was := func(name id.ID) bool { return c.there[name] != nil }
	is := func(name id.ID) bool { return stays[name] }
	var last id.ID
	check := func(i id.ID) error {
		if i == last {
			return nil
		}
		last = i
		live, err := c.live.has(i)
		if err != nil {
			return err
		}
		if live && !has(after, i, is) && has(c.v, i, was) && !c.heldBack(i) {
			return fmt.Errorf("blob %s would be lost: nothing was let go (this is an error in pv-gc)", i)
		}
		return nil
	}
	for _, row := range c.v.rows {
		if err := check(row.ID); err != nil {
			return err
		}
	}
	for _, s := range c.v.large {
		if c.r.isBad(s.name) {
			continue
		}
		for n := range s.Len() {
			row, err := s.Row(n)
			if err == nil {
				err = check(row.ID)
			}
			if err != nil {
				return err
			}
		}
	}
	return c.steady()
}

// heldBack reports whether an id is in a pack that was let go and is not removed, since something in it
// could not be copied.
func (c *collector) heldBack(i id.ID) bool {
	for row := range c.v.lookup(i, c.r.badSegment) {
		if u := c.there[row.Pack]; u != nil && u.stays {
			return true
		}
	}
	return false
}

// decide writes the verdict, if it says anything that those before do not. Those it replaces.
func (c *collector) decide() error {
	d := drop{Since: c.now, Segments: c.replaced}
	for _, u := range c.drop {
		if !u.before {
			d.Packs = append(d.Packs, u.name)
		}
	}
	c.verdict.Made = c.now
	c.verdict.Replaces = slices.Clone(c.v.state.epoch)
	c.verdict.Drops = append(c.verdict.Drops, d)
	c.verdict.tidy()
	if !c.changed && len(d.Packs)+len(d.Segments) == 0 {
		return nil // it would say what those before say
	}
	b := c.verdict.encode()
	if len(b) > maxVerdict {
		return fmt.Errorf("a verdict of %d bytes: over the limit", len(b))
	}
	name := id.ID(sha256.Sum256(b))
	if err := c.p.write(object("gc", name), b); err != nil {
		return err
	}
	for _, i := range c.v.state.epoch {
		if i == name {
			continue
		}
		if err := c.p.w.Delete(object("gc", i)); err != nil {
			return fmt.Errorf("remove an old verdict: %w", err)
		}
	}
	return c.p.w.Sync("gc")
}

// secureMore looks through snapshots and checkpoints that came since this run began: what they
// need of what was let go is copied. (It is their put's duty, too. But a put may rest on another
// one that was killed.)
func (c *collector) secureMore() error {
	if c.r.alone || len(c.drop) == 0 {
		return nil
	}
	for fresh := true; fresh; {
		fresh = false
		for _, checkpoint := range []bool{false, true} {
			dir := "snapshots"
			if checkpoint {
				dir = "checkpoints"
			}
			list, err := c.r.names(dir)
			if err != nil {
				return err
			}
			for _, i := range list {
				if c.known[i] {
					continue
				}
				c.known[i], fresh = true, true
				if err := c.secureNew(i, checkpoint); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *collector) secureNew(i id.ID, checkpoint bool) error {
	s, err := c.r.CheckSnapshot(i, checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("snapshot %s came meanwhile: %w: no pack was removed", i, err)
	}
	if _, err := c.r.where(i); errors.Is(err, ErrForgotten) {
		return nil
	}
	c.p.missing = id.Set{}
	if err := c.p.saveAll(s); err != nil {
		return fmt.Errorf("snapshot %s came meanwhile: %w: no pack was removed", i, err)
	}
	return nil
}

// removeRoots removes the objects of snapshots and checkpoints that go. The marks stay. If somebody
// removes a mark meanwhile, that snapshot stays.
func (c *collector) removeRoots() error {
	if len(c.rep.Gone)+len(c.rep.GoneCheckpoints) == 0 {
		return nil
	}
	gone := c.rep.Gone[:0:0]
	for _, i := range c.rep.Gone {
		removed, err := c.removeRoot(i)
		if err != nil {
			return err
		}
		if removed {
			gone = append(gone, i)
			continue
		}
		c.r.opts.Note("snapshot %s: its mark was removed meanwhile: it stays", i)
		if err := c.secureNew(i, !c.snapshots[i]); err != nil {
			return err
		}
	}
	c.rep.Gone = gone
	for _, i := range c.rep.GoneCheckpoints {
		if err := c.p.w.Delete(object("checkpoints", i)); err != nil {
			return fmt.Errorf("remove what is not needed: %w", err)
		}
	}
	return c.p.w.Sync("snapshots", "checkpoints")
}

// removeRoot removes the objects of a snapshot, unless its mark is not there any more; if that goes in
// this very moment, it puts them back.
func (c *collector) removeRoot(i id.ID) (bool, error) {
	var back [][2]string
	for _, dir := range []string{"snapshots", "checkpoints"} {
		marked, err := c.r.marked("forgotten", i)
		if err != nil {
			return false, err
		}
		if !marked {
			break
		}
		b, err := readAll(c.r.o, object(dir, i), maxSnapshot)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			back = append(back, [2]string{object(dir, i), string(b)})
		} // else it is damaged, or cannot be read: nobody will miss it
		if err := c.p.w.Delete(object(dir, i)); err != nil {
			return false, fmt.Errorf("remove what is not needed: %w", err)
		}
	}
	marked, err := c.r.marked("forgotten", i)
	if err != nil || marked {
		return err == nil, err
	}
	for _, o := range back {
		if err := c.p.write(o[0], []byte(o[1])); err != nil {
			return false, err
		}
	}
	return false, nil
}

// removeDue removes packs and segments that were let go, and whose time has come.
func (c *collector) removeDue() error {
	var segments []id.ID
	if c.r.alone {
		segments = c.replaced
	}
	for _, d := range c.v.state.drops {
		if c.due(d.Since) {
			segments = append(segments, d.Segments...)
		}
	}
	for _, name := range segments {
		if err := c.p.w.Delete(object("index", name)); err != nil {
			return fmt.Errorf("remove what is not needed: %w", err)
		}
	}
	if len(segments) > 0 {
		if err := c.p.w.Sync("index"); err != nil {
			return err
		}
	}
	since := map[id.ID]rec.Time{}
	for _, d := range c.v.state.drops {
		for _, name := range d.Packs {
			since[name] = d.Since
		}
	}
	return c.removePacks(func(u *packUse) bool {
		at, before := since[u.name]
		return c.r.alone || before && c.due(at)
	})
}

// due reports whether what was let go at that time, in an earlier run, can be removed.
func (c *collector) due(since rec.Time) bool {
	return c.r.alone || c.now.Std().Sub(since.Std()) >= grace
}

// removePacks removes those of the packs that are let go.
func (c *collector) removePacks(which func(*packUse) bool) error {
	var dirs []string
	for _, u := range c.drop {
		switch {
		case u.stays || u.removed:
			continue
		case !which(u):
			if !c.r.alone {
				c.rep.Later++
			}
			continue
		}
		u.removed = true
		if err := c.p.w.Delete(packName(u.name)); err != nil {
			return fmt.Errorf("remove what is not needed: %w", err)
		}
		c.rep.Removed++
		c.rep.RemovedBytes += u.size
		dirs = append(dirs, "packs/"+u.name.String()[:2])
	}
	if len(dirs) == 0 {
		return nil
	}
	return c.p.w.Sync(dirs...)
}

// OpenAlone opens a repository for a collector that does not wait: nobody else has it open until
// Close, and whoever comes meanwhile is told so. Errors: those of Open; ErrBusy; and an error where
// there are no locks.
func OpenAlone(dir string, o Options) (*Repo, error) {
	d, err := objects.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q is %w (no such directory)", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	return openStore(d, o, true)
}
