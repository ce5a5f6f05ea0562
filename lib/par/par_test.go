package par

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

func TestOrderAndBounds(t *testing.T) {
	var inFlight, most atomic.Int64
	next := 0
	m := New(4, 8, 50, func(n int) (int, error) {
		most.Store(max(most.Load(), inFlight.Load()))
		time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
		return n * 2, nil
	}, func(n int) error {
		if n != next*2 {
			t.Errorf("emitted %d, want %d", n, next*2)
		}
		next++
		inFlight.Add(-10)
		return nil
	})
	for n := range 2000 {
		if err := m.Put(n, 10); err != nil {
			t.Fatal(err)
		}
		inFlight.Add(10)
	}
	if err := m.Close(); err != nil || next != 2000 {
		t.Fatal(err, next)
	}
	if most.Load() > 70 { // the bound, and what Put had taken but this test not yet counted
		t.Errorf("%d in flight, bound 50", most.Load())
	}
}

func TestHeavyValuePassesAlone(t *testing.T) {
	n := 0
	m := New(2, 4, 10, func(n int) (int, error) { return n, nil }, func(int) error { n++; return nil })
	for range 5 {
		if err := m.Put(1, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil || n != 5 {
		t.Fatal(n, err)
	}
}

func TestFirstErrorStops(t *testing.T) {
	bad := errors.New("bad")
	for name, m := range map[string]*Map[int, int]{
		"do":   New(3, 4, 1<<20, func(n int) (int, error) { return n, map[bool]error{true: bad}[n == 7] }, func(int) error { return nil }),
		"emit": New(3, 4, 1<<20, func(n int) (int, error) { return n, nil }, func(n int) error { return map[bool]error{true: bad}[n == 7] }),
	} {
		var err error
		for n := 0; n < 100000 && err == nil; n++ {
			err = m.Put(n, 1)
		}
		if cerr := m.Close(); !errors.Is(cerr, bad) || !errors.Is(err, bad) {
			t.Errorf("%s: Put %v, Close %v", name, err, cerr)
		}
	}
}
