package walk

import (
	"container/list"

	"preserve/lib/id"
)

// A cache keeps what was used last, within a bound of weight.
type cache[V any] struct {
	limit, free int64
	at          map[id.ID]*list.Element
	used        list.List // of *cached[V], the last used in front
}

type cached[V any] struct {
	id     id.ID
	value  V
	weight int64
}

func newCache[V any](limit int64) *cache[V] {
	return &cache[V]{limit: limit, free: limit, at: map[id.ID]*list.Element{}}
}

// get returns what is kept under i.
func (c *cache[V]) get(i id.ID) (v V, ok bool) {
	e := c.at[i]
	if e == nil {
		return v, false
	}
	c.used.MoveToFront(e)
	return e.Value.(*cached[V]).value, true
}

// put keeps v, unless it is heavier than all that may be kept.
func (c *cache[V]) put(i id.ID, v V, weight int64) {
	if c.at[i] != nil || weight > c.limit {
		return
	}
	c.at[i] = c.used.PushFront(&cached[V]{i, v, weight})
	for c.free -= weight; c.free < 0; {
		last := c.used.Remove(c.used.Back()).(*cached[V])
		delete(c.at, last.id)
		c.free += last.weight
	}
}
