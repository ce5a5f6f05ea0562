package pack

import "sync"

// A Cache keeps the blocks of segments that were read last. It may be shared by
// many segments and goroutines.
type Cache struct {
	mu    sync.Mutex
	slots []slot
	next  uint64
}

type slot struct {
	s *Segment
	n int64
	b []byte
}

// NewCache returns a cache of at most size bytes.
func NewCache(size int) *Cache { return &Cache{slots: make([]slot, max(1, size/blockSize))} }

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
