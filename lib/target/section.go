package target

import (
	"hash/maphash"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// runs is what a Target with Into.Sections remembers of earlier sections: nine
// bytes or so for each path.
type runs struct {
	seed maphash.Seed
	dir  map[uint64]bool // by hash of path: whether it is a directory
	live map[string]*dir // directories that are not complete; guarded by Target.mu
}

// Section begins a new run of entries, in path order for themselves: all
// directories are left, and those that an earlier section made are entered again
// when their entry comes again, and get its metadata. Anything else whose path
// an earlier section had is refused by Begin with a *Warning over ErrTwice, and
// hard links to its path from then on with ErrLeader: nobody could say which of
// the two they mean.
//
// It goes with Into.Sections, and not with Into.Delete.
func (t *Target) Section() {
	for n := len(t.stack) - 1; n > 0; n-- {
		t.unref(t.stack[n])
	}
	t.stack = t.stack[:1]
	t.last, t.begun = "", false
}

// again reports whether an earlier section had this directory; for anything
// else that is an error.
func (t *Target) again(e *rec.Entry) (bool, error) {
	if t.runs.dir == nil {
		return false, nil
	}
	key := maphash.String(t.runs.seed, e.Path)
	dir, seen := t.runs.dir[key]
	if !seen {
		t.runs.dir[key] = e.Type == rec.Dir
		return false, nil
	}
	if dir && e.Type == rec.Dir {
		return true, nil
	}
	t.mu.Lock()
	l := t.leaders.busy[e.Path]
	delete(t.leaders.busy, e.Path)
	delete(t.leaders.done, t.leaders.key(e.Path))
	t.mu.Unlock()
	if l != nil {
		t.drop(l)
	}
	return false, &Warning{Path: e.Path, What: "create " + e.Type.String(), Err: inode.ErrTwice}
}

// living returns the directory of an earlier section that is not complete yet,
// and has it wait for what is made in it now.
func (t *Target) living(e *rec.Entry) *dir {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		d := t.runs.live[e.Path]
		if d == nil {
			return nil
		}
		if d.refs > 0 {
			d.refs++
			d.entry = e
			d.barred = d.parent.barred || e.Mode&0o500 != 0o500
			return d
		}
		t.idle.Wait() // somebody is giving it its metadata
	}
}
