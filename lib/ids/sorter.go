// Package ids is many ids at once: lists that are sorted on disk when they do not
// fit in memory, and searched there.
package ids

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"slices"

	"preserve/lib/id"
	"preserve/lib/spool"
)

// onDisk is how much of what does not fit in a Sorter's memory package spool
// keeps in memory all the same: a block.
const onDisk = spool.Block

// A Sorter takes ids in any order, the same one any number of times, and makes a
// List of them. It keeps what it was told to keep in memory, and the rest in a
// temporary file without a name (package spool). It is not safe for concurrent
// use.
type Sorter struct {
	buf   []id.ID
	limit int
	runs  []run // sorted stretches of disk
	disk  *spool.Spool
}

// A run is a sorted stretch of a spool.
type run struct {
	off int64
	n   int // ids
}

// NewSorter returns an empty Sorter that takes up to memory bytes, at least
// 32 KiB, as it needs them.
func NewSorter(memory int) *Sorter {
	return &Sorter{limit: max(1024, memory/id.Size)}
}

// Add takes an id. An error is that of the temporary file, and says what to do
// about it; the Sorter is then of no more use.
func (s *Sorter) Add(i id.ID) error {
	if len(s.buf) == s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, i)
	return nil
}

// compare orders ids as bytes.
func compare(a, b id.ID) int {
	x, y := prefix(&a), prefix(&b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return bytes.Compare(a[8:], b[8:])
}

// prefix is an id's first bytes as a number of the same order.
func prefix(i *id.ID) uint64 { return binary.BigEndian.Uint64(i[:]) }

func (s *Sorter) sort() {
	slices.SortFunc(s.buf, compare)
	s.buf = slices.Compact(s.buf)
}

// spill makes a run of what is in memory.
func (s *Sorter) spill() error {
	if s.disk == nil {
		s.disk = spool.New(onDisk)
	}
	s.sort()
	r := run{s.disk.Len(), len(s.buf)}
	if err := appendIDs(s.disk, s.buf); err != nil {
		return err
	}
	s.runs, s.buf = append(s.runs, r), s.buf[:0]
	return nil
}

func appendIDs(to *spool.Spool, list []id.ID) error {
	var chunk [256 * id.Size]byte
	for len(list) > 0 {
		n := min(len(list), len(chunk)/id.Size)
		for k, i := range list[:n] {
			copy(chunk[k*id.Size:], i[:])
		}
		if _, err := to.Append(chunk[:n*id.Size]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// List returns the distinct ids that were added, sorted, and leaves the Sorter
// empty. The caller closes the List. After an error the Sorter is still to be
// closed.
func (s *Sorter) List() (*List, error) {
	if len(s.runs) == 0 {
		s.sort()
		l := &List{mem: s.buf, n: len(s.buf)}
		s.buf = nil
		return l, nil
	}
	if err := s.spill(); err != nil {
		return nil, err
	}
	s.buf = nil
	to := spool.New(onDisk)
	n, err := s.merge(to)
	if err != nil {
		_ = to.Close() // it has no name, and is gone
		return nil, err
	}
	err = s.Close()
	return &List{at: to, n: n, close: to.Close}, err
}

// merge appends the distinct ids of all runs to to, in order, and gives the runs'
// disk back on the way.
func (s *Sorter) merge(to *spool.Spool) (n int, err error) {
	var h heads
	for _, r := range s.runs {
		c := &cursor{from: s.disk, run: r}
		more, err := c.next()
		if err != nil {
			return 0, err
		}
		if more {
			h = append(h, c)
		}
	}
	heap.Init(&h)
	out := make([]id.ID, 0, 4096)
	last, any := id.ID{}, false
	for len(h) > 0 {
		c := h[0]
		if !any || c.id != last {
			last, any = c.id, true
			n++
			if out = append(out, last); len(out) == cap(out) {
				if err := appendIDs(to, out); err != nil {
					return 0, err
				}
				out = out[:0]
			}
		}
		more, err := c.next()
		switch {
		case err != nil:
			return 0, err
		case more:
			heap.Fix(&h, 0)
		default:
			heap.Pop(&h)
		}
	}
	return n, appendIDs(to, out)
}

// Close gives up what was added. It may be called again, and after List.
func (s *Sorter) Close() error {
	s.buf, s.runs = nil, nil
	if s.disk == nil {
		return nil
	}
	d := s.disk
	s.disk = nil
	return d.Close()
}

// A cursor goes through a run.
type cursor struct {
	from *spool.Spool
	run  run
	buf  []byte // of the run, read but not taken
	room [512 * id.Size]byte
	id   id.ID
}

// next takes the next id of the run, if there is one.
func (c *cursor) next() (bool, error) {
	if len(c.buf) == 0 {
		if c.run.n == 0 {
			return false, nil
		}
		n := min(c.run.n, len(c.room)/id.Size)
		c.buf = c.room[:n*id.Size]
		if _, err := c.from.ReadAt(c.buf, c.run.off); err != nil {
			return false, err
		}
		c.from.Free(c.run.off, int64(len(c.buf)))
		c.run.off += int64(len(c.buf))
		c.run.n -= n
	}
	c.id = id.ID(c.buf[:id.Size])
	c.buf = c.buf[id.Size:]
	return true, nil
}

// heads are cursors in a heap, that with the least id first.
type heads []*cursor

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return compare(h[i].id, h[j].id) < 0 }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*cursor)) }
func (h *heads) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
