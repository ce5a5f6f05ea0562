package check

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store"
)

// ioError reports whether a disk could not read.
func ioError(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) }

// segments reads all index segments: their own checks, and what they list.
func (c *checker) segments() error {
	list, err := c.r.Segments()
	if err != nil {
		return err
	}
	for _, name := range list {
		c.rep.Segments++
		err := c.segment(name)
		switch {
		case err == nil:
		case errors.Is(err, pack.ErrVersion):
			return fmt.Errorf("index segment %s: %w", name, err)
		case damage(err):
			c.rep.BySegment = append(c.rep.BySegment, name)
			c.o.Damage("index segment %s: %v", name, err)
		default:
			return fmt.Errorf("index segment %s: %w", name, err)
		}
	}
	return nil
}

func (c *checker) segment(name id.ID) error {
	f, err := c.r.OpenSegment(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := pack.OpenSegment(f, f.Info().Size, c.r.SegmentCache())
	if err != nil {
		return err
	}
	if s.Name() != name {
		return fmt.Errorf("content does not match its name: %w", store.ErrDamaged)
	}
	table := s.Packs()
	counts := make([]uint64, len(table))
	var last pack.Row
	for n := range s.Len() {
		row, err := s.Row(n)
		if err != nil {
			return err
		}
		if n > 0 && bytes.Compare(last.ID[:], row.ID[:]) > 0 {
			return fmt.Errorf("row %d: not sorted: %w", n, store.ErrDamaged)
		}
		counts[row.Pack]++
		last = row
	}
	for k, p := range table {
		switch retired, err := c.r.Retired(p.Name); {
		case err != nil:
			return err
		case retired:
			continue
		}
		info := c.packs[p.Name]
		if info == nil {
			info = &packInfo{size: int64(p.Size), listed: true}
			c.packs[p.Name] = info
		}
		info.rows += counts[k]
		info.differs = info.differs || info.size != int64(p.Size)
	}
	return nil
}

// files reads all packs.
func (c *checker) files() error {
	return c.r.EachPack(func(name id.ID) error {
		switch retired, err := c.r.Retired(name); {
		case err != nil:
			return err
		case retired:
			c.o.Note("pack %s: a collector has let it go, and will remove it", name)
			return nil
		}
		c.rep.Packs++
		err := c.file(name)
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		return nil
	})
}

// file reads one pack.
func (c *checker) file(name id.ID) error {
	size, list, err := c.table(name)
	c.rep.Bytes += size
	info := c.packs[name]
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // a collector removed it
	case err != nil && !damage(err):
		return err
	case err != nil && info == nil:
		c.o.Note("pack %s is not whole, and no index segment lists it: %v", name, err)
		return nil
	case err != nil: // only its segments say what is in it
		info.state = noTable
		c.o.Note("pack %s: %v", name, err)
		return nil
	case info == nil:
		info = &packInfo{size: size}
		c.packs[name] = info
	}
	info.state = present
	if err := c.compare(name, info, size, list); err != nil {
		return err
	}
	if meta := len(list) > 0 && list[len(list)-1].Kind != rec.KindData; !meta && !c.o.Data(name, size) {
		return nil
	}
	c.rep.Read++
	c.rep.ReadBytes += size
	return c.content(name, list)
}

