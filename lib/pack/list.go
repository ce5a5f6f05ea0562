package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// endPrefix begins every end record of a pack: the status is always 0.
const endPrefix = "\x88\xa1t\xa3end\xa6status\x00\xa7entries"

// maxEnd is the most bytes that a pack's end record takes.
const maxEnd = 128

// ReadList reads the list of a pack of size bytes from its end, without reading
// the records: the toc lies before the end record, which says how many entries
// it has. It returns the pack's name, computed from head and toc, and the
// entries in order of offset. What is no whole pack is ErrDamaged.
func ReadList(r io.ReaderAt, size int64) (name id.ID, list []Entry, err error) {
	if size < int64(headLen) || size > MaxSize {
		return name, nil, fmt.Errorf("pack of %d bytes: %w", size, ErrDamaged)
	}
	head := make([]byte, headLen)
	if err := readAt(r, head, 0); err != nil {
		return name, nil, err
	}
	if err := checkHead(head); err != nil {
		return name, nil, err
	}
	tail := make([]byte, min(size-int64(headLen), maxEnd))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return name, nil, err
	}
	end, endLen, err := findEnd(tail)
	if err != nil {
		return name, nil, err
	}
	n := tocLen(end.Entries)
	if end.Entries > MaxEntries || n > size-int64(endLen)-int64(headLen) {
		return name, nil, fmt.Errorf("toc of %d entries: %w", end.Entries, ErrDamaged)
	}
	raw := make([]byte, n)
	at := size - int64(endLen) - n
	if err := readAt(r, raw, at); err != nil {
		return name, nil, err
	}
	toc := &rec.Toc{}
	if err := parse(raw, "\x82\xa1t\xa3toc", toc); err != nil {
		return name, nil, fmt.Errorf("toc: %w", err)
	}
	if list, err = ParseToc(toc.Rows); err != nil {
		return name, nil, err
	}
	if last := lastEnd(list); last != at {
		return name, nil, fmt.Errorf("toc ends at %d, but stands at %d: %w", last, at, ErrDamaged)
	}
	sum := sha256.New()
	sum.Write(head)
	sum.Write(raw)
	sum.Sum(name[:0])
	return name, list, nil
}

func checkHead(raw []byte) error {
	h := &rec.Head{}
	if len(raw) < 2+len(rec.Magic) || string(raw[1:1+len(rec.Magic)]) != rec.Magic {
		return fmt.Errorf("head: %w", ErrDamaged)
	}
	if err := rec.Decode(wire.NewCursor(raw, true), h, true); err != nil {
		return fmt.Errorf("head: %w: %w", ErrDamaged, err)
	}
	return checkPackHead(h)
}

func checkPackHead(h *rec.Head) error {
	if h.Kind != rec.Sealed || h.Order != rec.Loose || h.Meta || len(h.Base) != 0 || len(h.Nonce) != rec.NonceSize {
		return fmt.Errorf("head: not that of a pack: %w", ErrDamaged)
	}
	return nil
}

// findEnd finds the end record that ends tail.
func findEnd(tail []byte) (end *rec.End, length int, err error) {
	at := bytes.LastIndex(tail, []byte(endPrefix))
	if at < 0 {
		return nil, 0, fmt.Errorf("no end record: %w", ErrDamaged)
	}
	end = &rec.End{}
	if err := rec.Decode(wire.NewCursor(tail[at:], true), end, true); err != nil {
		return nil, 0, fmt.Errorf("end record: %w: %w", ErrDamaged, err)
	}
	return end, len(tail) - at, checkEnd(end)
}

func checkEnd(e *rec.End) error {
	if e.Status != 0 || e.Warnings != 0 || len(e.Warned)+len(e.Users)+len(e.Groups) != 0 {
		return fmt.Errorf("end record: not that of a pack: %w", ErrDamaged)
	}
	return nil
}

// tocLen is the length of the toc record of n entries: a map of two, the words
// t, toc, rows, and the header of the bytes.
func tocLen(n uint64) int64 {
	size := int64(n) * RowSize
	head := int64(1 + 2 + 4 + 5)
	switch {
	case size < 1<<8:
		head += 2
	case size < 1<<16:
		head += 3
	default:
		head += 5
	}
	return head + size
}

