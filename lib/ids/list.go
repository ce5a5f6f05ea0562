package ids

import (
	"io"
	"iter"
	"math/bits"
	"sort"
	"sync"

	"preserve/lib/id"
)

// A List is sorted, distinct ids, in memory or behind an io.ReaderAt. It does not
// change, and may be used by many goroutines until it is closed. A nil List is
// empty.
type List struct {
	mem   []id.ID
	at    io.ReaderAt // nil if they are in mem
	n     int
	close func() error
}

// NewList returns the List of the n ids that begin at's bytes, 32 bytes each,
// sorted and distinct: if they are not, Has may be wrong about any of them. Close
// does not close at.
func NewList(at io.ReaderAt, n int) *List { return &List{at: at, n: n} }

// Len returns the number of ids.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return l.n
}

// window is how many ids are read at once: two of the pages of package cache at
// most.
const window = 64

var windows = sync.Pool{New: func() any { return new([window * id.Size]byte) }}

// Has reports whether i is in l. Ids are hashes, so where one stands can be
// computed nearly: of ten million on disk four windows are read. Whatever they
// are, it is no more than twice what halving would take. An error is that of the
// io.ReaderAt.
func (l *List) Has(i id.ID) (bool, error) {
	if l == nil || l.n == 0 {
		return false, nil
	}
	if l.at == nil {
		k := sort.Search(l.n, func(k int) bool { return compare(l.mem[k], i) >= 0 })
		return k < l.n && l.mem[k] == i, nil
	}
	room := windows.Get().(*[window * id.Size]byte)
	defer windows.Put(room)
	lo, hi := 0, l.n // it is in [lo, hi), between these two:
	first, last := uint64(0), ^uint64(0)
	key := prefix(&i)
	for step := 0; lo < hi; step++ {
		guess := lo + (hi-lo)/2
		if step < 4 || step%2 == 0 {
			guess = lo + between(first, last, key, hi-lo)
		}
		from := max(lo, min(guess-window/2, hi-window))
		n := min(window, hi-from)
		buf := room[:n*id.Size]
		if _, err := l.at.ReadAt(buf, int64(from)*id.Size); err != nil {
			return false, noEOF(err)
		}
		nth := func(k int) id.ID { return id.ID(buf[k*id.Size:]) }
		a, b := nth(0), nth(n-1)
		switch {
		case compare(i, a) < 0:
			hi, last = from, prefix(&a)
		case compare(i, b) > 0:
			lo, first = from+n, prefix(&b)
		default:
			k := sort.Search(n, func(k int) bool { return compare(nth(k), i) >= 0 })
			return k < n && nth(k) == i, nil
		}
	}
	return false, nil
}

// noEOF is the error of a read that must not meet the end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// between returns where in n places key stands, if those from first to last are
// evenly spread over them.
func between(first, last, key uint64, n int) int {
	if key <= first || last <= first {
		return 0
	}
	if key >= last {
		return n - 1
	}
	hi, lo := bits.Mul64(key-first, uint64(n))
	q, _ := bits.Div64(hi, lo, last-first) // below n, since key-first is below the divisor
	return min(int(q), n-1)
}

// All returns the ids in order. The error is that of the io.ReaderAt; nothing
// comes behind it.
func (l *List) All() iter.Seq2[id.ID, error] {
	return func(yield func(id.ID, error) bool) {
		if l == nil {
			return
		}
		if l.at == nil {
			for _, i := range l.mem {
				if !yield(i, nil) {
					return
				}
			}
			return
		}
		var room [1024 * id.Size]byte
		for k := 0; k < l.n; {
			buf := room[:min(len(room), (l.n-k)*id.Size)]
			if _, err := l.at.ReadAt(buf, int64(k)*id.Size); err != nil {
				yield(id.ID{}, noEOF(err))
				return
			}
			for ; len(buf) > 0; buf, k = buf[id.Size:], k+1 {
				if !yield(id.ID(buf[:id.Size]), nil) {
					return
				}
			}
		}
	}
}

// Close gives up memory and disk. A closed List is empty.
func (l *List) Close() error {
	if l == nil {
		return nil
	}
	c := l.close
	l.mem, l.at, l.n, l.close = nil, nil, 0, nil
	if c == nil {
		return nil
	}
	return c()
}
