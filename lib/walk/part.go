package walk

import (
	"fmt"
	"slices"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// A part is a page for the sink under construction: entries, of one page or of
// several, and the blobs that they refer to.
type part struct {
	entries []*rec.Entry
	refs    page.Refs
}

// Limits of a part: those that pages are written with.
const (
	maxPartEntries = 1024
	maxPartRefs    = 1024
)

// record chooses a record and adds it to the part. It stands at src in the
// snapshot, and e is what is made of it there: under the path that it is to
// have, with references to refs. Entries are put in the place of links.
func (d *drive) record(s *scope, e *rec.Entry, src string, refs []byte) error {
	switch {
	case e.Type == rec.HardLink && d.promotes():
		return d.further(s, e, src)
	case e.Type == rec.Symlink && d.o.Follow != nil:
		return d.symlink(s, e, src)
	case e.Links > 1 && d.o.Unshare:
		c := *e
		c.Links = 0
		e = &c
	}
	chosen, err := d.choose(e, refs)
	if chosen && e.Links > 1 && d.promotes() {
		s.names[src] = e.Path
	}
	return err
}

// choose chooses e, which refers to refs, and reports whether it was.
func (d *drive) choose(e *rec.Entry, refs []byte) (bool, error) {
	if e.Off > 0 && d.last == "" { // the piece before was not chosen
		return false, nil
	}
	es := []*rec.Entry{e}
	if d.o.Choose != nil {
		var err error
		if es, err = d.o.Choose.Choose(e); err != nil {
			return false, err
		}
	}
	for _, c := range es {
		if err := d.add(c, refs); err != nil {
			return false, err
		}
	}
	return len(es) > 0, nil
}

// add adds an entry that was chosen.
func (d *drive) add(e *rec.Entry, refs []byte) error {
	if d.last != "" && (e.Path != d.last || e.Off == 0) {
		return d.closed()
	}
	d.last = ""
	if e.More {
		d.last = e.Path
	}
	p := &d.part
	if len(p.entries) >= maxPartEntries || len(p.refs.Bytes) >= maxPartRefs*id.Size {
		if err := d.flush(); err != nil {
			return err
		}
	}
	p.entries = append(p.entries, p.refer(e, refs))
	return nil
}

// closed reports a file whose next piece has not come.
func (d *drive) closed() error {
	if d.last != "" {
		return fmt.Errorf("entry %s: %w: its next piece is absent", rec.Quote(d.last), page.ErrPage)
	}
	return nil
}

// refer returns e as it refers to the part's blobs: e itself if nothing changes.
func (p *part) refer(e *rec.Entry, refs []byte) *rec.Entry {
	made := e
	for i, x := range e.Extents {
		if x.Hole {
			continue
		}
		n := p.refs.Index(id.ID(refs[x.N*id.Size:]))
		if n != x.N && made == e {
			c := *e
			c.Extents = slices.Clone(e.Extents)
			made = &c
		}
		if n != x.N {
			made.Extents[i].N = n
		}
	}
	return made
}

// flush gives the sink what was gathered.
func (d *drive) flush() error {
	entries, refs := d.part.entries, d.part.refs.Bytes
	d.part = part{}
	if len(entries) == 0 {
		return nil
	}
	return d.emit(entries, refs)
}
