package diff

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"

	"preserve/lib/content"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// An item is an entry of a stream, with what its content is known to be.
type item struct {
	entry *rec.Entry
	sum   *[sha256.Size]byte // nil: there is no content, or it is lost
}

// A side is a stream that is read by a goroutine of its own.
type side struct {
	items chan item
	quit  chan struct{}
	err   error // once items is closed
	next  *item
}

// ahead is how many items of a side wait.
const ahead = 256

func newSide(from stream) *side {
	s := &side{items: make(chan item, ahead), quit: make(chan struct{})}
	go func() {
		defer close(s.items)
		l := &listener{Base: from.base, to: s}
		s.err = content.InOrder(l, 0, func(sink content.Sink) error { return from.src.Either(nil, sink) })
	}()
	return s
}

// peek returns the next item, nil at the end.
func (s *side) peek() (*item, error) {
	if s.next == nil {
		it, ok := <-s.items
		if !ok {
			return nil, s.err
		}
		s.next = &it
	}
	return s.next, nil
}

func (s *side) drop() { s.next = nil }

// close ends the reading, and waits for it.
func (s *side) close() {
	close(s.quit)
	for range s.items {
	}
}

// A listener makes items of a stream.
type listener struct {
	reading.Base
	to    *side
	entry rec.Entry
	hash  hash.Hash // of the file at hand
	data  bool      // content has come for it
	lost  bool
}

func (l *listener) send(it item) error {
	select {
	case l.to.items <- it:
		return nil
	case <-l.to.quit:
		return errQuit
	}
}

func (l *listener) Entry(e *rec.Entry) error {
	l.Flawed(e)
	l.entry = *e
	if e.Type != rec.File {
		return l.send(item{entry: e})
	}
	if l.hash == nil {
		l.hash = sha256.New()
	}
	l.hash.Reset()
	l.data, l.lost = false, false
	return nil
}

func (l *listener) Data(_ int64, b []byte) error {
	l.data = true
	_, _ = l.hash.Write(b) // it never fails
	return nil
}

func (l *listener) Hole(_, n int64) error {
	l.data = true
	for ; n > 0; n -= int64(len(zeroBlock)) {
		_, _ = l.hash.Write(zeroBlock[:min(n, int64(len(zeroBlock)))])
	}
	return nil
}

func (l *listener) Done(e *rec.Entry) error {
	c := l.entry
	c.Size, c.Inconsistent = e.Size, e.Inconsistent
	it := item{entry: &c}
	if l.data && !l.lost && c.Err == "" {
		it.sum = (*[sha256.Size]byte)(l.hash.Sum(nil))
	}
	return l.send(it)
}

func (l *listener) Lost(e *rec.Entry, _ content.Loss, begun bool) error {
	l.Env.Warn("%s: its content is lost and cannot be compared", rec.Quote(e.Path))
	l.lost = true
	if begun {
		return nil
	}
	c := *e
	return l.send(item{entry: &c})
}

// both says what differs between two streams.
func both(env *tool.Env, one, two stream) error {
	p := newPrinter(env, false)
	x, y := newSide(one), newSide(two)
	defer x.close()
	defer y.close()
	for {
		s, err := x.peek()
		if err != nil {
			return p.end(err)
		}
		t, err := y.peek()
		if err != nil || s == nil && t == nil {
			return p.end(err)
		}
		order := 0
		switch {
		case s == nil:
			order = 1
		case t == nil:
			order = -1
		default:
			order = rec.ComparePaths(s.entry.Path, t.entry.Path)
		}
		switch {
		case order < 0:
			p.differs("missing", s.entry.Path, s.entry.Type.String())
			x.drop()
		case order > 0:
			p.differs("extra", t.entry.Path, t.entry.Type.String())
			y.drop()
		default:
			p.entries(s, t)
			x.drop()
			y.drop()
		}
	}
}

// entries compares two entries of one path.
func (p *printer) entries(s, t *item) {
	e, l := s.entry, t.entry
	switch {
	case e.Type != l.Type:
		p.differs("type", e.Path, e.Type.String(), l.Type.String())
		return
	case e.Type == rec.HardLink:
		if e.Leader != l.Leader {
			p.differs("links", e.Path, nameOf(e.Leader), nameOf(l.Leader))
		}
		return
	case e.Way || l.Way:
		return // its metadata may be made up
	}
	p.metadata(e, l)
	p.attributes(known(e, l), l.XAttrs, l.Flags)
	switch {
	case e.Type != rec.File || e.Err != "" || l.Err != "":
	case e.Size != l.Size:
		p.differs("size", e.Path, fmt.Sprint(e.Size), fmt.Sprint(l.Size))
	case s.sum != nil && t.sum != nil && !bytes.Equal(s.sum[:], t.sum[:]):
		p.differs("content", e.Path)
	}
}

// known is an entry without the attributes of which another one says nothing.
func known(e, other *rec.Entry) *rec.Entry {
	if len(other.Omitted) == 0 {
		return e
	}
	c := *e
	c.XAttrs = nil
	for _, x := range e.XAttrs {
		there := slices.ContainsFunc(other.XAttrs, func(o rec.XAttr) bool { return o.Name == x.Name })
		if there || !other.Omits(x.Name) {
			c.XAttrs = append(c.XAttrs, x)
		}
	}
	return &c
}

var errQuit = errors.New("nobody wants the rest")
