package walk

import (
	"sync"

	"preserve/lib/id"
)

// Checked is the data blobs that driven walks under one key have opened, with their sizes. A walk that
// is given it does not ask for them again; its sink does not get them. It takes about 80 bytes
// for each. Several goroutines may use it; the zero value is empty.
type Checked struct {
	mu   sync.Mutex
	size map[id.ID]uint32
}

// get returns the size of a blob that was opened. A nil Checked has none.
func (c *Checked) get(i id.ID) (size int, ok bool) {
	if c == nil {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.size[i]
	return int(n), ok
}

// add notes a blob that was opened.
func (c *Checked) add(i id.ID, size int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size == nil {
		c.size = map[id.ID]uint32{}
	}
	c.size[i] = uint32(size)
}
