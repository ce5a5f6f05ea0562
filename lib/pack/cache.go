package pack

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A Cache keeps the blocks of segments that were read last. It may be shared by
// many segments and goroutines.
type Cache struct {
	mu    sync.Mutex
	slots []slot
	next  uint64
	sums  *room // for checksums, of all segments together
}

// sumsRoom is room for the checksums of 64 GiB of segments.
const sumsRoom = 64 << 20

// A room is a number of bytes that may still be held.
type room struct{ left atomic.Int64 }

func newRoom(n int64) *room {
	r := &room{}
	r.left.Store(n)
	return r
}

// hold reports whether a segment may hold n bytes. They count for as long as it is used.
func (r *room) hold(s *Segment, n int) bool {
	if r.left.Add(int64(-n)) < 0 {
		r.left.Add(int64(n))
		return false
	}
	runtime.AddCleanup(s, func(n int) { r.left.Add(int64(n)) }, n)
	return true
}

type slot struct {
	s *Segment
	n int64
	b []byte
}

// NewCache returns a cache of at most size bytes.
func NewCache(size int) *Cache {
	return &Cache{slots: make([]slot, max(1, size/blockSize)), sums: newRoom(sumsRoom)}
}

// seat returns where a segment's first block goes.
func (c *Cache) seat() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next += 0x9e3779b1 // any odd number that spreads
	return c.next
}

// get returns a block of s, checked. It is shared: nobody changes it.
func (c *Cache) get(s *Segment, n int64) ([]byte, error) {
	// Neighbours go to neighbouring slots, so that a scan of one segment does
	// not evict what it reads next.
	at := (uint64(n) + s.seat) % uint64(len(c.slots))
	c.mu.Lock()
	e := c.slots[at]
	c.mu.Unlock()
	if e.s == s && e.n == n {
		return e.b, nil
	}
	b, err := s.load(n)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.slots[at] = slot{s, n, b}
	c.mu.Unlock()
	return b, nil
}
