// Package check looks for damage in a repository, without a key: it reads all objects, or
// all but a part of the data, and compares what they say of each other.
//
// It finds every changed bit of a pack, an index segment, and a snapshot's object, and
// whatever a snapshot or checkpoint refers to and is not there. It cannot find what
// somebody changed together with its checksum: for that a read key is needed (pv-verify).
package check

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store"
)

// Options of a check. The functions must not be nil.
type Options struct {
	// Data reports whether the blobs of a pack of data are read. Packs of metadata always
	// are.
	Data func(name id.ID, size int64) bool
	// Damage is told what is damaged or missing and has no good copy.
	Damage func(format string, args ...any)
	// Note is told what is damaged and has a good copy, and what is left over.
	Note func(format string, args ...any)
}

// A Report is the result of a check.
type Report struct {
	Packs, Read      int // of all packs, those of which every blob was read
	Bytes, ReadBytes int64
	Segments         int
	Snapshots        int
	Bad              []id.ID // blobs without a good copy, sorted
	More             bool    // there are more than fit into Bad
	Incomplete       []id.ID // snapshots that reach such a blob
	// Damaged objects that have to be put right by hand; in order: snapshots whose
	// checkpoint is good, other snapshots, segments.
	BySnapshot, Lost, BySegment []id.ID
}

// OK reports whether no damage was found.
func (r *Report) OK() bool {
	return !r.More && len(r.Bad)+len(r.Incomplete)+len(r.BySnapshot)+len(r.Lost)+len(r.BySegment) == 0
}

// A packInfo is what is known of a pack.
type packInfo struct {
	size    int64
	rows    uint64 // that segments list
	state   packState
	listed  bool
	differs bool // from one segment to another
}

type packState uint8

const (
	missing packState = iota
	present
	noTable // what is in it only segments say
)

// A place is where a record stands.
type place struct {
	pack   id.ID
	offset uint32
}

// maxBad bounds the damaged records, and the bad blobs, that are kept one by one. Beyond it
// whole packs count as missing.
const maxBad = 1 << 20

type checker struct {
	r       *store.Repo
	o       Options
	rep     Report
	packs   map[id.ID]*packInfo
	bad     map[place]bool
	sids    id.Set  // sessions of the blobs in damaged packs
	lostSID id.Set  // those of which no good copy is there
	suspect []id.ID // blobs of which a copy is bad
	badIDs  id.Set  // blobs without a good copy
	pages   id.Set  // pages that are bad or reach a bad blob
	seen    *store.Seen
	trial   bool   // copies of a page are tried
	quiet   id.Set // what was found bad then
	named   id.Set // pages that reach bad blobs that were told
}

