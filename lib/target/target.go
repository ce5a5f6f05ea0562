// Package target is what a restore writes to: one directory, and all below it. It takes entries for hostile:
// nothing outside that directory is ever made, changed or read.
//
// A Target takes entries in path order and makes directories (dirs.go), files under temporary names
// (out.go), links and other nodes (make.go); decides what becomes of what is there already (policy.go,
// existing.go); and gives each its metadata (meta.go). It holds a bounded number of directories open.
package target

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A Target is a directory in which entries are created. Nothing outside it is
// ever touched, whatever the entries say and whoever else writes into it: every
// name is made relative to a directory that this restore made and holds open, or
// opens again without following links and recognises by its inode.
//
// Begin takes the entries in path order, from one goroutine. What it returns
// may be worked on by any number of goroutines: a file is made under a
// temporary name and renamed when it is complete, anything else is made whole by
// Make. A directory gets its metadata when Begin has left it and all that was
// begun in it is done. At the end comes Close, or Abandon.
//
// An error means that the entry was not made. A *Warning means that only this
// entry cannot be made here, or not wholly, and that the restore can go on;
// warnings about what was made, and about what is made later than the call that
// asked for it (directories, hard links), go to Warn.
type Target struct {
	// Warn is told, by several goroutines at once, what differs from an entry in
	// what was made of it. Set it before the first Begin.
	Warn func(*Warning)

	into    Into
	root    *dir
	stack   []*dir // from the root to where Begin is
	last    string // path given to Begin; with begun
	begun   bool
	uid     uint32 // whose is what we make
	adopt   bool   // the target has a lost+found
	tidied  bool   // what earlier restores left in the root is known
	fold    sync.Once
	folds   bool           // different names are the same to its file system
	mount   mount          // of the root
	others  map[uint64]int // by number: an open directory of each other file system below
	met     met
	runs    runs
	spare   atomic.Bool // nothing more is deleted
	unclone atomic.Bool // this file system shares no blocks
	mark    sync.Once
	markErr error
	marks   []string  // names of marks in the root that go at the end
	earlier []string  // prefixes of the temporary names of those restores
	spoilt  []string  // marks in the root that stay
	since   *rec.Time // what was changed from then on may not have reached the disk

	mu      sync.Mutex
	idle    *sync.Cond // pending is 0, or a directory is complete
	pending int        // what Begin returned and is not done
	open    []*dir     // directories with a descriptor, oldest first
	temps   map[*temp]struct{}
	patched map[*Out]struct{} // open, in place
	names   uint64            // temporary names given
	prefix  string
	dead    bool  // nothing is created any more
	closed  bool  // nor opened
	err     error // the first that nobody else was told
	left    Left
	counts  Counts
	denied  map[[2]uint32]bool // owners that could not be set: whether the group could
	leaders leaders
	copying sync.Mutex // guards copies
	copies  map[copyKey]copied

	powerless map[string]bool // guarded by mu: what was refused once for want of privilege

	creating sync.RWMutex // held while a temporary file comes to be, and by Cleanup
}

// Left counts what was left out for want of privilege.
type Left struct {
	Owners       uint64 // entries whose owner or group is not the recorded one
	SetID        uint64 // of them, those that lost setuid or setgid bits
	Capabilities uint64 // of them, those that lost capabilities
}

// A Warning is something about one entry that could not be done.
type Warning struct {
	Path string
	What string // "set extended attribute user.x", "make a device"
	Err  error
	// Made says that the entry is there, with its content, and lacks only this piece of metadata.
	Made bool
}

func (w *Warning) Error() string { return w.What + ": " + w.Err.Error() }

// Unwrap returns the cause.
func (w *Warning) Unwrap() error { return w.Err }

// Begin takes the next entry. A directory is made at once, and nil returned.
// For any other the caller ends the node that is returned: with Create and then
// Finish or Abort if it is a file, with Make if not, or with Skip.
//
// Entries come in path order, each path once (of a file in several pieces the
// first), parents before their children; the entry with the empty path stands
// for the target itself. From now on e belongs to the Target: nobody may change
// it. Errors: rec.ErrPath, rec.ErrOrder, ErrTwice, ErrParent,
// ErrLeader, ErrClosed, a *Warning where the file system cannot hold such a name,
// and what went wrong earlier in work that nobody waited for.
func (t *Target) Begin(e *rec.Entry) (*Node, error) {
	if err := t.check(e); err != nil {
		return nil, err
	}
	if t.root.old && !t.tidied { // not before: only now is there somebody to warn
		t.tidied = true
		if err := t.tidy(t.root, t.root.fd); err != nil {
			return nil, err
		}
	}
	t.last, t.begun = e.Path, true
	if e.Path == "" {
		t.root.entry = e
		t.root.keep = !vouches(e, &t.into)
		return nil, nil
	}
	parent := rec.Parent(e.Path)
	for n := len(t.stack) - 1; n > 0 && !rec.Below(parent, t.stack[n].path); n-- {
		t.unref(t.stack[n])
		t.stack = t.stack[:n]
	}
	d := t.stack[len(t.stack)-1]
	if d.path != parent {
		return nil, inode.ErrParent
	}
	again, err := t.again(e)
	if err != nil {
		return nil, err
	}
	t.named(d, inode.Base(e.Path))
	if e.Type == rec.Dir {
		return nil, t.makeDir(d, e, again)
	}
	n := &Node{t: t, dir: d, e: e}
	if d.virtual {
		_, err := t.plan(n, -1, nil)
		return nil, err
	}
	if d.old {
		if done, err := t.meet(n); done || err != nil {
			return nil, err
		}
	}
	if err := t.lead(n); err != nil {
		return nil, err
	}
	return n, nil
}

