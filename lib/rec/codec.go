package rec

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"preserve/lib/id"
	"preserve/lib/wire"
)

// encode appends v to w, without the payload that ends it, which it returns.
func encode(w *wire.Writer, v Record) (payload []byte, err error) {
	switch v := v.(type) {
	case *Entry:
		if err := v.Check(); err != nil {
			return nil, fmt.Errorf("entry %s: %w", Quote(v.Path), err)
		}
		v.Encode(w, Streamed)
	case *Head:
		err = v.encode(w)
	case *Chunk:
		if len(v.Data) == 0 || len(v.Data) > MaxChunk {
			return nil, fmt.Errorf("chunk of %d bytes: %w of %d", len(v.Data), wire.ErrLimit, MaxChunk)
		}
		begin(w, 3, "chunk")
		w.Str("n")
		w.Uint(v.N)
		w.Str("data")
		w.BinLen(len(v.Data))
		payload = v.Data
	case *Cut:
		if v.Keep == 0 {
			begin(w, 1, "cut")
			break
		}
		begin(w, 2, "cut")
		w.Str("keep")
		w.Uint(v.Keep)
	case *Names:
		begin(w, 3, "names")
		w.Str("users")
		EncodeNames(w, v.Users)
		w.Str("groups")
		EncodeNames(w, v.Groups)
	case *Session:
		begin(w, 2, "session")
		w.Str("data")
		w.Bin(v.Data)
	case *Blob:
		v.encode(w)
		payload = v.Data
	case *Stored:
		begin(w, 5, "stored")
		w.Str("id")
		w.Bin(v.ID[:])
		w.Str("received")
		writeTime(w, v.Received)
		w.Str("as")
		w.Str(v.As)
		w.Str("crc")
		w.Uint(uint64(v.Sum()))
	case *Missing:
		begin(w, 2, "missing")
		w.Str("id")
		w.Bin(v.ID[:])
	case *Checkpoint:
		begin(w, 2, "checkpoint")
		w.Str("id")
		w.Bin(v.ID[:])
	case *Toc:
		begin(w, 2, "toc")
		w.Str("rows")
		w.Bin(v.Rows)
	case *Tick:
		begin(w, 3, "tick")
		w.Str("files")
		w.Uint(v.Files)
		w.Str("bytes")
		w.Uint(v.Bytes)
	case *Note:
		words(w, "note", v.Tool, v.Text)
	case *Fail:
		words(w, "fail", v.Tool, v.Text)
	case *End:
		v.encode(w)
	}
	return payload, err
}

func begin(w *wire.Writer, n int, name string) {
	w.Map(n)
	w.Str("t")
	w.Str(name)
}

func words(w *wire.Writer, name, tool, text string) {
	begin(w, 3, name)
	w.Str("tool")
	w.Str(Text(tool))
	w.Str("text")
	w.Str(Text(text))
}

// EncodeChunker appends a chunker's name and sizes to w.
func EncodeChunker(w *wire.Writer, c *Chunker) {
	w.Array(4)
	w.Str(c.Name)
	w.Uint(c.Min)
	w.Uint(c.Avg)
	w.Uint(c.Max)
}

// DecodeChunker is the inverse of EncodeChunker.
func DecodeChunker(c *wire.Cursor) *Chunker {
	if c.Array(4) != 4 {
		c.Fail(fmt.Errorf("%w: not [name, min, avg, max]", ErrBad))
	}
	return &Chunker{string(c.Str(MaxText)), c.Uint(MaxChunk), c.Uint(MaxChunk), c.Uint(MaxChunk)}
}

// EncodeNames appends a table of names to w: [[id, name]…].
func EncodeNames(w *wire.Writer, names []Name) {
	w.Array(len(names))
	for _, n := range names {
		w.Array(2)
		w.Uint(uint64(n.ID))
		w.BinString(n.Name)
	}
}