// table reads a pack's own table.
func (c *checker) table(name id.ID) (size int64, list []pack.Entry, err error) {
	f, err := c.r.OpenPack(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	size = f.Info().Size
	own, list, err := pack.ReadList(f, size)
	if err == nil && own != name {
		err = fmt.Errorf("its table does not match its name: %w", store.ErrDamaged)
	}
	return size, list, err
}

// content reads all of a pack. If it is not as it was written, each record is looked at.
func (c *checker) content(name id.ID, list []pack.Entry) error {
	f, err := c.r.OpenPack(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = pack.Check(io.NewSectionReader(f, 0, f.Info().Size))
	if err == nil {
		return nil
	}
	if !damage(err) {
		return err
	}
	bad, rerr := c.records(f, list)
	if rerr != nil {
		return rerr
	}
	if len(bad) == 0 {
		c.o.Note("pack %s: %v: all its blobs are good", name, err)
	}
	c.damaged(name, bad, len(list))
	return nil
}

// compare looks whether each row that a segment lists of a pack is in the pack's own table.
// Not all that is in a pack need be listed.
func (c *checker) compare(name id.ID, info *packInfo, size int64, list []pack.Entry) error {
	if !info.listed {
		c.o.Note("pack %s is in no index segment: the next put lists it", name)
		return nil
	}
	var found uint64
	for _, e := range list {
		rows, err := c.r.Lookup(e.ID)
		if err != nil {
			return err
		}
		for row := range rows {
			if row.Pack == name && row.Offset == e.Offset && row.Length == e.Length && row.Kind == e.Kind {
				found++
			}
		}
	}
	if info.differs || found != info.rows || size != info.size {
		c.o.Damage("pack %s: an index segment lists it differently from its own table", name)
		for _, s := range c.listing(name) {
			if !slices.Contains(c.rep.BySegment, s) {
				c.rep.BySegment = append(c.rep.BySegment, s)
			}
		}
	}
	return nil
}

// listing returns the segments that list a pack.
func (c *checker) listing(name id.ID) (found []id.ID) {
	list, err := c.r.Segments()
	if err != nil {
		return nil
	}
	for _, s := range list {
		_ = c.rows(s, func(table []pack.Pack, _ pack.Row) bool {
			for _, p := range table {
				if p.Name == name {
					found = append(found, s)
				}
			}
			return false
		})
	}
	return found
}

// damaged notes the damaged records of a pack.
func (c *checker) damaged(name id.ID, bad []pack.Entry, all int) {
	if len(bad) == 0 {
		return
	}
	if len(c.bad)+len(bad) > maxBad {
		c.packs[name].state = missing
		c.o.Note("pack %s: %d of its %d records are damaged: it counts as missing", name, len(bad), all)
		return
	}
	var blobs []id.ID
	for _, e := range bad {
		c.bad[place{name, e.Offset}] = true
		if e.Kind != pack.KindSession {
			blobs = append(blobs, e.ID)
		}
	}
	c.suspect = append(c.suspect, blobs...)
	c.o.Note("pack %s: %d of its %d records are damaged; blobs: %s", name, len(bad), all, names(blobs))
}

// records reads the records of a pack, one after the other, and returns those that are
// damaged.
func (c *checker) records(f io.ReaderAt, list []pack.Entry) (bad []pack.Entry, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	first, last := int64(list[0].Offset), list[len(list)-1]
	in := bufio.NewReaderSize(io.NewSectionReader(f, first, int64(last.Offset)+int64(last.Length)-first), 1<<20)
	var raw []byte
	for n, e := range list {
		if e.Length > rec.MaxRecord {
			return append(bad, list[n:]...), nil // nothing that a writer wrote: nor is what follows
		}
		if cap(raw) < int(e.Length) {
			raw = make([]byte, e.Length)
		}
		raw = raw[:e.Length]
		if _, err := io.ReadFull(in, raw); err != nil {
			if !ioError(err) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, err
			}
			bad = append(bad, e)
			// Behind a bad sector there may be good ones.
			at := int64(e.Offset) + int64(e.Length)
			in.Reset(io.NewSectionReader(f, at, int64(last.Offset)+int64(last.Length)-at))
			continue
		}
		if !c.record(raw, e) {
			bad = append(bad, e)
		}
	}
	return bad, nil
}

// record reports whether a record is what its entry says, and its session is there.
func (c *checker) record(raw []byte, e pack.Entry) bool {
	v, err := pack.ParseRecord(raw, e.ID, e.Kind)
	if b, is := v.(*rec.Blob); is && err == nil {
		c.sids.Add(b.SID)
		return !c.lostSID.Has(b.SID)
	}
	return err == nil
}

// rows calls fn with the rows of a segment until it returns false.
func (c *checker) rows(name id.ID, fn func(table []pack.Pack, row pack.Row) bool) error {
	f, err := c.r.OpenSegment(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := pack.OpenSegment(f, f.Info().Size, c.r.SegmentCache())
	if err != nil {
		return err
	}
	for n := range s.Len() {
		row, err := s.Row(n)
		if err != nil {
			return err
		}
		if !fn(s.Packs(), row) {
			return nil
		}
	}
	return nil
}

// listed calls fn with the rows that segments list of packs in a state.
func (c *checker) listed(state packState, fn func(name id.ID, row pack.Row) error) error {
	list, err := c.r.Segments()
	if err != nil {
		return err
	}
	for _, name := range list {
		var failed error
		err := c.rows(name, func(table []pack.Pack, row pack.Row) bool {
			p := table[row.Pack].Name
			if info := c.packs[p]; info != nil && info.listed && info.state == state {
				failed = fn(p, row)
			}
			return failed == nil
		})
		if failed != nil {
			return failed
		}
		if err != nil && !damage(err) {
			return fmt.Errorf("index segment %s: %w", name, err)
		}
	}
	return nil
}

// is reports whether a pack is in a state.
func (c *checker) is(state packState) bool {
	for _, info := range c.packs {
		if info.state == state {
			return true
		}
	}
	return false
}

// tableless reads the packs whose own table is damaged, record by record.
func (c *checker) tableless() error {
	if !c.is(noTable) {
		return nil
	}
	bad := map[id.ID][]pack.Entry{}
	err := c.listed(noTable, func(name id.ID, row pack.Row) error {
		e := pack.Entry{ID: row.ID, Offset: row.Offset, Length: row.Length, Kind: row.Kind}
		good, err := c.one(name, e)
		if !good {
			bad[name] = append(bad[name], e)
		}
		return err
	})
	for name, list := range bad {
		c.damaged(name, list, int(c.packs[name].rows))
	}
	return err
}

// one reads one record of a pack.
func (c *checker) one(name id.ID, e pack.Entry) (good bool, err error) {
	f, err := c.r.OpenPack(name)
	if err == nil {
		defer f.Close()
		raw := make([]byte, min(e.Length, rec.MaxRecord))
		if _, err = io.ReadFull(io.NewSectionReader(f, int64(e.Offset), int64(e.Length)), raw); err == nil {
			return c.record(raw, e), nil
		}
	}
	if damage(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return false, err
}

// sessions looks for sessions of which no good copy is left: nobody opens what was sealed
// under them. Only damaged packs can have lost one.
func (c *checker) sessions() error {
	for i := range c.sids.All() {
		ok, err := c.good(i, store.Just(pack.KindSession))
		if err != nil {
			return err
		}
		if !ok {
			c.lostSID.Add(i)
			c.o.Damage("session %s is damaged or missing: the blobs sealed under it cannot be read", i)
		}
	}
	if c.lostSID.Len() == 0 {
		return nil
	}
	if err := c.tableless(); err != nil {
		return err
	}
	return c.r.EachPack(func(name id.ID) error {
		if retired, err := c.r.Retired(name); retired || err != nil {
			return err
		}
		_, list, err := c.table(name)
		if err != nil {
			return nil // as above
		}
		f, err := c.r.OpenPack(name)
		if err != nil {
			return err
		}
		defer f.Close()
		bad, err := c.records(f, list)
		c.damaged(name, bad, len(list))
		return err
	})
}

// missing looks for blobs that were in missing packs and are in no other.
func (c *checker) missing() error {
	for name, info := range c.packs {
		if info.state == missing {
			c.o.Note("pack %s is missing: %d records", name, info.rows)
		}
	}
	if !c.is(missing) {
		return nil
	}
	return c.listed(missing, func(_ id.ID, row pack.Row) error {
		if row.Kind == pack.KindSession {
			return nil
		}
		ok, err := c.good(row.ID, store.AnyBlob)
		if err == nil && !ok {
			c.isBad(row.ID)
		}
		return err
	})
}
