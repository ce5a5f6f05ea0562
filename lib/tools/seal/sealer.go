package seal

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"preserve/lib/bounds"
	"preserve/lib/box"
	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

// inFlight bounds the bytes of chunks between reading and writing.
const inFlight = 10 << 20

// An item goes through the parallel map: a chunk, or the entries of a page.
type item struct {
	chunk   *rec.Chunk
	entries []*rec.Entry

	id   id.ID     // the chunk's
	blob *rec.Blob // nil if it need not be sent
	data *[]byte   // its memory

	// Of a page:
	keep  int // chunks that stay
	sofar sofar
}

// sofar is what a snapshot says of the tree up to a cut, beside the tree.
type sofar struct {
	entries, bytes uint64
	users, groups  []rec.Name // never changed, only added to
}

type sealer struct {
	box    *box.Sealer
	bounds func(roots []string) *bounds.Bounds
	in     *rec.Reader
	out    *rec.Writer
	opts   options
	env    *tool.Env
	key    *key.Key
	stored *stored // what is in the repository already

	// The reading goroutine's.
	head    *rec.Head
	check   page.Checker
	entries []*rec.Entry
	chunks  []int // lengths of those that can be named
	names   rec.Names
	end     *rec.End

	// The emitting goroutine's.
	ids    []id.ID // of the chunks that can be named
	tree   page.Tree
	wire   *wire.Writer
	blobs  uint64 // sent
	notes  *notes // for the next run
	idFile *idFile
	closed time.Time // the last checkpoint
	aside  bool      // what is sealed now is part of a checkpoint only

	mu   sync.RWMutex
	sent id.Set

	buffers sync.Pool
	sealed  atomic.Uint64 // bytes of blobs' data sent
}

func newSealer(env *tool.Env, k *key.Key, b *box.Sealer, in *rec.Reader, out *rec.Writer, o options) (*sealer, error) {
	cut, ok := k.Cut()
	if !ok {
		return nil, fmt.Errorf("a %s key cannot seal", k.Kind())
	}
	group, pages := cut.Group(), cut.Page()
	s := &sealer{box: b, in: in, out: out, opts: o, env: env, key: k, wire: wire.NewWriter()}
	s.bounds = func(roots []string) *bounds.Bounds { return bounds.New(group.Bytes(), pages.Bytes(), roots) }
	s.tree.Seal = s.metadata
	s.tree.MaxChildren, s.tree.MaxBytes = bounds.MaxRefs, bounds.MaxBytes
	return s, nil
}

// progress is what a tick says to whoever stores the stream: sealed bytes, which he counts
// himself, and nothing of files and their plaintext.
func (s *sealer) progress() (files, bytes uint64) { return 0, s.sealed.Load() }

// run seals the whole stream.
func (s *sealer) run(workers int) (err error) {
	if s.head, err = s.in.Head(); err != nil {
		return err
	}
	if s.head.Chunker == nil {
		return s.in.Wrap(fmt.Errorf("%w: it was not cut under a key: put pv-chunk -k KEY before pv-seal", errUncut))
	}
	s.tree.Begins = s.bounds(rec.Paths(s.head.Roots)).IndexBegins
	if s.opts.cache != "" {
		cut, _ := s.key.Cut() // newSealer has asked
		secret := cut.Cache()
		s.stored.open(s.opts.cache, s.head.Base, secret, s.key.ID())
		s.notes = newNotes(s.env, s.opts.cache, secret, cache.JobOf(s.head, s.key.ID()), s.head)
		defer s.notes.close()
	}
	s.closed = time.Now()
	if err := s.out.Write(&rec.Head{Kind: rec.Sealed, Order: rec.Up, Base: s.head.Base}); err != nil {
		return err
	}
	if err := s.out.Write(&rec.Session{Data: s.box.Session()}); err != nil {
		return err
	}
	m := par.New(workers, 256, inFlight, s.seal, s.emit)
	err = s.read(m)
	if cerr := m.Close(); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	return s.finish()
}

