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

// Uploads returns what came with a label (PutOptions.As) in runs that went on at since or later,
// the first one first: what the log says, and snapshots of which it says nothing. What is in the
// log and cannot be read is named in an error, with all that could be read.
func (r *Repo) Uploads(as string, since time.Time) ([]*Upload, error) {
	byPut, unread, err := r.readLog(as)
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
		if err := r.sortRoots(u); err != nil {
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

// readLog adds up the events of each run with that label.
func (r *Repo) readLog(as string) (byPut map[string]*Upload, unread []error, err error) {
	names, err := r.o.List(logDir)
	if err != nil {
		return nil, nil, fmt.Errorf("read the log of puts: %w", err)
	}
	byPut = map[string]*Upload{}
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
	return byPut, unread, nil
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

// sortRoots leaves in an Upload those snapshots and checkpoints that are there.
func (r *Repo) sortRoots(u *Upload) error {
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
		case dir == "snapshots":
			u.Snapshots = append(u.Snapshots, i)
		default:
			u.Checkpoints = append(u.Checkpoints, i)
		}
	}
	return nil
}
