package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// findRoots decides which snapshots and checkpoints stay, and notes what was seen.
func (c *collector) findRoots() error {
	snapshots, checkpoints, forgotten, kept := c.snapshots, c.checkpoints, c.forgotten, c.kept
	seen := c.v.state.seen
	for i := range seen[seenSnapshot] {
		if !snapshots[i] && !forgotten[i] {
			if _, err := c.r.o.Stat(object("snapshots", i)); err == nil {
				continue // it came since the list was made, and another collector saw it: see secureMore
			}
			return fmt.Errorf("snapshot %s is %w, and is not marked as forgotten: nothing was let go", i, ErrGone)
		}
	}
	all := map[id.ID]bool{}
	for i := range snapshots {
		all[i] = true
	}
	for i := range checkpoints {
		all[i] = true
	}
	ids := make([]id.ID, 0, len(all))
	for i := range all {
		ids = append(ids, i)
	}
	slices.SortFunc(ids, compareIDs)
	for _, i := range ids {
		// Marks of both kinds: the one that keeps is the stronger.
		gone := forgotten[i] && !kept[i]
		c.known[i] = true
		if gone {
			if err := c.renewed(i); err != nil {
				return err
			}
		}
		if gone && (c.o.Now || c.ripe(seen[seenForgotten], i, forgottenAge)) {
			c.rep.Gone = append(c.rep.Gone, i)
			c.o.Explain("snapshot %s is forgotten: removed", i)
			c.changed = true
			continue
		}
		if !snapshots[i] && !kept[i] && !gone && c.ripe(seen[seenCheckpoint], i, checkpointAge) {
			c.rep.GoneCheckpoints = append(c.rep.GoneCheckpoints, i)
			c.o.Explain("checkpoint %s was seen for 30 days: removed", i)
			c.changed = true
			continue
		}
		for kind, is := range map[string]bool{seenSnapshot: snapshots[i], seenCheckpoint: !snapshots[i], seenForgotten: gone} {
			if is {
				c.see(kind, i)
			}
		}
		switch {
		case gone:
			c.rep.Waiting++
			c.o.Explain("snapshot %s is forgotten, and stays until its mark was seen for 7 days", i)
		}
		if snapshots[i] {
			c.rep.Snapshots++
		} else {
			c.rep.Checkpoints++
		}
		c.roots = append(c.roots, i)
	}
	return nil
}

// renewed forgets that a mark was seen if it was made since: somebody removed the one that was seen.
func (c *collector) renewed(i id.ID) error {
	at, was := c.v.state.seen[seenForgotten][i]
	if !was {
		return nil
	}
	info, err := c.r.o.Stat(object("forgotten", i))
	if err == nil && info.Time.After(at.Std()) {
		delete(c.v.state.seen[seenForgotten], i)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // removed this moment: removeRoots looks again
	}
	return err
}

// see notes that something is there, since when.
func (c *collector) see(kind string, i id.ID) {
	at, was := c.v.state.seen[kind][i]
	if !was {
		at, c.changed = c.now, true
	}
	c.verdict.Seen = append(c.verdict.Seen, sighting{kind, at, []id.ID{i}})
}