// read takes records up to the end and hands chunks and pages to m.
func (s *sealer) read(m *par.Map[*item, *item]) error {
	for {
		v, err := s.in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Chunk:
			err = s.chunk(m, v)
		case *rec.Entry:
			err = s.in.Wrap(s.entry(v))
		case *rec.Cut:
			err = s.cut(m, v)
		case *rec.Missing:
			err = s.in.Wrap(fmt.Errorf("blob %s: something of the content is lost: only pv-chunk reads such a stream", v.ID.Short()))
		case *rec.Names:
			s.names.Users = append(s.names.Users, v.Users...)
			s.names.Groups = append(s.names.Groups, v.Groups...)
		case *rec.Tick:
			err = s.out.Pulse(s.progress())
		case *rec.End:
			s.end = v
			s.names.Users = append(s.names.Users, v.Users...)
			s.names.Groups = append(s.names.Groups, v.Groups...)
			err = s.complete()
		}
		if err != nil {
			return err
		}
	}
}

// chunk hands a chunk over to be named and sealed.
func (s *sealer) chunk(m *par.Map[*item, *item], c *rec.Chunk) error {
	switch n := len(s.chunks); {
	case n >= rec.MaxRefs:
		return s.in.Wrap(fmt.Errorf("%w: more than %d chunks can be named", errStream, rec.MaxRefs))
	case c.N != uint64(n):
		return s.in.Wrap(fmt.Errorf("%w: chunk %d comes where chunk %d belongs", errStream, c.N, n))
	}
	n := len(c.Data)
	s.chunks = append(s.chunks, n)
	return m.Put(&item{chunk: c}, int64(n))
}

// entry checks an entry and keeps it until the page is cut.
func (s *sealer) entry(e *rec.Entry) error {
	if err := s.check.Next(e); err != nil {
		return err
	}
	for i, x := range e.Extents {
		if x.Hole {
			continue
		}
		if !x.ID.IsZero() {
			if len(s.head.Base) == 0 {
				return fmt.Errorf("entry %s: %w: extent %d names a blob of a repository, and the stream rests on no snapshot there", rec.Quote(e.Path), errStream, i)
			}
			continue
		}
		if x.N >= uint64(len(s.chunks)) {
			return fmt.Errorf("entry %s: %w: extent %d names chunk %d, and only %d can be named", rec.Quote(e.Path), errStream, i, x.N, len(s.chunks))
		}
		if n := s.chunks[x.N]; x.Off+x.Len > uint64(n) { // CheckContent has bounded both
			return fmt.Errorf("entry %s: %w: extent %d ends at byte %d of a chunk of %d", rec.Quote(e.Path), errStream, i, x.Off+x.Len, n)
		}
	}
	if len(s.entries) == bounds.MaxEntries {
		return fmt.Errorf("%w: more than %d entries without a cut", errStream, bounds.MaxEntries)
	}
	s.entries = append(s.entries, e)
	return nil
}

// cut hands the entries of a page over, and lets chunks go.
func (s *sealer) cut(m *par.Map[*item, *item], c *rec.Cut) error {
	switch {
	case len(s.entries) == 0:
		return s.in.Wrap(fmt.Errorf("%w: a cut without entries before it", errStream))
	case c.Keep > uint64(len(s.chunks)):
		return s.in.Wrap(fmt.Errorf("%w: a cut keeps %d chunks, and only %d can be named", errStream, c.Keep, len(s.chunks)))
	}
	keep := int(c.Keep)
	err := m.Put(&item{entries: s.entries, keep: keep, sofar: sofar{s.check.Entries, s.check.Bytes, s.names.Users, s.names.Groups}}, 1)
	s.entries = nil
	s.chunks = append(s.chunks[:0], s.chunks[len(s.chunks)-keep:]...)
	return err
}

// complete checks what must be true when the end record came.
func (s *sealer) complete() error {
	switch {
	case len(s.entries) > 0 || len(s.chunks) > 0:
		return s.in.Wrap(fmt.Errorf("%w: entries or chunks behind the last cut, or kept by it", errStream))
	case s.check.Entries == 0:
		return s.in.Wrap(fmt.Errorf("%w: there is nothing to back up: no entry came", errStream))
	}
	return s.check.Finish()
}

