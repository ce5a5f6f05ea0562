package content

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// A writer is an Ordered that writes down what it is given, content as it is.
type writer struct {
	log  []string
	data []byte // of the file that was begun
	fail string // the method that fails
	slow func() // called with each data
}

var errWriter = errors.New("the disk is full")

func (w *writer) note(method, format string, args ...any) error {
	if w.fail == method {
		return errWriter
	}
	w.log = append(w.log, fmt.Sprintf(format, args...))
	return nil
}

func (w *writer) Snapshot(id.ID, *snap.Snapshot) error { return w.note("snapshot", "snapshot") }
func (w *writer) Entry(e *rec.Entry) error {
	w.data = nil
	return w.note("entry", "entry %s", e.Path)
}
func (w *writer) Data(at int64, b []byte) error {
	if w.slow != nil {
		w.slow()
	}
	if at != int64(len(w.data)) {
		return fmt.Errorf("data at %d behind %d bytes", at, len(w.data))
	}
	w.data = append(w.data, b...)
	if w.fail == "data" {
		return errWriter
	}
	return nil
}
func (w *writer) Hole(at, n int64) error { return w.Data(at, bytes.Repeat([]byte{'-'}, int(n))) }
func (w *writer) Lost(e *rec.Entry, l Loss, begun bool) error {
	w.data = append(w.data, "?????"[:min(5, len(e.Extents)*5)]...)
	return w.note("lost", "lost %s of %s, begun %v", l.ID.Short(), e.Path, begun)
}
func (w *writer) Done(e *rec.Entry) error {
	return w.note("done", "done %s at %d of %d: %s", e.Path, e.Off, e.Size, w.data)
}
func (w *writer) Gap(first page.Key, next *page.Key, _ Loss) error {
	return w.note("gap", "gap %s %v", first, next)
}
func (w *writer) Orphan(e *rec.Entry) error { return w.note("orphan", "orphan %s", page.KeyOf(e)) }
func (w *writer) End(*rec.End) error        { return w.note("end", "end") }

func pageOf(n int, es ...*rec.Entry) *Page {
	refs := make([]byte, n*id.Size)
	for i := range n {
		refs[i*id.Size] = byte(i + 1)
	}
	return NewPage(es, refs)
}

func fileOf(path string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: path, Type: rec.File, Extents: ext}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

func ext(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

func wantLog(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\n\nwant\n%s", g, w)
	}
}

// Blobs that come in the wrong order, and that several files share, come out in
// path order.
func TestInOrder(t *testing.T) {
	p := pageOf(2, &rec.Entry{Path: "d", Type: rec.Dir}, fileOf("d/a", ext(0, 0, 2)), fileOf("d/b", ext(1, 1, 2), rec.Extent{Hole: true, Len: 3}, ext(0, 2, 1)),
		fileOf("d/c"), fileOf("d/e", ext(0, 1, 2)))
	for _, whole := range []int64{0, 100} {
		var w writer
		err := InOrder(&w, whole, func(s Sink) error {
			return errors.Join(s.Snapshot(id.ID{}, nil), s.Page(p), s.Data(p, 1, []byte("xyz")), s.Data(p, 0, []byte("abc")), s.End(&rec.End{}))
		})
		if err != nil {
			t.Fatal(err)
		}
		wantLog(t, w.log, "snapshot", "entry d", "entry d/a", "done d/a at 0 of 2: ab", "entry d/b", "done d/b at 0 of 6: yz---c",
			"entry d/c", "done d/c at 0 of 0: ", "entry d/e", "done d/e at 0 of 2: bc", "end")
	}
}

// What is missing is told before a small file is begun, and in the middle of a
// large one.
func TestInOrderLost(t *testing.T) {
	run := func(s Sink) error {
		p := pageOf(3, fileOf("a", ext(0, 0, 5), ext(1, 0, 5)), fileOf("b", ext(0, 0, 5), ext(2, 0, 5)), fileOf("c", ext(0, 0, 3)))
		return errors.Join(s.Page(p), s.Data(p, 0, []byte("first")), s.Missing(p, 1, Loss{p.Refs[1], ErrMissing}), s.Data(p, 2, []byte("third")))
	}
	var w writer
	if err := InOrder(&w, 10, run); err != nil {
		t.Fatal(err)
	}
	lost := id.ID{2}.Short()
	wantLog(t, w.log, "lost "+lost+" of a, begun false", "entry b", "done b at 0 of 10: firstthird", "entry c", "done c at 0 of 3: fir")
	w = writer{}
	if err := InOrder(&w, 9, run); err != nil {
		t.Fatal(err)
	}
	wantLog(t, w.log, "entry a", "lost "+lost+" of a, begun true", "done a at 0 of 10: first?????", "entry b", "done b at 0 of 10: firstthird", "entry c", "done c at 0 of 3: fir")
}

