// Package par is a parallel map over a stream: work is done by several
// goroutines, results come out in the order of the input, and the first error
// wins. What is in flight is bounded in number and in weight.
package par

import (
	"context"
	"errors"
	"sync"
)

// A Map runs do on each value given to Put, in workers goroutines, and hands
// the results to emit, in the order of Put, in one goroutine.
type Map[In, Out any] struct {
	do    func(In) (Out, error)
	emit  func(Out) error
	work  chan *job[In, Out]
	order chan *job[In, Out]
	ctx   context.Context
	stop  context.CancelCauseFunc
	wg    sync.WaitGroup

	mu     sync.Mutex
	room   *sync.Cond
	weight int64 // in flight
	limit  int64
}

type job[In, Out any] struct {
	in     In
	out    Out
	weight int64
	done   chan struct{}
}

// errClosed marks an orderly end.
var errClosed = errors.New("closed")

// New starts a Map. At most depth values, and values of at most limit weight in
// sum (or a single heavier one), are between Put and the end of emit.
func New[In, Out any](workers, depth int, limit int64, do func(In) (Out, error), emit func(Out) error) *Map[In, Out] {
	m := &Map[In, Out]{do: do, emit: emit, limit: limit,
		work: make(chan *job[In, Out], depth), order: make(chan *job[In, Out], depth)}
	m.room = sync.NewCond(&m.mu)
	m.ctx, m.stop = context.WithCancelCause(context.Background())
	for range workers {
		m.wg.Add(1)
		go m.worker()
	}
	m.wg.Add(1)
	go m.emitter()
	return m
}

func (m *Map[In, Out]) worker() {
	defer m.wg.Done()
	for j := range m.work {
		if m.ctx.Err() == nil {
			out, err := m.do(j.in)
			if err != nil {
				m.fail(err)
			}
			j.out = out
		}
		close(j.done)
	}
}

func (m *Map[In, Out]) emitter() {
	defer m.wg.Done()
	for j := range m.order {
		<-j.done
		if m.ctx.Err() == nil {
			if err := m.emit(j.out); err != nil {
				m.fail(err)
			}
		}
		m.mu.Lock()
		m.weight -= j.weight
		m.mu.Unlock()
		m.room.Signal()
	}
}

func (m *Map[In, Out]) fail(err error) {
	m.stop(err)
	m.room.Signal()
}

// Put hands in over and waits for room. It returns the first error of do or
// emit, if there was one: then in was not taken. One goroutine calls Put and
// Close.
func (m *Map[In, Out]) Put(in In, weight int64) error {
	m.mu.Lock()
	for m.weight > 0 && m.weight+weight > m.limit && m.ctx.Err() == nil {
		m.room.Wait()
	}
	m.weight += weight
	m.mu.Unlock()
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	j := &job[In, Out]{in: in, weight: weight, done: make(chan struct{})}
	m.order <- j
	m.work <- j
	return nil
}

// Close waits until all that was put is emitted and returns the first error.
func (m *Map[In, Out]) Close() error {
	close(m.work)
	close(m.order)
	m.wg.Wait()
	m.stop(errClosed)
	if err := context.Cause(m.ctx); err != errClosed {
		return err
	}
	return nil
}
