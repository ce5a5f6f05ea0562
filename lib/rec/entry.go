package rec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"preserve/lib/id"
	"preserve/lib/wire"
)

// Type is what an entry is in the file system.
type Type uint8

// The types of entries. A HardLink is a further name of an earlier entry.
const (
	None Type = iota
	File
	Dir
	Symlink
	Fifo
	Socket
	Char
	Block
	HardLink
)

var typeNames = [...]string{"", "file", "dir", "symlink", "fifo", "socket", "char", "block", "link"}

func (t Type) String() string {
	if int(t) < len(typeNames) && t != None {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// ParseType is the inverse of String; None for anything else.
func ParseType(s string) Type {
	for i, n := range typeNames {
		if n == s {
			return Type(i)
		}
	}
	return None
}

// An Entry is one name in a tree, or one piece of a large file. Which fields
// mean something depends on Type; Check says when they contradict each other.
type Entry struct {
	Path   string
	Type   Type
	Mode   uint32 // permissions, setuid, setgid, sticky: at most 07777
	UID    uint32
	GID    uint32
	MTime  Time
	Size   uint64 // of a file; in the first pieces of several: as the scan saw it
	Off    uint64 // where this piece's content begins
	More   bool   // another piece of the same file follows
	Links  uint32 // names that the file had, if it had several
	Target string // of a symlink
	Leader string // of a hard link: the path of the first name
	Major  uint32 // of a device
	Minor  uint32
	Flags  uint32 // inode flags that a restore can set
	XAttrs []XAttr
	// Omitted names extended attributes that the file may have and the entry lacks, in order:
	// they were left out on request, or could not be read. AnyXAttr alone stands for all.
	Omitted []string
	Err     string // why there is no content; the entry is kept, or it would look deleted
	// Inconsistent says that the file changed while it was read, each time.
	Inconsistent bool
	// Way says of a directory that it is only on the way to something: not all
	// that is in it is in this tree.
	Way bool
	// Skipped says of a directory that names in it were left out because somebody wanted
	// it so: by a pattern, a size, a mark. Unread says that names in it could not be read
	// or stored. In both cases what is not in this tree may well exist.
	Skipped, Unread bool
	Extents         []Extent
	// In streams and caches only: they change without reason and are not stored.
	CTime, BTime Time
	Ino, Dev     uint64
	// Alone says of a small file that no other file's content is in its chunks, since it was
	// asked for.
	Alone bool
	// X holds the keys that begin with "x-" in order of key: carried, stored,
	// ignored.
	X []XField
}

// An XAttr is an extended attribute. An entry's are in order of name.
type XAttr struct {
	Name  string
	Value []byte
}

// An XField is a foreign key of an entry and its value, one msgpack value.
type XField struct {
	Key string
	Raw []byte
}

// An Extent is a stretch of a file's content: Len bytes at Off of the chunk N
// (in a content stream, numbered from the last cut; in a page, the index of a
// reference), of the blob ID if that is not zero, or a hole.
type Extent struct {
	Hole     bool
	ID       id.ID
	N        uint64
	Off, Len uint64
}

// A Form is one of the two encodings of an entry.
type Form bool

// Streamed entries are records of a stream; those AtRest are parts of a page:
// without "t" and what only streams carry, and always in canonical form.
const (
	Streamed Form = false
	AtRest   Form = true
)

// The canonical order of keys.
var entryKeys = []string{"t", "path", "type", "mode", "uid", "gid", "mtime", "size", "off", "more", "links",
	"target", "leader", "rdev", "flags", "xattrs", "omitted", "err", "inconsistent", "way", "skipped", "unread", "ext", "ctime", "btime", "ino", "dev", "alone"}

const (
	kT = iota
	kPath
	kType
	kMode
	kUID
	kGID
	kMTime
	kSize
	kOff
	kMore
	kLinks
	kTarget
	kLeader
	kRdev
	kFlags
	kXAttrs
	kOmitted
	kErr
	kInconsistent
	kWay
	kSkipped
	kUnread
	kExt
	kCTime
	kBTime
	kIno
	kDev
	kAlone
)

// plain reports whether the entry carries metadata of its own; further pieces
// of a file and further names do not.
func (e *Entry) plain() bool { return e.Type != HardLink && e.Off == 0 }

// Encode appends e to w in canonical form: fields in the order of the table in
// docs/format/entries.md, absent ones left out.
func (e *Entry) Encode(w *wire.Writer, form Form) {
	var has uint64
	set := func(k int, on bool) {
		if on {
			has |= 1 << k
		}
	}
	plain := e.plain()
	streamed := form == Streamed
	has = 1<<kPath | 1<<kType
	set(kT, streamed)
	set(kMode, plain)
	set(kUID, plain)
	set(kGID, plain)
	set(kMTime, plain)
	set(kSize, e.Type == File)
	set(kOff, e.Off != 0)
	set(kMore, e.More)
	set(kLinks, e.Links > 1)
	set(kTarget, e.Type == Symlink)
	set(kLeader, e.Type == HardLink)
	set(kRdev, e.Type == Char || e.Type == Block)
	set(kFlags, e.Flags != 0)
	set(kXAttrs, len(e.XAttrs) > 0)
	set(kOmitted, len(e.Omitted) > 0)
	set(kErr, e.Err != "")
	set(kInconsistent, e.Inconsistent)
	set(kWay, e.Way)
	set(kSkipped, e.Skipped)
	set(kUnread, e.Unread)
	set(kExt, len(e.Extents) > 0)
	set(kCTime, streamed && e.CTime != Time{})
	set(kBTime, streamed && e.BTime != Time{})
	set(kIno, streamed && e.Ino != 0)
	set(kDev, streamed && e.Dev != 0)
	set(kAlone, streamed && e.Alone)
	n := len(e.X)
	for k := range entryKeys {
		n += int(has >> k & 1)
	}
	w.Map(n)
	for k, name := range entryKeys {
		if has>>k&1 == 0 {
			continue
		}
		w.Str(name)
		e.encodeField(w, k)
	}
	for _, x := range e.X {
		w.Str(x.Key)
		w.Raw(x.Raw)
	}
}

func (e *Entry) encodeField(w *wire.Writer, k int) {
	switch k {
	case kT:
		w.Str("entry")
	case kPath:
		w.BinString(e.Path)
	case kType:
		w.Str(e.Type.String())
	case kMode:
		w.Uint(uint64(e.Mode))
	case kUID:
		w.Uint(uint64(e.UID))
	case kGID:
		w.Uint(uint64(e.GID))
	case kMTime:
		writeTime(w, e.MTime)
	case kSize:
		w.Uint(e.Size)
	case kOff:
		w.Uint(e.Off)
	case kMore, kInconsistent, kWay, kSkipped, kUnread, kAlone:
		w.Bool(true)
	case kLinks:
		w.Uint(uint64(e.Links))
	case kTarget:
		w.BinString(e.Target)
	case kLeader:
		w.BinString(e.Leader)
	case kRdev:
		w.Array(2)
		w.Uint(uint64(e.Major))
		w.Uint(uint64(e.Minor))
	case kFlags:
		w.Uint(uint64(e.Flags))
	case kXAttrs:
		w.Array(len(e.XAttrs))
		for _, x := range e.XAttrs {
			w.Array(2)
			w.BinString(x.Name)
			w.Bin(x.Value)
		}
	case kOmitted:
		w.Array(len(e.Omitted))
		for _, name := range e.Omitted {
			w.BinString(name)
		}
	case kErr:
		w.Str(e.Err)
	case kExt:
		w.Array(len(e.Extents))
		for i := range e.Extents {
			writeExtent(w, &e.Extents[i])
		}
	case kCTime:
		writeTime(w, e.CTime)
	case kBTime:
		writeTime(w, e.BTime)
	case kIno:
		w.Uint(e.Ino)
	case kDev:
		w.Uint(e.Dev)
	}
}

func writeTime(w *wire.Writer, t Time) {
	w.Array(2)
	w.Int(t.Sec)
	w.Uint(uint64(t.Nsec))
}

func writeExtent(w *wire.Writer, x *Extent) {
	w.Array(3)
	switch {
	case x.Hole:
		w.Nil()
	case !x.ID.IsZero():
		w.Bin(x.ID[:])
	default:
		w.Uint(x.N)
	}
	w.Uint(x.Off)
	w.Uint(x.Len)
}

// DecodeEntry reads one entry at c. A Stored entry must be canonical. The
// result shares no memory with c.
func DecodeEntry(c *wire.Cursor, form Form) (*Entry, error) {
	e := &Entry{}
	if err := e.Decode(c, form); err != nil {
		return nil, err
	}
	return e, nil
}

// Decode is DecodeEntry into e, which must be empty.
func (e *Entry) Decode(c *wire.Cursor, form Form) error {
	e.decode(c, form)
	return c.Err()
}

func (e *Entry) decode(c *wire.Cursor, form Form) {
	stored := form == AtRest
	lastX := ""
	seen := fields(c, entryKeys, stored, func(k int) {
		if stored && (k == kT || k >= kCTime) {
			c.Fail(fmt.Errorf("%w in a stored entry", ErrUnknown))
			return
		}
		e.decodeField(c, k)
	}, func(key string, raw []byte) {
		switch {
		case !strings.HasPrefix(key, "x-"):
			c.Fail(fmt.Errorf("key %q: %w", key, ErrUnknown))
		case slices.ContainsFunc(e.X, func(x XField) bool { return x.Key == key }):
			c.Fail(fmt.Errorf("key %q: %w", key, ErrTwice))
		case stored && key <= lastX:
			c.Fail(fmt.Errorf("key %q: out of order: %w", key, wire.ErrCanonical))
		case len(e.X) >= 64:
			c.Fail(fmt.Errorf("foreign keys: %w of 64", wire.ErrLimit))
		}
		if c.Err() == nil && !stored {
			strict := wire.NewCursor(raw, true)
			if strict.Raw(); strict.Err() != nil { // it is stored as it is
				c.Fail(fmt.Errorf("key %q: %w", key, strict.Err()))
			}
		}
		lastX = key
		e.X = append(e.X, XField{key, slices.Clone(raw)})
	})
	if c.Err() != nil {
		return
	}
	if seen&(1<<kPath) == 0 {
		c.Fail(fmt.Errorf("path: %w", ErrAbsent))
		return
	}
	slices.SortFunc(e.X, func(a, b XField) int { return strings.Compare(a.Key, b.Key) })
	err := e.check(seen)
	if err == nil && stored {
		err = e.canonical(seen)
	}
	if err != nil {
		c.Fail(fmt.Errorf("entry %s: %w", Quote(e.Path), err))
	}
}

func (e *Entry) decodeField(c *wire.Cursor, k int) {
	switch k {
	case kT:
		c.Str(MaxText)
	case kPath:
		e.Path = string(c.Bin(MaxPath))
	case kType:
		s := c.Str(MaxText)
		if e.Type = ParseType(string(s)); e.Type == None {
			c.Fail(fmt.Errorf("%w type %q", ErrUnknown, s))
		}
	case kMode:
		e.Mode = uint32(c.Uint(0o7777))
	case kUID:
		e.UID = uint32(c.Uint(math.MaxUint32))
	case kGID:
		e.GID = uint32(c.Uint(math.MaxUint32))
	case kMTime:
		e.MTime = readTime(c)
	case kSize:
		e.Size = c.Uint(MaxSize)
	case kOff:
		e.Off = c.Uint(MaxSize)
	case kMore:
		e.More = c.Bool()
	case kInconsistent:
		e.Inconsistent = c.Bool()
	case kWay:
		e.Way = c.Bool()
	case kSkipped:
		e.Skipped = c.Bool()
	case kUnread:
		e.Unread = c.Bool()
	case kLinks:
		e.Links = uint32(c.Uint(math.MaxUint32))
	case kTarget:
		e.Target = string(c.Bin(MaxPath))
	case kLeader:
		e.Leader = string(c.Bin(MaxPath))
	case kRdev:
		if c.Array(2) != 2 {
			c.Fail(fmt.Errorf("%w: not two numbers", ErrBad))
		}
		e.Major, e.Minor = uint32(c.Uint(math.MaxUint32)), uint32(c.Uint(math.MaxUint32))
	case kFlags:
		e.Flags = uint32(c.Uint(math.MaxUint32))
	case kXAttrs:
		e.XAttrs = readXAttrs(c)
	case kOmitted:
		for n := c.Array(MaxXAttrs); n > 0 && c.Err() == nil; n-- {
			e.Omitted = append(e.Omitted, string(c.Bin(MaxName)))
		}
	case kErr:
		e.Err = string(c.Str(MaxText))
	case kExt:
		e.Extents = readExtents(c)
	case kCTime:
		e.CTime = readTime(c)
	case kBTime:
		e.BTime = readTime(c)
	case kIno:
		e.Ino = c.Uint(math.MaxUint64)
	case kDev:
		e.Dev = c.Uint(math.MaxUint64)
	case kAlone:
		e.Alone = c.Bool()
	}
}

func readTime(c *wire.Cursor) Time {
	if c.Array(2) != 2 {
		c.Fail(fmt.Errorf("%w: not [seconds, nanoseconds]", ErrBad))
	}
	return Time{c.Int(), uint32(c.Uint(999_999_999))}
}

func readXAttrs(c *wire.Cursor) []XAttr {
	n := c.Array(MaxXAttrs / 4)
	var xs []XAttr
	total := 0
	for ; n > 0 && c.Err() == nil; n-- {
		if c.Array(2) != 2 {
			c.Fail(fmt.Errorf("%w: not [name, value]", ErrBad))
		}
		name := string(c.Bin(MaxName))
		value := slices.Clone(c.Bin(MaxXAttrs))
		if value == nil {
			value = []byte{}
		}
		total += len(name) + len(value)
		switch {
		case total > MaxXAttrs:
			c.Fail(fmt.Errorf("%w of %d bytes", wire.ErrLimit, MaxXAttrs))
		case name == "" || strings.IndexByte(name, 0) >= 0:
			c.Fail(fmt.Errorf("%w: name %q", ErrBad, name))
		case len(xs) > 0 && name <= xs[len(xs)-1].Name:
			c.Fail(fmt.Errorf("%w: names do not ascend", ErrBad))
		}
		xs = append(xs, XAttr{name, value})
	}
	return xs
}

func readExtents(c *wire.Cursor) []Extent {
	n := c.Array(MaxExtents)
	xs := make([]Extent, 0, min(n, 1024))
	for ; n > 0 && c.Err() == nil; n-- {
		var x Extent
		if c.Array(3) != 3 {
			c.Fail(fmt.Errorf("%w: not [chunk, offset, length]", ErrBad))
		}
		switch {
		case c.IsNil():
			x.Hole = true
		case c.NextIsBin():
			i, ok := id.FromBytes(c.Bin(id.Size))
			if !ok || i.IsZero() {
				c.Fail(fmt.Errorf("%w: not an id", ErrBad))
			}
			x.ID = i
		default:
			x.N = c.Uint(MaxRefs - 1)
		}
		x.Off, x.Len = c.Uint(MaxChunk*2), c.Uint(MaxSize)
		xs = append(xs, x)
	}
	return xs
}