// DecodeNames is the inverse of EncodeNames. Ids must ascend, names must not be
// empty.
func DecodeNames(c *wire.Cursor) []Name {
	var names []Name
	for n := c.Array(1 << 20); n > 0 && c.Err() == nil; n-- {
		if c.Array(2) != 2 {
			c.Fail(fmt.Errorf("%w: not [id, name]", ErrBad))
		}
		row := Name{uint32(c.Uint(math.MaxUint32)), string(c.Bin(MaxName))}
		if row.Name == "" || len(names) > 0 && row.ID <= names[len(names)-1].ID {
			c.Fail(fmt.Errorf("%w: a table of names must ascend, and name", ErrBad))
		}
		names = append(names, row)
	}
	return names
}

// MergeNames adds to a table the rows of another for ids that it has no name for.
// The result ascends if table does.
func MergeNames(table, more []Name) []Name {
	have := make(map[uint32]bool, len(table))
	for _, n := range table {
		have[n.ID] = true
	}
	added := false
	for _, n := range more {
		if !have[n.ID] {
			table, added = append(table, n), true
		}
	}
	if added {
		slices.SortStableFunc(table, func(a, b Name) int { return cmp.Compare(a.ID, b.ID) })
	}
	return table
}

// SplitNames cuts tables that are too large for an end record into names
// records and what remains for the end record.
func SplitNames(users, groups []Name) (records []*Names, restUsers, restGroups []Name) {
	const room = MaxSmall / 4
	cut := func(names []Name) ([]Name, []Name) {
		size := 0
		for i, n := range names {
			if size += len(n.Name) + 12; size > room {
				return names[:i], names[i:]
			}
		}
		return names, nil
	}
	for {
		u, moreU := cut(users)
		g, moreG := cut(groups)
		if moreU == nil && moreG == nil {
			return records, u, g
		}
		records = append(records, &Names{u, g})
		users, groups = moreU, moreG
	}
}

var blobKeys = []string{"t", "id", "kind", "sid", "refs", "crc", "sig", "data"}

func (b *Blob) encode(w *wire.Writer) {
	n := 7
	if len(b.Sig) > 0 {
		n++
	}
	begin(w, n, "blob")
	w.Str("id")
	w.Bin(b.ID[:])
	w.Str("kind")
	w.Uint(uint64(b.Kind))
	w.Str("sid")
	w.Bin(b.SID[:])
	w.Str("refs")
	w.Bin(b.Refs)
	w.Str("crc")
	w.Uint(uint64(b.CRC))
	if len(b.Sig) > 0 {
		w.Str("sig")
		w.Bin(b.Sig)
	}
	w.Str("data")
	w.BinLen(len(b.Data))
}

var endKeys = []string{"t", "status", "entries", "bytes", "warnings", "warned", "users", "groups", "unchanged"}

// unchangedKey is the last of endKeys, and the only one that may be absent.
const unchangedKey = 8

func (e *End) encode(w *wire.Writer) {
	n := len(endKeys)
	if e.Unchanged.IsZero() {
		n--
	}
	begin(w, n, "end")
	w.Str("status")
	w.Uint(uint64(e.Status))
	w.Str("entries")
	w.Uint(e.Entries)
	w.Str("bytes")
	w.Uint(e.Bytes)
	w.Str("warnings")
	w.Uint(e.Warnings)
	w.Str("warned")
	w.Array(len(e.Warned))
	for _, s := range e.Warned {
		w.Str(Text(s))
	}
	w.Str("users")
	EncodeNames(w, e.Users)
	w.Str("groups")
	EncodeNames(w, e.Groups)
	if !e.Unchanged.IsZero() {
		w.Str("unchanged")
		w.Bin(e.Unchanged[:])
	}
}

// A layout is how one record is read: its keys in canonical order, those that
// must be there as bits, and what to do with each value.
type layout struct {
	keys     []string
	required uint64
	read     func(k int)
}

