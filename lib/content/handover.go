package content

import (
	"fmt"
	"math/bits"
	"sync"

	"preserve/lib/rec"
)

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
func (s *sequence) complete(h *shelf, e *rec.Entry) (lost *Loss, err error) {
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
		if b.lost != nil {
			return b.lost, nil
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
	if b.lost != nil {
		return s.out.Lost(s.file, *b.lost, true)
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
	for !b.here && b.lost == nil {
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