// seal names a chunk and, unless it need not be sent, seals it. Workers run it.
func (s *sealer) seal(it *item) (*item, error) {
	if it.chunk == nil {
		return it, nil
	}
	defer it.chunk.Free()
	sum := box.SumOf(nil, it.chunk.Data)
	it.id = s.box.Name(rec.KindData, nil, it.chunk.Data)
	s.mu.RLock()
	sent := s.sent.Has(it.id)
	s.mu.RUnlock()
	if sent || s.stored.has(it.id) {
		return it, nil
	}
	buf, ok := s.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	b, err := s.blob((*buf)[:0], sum, rec.KindData, it.id, nil, it.chunk.Data)
	if err != nil {
		return nil, err
	}
	*buf = b.Data
	it.blob, it.data = b, buf
	return it, nil
}

// blob seals a blob that has been named into dst, and checks that what will be sent is what
// was to be sealed: sum is of before it was named. The record's checksum is made before that
// check, so pv-put finds what changes after it.
func (s *sealer) blob(dst []byte, sum box.Sum, kind uint8, i id.ID, refs, plain []byte) (*rec.Blob, error) {
	data, err := s.box.Seal(dst, kind, i, refs, plain)
	if err != nil {
		return nil, err
	}
	b := &rec.Blob{ID: i, Kind: kind, SID: s.box.SID(), Refs: refs, Data: data}
	if kind == rec.KindSnapshot {
		b.Sig = s.box.Sign(i)
	}
	b.CRC = b.Sum()
	if err := s.box.Check(sum, kind, i, refs, data); err != nil {
		return nil, &tool.Hint{Err: fmt.Errorf("blob %s: %w", i, err), Text: altered}
	}
	return b, nil
}

// altered is what to do about box.ErrAltered.
const altered = "make the backup again; if this comes back, test the memory of this machine, and try another --compression"

// emit takes the results in order.
func (s *sealer) emit(it *item) error {
	if it.entries != nil {
		return s.page(it)
	}
	s.ids = append(s.ids, it.id)
	if it.blob == nil {
		return nil
	}
	err := s.write(it.blob)
	s.buffers.Put(it.data)
	it.blob, it.data = nil, nil
	return err
}

// write sends a blob that was not sent yet.
func (s *sealer) write(b *rec.Blob) error {
	s.mu.Lock()
	fresh := s.sent.Add(b.ID)
	s.mu.Unlock()
	if !fresh {
		return nil
	}
	if err := s.out.Write(b); err != nil {
		return err
	}
	s.blobs++
	s.sealed.Add(uint64(len(b.Data)))
	return nil
}

// page turns entries into a page: chunk numbers become references.
func (s *sealer) page(it *item) error {
	entries := it.entries
	var refs page.Refs
	for _, e := range entries {
		for i := range e.Extents {
			x := &e.Extents[i]
			switch {
			case x.Hole:
				continue
			case x.ID.IsZero():
				x.ID = s.ids[x.N]
			}
			x.N, x.ID = refs.Index(x.ID), id.ID{}
		}
	}
	s.ids = append(s.ids[:0], s.ids[len(s.ids)-it.keep:]...)
	s.wire.Reset()
	page.Encode(s.wire, entries)
	plain := s.wire.Bytes()
	first := page.KeyOf(entries[0])
	switch {
	case len(refs.Bytes) > bounds.MaxRefs*id.Size:
		return fmt.Errorf("page at %s: %w: more than %d chunks", first, errStream, bounds.MaxRefs)
	case len(plain) > bounds.MaxBytes && len(entries) > 1, len(plain) > page.MaxPlain:
		return fmt.Errorf("page at %s: %w: %d bytes of entries", first, errStream, len(plain))
	}
	i, err := s.metadata(rec.KindPage, refs.Bytes, plain)
	if err != nil {
		return err
	}
	s.notes.page(refs.Bytes, entries)
	if err := s.tree.Add(first, i); err != nil {
		return err
	}
	return s.checkpoint(&it.sofar)
}

// metadata seals and sends a page or index page.
func (s *sealer) metadata(kind uint8, refs, plain []byte) (id.ID, error) {
	sum := box.SumOf(refs, plain)
	i := s.box.Name(kind, refs, plain)
	if !s.aside {
		s.notes.reach(i)
	}
	if s.sent.Has(i) || s.stored.hasMeta(i) { // only this goroutine adds
		return i, nil
	}
	b, err := s.blob(nil, sum, kind, i, refs, plain)
	if err != nil {
		return i, err
	}
	return i, s.write(b)
}
