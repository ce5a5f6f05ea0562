package cache

import (
	"fmt"
	"math"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// The bits that say which fields of an entry follow, in the order in which they
// do (docs/format/cache.md, "Page"). A field that is zero is absent.
const (
	hasMode = 1 << iota
	hasUID
	hasGID
	hasMTime
	hasSize
	hasOff
	isMore
	hasLinks
	hasTarget
	hasLeader
	hasRdev
	hasFlags
	hasXAttrs
	hasErr
	isInconsistent
	isWay
	isSkipped
	isUnread
	hasExtents
	hasCTime
	hasBTime
	hasIno
	hasDev
	hasX
	isAlone
	hasOmitted
	allFields = 1<<iota - 1
)

func fieldsOf(e *rec.Entry) (has uint64) {
	set := func(bit uint64, on bool) {
		if on {
			has |= bit
		}
	}
	set(hasMode, e.Mode != 0)
	set(hasUID, e.UID != 0)
	set(hasGID, e.GID != 0)
	set(hasMTime, e.MTime != rec.Time{})
	set(hasSize, e.Size != 0)
	set(hasOff, e.Off != 0)
	set(isMore, e.More)
	set(hasLinks, e.Links != 0)
	set(hasTarget, e.Target != "")
	set(hasLeader, e.Leader != "")
	set(hasRdev, e.Major != 0 || e.Minor != 0)
	set(hasFlags, e.Flags != 0)
	set(hasXAttrs, len(e.XAttrs) > 0)
	set(hasErr, e.Err != "")
	set(isInconsistent, e.Inconsistent)
	set(isWay, e.Way)
	set(isSkipped, e.Skipped)
	set(isUnread, e.Unread)
	set(hasExtents, len(e.Extents) > 0)
	set(hasCTime, e.CTime != rec.Time{})
	set(hasBTime, e.BTime != rec.Time{})
	set(hasIno, e.Ino != 0)
	set(hasDev, e.Dev != 0)
	set(hasX, len(e.X) > 0)
	set(isAlone, e.Alone)
	set(hasOmitted, len(e.Omitted) > 0)
	return has
}

// shared returns how many bytes two paths begin with in common.
func shared(a, b string) int {
	n := min(len(a), len(b))
	for k := range n {
		if a[k] != b[k] {
			return k
		}
	}
	return n
}

// encodeEntry appends e, which comes behind an entry with path prev in its block,
// to w. Extents' N are indexes of references.
func encodeEntry(w *wire.Writer, prev string, e *rec.Entry) {
	has := fieldsOf(e)
	n := shared(prev, e.Path)
	w.Uint(has)
	w.Uint(uint64(e.Type))
	w.Uint(uint64(n))
	w.BinString(e.Path[n:])
	number := func(bit, v uint64) {
		if has&bit != 0 {
			w.Uint(v)
		}
	}
	moment := func(bit uint64, t rec.Time) {
		if has&bit != 0 {
			w.Int(t.Sec)
			w.Uint(uint64(t.Nsec))
		}
	}
	number(hasMode, uint64(e.Mode))
	number(hasUID, uint64(e.UID))
	number(hasGID, uint64(e.GID))
	moment(hasMTime, e.MTime)
	number(hasSize, e.Size)
	number(hasOff, e.Off)
	number(hasLinks, uint64(e.Links))
	if has&(hasTarget|hasLeader|hasRdev|hasXAttrs|hasErr|hasX) != 0 || e.Flags != 0 {
		encodeRare(w, has, e)
	}
	if has&hasExtents != 0 {
		w.Uint(uint64(len(e.Extents)))
		for i := range e.Extents {
			x := &e.Extents[i]
			if x.Hole {
				w.Nil()
			} else {
				w.Uint(x.N)
			}
			w.Uint(x.Off)
			w.Uint(x.Len)
		}
	}
	moment(hasCTime, e.CTime)
	moment(hasBTime, e.BTime)
	number(hasIno, e.Ino)
	number(hasDev, e.Dev)
	if has&hasX != 0 {
		w.Uint(uint64(len(e.X)))
		for _, x := range e.X {
			w.BinString(x.Key)
			w.Bin(x.Raw)
		}
	}
	if has&hasOmitted != 0 {
		w.Uint(uint64(len(e.Omitted)))
		for _, name := range e.Omitted {
			w.BinString(name)
		}
	}
}

func encodeRare(w *wire.Writer, has uint64, e *rec.Entry) {
	if has&hasTarget != 0 {
		w.BinString(e.Target)
	}
	if has&hasLeader != 0 {
		w.BinString(e.Leader)
	}
	if has&hasRdev != 0 {
		w.Uint(uint64(e.Major))
		w.Uint(uint64(e.Minor))
	}
	if has&hasFlags != 0 {
		w.Uint(uint64(e.Flags))
	}
	if has&hasXAttrs != 0 {
		w.Uint(uint64(len(e.XAttrs)))
		for _, x := range e.XAttrs {
			w.BinString(x.Name)
			w.Bin(x.Value)
		}
	}
	if has&hasErr != 0 {
		w.BinString(e.Err)
	}
}

// decodeEntry is the inverse of encodeEntry: into e, which must be empty. It
// insists on the one form that encodeEntry gives an entry. Extents name indexes
// below nrefs.
func decodeEntry(c *wire.Cursor, prev string, nrefs int, e *rec.Entry) error {
	has := c.Uint(allFields)
	e.Type = rec.Type(c.Uint(uint64(rec.HardLink)))
	n := int(c.Uint(uint64(len(prev))))
	rest := c.Bin(rec.MaxPath)
	if n < len(prev) && len(rest) > 0 && rest[0] == prev[n] {
		c.Fail(wire.ErrCanonical)
	}
	if n == len(prev) && len(rest) == 0 && n > 0 {
		e.Path = prev // the next piece of a file
	} else {
		e.Path = prev[:n] + string(rest)
	}
	number := func(bit, limit uint64) uint64 {
		if has&bit == 0 {
			return 0
		}
		return c.Uint(limit)
	}
	moment := func(bit uint64) rec.Time {
		if has&bit == 0 {
			return rec.Time{}
		}
		return rec.Time{Sec: c.Int(), Nsec: uint32(c.Uint(999_999_999))}
	}
	e.Mode = uint32(number(hasMode, 0o7777))
	e.UID = uint32(number(hasUID, math.MaxUint32))
	e.GID = uint32(number(hasGID, math.MaxUint32))
	e.MTime = moment(hasMTime)
	e.Size = number(hasSize, rec.MaxSize)
	e.Off = number(hasOff, rec.MaxSize)
	e.More = has&isMore != 0
	e.Links = uint32(number(hasLinks, math.MaxUint32))
	if has&(hasTarget|hasLeader|hasRdev|hasFlags|hasXAttrs|hasErr|hasX) != 0 {
		decodeRare(c, has, e)
	}
	e.Inconsistent = has&isInconsistent != 0
	e.Way, e.Skipped, e.Unread = has&isWay != 0, has&isSkipped != 0, has&isUnread != 0
	if has&hasExtents != 0 {
		decodeExtents(c, nrefs, e)
	}
	e.CTime = moment(hasCTime)
	e.BTime = moment(hasBTime)
	e.Ino = number(hasIno, math.MaxUint64)
	e.Dev = number(hasDev, math.MaxUint64)
	e.Alone = has&isAlone != 0
	if has&hasX != 0 {
		for n := c.Uint(64); n > 0 && c.Err() == nil; n-- {
			key := string(c.Bin(256))
			e.X = append(e.X, rec.XField{Key: key, Raw: append([]byte{}, c.Bin(rec.MaxEntry)...)})
		}
	}
	if has&hasOmitted != 0 {
		for n := c.Uint(rec.MaxXAttrs); n > 0 && c.Err() == nil; n-- {
			e.Omitted = append(e.Omitted, string(c.Bin(rec.MaxName)))
		}
	}
	if fieldsOf(e) != has {
		c.Fail(wire.ErrCanonical)
	}
	if err := c.Err(); err != nil {
		return err
	}
	return e.Check()
}

func decodeRare(c *wire.Cursor, has uint64, e *rec.Entry) {
	if has&hasTarget != 0 {
		e.Target = string(c.Bin(rec.MaxPath))
	}
	if has&hasLeader != 0 {
		e.Leader = string(c.Bin(rec.MaxPath))
	}
	if has&hasRdev != 0 {
		e.Major, e.Minor = uint32(c.Uint(math.MaxUint32)), uint32(c.Uint(math.MaxUint32))
	}
	if has&hasFlags != 0 {
		e.Flags = uint32(c.Uint(math.MaxUint32))
	}
	if has&hasXAttrs != 0 {
		for n := c.Uint(rec.MaxXAttrs / 4); n > 0 && c.Err() == nil; n-- {
			name := string(c.Bin(rec.MaxName))
			e.XAttrs = append(e.XAttrs, rec.XAttr{Name: name, Value: append([]byte{}, c.Bin(rec.MaxXAttrs)...)})
		}
	}
	if has&hasErr != 0 {
		e.Err = string(c.Bin(rec.MaxText))
	}
}

func decodeExtents(c *wire.Cursor, nrefs int, e *rec.Entry) {
	n := c.Uint(rec.MaxExtents)
	e.Extents = make([]rec.Extent, 0, min(n, 1024))
	for ; n > 0 && c.Err() == nil; n-- {
		var x rec.Extent
		if c.IsNil() {
			x.Hole = true
		} else if x.N = c.Uint(rec.MaxRefs - 1); x.N >= uint64(nrefs) {
			c.Fail(fmt.Errorf("an extent of reference %d of %d", x.N, nrefs))
		}
		x.Off, x.Len = c.Uint(2*rec.MaxChunk), c.Uint(rec.MaxSize)
		e.Extents = append(e.Extents, x)
	}
}

// resolve turns indexes of references into ids.
func resolve(e *rec.Entry, refs []byte) {
	for i := range e.Extents {
		if x := &e.Extents[i]; !x.Hole {
			x.ID, x.N = id.ID(refs[x.N*id.Size:]), 0
		}
	}
}
