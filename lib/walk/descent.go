package walk

import (
	"fmt"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// A descent goes through the pages of a tree, or of a part of it, in order. It
// asks for pages ahead of their turn.
type descent struct {
	d       *drive
	reaches func(first page.Key, next *page.Key) bool
	levels  []level // index pages, from the root to where it is
	window  int
	skipped bool  // pages were passed over since the last leaf
	root    *leaf // a root that is a page itself
}

// A level is an index page whose children are being taken.
type level struct {
	*node
	end   *page.Key // the key behind its last child; nil: the tree's end
	next  int       // the child to be taken
	asked []*asked  // children from next on that were looked at; nil: passed over
	ahead int       // of them, those that were asked for
}

// An asked page is on its way, or known.
type asked struct {
	want *want
	node *node
}

// A leaf is a page in its place.
type leaf struct {
	*node   // nil if it cannot be had
	why     error
	id      id.ID
	first   page.Key
	end     *page.Key // where the next page begins; nil: the tree's end
	skipped bool      // the page in front, or more, was passed over
}

// holds checks that an entry belongs into the page, as the pages above say.
func (l *leaf) holds(e *rec.Entry) error {
	if l.end != nil && page.KeyOf(e).Compare(*l.end) >= 0 {
		return notHeld(page.KeyOf(e), *l.end)
	}
	return nil
}

// descend begins at the root.
func (d *drive) descend(reaches func(first page.Key, next *page.Key) bool, window int) (*descent, error) {
	n, why, err := d.node(d.root, rec.KindPage, rec.KindIndexMax, nil)
	if err == nil && n == nil {
		err = noRoot(Loss{ID: d.root, Why: why})
	}
	if err != nil {
		return nil, err
	}
	s := &descent{d: d, reaches: reaches, window: window}
	if n.keys == nil {
		s.root = &leaf{node: n, id: n.id, first: page.KeyOf(n.entries[0])}
	} else {
		s.levels = []level{{node: n}}
	}
	return s, nil
}

// node returns a page, kept or asked for; nil, and why, if it cannot be had.
func (d *drive) node(i id.ID, low, high uint8, first *page.Key) (n *node, why, err error) {
	if n, ok := d.nodes.get(i); ok && low <= n.kind && n.kind <= high && n.begins(first) {
		return n, nil, nil
	}
	return d.arrive(d.request(i, low, high), first)
}

// arrive waits for a page that was asked for, opens it, and keeps what it says; nil, and why, if
// it cannot be had.
func (d *drive) arrive(w *want, first *page.Key) (n *node, why, err error) {
	b, err := d.await(w)
	if b == nil {
		return nil, w.why, err
	}
	defer b.Free()
	plain, err := d.open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, b.Data)
	switch {
	case isLoss(err):
		d.refuse(w, err)
		return d.arrive(w, first) // at most maxCopies deep
	case err != nil:
		return nil, nil, fmt.Errorf("page %s: %w", w.id.Short(), err)
	}
	if n, err = readNode(b, plain, first); err != nil {
		return nil, nil, err
	}
	if n.keys != nil || d.promotes() {
		d.nodes.put(b.ID, n, n.weight())
	}
	return n, nil, nil
}

// refuse is asker.refuse.
func (d *drive) refuse(w *want, why error) {
	d.ask.mu.Lock()
	d.ask.refuse(w, why)
	d.ask.mu.Unlock()
}

// begins reports whether the page begins with a key, if there is one.
func (n *node) begins(first *page.Key) bool {
	switch {
	case first == nil:
		return true
	case n.keys != nil:
		return n.keys[0] == *first
	}
	return page.KeyOf(n.entries[0]) == *first
}

// weight estimates the memory of a page.
func (n *node) weight() int64 {
	w := weigh(n.entries) + int64(len(n.refs)+64*len(n.keys))
	for _, k := range n.keys {
		w += int64(len(k.Path))
	}
	return w
}

// next returns the next page that is reached, or that one is missing; nil at the
// end.
func (s *descent) next() (*leaf, error) {
	if l := s.root; l != nil {
		s.root = nil
		return l, nil
	}
	for {
		s.look()
		for n := len(s.levels); n > 0 && s.levels[n-1].next == len(s.levels[n-1].keys); n-- {
			s.levels = s.levels[:n-1]
		}
		if len(s.levels) == 0 {
			return nil, nil
		}
		l := &s.levels[len(s.levels)-1]
		child := l.asked[0]
		l.asked = l.asked[1:]
		at := l.next
		l.next++
		if child == nil {
			s.skipped = true
			continue
		}
		l.ahead--
		f := &leaf{id: l.ref(at), first: l.keys[at], end: l.key(at + 1), skipped: s.skipped, node: child.node}
		if f.node == nil {
			var err error
			if f.node, f.why, err = s.d.arrive(child.want, &f.first); err != nil {
				return nil, err
			}
		}
		if f.node != nil && f.keys != nil {
			if k := f.keys[len(f.keys)-1]; f.end != nil && k.Compare(*f.end) >= 0 {
				return nil, notHeld(k, *f.end)
			}
			s.levels = append(s.levels, level{node: f.node, end: f.end})
			continue
		}
		s.skipped = false
		return f, nil
	}
}

// look looks at the children that come next, and asks for those that are reached
// and not known, as far as the window goes.
func (s *descent) look() {
	for n := len(s.levels) - 1; n >= 0; n-- {
		l := &s.levels[n]
		window := s.window
		if l.kind > rec.KindPage+1 { // the children have children: few will do
			window = max(1, window/8)
		}
		for at := l.next + len(l.asked); at < len(l.keys) && l.ahead < window; at++ {
			if !s.reaches(l.keys[at], l.key(at+1)) {
				l.asked = append(l.asked, nil)
				continue
			}
			l.asked = append(l.asked, s.d.prefetch(l.ref(at), l.kind-1, l.keys[at]))
			l.ahead++
		}
	}
}

// prefetch asks for a page, if it is not kept, and does not wait.
func (d *drive) prefetch(i id.ID, kind uint8, first page.Key) *asked {
	if n, ok := d.nodes.get(i); ok && n.kind == kind && n.begins(&first) {
		return &asked{node: n}
	}
	return &asked{want: d.request(i, kind, kind)}
}

func (l *level) ref(at int) id.ID { return id.ID(l.refs[at*id.Size:]) }

// key returns the key of child at, or what comes behind the last one.
func (l *level) key(at int) *page.Key {
	if at < len(l.keys) {
		return &l.keys[at]
	}
	return l.end
}

func notHeld(k, end page.Key) error {
	return fmt.Errorf("%w: it holds %s, and the next page begins with %s", page.ErrPage, k, end)
}
