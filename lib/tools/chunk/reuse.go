package chunk

import (
	"preserve/lib/bounds"
	"preserve/lib/id"
	"preserve/lib/rec"
)

// Refs counts the blobs that the entries of a page name by id, as if they were
// chunks that a reading has just written: then a page ends where it would have
// ended, had its files been read.
type refs struct {
	seen map[id.ID]struct{}
	last id.ID
	n    int
}

// begins reports whether an extent counts. A chunk is written anew for what begins
// it, even if another with the same content was written before.
func (r *refs) begins(x *rec.Extent) bool {
	if x.Hole || x.ID.IsZero() {
		return false
	}
	if x.Off == 0 {
		return true
	}
	if x.ID == r.last {
		return false
	}
	_, ok := r.seen[x.ID]
	return !ok
}

// count returns by how much add would raise n, at most.
func (r *refs) count(extents []rec.Extent) (n int) {
	for i := range extents {
		if r.begins(&extents[i]) {
			n++
		}
	}
	return n
}

func (r *refs) add(extents []rec.Extent) {
	for i := range extents {
		x := &extents[i]
		if !r.begins(x) {
			continue
		}
		if r.seen == nil {
			r.seen = map[id.ID]struct{}{}
		}
		r.seen[x.ID] = struct{}{}
		r.last = x.ID
		r.n++
	}
}

func (r *refs) reset() {
	clear(r.seen)
	r.last, r.n = id.ID{}, 0
}

// isLarge reports whether an entry is, or begins, a file that is read in chunks of
// its own.
func isLarge(e *rec.Entry) bool { return e.Type == rec.File && (e.Size > bounds.SmallFile || e.More) }

// needs is what room asks for a file before it is read, of an entry whose content
// is known.
func needs(e *rec.Entry) int {
	n := sizeOf(e) + extentSize
	if isLarge(e) {
		return n + chunkExtents
	}
	for i := range e.Extents {
		if !e.Extents[i].Hole {
			n += 2 * extentSize
		}
	}
	return n
}

// takes is what an entry whose content is known takes of the page.
func takes(e *rec.Entry) int {
	n := len(e.Extents)
	if isLarge(e) && n > 0 && !e.More && e.Extents[n-1].Hole {
		n-- // large does not count it either
	}
	return sizeOf(e) + extentSize*n
}

// ready adds an entry for which nothing has to be opened: from a cache, or without
// content.
func (a *assembler) ready(e *rec.Entry) error {
	if e.Type == rec.HardLink && len(a.lost)+len(a.moved) > 0 {
		return a.take(&file{entry: e})
	}
	if e.Off == 0 { // the page has ended behind a piece
		if len(a.entries) > 0 && (a.rules.pageBegins(e.Path) || a.full(needs(e)) || a.tight(e)) {
			if err := a.cut(); err != nil {
				return err
			}
		}
		a.files.Add(1)
		if len(e.XAttrs) > 0 {
			a.names.owners.AddACLs(e.XAttrs)
		}
	}
	a.refs.add(e.Extents)
	a.bytes += takes(e)
	a.entries = append(a.entries, e)
	if e.More {
		return a.cut()
	}
	return nil
}

// tight reports whether an entry whose content is known goes beyond the limits of
// the page. A piece of a large file, which is not divided again, can.
func (a *assembler) tight(e *rec.Entry) bool {
	return a.bytes+takes(e) > bounds.MaxBytes || a.named()+a.refs.count(e.Extents) > bounds.MaxRefs
}
