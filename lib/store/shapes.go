package store

import (
	"crypto/sha256"
	"sync"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// Copies of a page may refer to different blobs: somebody who knew the id has stored one of
// them, and only the key tells which is true. What is given to whoever has the key is
// each of them, with what it refers to, if that is all there.

// maxShapes bounds the copies of a page with different references that are given. However many somebody
// has stored, the true one is to be among them.
const maxShapes = maxRows / 2

// A shape is a copy of a page with other references, or of another kind, than those that are tried before it.
type shape struct {
	row  Row
	next int // the number of the copy behind it; 0 if there is none
}

// A key tells shapes apart.
type key [sha256.Size]byte

func keyOf(b *rec.Blob) key {
	h := sha256.New()
	h.Write([]byte{b.Kind})
	h.Write(b.Refs)
	return key(h.Sum(nil))
}

// shapes finds out which copies of pages are whole: everything that they reach is there. It may
// be used by many goroutines.
type shapes struct {
	r     *Repo
	mu    sync.Mutex
	whole map[id.ID]bool // pages of which a copy is whole, or none is
}

// of returns the shapes of the copies of a page, of which first is the one that is tried first, in the order in which they
// are tried: those of whole copies, or, if no copy is whole, the first two. It returns nil if
// all copies have one shape.
func (s *shapes) of(first *Item, want Kinds) (good []shape, err error) {
	if first.Next == 0 || first.Blob.Kind == rec.KindData {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var two []shape
	var held struct { // the first one, until another comes
		kind uint8
		refs []id.ID
	}
	judge := func(c shape, kind uint8, refs []id.ID) error {
		whole, err := s.all(kind, refs)
		if whole && len(good) < maxShapes {
			good = append(good, c)
		}
		return err
	}
	err = s.distinct(first.Blob.ID, want, func(c shape, kind uint8, refs []id.ID) (bool, error) {
		if len(two) < 2 {
			two = append(two, c)
		}
		if len(two) == 1 {
			held.kind, held.refs = kind, refs
			return true, nil
		}
		if held.refs != nil {
			if err := judge(two[0], held.kind, held.refs); err != nil {
				return false, err
			}
			held.refs = nil
		}
		return len(good) < maxShapes, judge(c, kind, refs)
	})
	switch {
	case err != nil || len(two) < 2:
		return nil, err
	case len(good) == 0:
		return two, nil
	}
	return good, nil
}

// distinct calls fn with the different shapes of the copies of a page, one after the other, until it
// returns false.
func (s *shapes) distinct(i id.ID, want Kinds, fn func(c shape, kind uint8, refs []id.ID) (bool, error)) error {
	v, err := s.r.current()
	if err != nil {
		return err
	}
	seen := map[key]bool{}
	rows, _ := s.r.copies(v, i, want)
	for n, row := range rows {
		item, err := s.r.item(row)
		if err != nil {
			continue
		}
		k, kind, refs := keyOf(item.Blob), item.Blob.Kind, distinct(item.Blob.Refs)
		item.Free()
		if seen[k] {
			continue
		}
		seen[k] = true
		if refs == nil {
			refs = []id.ID{}
		}
		c := shape{row, n + 1}
		if c.next == len(rows) {
			c.next = 0
		}
		if more, err := fn(c, kind, refs); err != nil || !more {
			return err
		}
	}
	return nil
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
func (s *shapes) any(i id.ID, want Kinds) (whole bool, err error) {
	if whole, ok := s.whole[i]; ok {
		return whole, nil
	}
	err = s.distinct(i, want, func(_ shape, kind uint8, refs []id.ID) (bool, error) {
		whole, err = s.all(kind, refs)
		return !whole, err
	})
	if err != nil {
		return false, err
	}
	if s.whole == nil || len(s.whole) >= maxChecked {
		s.whole = map[id.ID]bool{}
	}
	s.whole[i] = whole
	return whole, nil
}

// shaped reads the copy of a shape.
func (r *Repo) shaped(c shape) (*Item, error) {
	item, err := r.item(c.row)
	if err == nil {
		item.Next = c.next
	}
	return item, err
}
