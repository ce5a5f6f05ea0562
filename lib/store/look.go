package store

import (
	"errors"
	"fmt"
	"slices"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"

	"golang.org/x/sys/unix"
)

// What a checker looks at: objects as they lie there, one by one.

// EachPack calls fn with the name of each pack that lies in the repository, in no order that
// means anything. Its error ends the loop. Foreign names are passed over.
func (r *Repo) EachPack(fn func(name id.ID) error) error {
	dirs, err := r.o.List("packs")
	if err != nil {
		return fmt.Errorf("read the repository: %w", err)
	}
	for _, dir := range dirs {
		if !isPackDir(dir) {
			continue // what else lies there is none of ours, and need not be a directory
		}
		names, err := r.names("packs/" + dir)
		if errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if name.String()[:2] != dir {
				continue
			}
			if err := fn(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenPack opens a pack, which the caller closes.
func (r *Repo) OpenPack(name id.ID) (objects.Object, error) { return r.open(packName(name)) }

// Segments returns the names of the index segments that count: not those that a collector has
// replaced.
func (r *Repo) Segments() ([]id.ID, error) {
	v, err := r.current()
	if err != nil {
		return nil, err
	}
	list, err := r.names("index")
	return slices.DeleteFunc(list, func(name id.ID) bool { return v.state.replaced[name] }), err
}

// Retired reports whether a collector lets a pack go: nobody relies on what is in it, and some time
// it is removed.
func (r *Repo) Retired(name id.ID) (bool, error) {
	v, err := r.current()
	return err == nil && v.state.retired[name], err
}

// OpenSegment opens an index segment, which the caller closes.
func (r *Repo) OpenSegment(name id.ID) (objects.Object, error) { return r.open(object("index", name)) }

// Checkpoints returns the ids of the checkpoints that are not marked as forgotten, also of
// those that are snapshots by now.
func (r *Repo) Checkpoints() (list []id.ID, err error) {
	all, err := r.names("checkpoints")
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		switch _, err := r.where(i); {
		case errors.Is(err, ErrForgotten):
		case err != nil:
			return nil, err
		default:
			list = append(list, i)
		}
	}
	return list, nil
}

// CheckSnapshot reads the object of a snapshot, or of a checkpoint, itself, and nothing in
// its place. Errors: fs.ErrNotExist, ErrDamaged.
func (r *Repo) CheckSnapshot(i id.ID, checkpoint bool) (*Snapshot, error) {
	dir := "snapshots"
	if checkpoint {
		dir = "checkpoints"
	}
	return r.readSnapshot(dir, i)
}

// Temporaries returns how many temporaries lie in the repository: of puts at work, and of
// those that were killed, which the next put removes.
func (r *Repo) Temporaries() int {
	list, _ := r.o.List("tmp") // what cannot be listed is not counted
	return len(list)
}

// A Seen is a set of ids that have rows in the index, a bit for each row. It is for one
// goroutine.
type Seen struct{ m *marks }

// NewSeen returns an empty set.
func (r *Repo) NewSeen() (*Seen, error) {
	v, err := r.current()
	if err != nil {
		return nil, err
	}
	return &Seen{newMarks(v)}, nil
}

// Add puts i into the set and reports whether it was new. An id without a row is always new.
func (s *Seen) Add(i id.ID) bool { return s.m.add(i) }

// IncludeOrphans adds to the view of this process what lies in packs that no index segment
// lists, of as many as fit into memory. Nobody else may use the repository meanwhile.
func (r *Repo) IncludeOrphans() error {
	v, err := r.current()
	if err != nil {
		return err
	}
	if v, err = r.withOrphans(v); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = v
	return nil
}

// SegmentCache returns what pack.OpenSegment needs.
func (r *Repo) SegmentCache() *pack.Cache { return r.cache }
