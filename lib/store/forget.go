package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"preserve/lib/id"
)

// Marks are empty files named by a snapshot: forgotten/ID hides it, and lets a collector
// remove what only it reaches; kept/ID refuses the former. A mark says nothing of the
// snapshot's bytes, which stay as they are until a collector runs.

// Forget marks a snapshot or checkpoint as forgotten, durably. It reports false if it was
// marked before. Errors: ErrMissing if there is no such snapshot and a collector has seen
// none, ErrKept.
func (r *Repo) Forget(i id.ID) (fresh bool, err error) {
	switch kept, err := r.marked("kept", i); {
	case err != nil:
		return false, err
	case kept:
		return false, r.markError(i, ErrKept)
	}
	switch _, err := r.where(i); {
	case errors.Is(err, ErrForgotten):
		return false, nil
	case err != nil && !r.missed(i, err):
		return false, r.whereError("snapshot "+i.String(), err)
	}
	return r.mark("forgotten", i)
}

// Unforget removes the mark of Forget. It reports false if there was none. A snapshot
// that a collector has removed is not there again: then the error is ErrMissing, and the
// mark is gone.
func (r *Repo) Unforget(i id.ID) (had bool, err error) {
	had, err = r.unmark("forgotten", i)
	if err != nil {
		return had, err
	}
	if _, err := r.where(i); err != nil {
		return had, r.whereError("snapshot "+i.String(), err)
	}
	return had, nil
}

// Keep marks a snapshot as not to be forgotten, durably. It reports false if it was
// marked before. Errors: ErrMissing if there is no such snapshot, ErrForgotten.
func (r *Repo) Keep(i id.ID) (fresh bool, err error) {
	if _, err := r.where(i); err != nil {
		return false, r.whereError("snapshot "+i.String(), err)
	}
	return r.mark("kept", i)
}

// Unkeep removes the mark of Keep. It reports false if there was none.
func (r *Repo) Unkeep(i id.ID) (had bool, err error) { return r.unmark("kept", i) }

// Kept returns the ids of the snapshots that are marked as not to be forgotten, sorted.
func (r *Repo) Kept() ([]id.ID, error) {
	ids, err := r.names("kept")
	slices.SortFunc(ids, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids, err
}

func (r *Repo) markError(i id.ID, err error) error {
	return fmt.Errorf("snapshot %s is %w: %q", i, err, r.String())
}

func (r *Repo) marked(kind string, i id.ID) (bool, error) {
	_, err := r.o.Stat(object(kind, i))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the repository: %w", err)
	}
	return true, nil
}

func (r *Repo) mark(kind string, i id.ID) (fresh bool, err error) {
	if err = r.o.Put(object(kind, i), nil); full(err) && r.o.Delete("ballast") == nil {
		err = r.o.Put(object(kind, i), nil) // what is forgotten makes room; the collector brings the ballast back
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark snapshot %s: %w", i, err)
	}
	return true, nil
}

func (r *Repo) unmark(kind string, i id.ID) (had bool, err error) {
	err = r.o.Delete(object(kind, i))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove the mark of snapshot %s: %w", i, err)
	}
	return true, nil
}

// missed reports whether err says that a snapshot is missing that a collector has seen: it
// can be forgotten, so that the next one does not look for it.
func (r *Repo) missed(i id.ID, err error) bool {
	if !errors.Is(err, ErrMissing) {
		return false
	}
	s, serr := r.readState()
	if serr != nil {
		return false
	}
	_, seen := s.seen[seenSnapshot][i]
	return seen
}

// Known returns nil if i is a snapshot or checkpoint, or one that can be, or is, marked as
// forgotten if that is asked. Errors: ErrMissing, ErrForgotten, explained.
func (r *Repo) Known(i id.ID, forgotten bool) error {
	_, err := r.where(i)
	if err == nil || forgotten && (errors.Is(err, ErrForgotten) || r.missed(i, err)) {
		return nil
	}
	return r.whereError("snapshot "+i.String(), err)
}