// Run checks a repository. Errors are those that keep it from being checked; damage is none.
// Puts may run meanwhile.
func Run(r *store.Repo, o Options) (*Report, error) {
	c := &checker{r: r, o: o, packs: map[id.ID]*packInfo{}, bad: map[place]bool{}}
	// What is listed first is whole when the lists that it rests on are read.
	snapshots, err := r.Snapshots()
	if err != nil {
		return nil, err
	}
	checkpoints, err := r.Checkpoints()
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		c.segments, r.IncludeOrphans, c.files, c.tableless, c.sessions, c.missing, c.lost,
		func() error { return c.roots(snapshots, checkpoints) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if n := r.Temporaries(); n > 0 {
		o.Note("%d temporary files of puts that run or were killed", n)
	}
	slices.SortFunc(c.rep.Bad, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return &c.rep, nil
}

// good reports whether a copy of a blob is where the index says, as far as it was read.
func (c *checker) good(i id.ID, want store.Kinds) (bool, error) {
	rows, err := c.r.Lookup(i)
	if err != nil {
		return false, err
	}
	for row := range rows {
		p := c.packs[row.Pack]
		if p != nil && p.state != missing && want.Has(row.Kind) && !c.bad[place{row.Pack, row.Offset}] {
			return true, nil
		}
	}
	return false, nil
}

// isBad notes a blob that has no good copy.
func (c *checker) isBad(i id.ID) {
	if len(c.rep.Bad) == maxBad {
		c.rep.More = !c.badIDs.Has(i)
	} else if c.badIDs.Add(i) {
		c.rep.Bad = append(c.rep.Bad, i)
	}
}

// lost finds out which suspects have no good copy.
func (c *checker) lost() error {
	for _, i := range c.suspect {
		ok, err := c.good(i, store.AnyBlob)
		if err != nil {
			return err
		}
		if !ok {
			c.isBad(i)
		}
	}
	c.suspect = nil
	return nil
}

// roots checks the objects of snapshots and checkpoints and all that they reach.
func (c *checker) roots(snapshots, checkpoints []id.ID) (err error) {
	if c.seen, err = c.r.NewSeen(); err != nil {
		return err
	}
	for _, i := range snapshots {
		c.rep.Snapshots++
		_, err := c.r.CheckSnapshot(i, false)
		if err != nil && !damage(err) {
			return fmt.Errorf("snapshot %s: %w", i, err)
		}
		if err != nil {
			if _, cerr := c.r.CheckSnapshot(i, true); cerr == nil {
				c.rep.BySnapshot = append(c.rep.BySnapshot, i)
				c.o.Damage("snapshot %s: %v: its checkpoint is good", i, err)
			} else {
				c.rep.Lost = append(c.rep.Lost, i)
				c.o.Damage("snapshot %s: %v: when it was received is lost", i, err)
			}
		}
		if err := c.root("snapshot", i); err != nil {
			return err
		}
	}
	for _, i := range checkpoints {
		_, err := c.r.CheckSnapshot(i, true)
		switch committed, cerr := c.r.IsCommitted(i); {
		case cerr != nil:
			return cerr
		case err != nil && !damage(err):
			return fmt.Errorf("checkpoint %s: %w", i, err)
		case err != nil && committed:
			c.o.Note("checkpoint %s: %v: the snapshot is good without it", i, err)
		case err != nil:
			c.o.Note("checkpoint %s: %v: the next run does not rest on it", i, err)
		case !committed:
			if err := c.root("checkpoint", i); err != nil {
				return err
			}
		}
	}
	return nil
}

func damage(err error) bool {
	return errors.Is(err, store.ErrDamaged) || errors.Is(err, fs.ErrNotExist) || ioError(err)
}

// root checks what a snapshot or checkpoint reaches.
func (c *checker) root(what string, i id.ID) error {
	s, err := c.r.Snapshot(i)
	ok := err == nil
	if ok {
		ok, err = c.reach(s.Blob.Ref(0), store.Kinds{Low: rec.KindPage, High: rec.KindIndexMax})
	} else if errors.Is(err, store.ErrMissing) || damage(err) {
		c.isBad(i)
		err = nil
	}
	if err != nil || ok {
		return err
	}
	c.o.Damage("%s %s is incomplete: blobs that it needs are damaged or missing", what, i)
	c.rep.Incomplete = append(c.rep.Incomplete, i)
	return nil
}

// reach reports whether a blob and all that it reaches are good. It looks at each only once, and
// once more to name what is bad, if that was found while copies were tried. It
// nests at most nine deep, since kinds descend.
func (c *checker) reach(i id.ID, want store.Kinds) (bool, error) {
	fresh := c.seen.Add(i)
	if want.High == rec.KindData {
		if !fresh && len(c.rep.Bad) < maxBad && !c.quiet.Has(i) {
			return !c.badIDs.Has(i), nil
		}
		ok, err := c.good(i, want)
		if err == nil && !ok {
			c.fails(i, true)
		}
		return ok, err
	}
	if !fresh && (!c.pages.Has(i) || c.trial || !c.quiet.Has(i) || c.badIDs.Has(i) || c.named.Has(i)) {
		return !c.pages.Has(i), nil
	}
	first, next, err := c.copy(i, want, 0)
	whole := false
	switch {
	case errors.Is(err, store.ErrMissing):
		c.fails(i, true)
		err = nil
	case err == nil && next == 0:
		whole, err = c.all(first)
	case err == nil:
		whole, err = c.any(i, want, first, next)
	}
	if err == nil && !whole {
		c.pages.Add(i)
		c.fails(i, false)
	}
	return whole, err
}

// fails notes what is not good. While copies are tried it is not told: a copy that nobody needs
// may refer to it.
func (c *checker) fails(i id.ID, bad bool) {
	switch {
	case c.trial:
		c.quiet.Add(i)
	case bad:
		c.isBad(i)
	default:
		c.named.Add(i)
	}
}

// A shape is what a copy of a page refers to.
type shape struct {
	kind uint8
	refs []byte
}

// copy returns the shape of a copy of a page, and the number of the next copy, 0 if there is none.
func (c *checker) copy(i id.ID, want store.Kinds, n int) (shape, int, error) {
	item, err := c.r.Copy(i, want, n)
	if err != nil {
		return shape{}, 0, err
	}
	defer item.Free()
	return shape{item.Blob.Kind, slices.Clone(item.Blob.Refs)}, item.Next, nil
}

// all reports whether everything that a copy of a page reaches is good. While copies are tried it
// ends with the first blob that is not.
func (c *checker) all(s shape) (bool, error) {
	whole := true
	for at := 0; at < len(s.refs) && (whole || !c.trial); at += id.Size {
		ok, err := c.reach(id.ID(s.refs[at:at+id.Size]), store.Just(s.kind-1))
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	return whole, nil
}

// any reports whether everything that one of several copies of a page reaches is good. Only a key tells
// which copy is the true one: what somebody stored under the id of a page, with
// references to nothing, is no damage. If no copy is whole, it tells what the oldest and the
// youngest one lack.
func (c *checker) any(i id.ID, want store.Kinds, first shape, next int) (bool, error) {
	was := c.trial
	c.trial = true
	defer func() { c.trial = was }()
	tried := map[[sha256.Size]byte]bool{}
	wholes := 0
	var lacking []shape
	for s := first; ; {
		if key := sha256.Sum256(append([]byte{s.kind}, s.refs...)); !tried[key] {
			tried[key] = true
			ok, err := c.all(s)
			if err != nil {
				return false, err
			}
			if ok {
				wholes++
			} else if lacking = append(lacking, s); len(lacking) > 2 {
				lacking = lacking[:2]
			}
		}
		if next == 0 {
			break
		}
		var err error
		s, next, err = c.copy(i, want, next)
		if errors.Is(err, store.ErrMissing) {
			break
		}
		if err != nil {
			return false, err
		}
	}
	c.trial = was
	if wholes == 0 {
		for _, s := range lacking {
			if _, err := c.all(s); err != nil {
				return false, err
			}
		}
		return false, nil
	}
	if len(lacking) > 0 && !was {
		c.o.Note("page %s: its copies refer to different blobs, and some of those are missing or damaged: pv-verify tells whether the true copy is complete", i)
	}
	return true, nil
}

// names writes the first of many ids.
func names(list []id.ID) string {
	const most = 3
	text := ""
	for n, i := range list[:min(len(list), most)] {
		if n > 0 {
			text += ", "
		}
		text += i.Short()
	}
	if len(list) > most {
		text += fmt.Sprintf(" and %d more", len(list)-most)
	}
	return text
}
