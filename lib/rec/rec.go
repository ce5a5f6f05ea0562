// Package rec is the records of Preserve and the streams that they form.
//
// A stream is a sequence of msgpack maps with short string keys; "t" is the
// record's type. It begins with a head record and ends with an end record. A
// stream that ends without one is a failed stream, never a short one. There are
// three kinds:
//
//	tree     head, entry…, names…, end
//	content  head, (chunk…, entry…, cut)…, names…, end
//	sealed   head, (session | blob | checkpoint | stored | missing | toc)…, end
//
// and in all of them tick, note and fail. The format is specified in
// docs/format/streams.md; this package is its only reader and writer. It knows
// no files and no cryptography.
package rec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode/utf8"

	"preserve/lib/id"
	"preserve/lib/wire"
)

// Version is the stream format that this package reads and writes.
const Version = 1

// Limits, checked before memory is taken (docs/format/streams.md, "Limits").
const (
	MaxPath    = 64 << 10  // bytes of a path or link target
	MaxName    = 4 << 10   // bytes of one name in it
	MaxDepth   = 4096      // directories above each other
	MaxXAttrs  = 1 << 20   // bytes of names and values of one entry's xattrs
	MaxChunk   = 8 << 20   // bytes of a chunk
	MaxRefs    = 65536     // references of a blob
	MaxSealed  = 20 << 20  // bytes of a blob's sealed data
	MaxRecord  = 21 << 20  // bytes of any record
	MaxSmall   = 64 << 10  // bytes of head, end, names, tick, note, fail
	MaxEntry   = 2 << 20   // bytes of an entry record
	MaxExtents = 65536     // extents of one entry record
	MaxText    = 4 << 10   // bytes of a message or an own word
	MaxWarned  = 100       // warnings kept as text
	MaxSize    = 1<<63 - 1 // bytes of a file
)

// SessionSize is the length of a session record's data (docs/format/crypto.md).
const SessionSize = 2349

// Kind is the kind of a stream.
type Kind string

// The kinds of streams.
const (
	Tree    Kind = "tree"
	Content Kind = "content"
	Sealed  Kind = "sealed"
)

// Orders of a sealed stream: which blob may come when.
const (
	Up    = "up"    // children before parents: backup, copy
	Down  = "down"  // parents before children: restore
	Asked = "asked" // the answers to a list of ids, in its order
	Loose = "loose" // no order and no snapshot to commit: packs, healing, lists
)

// A Record is one of *Head, *Entry, *Chunk, *Cut, *Names, *Session, *Blob,
// *Stored, *Missing, *Checkpoint, *Toc, *Tick, *Note, *Fail, *End.
type Record interface{ name() string }

// Head begins a stream. Its encoding begins with fixed bytes (see Magic).
type Head struct {
	Kind Kind
	// Tree and content streams: where and when the tree was seen.
	Host, User string
	Time       Time
	Roots      []Root
	// Tree streams: symbolic links were followed, so that files are found
	// through the links in their paths.
	Follow bool
	// Content streams: what cut the files, and the snapshots that cached
	// extents rest on.
	Chunker *Chunker
	Base    []id.ID // sealed streams too; at most MaxBase
	// Sealed streams.
	Order string
	Meta  bool   // no data blob will come
	Nonce []byte // 16 random bytes, in a pack
}

// MaxBase bounds Head.Base.
const MaxBase = 2

// NonceSize is the length of a pack's nonce.
const NonceSize = 16

// A Root is one of the sources of a tree: the entries at and below Path were
// found at and below Dir/Path.
type Root struct{ Dir, Path string }

// Check reports what a root must not be: its path is one that an entry can have, its directory
// is absolute.
func (r Root) Check() error {
	if err := CheckPath(r.Path); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if r.Dir == "" || r.Dir[0] != '/' {
		return fmt.Errorf("root directory %q is not absolute: %w", r.Dir, ErrPath)
	}
	return nil
}

// Paths returns the roots' paths.
func Paths(roots []Root) (paths []string) {
	for _, r := range roots {
		paths = append(paths, r.Path)
	}
	return paths
}

// A Chunker names the algorithm and the sizes that cut large files.
type Chunker struct {
	Name          string
	Min, Avg, Max uint64
}

// Time is seconds and nanoseconds since 1970, before it too.
type Time struct {
	Sec  int64
	Nsec uint32 // 0…999999999, counted forward also before 1970
}

// TimeOf converts a time.Time.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Std converts to a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Chunk is a piece of file content. N counts on from those that the last cut
// kept, from 0 if it kept none. Data is
// valid until Free.
type Chunk struct {
	N    uint64
	Data []byte
	buf  *buffer
}

// Free gives the chunk's memory back; Data must not be used afterwards.
func (c *Chunk) Free() { c.buf.free(); c.Data, c.buf = nil, nil }

// Cut ends a page of entries. Of the chunks that can be named, the Keep newest
// stay so, and count from 0 again: they were sent ahead, for the pages that
// follow. The others are let go.
type Cut struct{ Keep uint64 }

