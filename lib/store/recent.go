package store

import "preserve/lib/id"

// maxSent is how many sessions of a stream are remembered. What rests on the runs of years may need more:
// whoever sends a session that so many others have followed sends it again.
const maxSent = 16 << 10

// Recent are the sessions of a stream that its reader still has, the last maxSent that were new when they came. Who
// writes a stream and who reads it keep the same list. The zero Recent is empty. It is for one
// goroutine.
type Recent struct {
	has  map[id.ID]bool
	list []id.ID // in order; from at on, once it is full
	at   int
}

// Add adds a session. It reports whether it was not there, and which one went for it, if one did.
func (r *Recent) Add(i id.ID) (fresh bool, gone id.ID) {
	if r.has[i] {
		return false, gone
	}
	if r.has == nil {
		r.has = map[id.ID]bool{}
	}
	r.has[i] = true
	if len(r.list) < maxSent {
		r.list = append(r.list, i)
		return true, gone
	}
	gone, r.list[r.at] = r.list[r.at], i
	r.at = (r.at + 1) % maxSent
	delete(r.has, gone)
	return true, gone
}
