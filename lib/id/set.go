package id

import (
	"hash/maphash"
	"iter"
)

// A Set holds ids in 43 to 85 bytes each: an open-addressed table without
// pointers, so that a million ids cost the garbage collector nothing. Whoever
// chooses the ids cannot make it slow: its hash has a random seed. The zero Set
// is empty and ready. A Set is not safe for concurrent use.
type Set struct {
	slots   []ID
	seed    maphash.Seed
	n       int
	hasZero bool
}

// Len returns the number of ids in s.
func (s *Set) Len() int {
	if s.hasZero {
		return s.n + 1
	}
	return s.n
}

// Has reports whether i is in s.
func (s *Set) Has(i ID) bool {
	if i.IsZero() {
		return s.hasZero
	}
	if len(s.slots) == 0 {
		return false
	}
	_, ok := s.find(i)
	return ok
}

// Add puts i into s and reports whether it was new.
func (s *Set) Add(i ID) bool {
	if i.IsZero() {
		fresh := !s.hasZero
		s.hasZero = true
		return fresh
	}
	if s.n*4 >= len(s.slots)*3 {
		s.grow()
	}
	at, ok := s.find(i)
	if ok {
		return false
	}
	s.slots[at] = i
	s.n++
	return true
}

// find returns the slot of i, or the free slot where it belongs.
func (s *Set) find(i ID) (at int, ok bool) {
	mask := len(s.slots) - 1
	at = int(maphash.Bytes(s.seed, i[:])) & mask
	for {
		switch s.slots[at] {
		case i:
			return at, true
		case ID{}:
			return at, false
		}
		at = (at + 1) & mask
	}
}

func (s *Set) grow() {
	old := s.slots
	if old == nil {
		s.seed = maphash.MakeSeed()
	}
	s.slots = make([]ID, max(1024, 2*len(old)))
	for _, i := range old {
		if !i.IsZero() {
			at, _ := s.find(i)
			s.slots[at] = i
		}
	}
}

// All yields the ids of s, in no order that means anything. s must not change meanwhile.
func (s *Set) All() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		if s.hasZero && !yield(ID{}) {
			return
		}
		for _, i := range s.slots {
			if !i.IsZero() && !yield(i) {
				return
			}
		}
	}
}