// Decode reads one record of v's type at c into v. In strict mode it must be
// canonical. Slices of v are parts of c's input, but for an entry's.
func Decode(c *wire.Cursor, v Record, strict bool) error {
	var l layout
	var sum uint32 // of a Stored
	all := func(keys []string) uint64 { return 1<<len(keys) - 1 }
	simple := func(read func(k int), keys ...string) layout { return layout{keys, all(keys), read} }
	switch v := v.(type) {
	case *Entry:
		v.decode(c, Streamed)
		return c.Finish()
	case *Head:
		l = layout{headKeys, 7, func(k int) { v.read(c, k) }}
	case *Blob:
		l = layout{blobKeys, all(blobKeys) &^ (1 << 6), func(k int) { v.read(c, k) }}
	case *End:
		l = layout{endKeys, all(endKeys) &^ (1 << unchangedKey), func(k int) { v.read(c, k) }}
	case *Chunk:
		l = simple(func(k int) {
			if k == 1 {
				v.N = c.Uint(MaxRefs - 1)
			} else if v.Data = c.Bin(MaxChunk); len(v.Data) == 0 {
				c.Fail(fmt.Errorf("%w: empty", ErrBad))
			}
		}, "t", "n", "data")
	case *Cut:
		l = layout{[]string{"t", "keep"}, 1, func(int) { v.Keep = c.Uint(MaxRefs) }}
	case *Names:
		l = simple(func(k int) {
			if k == 1 {
				v.Users = DecodeNames(c)
			} else {
				v.Groups = DecodeNames(c)
			}
		}, "t", "users", "groups")
	case *Session:
		l = simple(func(int) {
			if v.Data = slices.Clone(c.Bin(SessionSize)); len(v.Data) != SessionSize {
				c.Fail(fmt.Errorf("%w: %d bytes where a session has %d", ErrBad, len(v.Data), SessionSize))
			}
		}, "t", "data")
	case *Stored:
		l = simple(func(k int) {
			switch k {
			case 1:
				v.ID = readID(c)
			case 2:
				v.Received = readTime(c)
			case 3:
				v.As = string(c.Str(MaxText))
			case 4:
				sum = uint32(c.Uint(math.MaxUint32))
			}
		}, "t", "id", "received", "as", "crc")
	case *Missing:
		l = simple(func(int) { v.ID = readID(c) }, "t", "id")
	case *Checkpoint:
		l = simple(func(int) { v.ID = readID(c) }, "t", "id")
	case *Toc:
		l = simple(func(int) { v.Rows = c.Bin(MaxSealed) }, "t", "rows")
	case *Tick:
		l = simple(func(k int) {
			if k == 1 {
				v.Files = c.Uint(math.MaxUint64)
			} else {
				v.Bytes = c.Uint(math.MaxUint64)
			}
		}, "t", "files", "bytes")
	case *Note:
		l = simple(func(k int) { readWords(c, k, &v.Tool, &v.Text) }, "t", "tool", "text")
	case *Fail:
		l = simple(func(k int) { readWords(c, k, &v.Tool, &v.Text) }, "t", "tool", "text")
	}
	seen := fields(c, l.keys, strict, func(k int) {
		if k == 0 {
			c.Str(64)
		} else {
			l.read(k)
		}
	}, nil)
	if err := c.Finish(); err != nil {
		return err
	}
	for k, key := range l.keys {
		if l.required>>k&1 == 1 && seen>>k&1 == 0 {
			return fmt.Errorf("key %q: %w", key, ErrAbsent)
		}
	}
	if s, is := v.(*Stored); is && s.Sum() != sum {
		return fmt.Errorf("what the repository says of snapshot %s: %w", s.ID, ErrSum)
	}
	return finish(v, seen, strict)
}