// Names are parts of the tables of user and group names that do not fit into
// the end record. Ids ascend.
type Names struct{ Users, Groups []Name }

// A Name is one row of a table of user or group names.
type Name struct {
	ID   uint32
	Name string // bytes
}

// Session carries the sealed keys of one run of pv-seal.
type Session struct{ Data []byte }

// Blob is a sealed blob. Data is valid until Free.
type Blob struct {
	ID   id.ID
	Kind uint8 // 0 data, 1 page, 2…8 index page, 9 snapshot
	SID  id.ID
	Refs []byte // id.Size bytes each
	Data []byte
	Sig  []byte // 64 bytes, on a snapshot; else empty
	CRC  uint32 // see Sum
	buf  *buffer
}

// Kinds of blobs (docs/format/crypto.md).
const (
	KindData     = 0
	KindPage     = 1
	KindIndexMax = 8
	KindSnapshot = 9
)

// SigSize is the length of a snapshot's signature.
const SigSize = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum computes the CRC-32C that a blob record carries over itself: over kind,
// id, sid, the number of references (u32), the references, data, signature.
func (b *Blob) Sum() uint32 {
	n := len(b.Refs) / id.Size
	head := [...]byte{b.Kind}
	crc := crc32.Update(0, castagnoli, head[:])
	crc = crc32.Update(crc, castagnoli, b.ID[:])
	crc = crc32.Update(crc, castagnoli, b.SID[:])
	crc = crc32.Update(crc, castagnoli, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	crc = crc32.Update(crc, castagnoli, b.Refs)
	crc = crc32.Update(crc, castagnoli, b.Data)
	return crc32.Update(crc, castagnoli, b.Sig)
}

// NRefs returns the number of references.
func (b *Blob) NRefs() int { return len(b.Refs) / id.Size }

// Ref returns reference i.
func (b *Blob) Ref(i int) id.ID { return id.ID(b.Refs[i*id.Size : (i+1)*id.Size]) }

// Free gives the blob's memory back; Refs, Data and Sig must not be used afterwards.
func (b *Blob) Free() { b.buf.free(); b.Refs, b.Data, b.Sig, b.buf = nil, nil, nil, nil }

// Stored is what a repository says about a snapshot, outside the seal: nobody
// trusts it when reading.
type Stored struct {
	ID       id.ID
	Received Time   // by the store's own clock
	As       string // the store's label for the client; may be empty
}

// Sum is the checksum that the record carries: CRC-32C over id, seconds (8 bytes), nanoseconds
// (4 bytes) and as. Who reads the record checks it: nothing else covers these values.
func (s *Stored) Sum() uint32 {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.Received.Sec))
	b = binary.BigEndian.AppendUint32(b, s.Received.Nsec)
	return crc32.Update(crc32.Update(crc32.Update(0, castagnoli, s.ID[:]), castagnoli, b), castagnoli, []byte(s.As))
}

// Missing names a blob that a repository could not give.
type Missing struct{ ID id.ID }

// Checkpoint says that the snapshot blob of that id, which came before it, is of
// the tree so far: a partial one, to be made durable now and not to be listed.
type Checkpoint struct{ ID id.ID }

// Toc is a pack's table of contents, rows as package pack writes them.
type Toc struct{ Rows []byte }

// Tick says that a stage is alive and how far it is.
type Tick struct{ Files, Bytes uint64 }

// Note is a remark for programs; the stage that makes it also prints it.
type Note struct{ Tool, Text string }

// Fail ends a stream in place of End: the stage named failed, and has said so.
type Fail struct{ Tool, Text string }

// End ends a stream. The counts are what the writing stage counted; a reader
// that needs the truth counts for itself.
type End struct {
	Status   int // 0, or 3: something was left out
	Entries  uint64
	Bytes    uint64 // of file content; of blob data in a sealed stream
	Warnings uint64
	Warned   []string // the first of them
	Users    []Name
	Groups   []Name
	// Unchanged, in a sealed stream, is the snapshot among the head's Base that
	// the tree is the same as: no snapshot came.
	Unchanged id.ID
}

// Warn counts a warning and keeps its text if it is among the first.
func (e *End) Warn(text string) {
	e.Status = 3
	e.Warnings++
	used := 0
	for _, w := range e.Warned {
		used += len(w)
	}
	text = Text(text)
	if len(e.Warned) < MaxWarned && used+len(text) <= MaxSmall/4 {
		e.Warned = append(e.Warned, text)
	}
}

// Follow puts what the stage before says in its end record in front of what e
// says: warnings, the worst status, tables of names.
func (e *End) Follow(before *End) {
	own := *e
	*e = *before
	e.Status = max(before.Status, own.Status)
	for _, text := range own.Warned {
		e.Warn(text)
	}
	e.Warnings = before.Warnings + own.Warnings
	e.Users = append(e.Users, own.Users...)
	e.Groups = append(e.Groups, own.Groups...)
}