func lastEnd(list []Entry) int64 {
	if len(list) == 0 {
		return int64(headLen)
	}
	last := list[len(list)-1]
	return int64(last.Offset) + int64(last.Length)
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes at %d, of which %d are there: %w", len(b), off, n, ErrDamaged)
	}
	return err
}

// Check reads a whole pack and compares it with its own list: every record
// canonical, checksums, sessions before their use, toc and end. It returns the
// name and the entries. Damage is ErrDamaged.
func Check(r io.Reader) (name id.ID, list []Entry, err error) {
	c := &checker{r: rec.NewReader(&counter{r: r}, rec.Sealed), sids: map[id.ID]bool{}}
	c.r.Strict()
	h, err := c.r.Head()
	if err == nil {
		err = checkPackHead(h)
	}
	if err != nil {
		return name, nil, damaged(err)
	}
	for {
		v, err := c.r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = c.take(v)
		}
		if err != nil {
			return name, nil, damaged(err)
		}
	}
	if c.end == nil {
		return name, nil, fmt.Errorf("no end record: %w", ErrDamaged)
	}
	sum := sha256.New()
	sum.Write(encode(h))
	sum.Write(encode(&rec.Toc{Rows: appendToc(nil, c.list)}))
	sum.Sum(name[:0])
	return name, c.list, nil
}

// damaged marks what is wrong with a pack's form, and leaves failures to read
// it as they are.
func damaged(err error) error {
	var io *ioError
	if errors.As(err, &io) || errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// A counter marks the errors of the source.
type counter struct{ r io.Reader }

type ioError struct{ error }

func (e *ioError) Unwrap() error { return e.error }

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		err = &ioError{err}
	}
	return n, err
}

type checker struct {
	r    *rec.Reader
	list []Entry
	sids map[id.ID]bool
	data uint64
	toc  bool
	end  *rec.End
}

func (c *checker) take(v rec.Record) error {
	if len(c.list) > MaxEntries || lastEnd(c.list) > MaxSize-2*rec.MaxRecord {
		return c.r.Wrap(fmt.Errorf("too large for a pack: %w", ErrDamaged))
	}
	if _, ok := v.(*rec.End); c.toc && !ok {
		return c.r.Wrap(fmt.Errorf("a record behind the toc: %w", ErrDamaged))
	}
	switch v := v.(type) {
	case *rec.Session:
		sid := SID(v)
		if c.sids[sid] {
			return c.r.Wrap(fmt.Errorf("session %s: %w", sid.Short(), rec.ErrTwice))
		}
		c.sids[sid] = true
		c.add(v, Entry{ID: sid, CRC: crc32.Checksum(v.Data, castagnoli), Kind: KindSession})
	case *rec.Blob:
		defer v.Free()
		if v.Sum() != v.CRC {
			return c.r.Wrap(fmt.Errorf("blob %s: its checksum does not hold: %w", v.ID.Short(), ErrDamaged))
		}
		if !c.sids[v.SID] {
			return c.r.Wrap(fmt.Errorf("blob %s: session: %w", v.ID.Short(), rec.ErrAbsent))
		}
		c.data += uint64(len(v.Data))
		c.add(v, Entry{ID: v.ID, CRC: v.CRC, Kind: v.Kind})
	case *rec.Toc:
		c.toc = true
		if !bytes.Equal(v.Rows, appendToc(nil, c.list)) {
			return c.r.Wrap(fmt.Errorf("the toc does not list what is there: %w", ErrDamaged))
		}
	case *rec.End:
		c.end = v
		if err := checkEnd(v); err != nil {
			return c.r.Wrap(err)
		}
		if !c.toc || v.Entries != uint64(len(c.list)) || v.Bytes != c.data {
			return c.r.Wrap(fmt.Errorf("the end record counts something else: %w", ErrDamaged))
		}
	default:
		return c.r.Wrap(fmt.Errorf("a record that a pack does not have: %w", ErrDamaged))
	}
	return nil
}

// add notes a record; those of a canonical stream follow each other without
// gaps.
func (c *checker) add(v rec.Record, e Entry) {
	var n countWriter
	w := rec.NewWriter(&n)
	_ = w.Write(v) // it was read, so it can be written; to memory nothing fails
	_ = w.Flush()
	e.Offset, e.Length = uint32(lastEnd(c.list)), uint32(n)
	c.list = append(c.list, e)
}

type countWriter int64

func (n *countWriter) Write(p []byte) (int, error) { *n += countWriter(len(p)); return len(p), nil }