// lead takes a node into account, with the file that it is one of several names
// of.
func (t *Target) lead(n *Node) error {
	d, e := n.dir, n.e
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Type == rec.HardLink {
		if n.leader = t.leaderOf(d, e.Leader); n.leader == nil {
			return inode.ErrLeader
		}
		n.leader.refs++
	} else if e.Links > 1 {
		n.leader = &leader{node: n, refs: 2}
		t.leaders.busy[e.Path] = n.leader
		if d.barred && t.uid != 0 {
			n.leader.held = true
			d.refs++
		}
	}
	d.refs++
	t.pending++
	return nil
}

func (t *Target) check(e *rec.Entry) error {
	t.mu.Lock()
	err := t.err
	if t.dead {
		err = inode.ErrClosed
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if err := e.Check(); err != nil {
		return err
	}
	if e.Off != 0 {
		return fmt.Errorf("%w: a further piece of a file", inode.ErrTwice)
	}
	if t.begun {
		if c := rec.ComparePaths(t.last, e.Path); c == 0 {
			return inode.ErrTwice
		} else if c > 0 {
			return rec.ErrOrder
		}
	}
	return nil
}

// fail keeps an error for which no caller waits.
func (t *Target) fail(path string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = fmt.Errorf("%s: %w", rec.Quote(path), err)
	}
}

// lacks tells of an entry that was made, but without a piece of its metadata.
func (t *Target) lacks(path, what string, err error) {
	t.Warn(&Warning{Path: path, What: what, Err: err, Made: true})
}

// report tells of what could not be done about a path.
func (t *Target) report(path, what string, err error) {
	t.Warn(&Warning{Path: path, What: what, Err: err})
}

// done ends a node: its directory may be complete now.
func (t *Target) done(d *dir) {
	t.unref(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending--; t.pending == 0 {
		t.idle.Broadcast()
	}
}

// Close waits until every node is done, gives the directories that are still
// open their metadata, and then asks the system once to write everything to the
// disk: when Close returns nil, it is there. Otherwise the error is the first
// that nobody was told before.
func (t *Target) Close() error {
	t.mu.Lock()
	for t.pending > 0 && !t.dead {
		t.idle.Wait()
	}
	leaders := t.leaders.busy
	t.leaders.busy = map[string]*leader{}
	err := t.err
	if t.dead {
		err = inode.ErrClosed
	}
	t.mu.Unlock()
	if err != nil {
		t.Abandon()
		return err
	}
	for _, l := range leaders {
		t.drop(l)
	}
	for n := len(t.stack) - 1; n > 0; n-- {
		t.unref(t.stack[n])
	}
	t.stack = t.stack[:1]
	err = t.settleAll()
	t.mu.Lock()
	if t.err != nil {
		err = t.err
	}
	t.mu.Unlock()
	t.Abandon()
	return err
}

// settleAll writes everything to the disk, then removes the marks that say it is
// not there, and gives the target itself its metadata.
func (t *Target) settleAll() error {
	if t.planning() {
		t.unref(t.root)
		return nil
	}
	if err := unix.Syncfs(t.root.fd); err != nil {
		return inode.Op("write everything to the disk", err)
	}
	for _, fd := range t.others {
		if err := unix.Syncfs(fd); err != nil {
			return inode.Op("write everything to the disk", err)
		}
	}
	if err := t.removeMarks(); err != nil {
		return err
	}
	t.unref(t.root)
	if err := unix.Fsync(t.root.fd); err != nil {
		return inode.Op("write everything to the disk", err)
	}
	return nil
}

// Abandon gives the restore up: temporary files are removed, what is complete
// stays. Whoever still works on a node gets ErrClosed. It may be called again,
// and after Close.
func (t *Target) Abandon() {
	t.Cleanup()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, d := range append(t.open, t.root) {
		if d.pins == 0 && d.fd >= 0 { // else release closes it
			inode.Close(d.fd)
			d.fd = -1
		}
	}
	t.open = nil
	for dev, fd := range t.others {
		inode.Close(fd)
		delete(t.others, dev)
	}
	t.idle.Broadcast()
}

// Cleanup removes the temporary files and names those that were patched in place
// and are not complete, from any goroutine and at any time: it is what a program
// does last when a signal ends it. Nothing can be created or patched afterwards.
func (t *Target) Cleanup() {
	t.mu.Lock()
	t.dead = true
	temps := t.temps
	t.temps = map[*temp]struct{}{}
	patched := t.patched
	t.patched = map[*Out]struct{}{}
	t.mu.Unlock()
	t.creating.Lock() // those that are coming to be are there now
	//lint:ignore SA2001 to wait is all that is wanted
	t.creating.Unlock()
	for o := range temps {
		t.removeTemp(o)
	}
	for o := range patched {
		o.nameHalf()
	}
}

// Left returns what was left out for want of privilege, so far.
func (t *Target) Left() Left {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left
}

// hopeless reports whether err ends a restore rather than concern one entry: the
// disk is full, gone, or cannot be written.
func hopeless(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE,
		unix.ESTALE, inode.ErrClosed, inode.ErrReplaced, inode.ErrExists} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused makes an error of one entry: a *Warning, unless it is hopeless.
func refused(path, what string, err error) error {
	if errors.Is(err, unix.EEXIST) {
		err = inode.ErrExists
	}
	if hopeless(err) {
		return inode.Op(what, err)
	}
	return &Warning{Path: path, What: what, Err: err}
}
