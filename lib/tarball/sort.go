package tarball

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"preserve/lib/rec"
	"preserve/lib/spool"
	"preserve/lib/wire"
)

// An item is what the archive says of a path, once.
type item struct {
	seq   uint64
	entry *rec.Entry
	link  bool // a hard link: Archive.links says to what

	at          int64 // of its content
	sparse      bool
	mapAt, mapN int64 // of its map of holes
}

func (a *item) before(b *item) bool {
	if c := rec.ComparePaths(a.entry.Path, b.entry.Path); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

// Sizes of a sorter.
const (
	runBytes = 32 << 20 // of items in memory
	maxRuns  = 64       // that are merged at once
	runAhead = 32 << 10 // read of each of them
)

// A sorter brings items into order: by path, and of one path as they came. What
// is too much for memory is sorted in runs, which are merged when they are read.
type sorter struct {
	items []*item
	bytes int
	limit int // of bytes
	runs  []run
	store *spool.Spool
	wire  *wire.Writer
}

// A run is items in order, from…to of the store.
type run struct{ from, to int64 }

func newSorter(limit int) *sorter {
	return &sorter{limit: limit, store: spool.New(1 << 20), wire: wire.NewWriter()}
}

// add takes an item.
func (s *sorter) add(it *item) error {
	s.items = append(s.items, it)
	s.bytes += it.size()
	if s.bytes < s.limit {
		return nil
	}
	return s.flush()
}

// size is about what an item takes in memory.
func (it *item) size() int {
	e := it.entry
	n := 512 + len(e.Path) + len(e.Target)
	for _, x := range e.XAttrs {
		n += 48 + len(x.Name) + len(x.Value)
	}
	return n
}

// flush makes a run of the items in memory.
func (s *sorter) flush() error {
	s.sort()
	at := 0
	err := s.write(func() (*item, error) {
		if at == len(s.items) {
			return nil, io.EOF
		}
		at++
		return s.items[at-1], nil
	})
	clear(s.items)
	s.items, s.bytes = s.items[:0], 0
	if err == nil && len(s.runs) == maxRuns {
		err = s.join()
	}
	return err
}

func (s *sorter) sort() {
	slices.SortFunc(s.items, func(a, b *item) int {
		switch {
		case a.before(b):
			return -1
		case b.before(a):
			return 1
		}
		return 0
	})
}

// write makes a run of what next returns.
func (s *sorter) write(next func() (*item, error)) error {
	r := run{from: s.store.Len()}
	w := bufio.NewWriterSize(appender{s.store}, 64<<10)
	for {
		it, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		s.wire.Reset()
		it.encode(s.wire)
		var length [binary.MaxVarintLen64]byte
		_, _ = w.Write(length[:binary.PutUvarint(length[:], uint64(s.wire.Len()))]) // the error stays in w
		if _, err := w.Write(s.wire.Bytes()); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	r.to = s.store.Len()
	s.runs = append(s.runs, r)
	return nil
}

type appender struct{ s *spool.Spool }

func (a appender) Write(p []byte) (int, error) {
	if _, err := a.s.Append(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// join makes one run of all.
func (s *sorter) join() error {
	old := s.runs
	m, err := s.merge(old)
	if err != nil {
		return err
	}
	s.runs = nil
	if err := s.write(m.next); err != nil {
		return err
	}
	for _, r := range old {
		s.store.Free(r.from, r.to-r.from)
	}
	return nil
}

// all returns a function that returns the items in order, and io.EOF behind
// them. No item is added any more; it may be called again for another pass.
func (s *sorter) all() (next func() (*item, error), err error) {
	if len(s.runs) == 0 {
		s.sort()
		at := 0
		return func() (*item, error) {
			if at == len(s.items) {
				return nil, io.EOF
			}
			at++
			return s.items[at-1], nil
		}, nil
	}
	if len(s.items) > 0 {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	m, err := s.merge(s.runs)
	if err != nil {
		return nil, err
	}
	return m.next, nil
}

// A merger reads several runs as one.
type merger []*source

// A source is a run that is being read, and its next item.
type source struct {
	in     *bufio.Reader
	first  *item
	buf    []byte
	cursor *wire.Cursor
}

func (m merger) Len() int           { return len(m) }
func (m merger) Less(i, j int) bool { return m[i].first.before(m[j].first) }
func (m merger) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merger) Push(x any)        { *m = append(*m, x.(*source)) }
func (m *merger) Pop() any {
	x := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return x
}

func (s *sorter) merge(runs []run) (*merger, error) {
	m := &merger{}
	for _, r := range runs {
		src := &source{cursor: wire.NewCursor(nil, false), in: bufio.NewReaderSize(io.NewSectionReader(s.store, r.from, r.to-r.from), runAhead)}
		switch err := src.advance(); err {
		case nil:
			*m = append(*m, src)
		case io.EOF:
		default:
			return nil, err
		}
	}
	heap.Init(m)
	return m, nil
}

func (m *merger) next() (*item, error) {
	if len(*m) == 0 {
		return nil, io.EOF
	}
	src := (*m)[0]
	it := src.first
	switch err := src.advance(); err {
	case nil:
		heap.Fix(m, 0)
	case io.EOF:
		heap.Pop(m)
	default:
		return nil, err
	}
	return it, nil
}

func (s *source) advance() error {
	n, err := binary.ReadUvarint(s.in)
	if err != nil {
		return err
	}
	if uint64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	b := s.buf[:n]
	if _, err := io.ReadFull(s.in, b); err != nil {
		return fmt.Errorf("read temporary file: %w", err)
	}
	if cap(s.buf) > 64<<10 {
		s.buf = nil
	}
	s.cursor.Reset(b, false)
	s.first, err = decodeItem(s.cursor)
	return err
}

// encode appends an item: six numbers, and the entry as a record.
func (it *item) encode(w *wire.Writer) {
	for _, n := range []uint64{it.seq, flag(it.link), uint64(it.at), flag(it.sparse), uint64(it.mapAt), uint64(it.mapN)} {
		w.Uint(n)
	}
	it.entry.Encode(w, rec.Streamed)
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func decodeItem(c *wire.Cursor) (*item, error) {
	it := &item{seq: c.Uint(1<<64 - 1), link: c.Uint(1) == 1, at: int64(c.Uint(rec.MaxSize)), sparse: c.Uint(1) == 1,
		mapAt: int64(c.Uint(rec.MaxSize)), mapN: int64(c.Uint(rec.MaxSize))}
	var err error
	if it.entry, err = rec.DecodeEntry(c, rec.Streamed); err != nil {
		return nil, fmt.Errorf("read temporary file: %w", err)
	}
	return it, nil
}
