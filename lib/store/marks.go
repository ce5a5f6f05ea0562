package store

import (
	"bytes"
	"sort"

	"preserve/lib/id"
)

// marks is a set of ids that have rows in a view: a bit for each row. An id that
// has no row is never in it.
type marks struct {
	v     *view
	bits  []uint64
	first []int64 // number of the first row of each large segment
}

func newMarks(v *view) *marks {
	m := &marks{v: v}
	n := int64(len(v.rows))
	for _, s := range v.large {
		m.first = append(m.first, n)
		n += s.Len()
	}
	m.bits = make([]uint64, (n+63)/64)
	return m
}

// add puts i into the set and reports whether it was not there. A segment that
// cannot be read may let it be new twice.
func (m *marks) add(i id.ID) bool {
	n := m.number(i)
	if n < 0 {
		return true
	}
	old := m.bits[n/64]
	m.bits[n/64] |= 1 << (n % 64)
	return m.bits[n/64] != old
}

// number returns the number of the first row of i, -1 if there is none.
func (m *marks) number(i id.ID) int64 {
	rows := m.v.rows
	at := sort.Search(len(rows), func(k int) bool { return bytes.Compare(rows[k].ID[:], i[:]) >= 0 })
	if at < len(rows) && rows[at].ID == i {
		return int64(at)
	}
	for k, s := range m.v.large {
		at, err := s.Search(i)
		if err != nil || at >= s.Len() {
			continue
		}
		if row, err := s.Row(at); err == nil && row.ID == i {
			return m.first[k] + at
		}
	}
	return -1
}
