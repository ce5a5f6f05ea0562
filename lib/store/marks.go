package store

import (
	"bytes"
	"sort"

	"preserve/lib/id"
	"preserve/lib/pack"
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
	n, err := m.find(i)
	if n < 0 || err != nil {
		return true
	}
	old := m.bits[n/64]
	m.bits[n/64] |= 1 << (n % 64)
	return m.bits[n/64] != old
}

// has reports whether i is in the set. Errors are those of reading a segment.
func (m *marks) has(i id.ID) (bool, error) {
	n, err := m.find(i)
	return err == nil && n >= 0 && m.bits[n/64]&(1<<(n%64)) != 0, err
}

// find returns the number of the first row of i, -1 if there is none. The error is that of
// the segments that could not be read; a row of another segment is found in spite of it.
func (m *marks) find(i id.ID) (int64, error) {
	rows := m.v.rows
	at := sort.Search(len(rows), func(k int) bool { return bytes.Compare(rows[k].ID[:], i[:]) >= 0 })
	if at < len(rows) && rows[at].ID == i {
		return int64(at), nil
	}
	var failed error
	for k, s := range m.v.large {
		at, err := s.Search(i)
		if err == nil && at < s.Len() {
			var row pack.Row
			if row, err = s.Row(at); err == nil && row.ID == i {
				return m.first[k] + at, failed
			}
		}
		if err != nil {
			failed = err
		}
	}
	return -1, failed
}