// ages finds out which packs are not young, by the segments that list them, and takes over what was let
// go before and matters still.
func (c *collector) ages() error {
	names, err := c.r.names("index")
	if err != nil {
		return err
	}
	there := map[id.ID]bool{}
	listed := map[id.ID]bool{} // by segments that count
	for _, name := range names {
		there[name] = true
		if c.v.state.replaced[name] || c.r.isBad(name) {
			continue
		}
		c.see(seenSegment, name)
		s, _, err := c.openSegment(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		ripe := c.ripe(c.v.state.seen[seenSegment], name, packAge)
		if at := c.v.state.seen[seenSegment][name]; ripe && c.v.state.made.Std().Sub(at.Std()) < packAge {
			c.changed = true // it has come of age since the last run
		}
		for _, p := range s.Packs() {
			listed[p.Name] = true
			if ripe {
				c.old[p.Name] = true
			}
		}
	}
	for _, d := range c.v.state.drops {
		keep := drop{Since: d.Since}
		for _, name := range d.Packs {
			_, err := c.r.o.Stat(packName(name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err == nil || listed[name] {
				keep.Packs = append(keep.Packs, name)
			}
		}
		for _, name := range d.Segments {
			if there[name] {
				keep.Segments = append(keep.Segments, name)
			}
		}
		c.changed = c.changed || len(keep.Packs) < len(d.Packs) || len(keep.Segments) < len(d.Segments)
		c.verdict.Drops = append(c.verdict.Drops, keep)
	}
	return nil
}

// A want is a blob that something refers to.
type want struct {
	id    id.ID
	kinds Kinds
}

// mark marks what the roots reach.
func (c *collector) mark() error {
	for _, i := range c.roots {
		lacked := c.lacks.Len()
		if err := c.markRoot(i, c.forgotten[i] && !c.kept[i] || !c.snapshots[i]); err != nil {
			return fmt.Errorf("snapshot %s: %w: nothing was let go", i, err)
		}
		if n := c.lacks.Len() - lacked; n > 0 {
			c.r.opts.Warn("snapshot %s needs %d blobs that are missing (see pv-check)", i, n)
		}
	}
	return c.steady()
}

// markRoot marks what one snapshot or checkpoint reaches, by its objects and by the copies of
// its blob in packs: which of them a reader takes is not known here. Of one that is forgotten, or a
// checkpoint, whose put may have been killed before it looked, it marks what is there: nobody relies on
// the rest.
func (c *collector) markRoot(i id.ID, lenient bool) error {
	todo := []want{}
	var why error = ErrMissing
	found := false
	for _, checkpoint := range []bool{false, true} {
		s, err := c.r.CheckSnapshot(i, checkpoint)
		switch {
		case err == nil:
			found = true
			for n := range s.Blob.NRefs() {
				todo = append(todo, want{s.Blob.Ref(n), rootKinds})
			}
		case !errors.Is(err, fs.ErrNotExist):
			why = err
		}
	}
	n, err := c.live.find(i)
	if err != nil {
		return err
	}
	if n >= 0 {
		more, good, err := c.follow(i, Just(rec.KindSnapshot))
		if err != nil {
			return err
		}
		todo, found = append(todo, more...), found || good
	}
	if !found && !lenient {
		return why
	}
	for len(todo) > 0 {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		more, err := c.markOne(w)
		if lenient && (errors.Is(err, ErrMissing) || errors.Is(err, ErrDamaged)) {
			continue
		}
		if err != nil {
			return err
		}
		todo = append(todo, more...)
	}
	return nil
}

// markOne marks a blob and returns what it refers to, if that was not followed yet.
func (c *collector) markOne(w want) ([]want, error) {
	n, err := c.live.find(w.id)
	if err != nil {
		return nil, err
	}
	data := w.kinds.High == rec.KindData
	switch {
	case n < 0 && data:
		c.lacks.Add(w.id)
		return nil, nil
	case n < 0:
		return nil, fmt.Errorf("blob %s, a page, is %w", w.id, ErrMissing)
	case data:
		c.live.bits[n/64] |= 1 << (n % 64)
		return nil, nil
	}
	more, good, err := c.follow(w.id, w.kinds)
	if err == nil && !good {
		err = fmt.Errorf("blob %s, a page, has no good copy: %w", w.id, ErrDamaged)
	}
	return more, err
}

// follow marks a page and returns what all its copies refer to, of whatever kind they are:
// somebody may have stored another blob under its id. good says that there is a copy of one of
// the kinds, or that there was when it was followed.
func (c *collector) follow(i id.ID, kinds Kinds) (refs []want, good bool, err error) {
	c.live.add(i)
	if !c.down.add(i) {
		return nil, true, nil
	}
	rows := 0
	for row := range c.v.lookup(i, c.r.badSegment) {
		if row.Kind < rec.KindPage || row.Kind > rec.KindSnapshot {
			continue
		}
		if rows++; rows > maxRows {
			return nil, false, fmt.Errorf("blob %s has more than %d copies", i, maxRows)
		}
		b, raw, err := c.r.readBlob(row)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, false, err // the disk: it may be readable again
		}
		good = good || kinds.Has(b.Kind)
		for n := range b.NRefs() {
			refs = append(refs, want{b.Ref(n), below(b.Kind)})
		}
		putBuffer(raw)
	}
	return refs, good, nil
}