// finish checks what concerns several keys of a record.
func finish(v Record, seen uint64, strict bool) error {
	switch v := v.(type) {
	case *Head:
		if err := v.check(); err != nil {
			return err
		}
		tree := v.Kind == Tree || v.Kind == Content
		if has := seen >> 3 & 15; tree && has != 15 || strict && !tree && has != 0 {
			return fmt.Errorf("host, user, time, roots: %w", ErrAbsent)
		}
		if strict && (seen>>7&1 == 1 && !v.Follow || seen>>9&1 == 1 && len(v.Base) == 0 || seen>>11&1 == 1 && !v.Meta || seen>>12&1 == 1 && len(v.Nonce) == 0) {
			return fmt.Errorf("an empty key: %w", wire.ErrCanonical)
		}
	case *Blob:
		return v.check(seen)
	case *Cut:
		if strict && seen>>1&1 == 1 && v.Keep == 0 {
			return fmt.Errorf("key %q: %w", "keep", wire.ErrCanonical)
		}
	}
	return nil
}

func (b *Blob) read(c *wire.Cursor, k int) {
	switch blobKeys[k] {
	case "id":
		b.ID = readID(c)
	case "kind":
		b.Kind = uint8(c.Uint(KindSnapshot))
	case "sid":
		b.SID = readID(c)
	case "refs":
		b.Refs = c.Bin(MaxRefs * id.Size)
	case "crc":
		b.CRC = uint32(c.Uint(math.MaxUint32))
	case "sig":
		b.Sig = c.Bin(SigSize)
	case "data":
		b.Data = c.Bin(MaxSealed)
	}
}

// check looks at a blob's shape: what a stage without keys can know.
func (b *Blob) check(seen uint64) error {
	n := b.NRefs()
	hasSig := seen>>6&1 == 1
	switch {
	case len(b.Refs)%id.Size != 0:
		return fmt.Errorf("refs of %d bytes: %w", len(b.Refs), ErrBad)
	case b.Kind == KindData && n != 0, b.Kind == KindSnapshot && n != 1, b.Kind >= 2 && b.Kind <= KindIndexMax && n == 0:
		return fmt.Errorf("a blob of kind %d with %d references: %w", b.Kind, n, ErrBad)
	case hasSig != (b.Kind == KindSnapshot), hasSig && len(b.Sig) != SigSize:
		return fmt.Errorf("a blob of kind %d and its signature: %w", b.Kind, ErrBad)
	case len(b.Data) == 0:
		return fmt.Errorf("a blob without data: %w", ErrBad)
	}
	return nil
}

func (e *End) read(c *wire.Cursor, k int) {
	switch endKeys[k] {
	case "status":
		if e.Status = int(c.Uint(3)); e.Status != 0 && e.Status != 3 {
			c.Fail(fmt.Errorf("%w: %d is neither 0 nor 3", ErrBad, e.Status))
		}
	case "entries":
		e.Entries = c.Uint(math.MaxUint64)
	case "bytes":
		e.Bytes = c.Uint(math.MaxUint64)
	case "warnings":
		e.Warnings = c.Uint(math.MaxUint64)
	case "warned":
		for n := c.Array(MaxWarned); n > 0 && c.Err() == nil; n-- {
			e.Warned = append(e.Warned, readText(c))
		}
	case "users":
		e.Users = DecodeNames(c)
	case "groups":
		e.Groups = DecodeNames(c)
	case "unchanged":
		e.Unchanged = readID(c)
	}
}

func readID(c *wire.Cursor) id.ID {
	i, ok := id.FromBytes(c.Bin(id.Size))
	if !ok || i.IsZero() {
		c.Fail(fmt.Errorf("%w: not an id of %d bytes", ErrBad, id.Size))
	}
	return i
}

func readWords(c *wire.Cursor, k int, tool, text *string) {
	if k == 1 {
		*tool = readText(c)
	} else {
		*text = readText(c)
	}
}

// readText reads a string as Text makes them.
func readText(c *wire.Cursor) string {
	b := c.Str(MaxText)
	if !utf8.Valid(b) {
		c.Fail(fmt.Errorf("%w: a string that is not UTF-8", ErrBad))
	}
	return string(b)
}
