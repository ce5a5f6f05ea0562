package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// plan decides which packs go.
func (c *collector) plan() error {
	var dead, mostly, before []*packUse
	err := c.r.EachPack(func(name id.ID) error {
		u, list, err := c.use(name)
		if err != nil || u == nil {
			return err
		}
		c.there[name] = u
		if c.v.state.retired[name] {
			u.dropped, u.before = true, true
			before = append(before, u)
			return nil
		}
		c.rep.Packs++
		c.rep.Bytes += u.size
		c.rep.LiveBytes += u.bytes
		young := !c.o.Now && !c.old[name]
		switch {
		case list == nil:
			c.o.Explain("pack %s stays: it is damaged", name)
		case u.bytes*2 >= u.size:
			c.o.Explain("pack %s stays: %d of %d bytes are needed", name, u.bytes, u.size)
		case young:
			c.o.Explain("pack %s stays: it was not seen for 7 days; %d of %d bytes are needed", name, u.bytes, u.size)
		case u.live == 0:
			dead = append(dead, u)
		default:
			mostly = append(mostly, u)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, u := range dead {
		c.take(u)
		c.o.Explain("pack %s is let go: nothing in it is needed", u.name)
	}
	for _, u := range before {
		if err := c.rescue(u); err != nil {
			return err
		}
	}
	slices.SortFunc(mostly, func(a, b *packUse) int {
		return cmp.Or(cmp.Compare(a.age, b.age), compareIDs(a.name, b.name))
	})
	for _, u := range mostly {
		moves, err := c.movable(u)
		switch {
		case errors.Is(err, errStays):
			c.o.Explain("pack %s stays: %v", u.name, err)
		case err != nil:
			return err
		default:
			u.moves = moves
			c.take(u)
			n := bytesOf(moves)
			c.rep.MovedBytes += n
			c.o.Explain("pack %s is let go: %d of %d bytes are needed, and moved", u.name, n, u.size)
		}
	}
	return nil
}

func bytesOf(list []pack.Entry) (n int64) {
	for _, e := range list {
		n += int64(e.Length) + pack.RowSize
	}
	return n
}

// rescue finds what must be copied of a pack that was let go before: what something needs by now. If
// that cannot be copied the pack is not removed.
func (c *collector) rescue(u *packUse) error {
	moves, err := c.movable(u)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // another collector has removed it
	case errors.Is(err, errStays), errors.Is(err, ErrDamaged):
		u.stays = true
		c.o.Explain("pack %s was let go, and stays: %v", u.name, err)
	case err != nil:
		return err
	default:
		u.moves = moves
		c.rep.MovedBytes += bytesOf(moves)
		c.o.Explain("pack %s was let go before; %d bytes of it are needed again, and moved", u.name, bytesOf(moves))
	}
	c.drop = append(c.drop, u)
	return nil
}

// take lets a pack go.
func (c *collector) take(u *packUse) {
	u.dropped = true
	c.drop = append(c.drop, u)
	c.rep.DroppedBytes += u.size
	if u.live == 0 {
		c.rep.Dropped++
	} else {
		c.rep.Rewritten++
	}
}

// use reads a pack's table and counts what of it is needed: all records, also those that are not
// listed, and the bytes of those that are. The list is nil if the table is damaged, u if the pack is gone.
func (c *collector) use(name id.ID) (u *packUse, list []pack.Entry, err error) {
	f, err := c.r.OpenPack(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	u = &packUse{name: name}
	if errors.Is(err, ErrDamaged) {
		return u, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pack %s: %w", name, err)
	}
	defer f.Close()
	u.size, u.age = f.Info().Size, c.now.Std().UnixNano()
	if at := f.Info().Time; !at.IsZero() {
		u.age = at.UnixNano()
	} // else it is the youngest
	list, err = readOwn(f, name)
	if errors.Is(err, ErrDamaged) {
		return u, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pack %s: %w", name, err)
	}
	frame := int64(packFrame)
	for _, e := range list {
		if e.Kind == pack.KindSession {
			frame += int64(e.Length) + pack.RowSize
			continue
		}
		live, err := c.live.has(e.ID)
		if err != nil {
			return nil, nil, err
		}
		if !live && !c.lacks.Has(e.ID) {
			continue
		}
		u.live++
		for row := range c.v.lookup(e.ID, c.r.badSegment) {
			if row.Pack == name && row.Offset == e.Offset {
				u.bytes += int64(e.Length) + pack.RowSize
				break
			}
		}
	}
	if u.bytes > 0 {
		u.bytes += frame
	}
	if list == nil {
		list = []pack.Entry{}
	}
	return u, list, nil
}

// packFrame is head, frame of the toc, and end of a pack.
const packFrame = 66 + 17 + 128

// readOwn reads a pack's own table, which must be that of its name.
func readOwn(f objects.Object, name id.ID) ([]pack.Entry, error) {
	own, list, err := pack.ReadList(f, f.Info().Size)
	if err == nil && own != name {
		err = fmt.Errorf("another pack is in its place: %w", ErrDamaged)
	}
	return list, err
}

// errStays says that a pack cannot be dropped.
var errStays = errors.New("not all in it can be moved")

// movable returns what must be copied before a pack goes. It reads all of it. The order of the
// copies of an id stays as it is, so that a pack cannot go of which something has another copy
// elsewhere: unless that is the same, byte for byte. Then the error is errStays, as it is if
// something cannot be read.
func (c *collector) movable(u *packUse) (moves []pack.Entry, err error) {
	f, err := c.r.OpenPack(u.name)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", u.name, err)
	}
	defer f.Close()
	list, err := readOwn(f, u.name)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", u.name, err)
	}
	for _, e := range list {
		if e.Kind == pack.KindSession {
			continue
		}
		live, err := c.live.has(e.ID)
		if err != nil {
			return nil, err
		}
		if !live && !c.lacks.Has(e.ID) {
			continue
		}
		move, err := c.moves(u, e)
		if err != nil {
			return nil, err
		}
		if move {
			moves = append(moves, e)
		}
	}
	return moves, nil
}

// moves reports whether an entry of a pack must be copied.
func (c *collector) moves(u *packUse, e pack.Entry) (bool, error) {
	here := false
	var others []Row
	for row := range c.v.lookup(e.ID, c.r.badSegment) {
		o := c.there[row.Pack]
		switch {
		case row.Kind == pack.KindSession:
		case row.Pack == u.name:
			here = here || row.Offset == e.Offset
		case o != nil && !o.dropped:
			others = append(others, row)
		}
	}
	if err := c.steady(); err != nil {
		return false, err
	}
	if !here {
		// Nobody gets this copy. It is the last good one only if the listed ones are bad.
		return false, c.someGood(u, e.ID)
	}
	own, raw, err := c.r.readBlob(Row{e.ID, u.name, e.Offset, e.Length, e.Kind})
	switch {
	case errors.Is(err, ErrDamaged):
		return false, fmt.Errorf("%w: blob %s is damaged", errStays, e.ID)
	case err != nil:
		return false, err
	}
	defer putBuffer(raw)
	if _, err := c.r.session(own.SID); errors.Is(err, ErrMissing) {
		return false, fmt.Errorf("%w: the session of blob %s is missing", errStays, e.ID)
	} else if err != nil {
		return false, err
	}
	found := false
	for _, row := range others {
		b, other, err := c.r.readBlob(row)
		same := err == nil && b.Kind == own.Kind && bytes.Equal(raw, other)
		if err == nil {
			putBuffer(other)
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		found = found || same
		if !same && u.before {
			continue // it is copied, and keeps its place by its age
		}
		if !same {
			return false, fmt.Errorf("%w: pack %s has another copy of blob %s", errStays, row.Pack, e.ID)
		}
	}
	return !found, nil
}

// someGood returns errStays if no listed copy of an id is good.
func (c *collector) someGood(u *packUse, i id.ID) error {
	for row := range c.v.lookup(i, c.r.badSegment) {
		if row.Kind == pack.KindSession || c.there[row.Pack] == nil {
			continue
		}
		_, raw, err := c.r.readBlob(row)
		if err == nil {
			putBuffer(raw)
			return nil
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%w: blob %s has no good copy that is listed", errStays, i)
}

// replace writes segments in the place of those that list packs that go, if they are small or
// a quarter of their rows is of such packs, and of many small ones. Everything else that they list
// stays listed. A segment that was not seen for a week is left as it is: else the packs in it would never be
// seen for so long.
func (c *collector) replace() error {
	names, err := c.r.names("index")
	if err != nil {
		return err
	}
	var take, small []id.ID
	for _, name := range names {
		if c.r.isBad(name) || c.v.state.replaced[name] || !c.v.names[name] {
			continue
		}
		size, part, err := c.segmentUse(name)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, fs.ErrNotExist): // its packs were listed by the put; another collector
			continue
		case err != nil:
			return err
		case part > 0 && (size < smallSegment || part >= 0.25):
			take = append(take, name)
		case size < smallSegment && (c.o.Now || c.ripe(c.v.state.seen[seenSegment], name, packAge)):
			small = append(small, name)
		}
	}
	if len(small) > tidySegments {
		take = append(take, small...)
	}
	m := &merger{c: c, lists: map[id.ID]*pack.List{}, wrote: map[id.ID]bool{}}
	for _, name := range take {
		if err := m.add(name); err != nil {
			return err
		}
	}
	if err := m.flush(); err != nil {
		return err
	}
	c.replaced = slices.DeleteFunc(take, func(name id.ID) bool { return m.wrote[name] })
	// What takes their place is as old as the youngest of them, and they need not be known any more.
	c.inherit(take, m.wrote)
	return nil
}

// inherit gives segments that were written in the place of others the time when these were seen.
func (c *collector) inherit(take []id.ID, wrote map[id.ID]bool) {
	var at rec.Time
	for k, name := range take {
		if seen, was := c.v.state.seen[seenSegment][name]; !was {
			return // one of them was not seen yet: they will be
		} else if k == 0 || compareTimes(seen, at) > 0 {
			at = seen
		}
	}
	c.verdict.Seen = slices.DeleteFunc(c.verdict.Seen, func(s sighting) bool {
		return s.Kind == seenSegment && slices.Contains(c.replaced, s.IDs[0])
	})
	for name := range wrote {
		c.verdict.Seen = append(c.verdict.Seen, sighting{seenSegment, at, []id.ID{name}})
	}
}

// openSegment opens a segment that was good when the view was loaded.
func (c *collector) openSegment(name id.ID) (*pack.Segment, int64, error) {
	info, err := c.r.o.Stat(object("index", name))
	if err != nil {
		return nil, 0, fmt.Errorf("read the index: %w", err)
	}
	s, err := pack.OpenSegment(part{c.r.o, object("index", name)}, info.Size, c.r.cache)
	if err == nil && s.Name() != name {
		err = errOther
	}
	if err != nil {
		return nil, 0, fmt.Errorf("index segment %s: %w", name, err)
	}
	return s, info.Size, nil
}

// segmentUse returns which part of a segment's rows is of packs that are let go; more than nothing
// if it lists such a pack.
func (c *collector) segmentUse(name id.ID) (size int64, part float64, err error) {
	s, size, err := c.openSegment(name)
	if err != nil {
		return 0, 0, err
	}
	gone := make([]bool, len(s.Packs()))
	any := false
	for k, p := range s.Packs() {
		gone[k] = c.letGo(p.Name)
		any = any || gone[k]
	}
	if !any {
		return size, 0, nil
	}
	n := int64(0)
	for k := range s.Len() {
		row, err := s.Row(k)
		if err != nil {
			return 0, 0, err
		}
		if gone[row.Pack] {
			n++
		}
	}
	return size, max(float64(n)/float64(max(s.Len(), 1)), 1e-9), nil
}

// letGo reports whether a pack is let go, now or before.
func (c *collector) letGo(name id.ID) bool {
	u := c.there[name]
	return c.v.state.retired[name] || u != nil && u.dropped
}

// A merger makes few segments of many, without the packs that go.
type merger struct {
	c     *collector
	lists map[id.ID]*pack.List
	rows  int
	wrote map[id.ID]bool
}

func (m *merger) add(name id.ID) error {
	s, _, err := m.c.openSegment(name)
	if err != nil {
		return err
	}
	stays := make([]*pack.List, len(s.Packs()))
	for k, p := range s.Packs() {
		if m.c.letGo(p.Name) {
			continue
		}
		if m.lists[p.Name] == nil {
			m.lists[p.Name] = &pack.List{Pack: p}
		}
		stays[k] = m.lists[p.Name]
		if stays[k].Size != p.Size {
			return fmt.Errorf("index segments list pack %s with different sizes: %w", p.Name, ErrDamaged)
		}
	}
	for n := range s.Len() {
		row, err := s.Row(n)
		if err != nil {
			return fmt.Errorf("index segment %s: %w", name, err)
		}
		if l := stays[row.Pack]; l != nil {
			l.Entries = append(l.Entries, pack.Entry{ID: row.ID, Offset: row.Offset, Length: row.Length, Kind: row.Kind})
			m.rows++
		}
	}
	if m.rows < barrierRows {
		return nil
	}
	return m.flush()
}

// flush writes a segment of what was added.
func (m *merger) flush() error {
	if len(m.lists) == 0 {
		return nil
	}
	var lists []pack.List
	for _, l := range m.lists {
		slices.SortFunc(l.Entries, func(a, b pack.Entry) int {
			return cmp.Or(compareIDs(a.ID, b.ID), cmp.Compare(a.Offset, b.Offset))
		})
		l.Entries = slices.Compact(l.Entries) // a row that two segments list
		lists = append(lists, *l)
	}
	m.lists, m.rows = map[id.ID]*pack.List{}, 0
	data, name, err := pack.EncodeSegment(lists)
	if err != nil {
		return err
	}
	m.wrote[name] = true
	return m.c.p.write(object("index", name), data)
}
