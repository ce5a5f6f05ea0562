package walk

import (
	"errors"
	"fmt"
	"math/bits"
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
	// Lost says that content of file e cannot be had, since blob or page i is
	// missing. If the file was not begun, nothing more comes of it, not even
	// Entry. Else the rest of its content follows, and Done; after a page that is
	// missing it does not, but what comes next is Gap.
	Lost(e *rec.Entry, i id.ID, begun bool) error
	// Done ends a file; e is its last piece, with the size and verdict that
	// count.
	Done(e *rec.Entry) error
	// Gap, Orphan and End are as in a Sink, each in its place.
	Gap(first page.Key, next *page.Key, i id.ID) error
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
	lost bool
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

func (s *sequence) Gap(first page.Key, next *page.Key, i id.ID) error {
	return s.put(func() error {
		file := s.file
		s.file, s.leave = nil, false
		if file != nil {
			if err := s.out.Lost(file, i, true); err != nil {
				return err
			}
		}
		return s.out.Gap(first, next, i)
	})
}

func (s *sequence) Orphan(e *rec.Entry) error {
	return s.put(func() error { return s.out.Orphan(e) })
}

func (s *sequence) End(e *rec.End) error {
	return s.put(func() error { return s.out.End(e) })
}

func (s *sequence) Missing(p *Page, ref int, _ id.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.State.(*shelf).blobs[ref].lost = true
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
	if s.stopped || b.here || b.lost || b.uses == 0 {
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

// handOver hands what is queued to out, until nothing more comes.
func (s *sequence) handOver() error {
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed && !s.stopped {
			s.wait()
		}
		if s.stopped {
			s.mu.Unlock()
			return errStopped
		}
		if len(s.queue) == 0 {
			s.mu.Unlock()
			return nil
		}
		f := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.mu.Unlock()
		s.change.Broadcast()
		if err := f(); err != nil {
			return err
		}
	}
}

// wait waits for more, and lets all others go on.
func (s *sequence) wait() {
	s.idle = true
	s.change.Broadcast()
	for s.idle && !s.closed && !s.stopped {
		s.change.Wait()
	}
}

// entries hands over a page.
func (s *sequence) entries(h *shelf) error {
	for _, e := range h.page.Entries {
		if err := s.entry(h, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *sequence) entry(h *shelf, e *rec.Entry) error {
	if e.Off == 0 {
		s.file, s.leave = nil, false
	}
	lost, err := s.complete(h, e)
	if err != nil {
		return err
	}
	if s.leave || lost != nil && e.Off == 0 {
		s.release(h, e.Extents)
		if s.leave {
			return nil
		}
		s.leave = e.More
		return s.out.Lost(e, *lost, false)
	}
	if e.Off == 0 {
		if err := s.out.Entry(e); err != nil {
			return err
		}
	}
	if e.Type != rec.File {
		return nil
	}
	if s.file == nil {
		s.file = e
	}
	if err := s.content(h, e); err != nil || e.More {
		return err
	}
	s.file = nil
	return s.out.Done(e)
}

// complete waits until all data of a record is there, unless it is too much,
// and returns the first blob of it that is known to be lost.
func (s *sequence) complete(h *shelf, e *rec.Entry) (lost *id.ID, err error) {
	var sum int64
	for _, x := range e.Extents {
		if !x.Hole {
			sum += int64(x.Len)
		}
	}
	if sum > s.whole || s.leave {
		return nil, nil
	}
	for _, x := range e.Extents {
		if x.Hole {
			continue
		}
		b, err := s.blob(h, x.N)
		if err != nil {
			return nil, err
		}
		if b.lost {
			return &h.page.Refs[x.N], nil
		}
	}
	return nil, nil
}

// content hands over what a record holds.
func (s *sequence) content(h *shelf, e *rec.Entry) error {
	at := int64(e.Off)
	for i, x := range e.Extents {
		var err error
		if x.Hole {
			err = s.out.Hole(at, int64(x.Len))
		} else {
			err = s.extent(h, x, at)
			s.release(h, e.Extents[i:i+1])
		}
		if err != nil {
			return err
		}
		at += int64(x.Len)
	}
	return nil
}

func (s *sequence) extent(h *shelf, x rec.Extent, at int64) error {
	b, err := s.blob(h, x.N)
	if err != nil {
		return err
	}
	if b.lost {
		return s.out.Lost(s.file, h.page.Refs[x.N], true)
	}
	if b.data != nil {
		return s.out.Data(at, b.data[x.Off:x.Off+x.Len])
	}
	if cap(s.scratch) < int(x.Len) {
		s.scratch = make([]byte, x.Len)
	}
	p := s.scratch[:x.Len]
	if _, err := s.spool.ReadAt(p, b.off+int64(x.Off)); err != nil {
		return err
	}
	return s.out.Data(at, p)
}

// blob waits for a blob and returns what is known of it.
func (s *sequence) blob(h *shelf, ref uint64) (held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &h.blobs[ref]
	for !b.here && !b.lost {
		if s.stopped {
			return held{}, errStopped
		}
		if s.closed {
			return held{}, fmt.Errorf("%w: data blob %s has not come", ErrIncomplete, h.page.Refs[ref].Short())
		}
		s.wait()
	}
	return *b, nil
}

// release counts uses down, and gives up the blobs that have none left.
func (s *sequence) release(h *shelf, extents []rec.Extent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range extents {
		if x.Hole {
			continue
		}
		b := &h.blobs[x.N]
		if b.uses--; b.uses > 0 || !b.here {
			continue
		}
		if b.data == nil {
			s.spool.Free(b.off, int64(b.n))
			continue
		}
		s.held -= b.n
		giveBack(b.data)
		b.data = nil
	}
	s.change.Broadcast()
}

// memories has a pool for each power of two.
var memories [32]sync.Pool

// memory returns an empty slice with room for n bytes.
func memory(n int) []byte {
	class := bits.Len(uint(max(n, 1) - 1))
	if b, ok := memories[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<class)
}

func giveBack(b []byte) {
	memories[bits.Len(uint(cap(b)))-1].Put(&b)
}