func (*Head) name() string       { return "head" }
func (*Entry) name() string      { return "entry" }
func (*Chunk) name() string      { return "chunk" }
func (*Cut) name() string        { return "cut" }
func (*Names) name() string      { return "names" }
func (*Session) name() string    { return "session" }
func (*Blob) name() string       { return "blob" }
func (*Stored) name() string     { return "stored" }
func (*Missing) name() string    { return "missing" }
func (*Checkpoint) name() string { return "checkpoint" }
func (*Toc) name() string        { return "toc" }
func (*Tick) name() string       { return "tick" }
func (*Note) name() string       { return "note" }
func (*Fail) name() string       { return "fail" }
func (*End) name() string        { return "end" }

// Errors that a Reader returns; match them with errors.Is.
var (
	ErrCut     = errors.New("input ended without its end record: the stage before died or the connection broke")
	ErrEmpty   = errors.New("input is empty: the stage before died before it wrote anything")
	ErrNotOurs = errors.New("not a Preserve stream")
	ErrVersion = errors.New("a stream of another version")
	ErrKind    = errors.New("a stream of another kind")
	ErrUnknown = errors.New("unknown")
	ErrTwice   = errors.New("given twice")
	ErrAbsent  = errors.New("absent")
	ErrBad     = errors.New("not valid")
	ErrSum     = errors.New("checksum mismatch")
	ErrAfter   = errors.New("bytes after the end record")
)

// A FailError is a fail record: the named stage failed and has said so itself.
type FailError struct{ Tool, Text string }

func (e *FailError) Error() string { return fmt.Sprintf("%s failed: %s", e.Tool, e.Text) }

// Text makes any string fit to be one of our own words: valid UTF-8 of at most
// MaxText bytes.
func Text(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= MaxText {
		return s
	}
	s = s[:MaxText-len("…")]
	for !utf8.ValidString(s) { // cut in the middle of a rune
		s = s[:len(s)-1]
	}
	return s + "…"
}

// newRecord returns an empty record of the named type, nil if there is none.
func newRecord(name string) Record {
	switch name {
	case "head":
		return &Head{}
	case "entry":
		return &Entry{}
	case "chunk":
		return &Chunk{}
	case "cut":
		return &Cut{}
	case "names":
		return &Names{}
	case "session":
		return &Session{}
	case "blob":
		return &Blob{}
	case "stored":
		return &Stored{}
	case "missing":
		return &Missing{}
	case "checkpoint":
		return &Checkpoint{}
	case "toc":
		return &Toc{}
	case "tick":
		return &Tick{}
	case "note":
		return &Note{}
	case "fail":
		return &Fail{}
	case "end":
		return &End{}
	}
	return nil
}

// belongs reports whether a record of that name may stand in a stream of kind k.
func (k Kind) belongs(name string) bool {
	switch name {
	case "tick", "note", "fail", "end", "head", "missing":
		return true
	case "entry", "names":
		return k == Tree || k == Content
	case "chunk", "cut":
		return k == Content
	case "session", "blob", "stored", "checkpoint", "toc":
		return k == Sealed
	}
	return false
}

// limitOf is the most bytes that a record of that name may take.
func limitOf(name string) int {
	switch name {
	case "entry":
		return MaxEntry
	case "chunk", "blob", "toc":
		return MaxRecord
	}
	return MaxSmall
}

// fields walks a map's pairs and calls fn with the index of each key in keys.
// Keys that are not in keys are handed to other with their raw value; other may
// be nil. In strict mode keys must come in the order of keys, foreign ones last.
func fields(c *wire.Cursor, keys []string, strict bool, fn func(k int), other func(key string, raw []byte)) (seen uint64) {
	n := c.Map(1024)
	last, foreign := -1, false
	for ; n > 0 && c.Err() == nil; n-- {
		key := c.Str(256)
		k := find(keys, last, key)
		switch {
		case c.Err() != nil:
			return seen
		case k < 0 && other != nil:
			name := string(key)
			other(name, c.Raw())
			foreign = true
			continue
		case k < 0:
			c.Fail(fmt.Errorf("key %q: %w", key, ErrUnknown))
			return seen
		case seen&(1<<k) != 0:
			c.Fail(fmt.Errorf("key %q: %w", key, ErrTwice))
			return seen
		case strict && (k < last || foreign):
			c.Fail(fmt.Errorf("key %q: out of order: %w", key, wire.ErrCanonical))
			return seen
		}
		seen |= 1 << k
		last = k
		before := c.Err()
		fn(k)
		if err := c.Err(); before == nil && err != nil {
			c.Annotate(fmt.Errorf("key %q: %w", key, err))
		}
	}
	return seen
}

// find looks for key in keys, first behind the last one found, since writers
// keep the order.
func find(keys []string, last int, key []byte) int {
	for i := last + 1; i < len(keys); i++ {
		if keys[i] == string(key) {
			return i
		}
	}
	for i := 0; i <= last; i++ {
		if keys[i] == string(key) {
			return i
		}
	}
	return -1
}

// Told reports that the failure was reported by the stage that sent the record.
func (e *FailError) Told() bool { return true }
