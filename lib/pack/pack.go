// Package pack is many sealed blobs as one object with a list of them, and
// index segments, which are such lists of many packs, sorted by id.
//
// A pack is a valid sealed stream of records in canonical form:
//
//	head   kind sealed, order loose, 16 random bytes as nonce
//	…      session and blob records, each session before its first use
//	toc    one Entry for each of them, in order of offset
//	end    entries: the number of those; bytes: the sum of the blobs' data
//
// Its name is SHA-256(head record ‖ toc record). The random nonce makes sure
// that a name never comes again with other bytes. The format is specified in
// docs/format/repository.md; this package is its only reader and writer. It
// knows no files: it writes to an io.Writer and reads from an io.ReaderAt.
package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// Limits of a pack.
const (
	MaxSize    = math.MaxUint32 // bytes
	MaxEntries = 1 << 18        // records, so that the toc stays within its limit
	// KindSession is the kind of a session record's entry and row; its id is the
	// SHA-256 of the session's data. Kinds below it are a blob's.
	KindSession = 10
)

// RowSize is the size of an entry of a toc and of a row of a segment.
const RowSize = 48

// Errors of this package; match them with errors.Is.
var (
	// ErrDamaged is returned for bytes that are not what a writer of this
	// format wrote.
	ErrDamaged = errors.New("damaged")
	// ErrVersion is returned for what a later version of the format allows.
	ErrVersion = errors.New("of a newer version of Preserve: upgrade")
	// ErrFull is returned by a Writer that takes no further record.
	ErrFull = errors.New("pack is full")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An Entry is one record of a pack, as the toc lists it.
type Entry struct {
	ID     id.ID
	Offset uint32 // of the whole record, in the pack
	Length uint32
	CRC    uint32 // a blob's own (rec.Blob.Sum); of a session: over its data
	Kind   uint8
}

func (e *Entry) append(b []byte) []byte {
	b = append(b, e.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, e.Offset)
	b = binary.BigEndian.AppendUint32(b, e.Length)
	b = binary.BigEndian.AppendUint32(b, e.CRC)
	return append(b, e.Kind, 0, 0, 0)
}

// ParseToc reads the rows of a toc. Offsets must ascend without overlap, kinds
// be known, padding be zero; anything else is ErrDamaged.
func ParseToc(rows []byte) ([]Entry, error) {
	if len(rows)%RowSize != 0 || len(rows)/RowSize > MaxEntries {
		return nil, fmt.Errorf("toc of %d bytes: %w", len(rows), ErrDamaged)
	}
	list := make([]Entry, 0, len(rows)/RowSize)
	free := uint64(headLen)
	for i := 0; len(rows) > 0; i++ {
		e := Entry{
			ID:     id.ID(rows[:32]),
			Offset: binary.BigEndian.Uint32(rows[32:]),
			Length: binary.BigEndian.Uint32(rows[36:]),
			CRC:    binary.BigEndian.Uint32(rows[40:]),
			Kind:   rows[44],
		}
		if e.Kind > KindSession || rows[45]|rows[46]|rows[47] != 0 || e.Length == 0 || uint64(e.Offset) != free || e.ID.IsZero() {
			return nil, fmt.Errorf("row %d of the toc: %w", i, ErrDamaged)
		}
		free += uint64(e.Length)
		list = append(list, e)
		rows = rows[RowSize:]
	}
	return list, nil
}

// appendToc is the inverse of ParseToc.
func appendToc(b []byte, list []Entry) []byte {
	for i := range list {
		b = list[i].append(b)
	}
	return b
}

// headLen is the length of a pack's head record, which is always the same.
var headLen = len(encode(&rec.Head{Kind: rec.Sealed, Order: rec.Loose, Nonce: make([]byte, rec.NonceSize)}))

// encode returns the canonical bytes of a record that is known to be valid.
func encode(v rec.Record) []byte {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	if w.Write(v) != nil || w.Flush() != nil {
		return nil
	}
	return b.Bytes()
}

// A Writer writes one pack. It is not safe for concurrent use.
type Writer struct {
	w        *rec.Writer
	tee      *tee
	list     []Entry
	sessions map[id.ID]bool
	data     uint64
	err      error
}

// tee hashes what passes while on is set.
type tee struct {
	w   io.Writer
	sum hash.Hash
	on  bool
}

func (t *tee) Write(p []byte) (int, error) {
	if t.on {
		t.sum.Write(p)
	}
	return t.w.Write(p)
}

// NewWriter begins a pack on w. The nonce must be random: it is what makes the
// pack's name unique.
func NewWriter(w io.Writer, nonce [rec.NonceSize]byte) (*Writer, error) {
	t := &tee{w: w, sum: sha256.New()}
	p := &Writer{w: rec.NewWriter(t), tee: t, sessions: map[id.ID]bool{}}
	p.hashed(&rec.Head{Kind: rec.Sealed, Order: rec.Loose, Nonce: nonce[:]})
	return p, p.err
}

// hashed writes a record that is a part of the pack's name.
func (p *Writer) hashed(v rec.Record) {
	p.flush()
	p.tee.on = true
	p.write(v)
	p.flush()
	p.tee.on = false
}

func (p *Writer) write(v rec.Record) {
	if p.err == nil {
		p.err = p.w.Write(v)
	}
}

func (p *Writer) flush() {
	if p.err == nil {
		p.err = p.w.Flush()
	}
}

// add appends a record and its entry.
func (p *Writer) add(v rec.Record, e Entry) error {
	if p.err != nil {
		return p.err
	}
	at := p.w.Offset()
	if len(p.list) == MaxEntries || at > MaxSize-3*rec.MaxRecord {
		return ErrFull
	}
	if p.write(v); p.err != nil {
		return p.err
	}
	e.Offset, e.Length = uint32(at), uint32(p.w.Offset()-at)
	p.list = append(p.list, e)
	return nil
}

// HasSession reports whether the session sid was written.
func (p *Writer) HasSession(sid id.ID) bool { return p.sessions[sid] }

// Session appends a session, unless the pack has it already.
func (p *Writer) Session(s *rec.Session) error {
	sid := SID(s)
	if p.sessions[sid] {
		return p.err
	}
	if err := p.add(s, Entry{ID: sid, CRC: crc32.Checksum(s.Data, castagnoli), Kind: KindSession}); err != nil {
		return err
	}
	p.sessions[sid] = true
	return nil
}

// Blob appends a blob, whose session must have been written and whose CRC must
// have been checked. The blob remains the caller's.
func (p *Writer) Blob(b *rec.Blob) error {
	if !p.sessions[b.SID] {
		return fmt.Errorf("blob %s before its session %s: %w", b.ID.Short(), b.SID.Short(), rec.ErrAbsent)
	}
	if err := p.add(b, Entry{ID: b.ID, CRC: b.CRC, Kind: b.Kind}); err != nil {
		return err
	}
	p.data += uint64(len(b.Data))
	return nil
}

// Size returns the number of bytes written.
func (p *Writer) Size() int64 { return p.w.Offset() }

// Entries returns what was written, in order. It is the Writer's until Close.
func (p *Writer) Entries() []Entry { return p.list }

// Close ends the pack and returns its name. The underlying writer stays open.
func (p *Writer) Close() (name id.ID, err error) {
	p.hashed(&rec.Toc{Rows: appendToc(nil, p.list)})
	p.write(&rec.End{Entries: uint64(len(p.list)), Bytes: p.data})
	p.flush()
	if p.err != nil {
		return id.ID{}, p.err
	}
	p.tee.sum.Sum(name[:0])
	return name, nil
}

// SID returns the name of a session.
func SID(s *rec.Session) id.ID { return sha256.Sum256(s.Data) }

// ParseRecord reads the record that an entry or row points to: one blob or
// session, canonical, with the id and kind expected and a checksum that holds.
// Slices of the result are parts of raw.
func ParseRecord(raw []byte, want id.ID, kind uint8) (rec.Record, error) {
	if kind == KindSession {
		s := &rec.Session{}
		if err := parse(raw, "\x82\xa1t\xa7session", s); err != nil {
			return nil, err
		}
		if SID(s) != want {
			return nil, fmt.Errorf("session %s: its bytes are others: %w", want.Short(), ErrDamaged)
		}
		return s, nil
	}
	b := &rec.Blob{}
	prefix := "\x87\xa1t\xa4blob"
	if kind == rec.KindSnapshot {
		prefix = "\x88\xa1t\xa4blob"
	}
	if err := parse(raw, prefix, b); err != nil {
		return nil, err
	}
	switch {
	case b.ID != want || b.Kind != kind:
		return nil, fmt.Errorf("blob %s of kind %d: another is in its place: %w", want.Short(), kind, ErrDamaged)
	case b.Sum() != b.CRC:
		return nil, fmt.Errorf("blob %s: its checksum does not hold: %w", want.Short(), ErrDamaged)
	}
	return b, nil
}

func parse(raw []byte, prefix string, v rec.Record) error {
	if len(raw) > rec.MaxRecord || !bytes.HasPrefix(raw, []byte(prefix)) {
		return fmt.Errorf("another record is in its place: %w", ErrDamaged)
	}
	if err := rec.Decode(wire.NewCursor(raw, true), v, true); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
