package store

import (
	"crypto/sha256"
	"errors"
	"sync"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// Copies of a page may refer to different blobs: somebody who knew the id has stored one of
// them, and only the key tells which is true. What is given to whoever has the key is
// each of them, with what it refers to, if that is all there.

// maxShapes bounds the copies of a page with different references that are given.
const maxShapes = 4

// A shape tells copies of a page apart by kind and references.
type shape [sha256.Size]byte

func shapeOf(b *rec.Blob) shape {
	h := sha256.New()
	h.Write([]byte{b.Kind})
	h.Write(b.Refs)
	return shape(h.Sum(nil))
}

// shapes finds out which copies of pages are whole: everything that they reach is there. It may
// be used by many goroutines.
type shapes struct {
	r     *Repo
	mu    sync.Mutex
	whole map[id.ID]bool // pages of which a copy is whole, or none is
}

// of returns the shapes of the copies of a page, of which first is the one that is tried first, in the order in which they
// are tried: those of whole copies, or, if no copy is whole, of the first two. It returns nil if
// all copies that are tried have one shape.
func (s *shapes) of(first *Item, want Kinds) ([]shape, error) {
	if first.Next == 0 || first.Blob.Kind == rec.KindData {
		return nil, nil
	}
	list, err := s.distinct(first.Blob.ID, want)
	if err != nil || len(list) < 2 {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all, good []shape
	for _, c := range list {
		all = append(all, c.shape)
		whole, err := s.all(c.kind, c.refs)
		if err != nil {
			return nil, err
		}
		if whole {
			good = append(good, c.shape)
		}
	}
	if len(good) == 0 {
		return all[:2], nil
	}
	return good, nil
}

// A shaped is what copies of one shape have in common.
type shaped struct {
	shape
	kind uint8
	refs []id.ID
}

// distinct returns the different shapes of the copies of a page, maxShapes at most.
func (s *shapes) distinct(i id.ID, want Kinds) (list []shaped, err error) {
	v, err := s.r.current()
	if err != nil {
		return nil, err
	}
	seen := map[shape]bool{}
	rows, _ := s.r.copies(v, i, want)
	for _, row := range rows[:min(len(rows), maxTried)] {
		b, raw, err := s.r.readBlob(row)
		if err != nil {
			continue
		}
		if k := shapeOf(b); !seen[k] && len(list) < maxShapes {
			seen[k] = true
			list = append(list, shaped{k, b.Kind, distinct(b.Refs)})
		}
		putBuffer(raw)
	}
	return list, nil
}

// all reports whether everything that a copy with these references reaches is there.
func (s *shapes) all(kind uint8, refs []id.ID) (bool, error) {
	v, err := s.r.current()
	if err != nil {
		return false, err
	}
	for _, ref := range refs {
		good := false
		if want := below(kind); want.High == rec.KindData {
			good = s.r.listed(v, ref, rec.KindData)
		} else if good, err = s.any(ref, want); err != nil {
			return false, err
		}
		if !good {
			return false, nil
		}
	}
	return true, nil
}

// any reports whether a copy of a page is whole.
func (s *shapes) any(i id.ID, want Kinds) (bool, error) {
	if whole, ok := s.whole[i]; ok {
		return whole, nil
	}
	list, err := s.distinct(i, want)
	if err != nil {
		return false, err
	}
	whole := false
	for _, c := range list {
		if whole, err = s.all(c.kind, c.refs); err != nil {
			return false, err
		}
		if whole {
			break
		}
	}
	if s.whole == nil || len(s.whole) >= maxChecked {
		s.whole = map[id.ID]bool{}
	}
	s.whole[i] = whole
	return whole, nil
}

// shaped reads the first copy of a page that has a shape.
func (r *Repo) shaped(i id.ID, want Kinds, k shape) (*Item, error) {
	for n, more := 0, true; more; {
		item, err := r.Copy(i, want, n)
		if err != nil {
			return nil, err
		}
		if shapeOf(item.Blob) == k {
			return item, nil
		}
		n, more = item.Next, item.Next > 0
		item.Free()
	}
	return nil, errors.New("a copy of it is not there any more")
}
