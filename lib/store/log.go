package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"preserve/lib/id"
)

// maxEvent bounds an object of the log: an event of a segment with very many packs.
const maxEvent = 64 << 20

// An Upload is what one run of pv-put has stored, as the log of puts and the snapshots tell.
type Upload struct {
	Put    string // the run; empty for a snapshot of which there is no log
	Client string // escaped; empty if it is not known
	// First and Last are when its events were written, by the clock of the machine that pv-put ran on; of a
	// snapshot without a log, when it was received, by the store's.
	First, Last        time.Time
	Segments, Packs    []id.ID
	Checkpoints        []id.ID // that are there still, and are no snapshots
	Snapshots          []id.ID // that are there still
	Forgotten, Missing int     // snapshots and checkpoints of it that are marked as forgotten, or gone
}

// clockSkew is how far the clock of the machine that pv-put ran on, and that of the store, may be apart.
const clockSkew = 24 * time.Hour

// Uploads returns what came with a label (PutOptions.As) in runs that went on at since or later,
// the first one first: what the log says, and snapshots of which it says nothing. What is in the
// log and cannot be read is named in an error, with all that could be read.
//
// A run that names a snapshot has not stored it for that: a client chooses the id. Its own is one that
// no earlier run has named, and of which the object has the label and was not received long before the run. Of
// others, and where the object cannot be read, a note is made.
func (r *Repo) Uploads(as string, since time.Time) ([]*Upload, error) {
	byPut, named, unread, err := r.readLog(as)
	if err != nil {
		return nil, err
	}
	var logged id.Set
	var all []*Upload
	for _, u := range byPut {
		for _, list := range []*[]id.ID{&u.Segments, &u.Packs, &u.Checkpoints, &u.Snapshots} {
			*list = sortedIDs(*list)
		}
		for _, i := range slices.Concat(u.Checkpoints, u.Snapshots) {
			logged.Add(i)
		}
		notOwn := func(i id.ID) bool { return named[i].put != u.Put }
		u.Checkpoints, u.Snapshots = slices.DeleteFunc(u.Checkpoints, notOwn), slices.DeleteFunc(u.Snapshots, notOwn)
		if !u.Last.Before(since) {
			all = append(all, u)
		}
	}
	for _, checkpoint := range []bool{false, true} {
		if err := r.unlogged(as, since, checkpoint, &logged, &all); err != nil {
			return nil, err
		}
	}
	for _, u := range all {
		if err := r.sortRoots(u, as); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b *Upload) int { return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Put, b.Put)) })
	if len(unread) > 0 {
		err = fmt.Errorf("%d objects of the log cannot be read, the first: %w", len(unread), unread[0])
	}
	return all, err
}

func sortedIDs(list []id.ID) []id.ID {
	slices.SortFunc(list, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

// A naming is when a run named a snapshot or checkpoint.
type naming struct {
	put string
	at  time.Time
}

// readLog adds up the events of each run with that label, and says which run, with whatever label, was the first that
// named a snapshot or checkpoint.
func (r *Repo) readLog(as string) (byPut map[string]*Upload, named map[id.ID]naming, unread []error, err error) {
	names, err := r.o.List(logDir)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the log of puts: %w", err)
	}
	byPut, named = map[string]*Upload{}, map[id.ID]naming{}
	as = shown(as, maxName)
	for _, name := range names {
		e, at, err := r.readEvent(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its owner has just removed it
		}
		if err != nil {
			unread = append(unread, fmt.Errorf("log/%s: %w", name, err))
			continue
		}
		for _, s := range []string{e.Checkpoint, e.Snapshot} {
			i, err := id.Parse(s)
			if was, ok := named[i]; err == nil && (!ok || at.Before(was.at)) {
				named[i] = naming{e.Put, at}
			}
		}
		if e.As != as {
			continue
		}
		u := byPut[e.Put]
		if u == nil {
			u = &Upload{Put: e.Put, Client: e.Client, First: at, Last: at}
			byPut[e.Put] = u
		}
		if at.Before(u.First) {
			u.First = at
		}
		if at.After(u.Last) {
			u.Last = at
		}
		for _, f := range []struct {
			to   *[]id.ID
			text []string
		}{{&u.Segments, []string{e.Segment}}, {&u.Packs, e.Packs}, {&u.Checkpoints, []string{e.Checkpoint}}, {&u.Snapshots, []string{e.Snapshot}}} {
			for _, s := range f.text {
				if i, err := id.Parse(s); err == nil {
					*f.to = append(*f.to, i)
				}
			}
		}
	}
	return byPut, named, unread, nil
}

func (r *Repo) readEvent(name string) (e event, at time.Time, err error) {
	b, err := readAll(r.o, logDir+"/"+name, maxEvent)
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err == nil {
		at, err = time.Parse(time.RFC3339, e.Time)
	}
	e.As, e.Client, e.Put = shown(e.As, 2*maxText), shown(e.Client, 2*maxText), shown(e.Put, maxName)
	return e, at, err
}

// unlogged adds the snapshots, or checkpoints, with a label of which the log does not know.
func (r *Repo) unlogged(as string, since time.Time, checkpoint bool, logged *id.Set, all *[]*Upload) error {
	dir := "snapshots"
	if checkpoint {
		dir = "checkpoints"
	}
	list, err := r.names(dir)
	if err != nil {
		return err
	}
	for _, i := range list {
		if logged.Has(i) {
			continue
		}
		s, err := r.CheckSnapshot(i, checkpoint)
		if err != nil {
			r.opts.Note("%s: %v: from whom it came is not known", object(dir, i), err)
			continue
		}
		at := s.Received.Std()
		if s.As != as || at.Before(since) {
			continue
		}
		logged.Add(i)
		u := &Upload{First: at, Last: at}
		if checkpoint {
			u.Checkpoints = []id.ID{i}
		} else {
			u.Snapshots = []id.ID{i}
		}
		*all = append(*all, u)
	}
	return nil
}

// sortRoots leaves in an Upload those snapshots and checkpoints that are there, and that it has stored.
func (r *Repo) sortRoots(u *Upload, as string) error {
	roots := sortedIDs(slices.Concat(u.Snapshots, u.Checkpoints))
	u.Snapshots, u.Checkpoints = nil, nil
	for _, i := range roots {
		dir, err := r.where(i)
		switch {
		case errors.Is(err, ErrForgotten):
			u.Forgotten++
		case errors.Is(err, ErrMissing):
			u.Missing++
		case err != nil:
			return err
		case !r.isOf(u, i, dir, as):
			r.opts.Note("%s was sent by run %s, but had been stored before, by somebody else, or cannot be read: it is left out", object(dir, i), u.Put)
		case dir == "snapshots":
			u.Snapshots = append(u.Snapshots, i)
		default:
			u.Checkpoints = append(u.Checkpoints, i)
		}
	}
	return nil
}

// isOf reports whether the object of a snapshot or checkpoint may be what a run has stored.
func (r *Repo) isOf(u *Upload, i id.ID, dir, as string) bool {
	if u.Put == "" {
		return true // the object said so
	}
	s, err := r.CheckSnapshot(i, dir == "checkpoints")
	return err == nil && s.As == as && !s.Received.Std().Before(u.First.Add(-clockSkew))
}