// A file of several pieces is one file; one that was left out stays out with all
// its pieces, and one that lost a page in the middle is not done.
func TestInOrderPieces(t *testing.T) {
	run := func(lose int, gap bool) func(Sink) error {
		return func(s Sink) error {
			first, second, last := fileOf("h", ext(0, 0, 5)), fileOf("h", ext(0, 0, 5)), fileOf("h", ext(0, 0, 5))
			first.More, second.More, second.Off, last.Off, last.Size = true, true, 5, 10, 15
			for n, e := range []*rec.Entry{first, second, last} {
				p := pageOf(1, e)
				if n == 2 {
					p = pageOf(1, e, fileOf("i", ext(0, 0, 1)))
				}
				switch {
				case gap && n == 1:
					if err := s.Gap(page.KeyOf(e), nil, Loss{id.ID{7}, ErrMissing}); err != nil {
						return err
					}
					continue
				case gap && n == 2:
					p = pageOf(1, fileOf("i", ext(0, 0, 1)))
				}
				if err := s.Page(p); err != nil {
					return err
				}
				if n == lose {
					_ = s.Missing(p, 0, Loss{p.Refs[0], ErrMissing})
				} else if err := s.Data(p, 0, []byte{'a' + byte(n), 'b', 'c', 'd', 'e'}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		lose int
		gap  bool
		want []string
	}{
		{9, false, []string{"entry h", "done h at 10 of 15: abcdebbcdecbcde", "entry i", "done i at 0 of 1: c"}},
		{0, false, []string{"lost " + id.ID{1}.Short() + " of h, begun false", "entry i", "done i at 0 of 1: c"}},
		{1, false, []string{"entry h", "lost " + id.ID{1}.Short() + " of h, begun true", "done h at 10 of 15: abcde?????cbcde", "entry i", "done i at 0 of 1: c"}},
		{9, true, []string{"entry h", "lost " + id.ID{7}.Short() + " of h, begun true", "gap h at 5 <nil>", "entry i", "done i at 0 of 1: c"}},
		{0, true, []string{"lost " + id.ID{1}.Short() + " of h, begun false", "gap h at 5 <nil>", "entry i", "done i at 0 of 1: c"}},
	} {
		var w writer
		if err := InOrder(&w, 100, run(c.lose, c.gap)); err != nil {
			t.Fatal(err)
		}
		wantLog(t, w.log, c.want...)
	}
}

// More than may be held in memory goes to a file, and comes back.
func TestInOrderSpools(t *testing.T) {
	const n, size = 40, 2 << 20
	var twice, once []rec.Extent
	for i := range uint64(n) {
		twice = append(twice, ext(i, 1, size-2))
		once = append(once, ext(i, 0, size))
	}
	p := pageOf(n, fileOf("a", once...), fileOf("b", twice...))
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 1)}, size/2) }
	var s *sequence
	var w counter
	err := InOrder(&w, 0, func(sink Sink) error {
		s = sink.(*sequence)
		if err := s.Page(p); err != nil {
			return err
		}
		for i := range n { // the one that is waited for comes last
			if err := s.Data(p, n-1-i, content(n-1-i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want counter
	for _, e := range p.Entries {
		for _, x := range e.Extents {
			_ = want.Data(0, content(int(x.N))[x.Off:x.Off+x.Len])
		}
	}
	if w.sum != want.sum {
		t.Error("other content came back")
	}
	if s.spool.Len() == 0 || s.held != 0 {
		t.Errorf("%d bytes went to the spool, %d are still held", s.spool.Len(), s.held)
	}
}

// A counter is a writer that keeps a sum of the content only.
type counter struct {
	writer
	sum uint32
}

func (c *counter) Data(_ int64, b []byte) error {
	c.sum = crc32.Update(c.sum, crc32.IEEETable, b)
	return nil
}

// Who brings data ahead of a slow reader waits for it.
func TestInOrderHoldsBack(t *testing.T) {
	const n, size = 64, 1 << 20
	var all []rec.Extent
	for i := range uint64(n) {
		all = append(all, ext(i, 0, size))
	}
	p := pageOf(n, fileOf("a", all...))
	gate := make(chan struct{})
	w := &writer{slow: func() { <-gate }}
	most := 0
	err := InOrder(w, 0, func(sink Sink) error {
		s := sink.(*sequence)
		go func() { // the reader stands still until enough is held
			s.mu.Lock()
			for s.held < holdSoft {
				s.change.Wait()
			}
			s.mu.Unlock()
			close(gate)
		}()
		if err := s.Page(p); err != nil {
			return err
		}
		for i := range n {
			if err := s.Data(p, i, make([]byte, size)); err != nil {
				return err
			}
			s.mu.Lock()
			most = max(most, s.held)
			s.mu.Unlock()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most < holdSoft || most > holdSoft+size {
		t.Errorf("%d bytes were held", most)
	}
}

// An error of who takes ends the walk; one of the walk is returned as it is; and
// a walk that ends without its data is an error, not a hang.
func TestInOrderEnds(t *testing.T) {
	p := pageOf(1, fileOf("a", ext(0, 0, 3)))
	bring := func(s Sink) error {
		for {
			q := pageOf(1, p.Entries...)
			if err := s.Page(q); err != nil {
				return fmt.Errorf("page: %w", err)
			}
			if err := s.Data(q, 0, []byte("abc")); err != nil {
				return err
			}
		}
	}
	for _, method := range []string{"entry", "data", "done"} {
		if err := InOrder(&writer{fail: method}, 0, bring); !errors.Is(err, errWriter) {
			t.Errorf("%s: %v", method, err)
		}
	}
	broken := errors.New("the stream is broken")
	if err := InOrder(&writer{}, 0, func(s Sink) error { _ = s.Page(p); return broken }); err != broken {
		t.Error(err)
	}
	for _, whole := range []int64{0, 10} {
		if err := InOrder(&writer{}, whole, func(s Sink) error { return s.Page(p) }); !errors.Is(err, ErrIncomplete) {
			t.Error(err)
		}
	}
}

// Any tree, its data brought by several goroutines in any order, comes out as it
// does one after the other.
func TestInOrderShuffled(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var pages []*Page
		var blobs [][][]byte
		var want []string
		for n := range 1 + rnd.IntN(8) {
			refs := rnd.IntN(12)
			var plain [][]byte
			for range refs {
				b := make([]byte, 1+rnd.IntN(50))
				for i := range b {
					b[i] = 'a' + byte(rnd.IntN(26))
				}
				plain = append(plain, b)
			}
			var es []*rec.Entry
			for k := range 1 + rnd.IntN(20) {
				e := fileOf(fmt.Sprintf("%d/%03d", n, k))
				content := ""
				for range rnd.IntN(6) {
					if refs == 0 || rnd.IntN(4) == 0 {
						e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: 3})
						content += "---"
						continue
					}
					r := rnd.IntN(refs)
					from := rnd.IntN(len(plain[r]))
					to := from + 1 + rnd.IntN(len(plain[r])-from)
					e.Extents = append(e.Extents, ext(uint64(r), uint64(from), uint64(to-from)))
					content += string(plain[r][from:to])
				}
				e.Size = uint64(len(content))
				es = append(es, e)
				want = append(want, "entry "+e.Path, fmt.Sprintf("done %s at 0 of %d: %s", e.Path, e.Size, content))
			}
			pages = append(pages, pageOf(refs, es...))
			blobs = append(blobs, plain)
		}
		var w writer
		err := InOrder(&w, rnd.Int64N(3)*60, func(s Sink) error {
			var wg sync.WaitGroup
			defer wg.Wait()
			for n, p := range pages {
				if err := s.Page(p); err != nil {
					return err
				}
				order := rnd.Perm(len(blobs[n]))
				for part := range slices.Chunk(order, 4) {
					wg.Go(func() {
						for _, ref := range part {
							if err := s.Data(p, ref, blobs[n][ref]); err != nil {
								t.Error(err)
							}
						}
					})
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		wantLog(t, w.log, want...)
	}
}
