package content

import (
	"errors"
	"sync"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/spool"
)

// Ordered takes a verified tree one thing after the other, in path order, from
// one goroutine at a time. An error from any method ends the walk.
type Ordered interface {
	// Snapshot comes first.
	Snapshot(i id.ID, s *snap.Snapshot) error
	// Entry begins an entry. For a file, what follows until Done is its content:
	// Data, Hole and Lost, without a gap between them. Further pieces of a file
	// are no further entries.
	Entry(e *rec.Entry) error
	// Data is what the file holds from at on; b is valid until Data returns.
	Data(at int64, b []byte) error
	// Hole says that the file has a hole of n bytes at at.
	Hole(at, n int64) error
	// Lost says that content of file e cannot be had, since a blob or page is lost. If the file was not begun, nothing more comes of it, not even
	// Entry. Else the rest of its content follows, and Done; after a page that is
	// missing it does not, but what comes next is Gap.
	Lost(e *rec.Entry, l Loss, begun bool) error
	// Done ends a file; e is its last piece, with the size and verdict that
	// count.
	Done(e *rec.Entry) error
	// Gap, Orphan and End are as in a Sink, each in its place.
	Gap(first page.Key, next *page.Key, l Loss) error
	Orphan(e *rec.Entry) error
	End(e *rec.End) error
}

// What InOrder holds of plaintext that came before its turn.
const (
	// holdSoft makes those wait who bring more while there is work in hand.
	holdSoft = 16 << 20
	// holdHard sends more than that to a spool: the blobs that come before the
	// one that is waited for, and those that are used again later in their page.
	holdHard = 64 << 20
	// holdPages bounds the pages that wait while there is work in hand.
	holdPages = 4
)

// errStopped ends the goroutine that hands over, after the walk has failed.
var errStopped = errors.New("the walk has failed")

// InOrder calls run with a Sink that puts what it is given in order, and hands it
// to out. run walks with that sink and returns when the walk has ended; InOrder
// returns when out has been given all of it, with the first error.
//
// A record of a file whose data is at most whole bytes is handed over when all
// of them are there, or known to be missing: then Lost comes before the file is
// begun. With whole 0 a file begins as soon as its turn has come.
//
// Whoever brings data waits while out is at work and enough is held, so that
// opening blobs stays ahead, and not far. Nobody waits while out has nothing to
// do: in whatever order data comes, the walk goes on.
func InOrder(out Ordered, whole int64, run func(Sink) error) error {
	s := &sequence{out: out, whole: whole, spool: spool.New(spool.Block)}
	s.change = sync.NewCond(&s.mu)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.fail(s.handOver())
	}()
	err := run(s)
	s.mu.Lock()
	s.closed, s.stopped = true, err != nil
	s.mu.Unlock()
	s.change.Broadcast()
	<-done
	cerr := s.spool.Close()
	if err == nil && s.err == nil {
		return cerr
	}
	if err == nil {
		err = s.err
	}
	return err
}

// A sequence is a Sink that puts what it is given in order.
type sequence struct {
	out   Ordered
	whole int64
	spool *spool.Spool

	mu      sync.Mutex
	change  *sync.Cond
	queue   []func() error // what is to be handed over
	idle    bool           // out has nothing to do until more comes
	held    int            // bytes of plaintext in memory
	closed  bool           // nothing more comes
	stopped bool           // and what came is not wanted any more
	err     error          // what out returned

	// Of the goroutine that hands over.
	file    *rec.Entry // begun, and not done
	leave   bool       // the file whose pieces come was left out
	scratch []byte
}

// A shelf is what is held for a page: State of a Page.
type shelf struct {
	page  *Page
	blobs []held
}

// A held blob is due, here or lost.
type held struct {
	uses int // that are still to come
	here bool
	lost *Loss
	data []byte // or else, if it is here:
	off  int64  // in the spool
	n    int
}

func (s *sequence) fail(err error) {
	s.mu.Lock()
	if err != errStopped {
		s.err = err
	}
	s.stopped = s.stopped || err != nil
	s.mu.Unlock()
	s.change.Broadcast()
}

// over returns the error for those who bring something that nobody wants.
func (s *sequence) over() error {
	if s.stopped && s.err == nil {
		return errStopped
	}
	return s.err
}

// put queues something to hand over.
func (s *sequence) put(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) >= holdPages && !s.idle && !s.stopped {
		s.change.Wait()
	}
	if s.stopped {
		return s.over()
	}
	s.queue = append(s.queue, f)
	s.idle = false
	s.change.Broadcast()
	return nil
}

func (s *sequence) Snapshot(i id.ID, sn *snap.Snapshot) error { return s.out.Snapshot(i, sn) }

func (s *sequence) Page(p *Page) error {
	h := &shelf{page: p, blobs: make([]held, len(p.Refs))}
	for ref, uses := range p.Uses {
		h.blobs[ref].uses = len(uses)
	}
	p.State = h
	return s.put(func() error { return s.entries(h) })
}

func (s *sequence) Gap(first page.Key, next *page.Key, l Loss) error {
	return s.put(func() error {
		file := s.file
		s.file, s.leave = nil, false
		if file != nil {
			if err := s.out.Lost(file, l, true); err != nil {
				return err
			}
		}
		return s.out.Gap(first, next, l)
	})
}

func (s *sequence) Orphan(e *rec.Entry) error {
	return s.put(func() error { return s.out.Orphan(e) })
}

func (s *sequence) End(e *rec.End) error {
	return s.put(func() error { return s.out.End(e) })
}

func (s *sequence) Missing(p *Page, ref int, l Loss) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.State.(*shelf).blobs[ref].lost = &l
	s.idle = false
	s.change.Broadcast()
	return s.over()
}

func (s *sequence) Data(p *Page, ref int, plain []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held >= holdSoft && !s.idle && !s.stopped {
		s.change.Wait()
	}
	b := &p.State.(*shelf).blobs[ref]
	if s.stopped || b.here || b.lost != nil || b.uses == 0 {
		return s.over()
	}
	if b.n = len(plain); s.held+b.n > holdHard {
		var err error
		if b.off, err = s.spool.Append(plain); err != nil {
			return err
		}
	} else {
		s.held += b.n
		s.mu.Unlock()
		data := append(memory(b.n), plain...)
		s.mu.Lock()
		if b.uses == 0 { // its files were left out meanwhile
			s.held -= b.n
			giveBack(data)
			return s.over()
		}
		b.data = data
	}
	b.here = true
	s.idle = false
	s.change.Broadcast()
	return nil
}
