package tarball

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"preserve/lib/rec"
)

// A sparse map says where in a file its data lies; the data itself stands in the
// archive without gaps. Maps can be long: they are kept in the spool, 16 bytes
// for each stretch.
const stretchSize = 16

// A mapper takes a member's map, checks it, and puts it into the spool.
type mapper struct {
	a         *Archive
	at        int64 // where the map begins in the spool
	n         int64 // of stretches
	buf       []byte
	end, data int64 // of the stretches so far
}

func (a *Archive) newMapper() *mapper { return &mapper{a: a, at: a.maps.Len()} }

// add takes the next stretch. Ends of maps are marked with empty ones.
func (m *mapper) add(off, n int64) error {
	if off < m.end || n < 0 || n > rec.MaxSize-off {
		return fmt.Errorf("%w: a map of holes that goes back or too far", ErrBad)
	}
	if n == 0 {
		return nil
	}
	m.end, m.data = off+n, m.data+n
	m.n++
	m.buf = binary.BigEndian.AppendUint64(m.buf, uint64(off))
	m.buf = binary.BigEndian.AppendUint64(m.buf, uint64(n))
	if len(m.buf) < 4096 {
		return nil
	}
	return m.flush()
}

func (m *mapper) flush() error {
	_, err := m.a.maps.Append(m.buf)
	m.buf = m.buf[:0]
	return err
}

// finish gives the map to an item of a file of that size, of which physical
// bytes are in the archive.
func (m *mapper) finish(it *item, name string, size, physical int64) error {
	if m.data < physical { // as GNU tar leaves it of a file that grew while it was read
		m.a.o.Warn(name, fmt.Errorf("its map of holes has a place for %d bytes of %d: the rest is left out", m.data, physical))
	}
	if m.data > physical || m.end > size {
		return fmt.Errorf("%w: a map of holes with %d bytes up to %d, for %d bytes of a file of %d", ErrBad, m.data, m.end, physical, size)
	}
	it.sparse, it.mapAt, it.mapN, it.entry.Size = true, m.at, m.n, uint64(size)
	return m.flush()
}

// sparse reads the map of a member in one of GNU tar's four formats, and reports
// whether it has one. What is left of h.size is data.
func (a *Archive) sparse(h *header, it *item) (bool, error) {
	m := a.newMapper()
	size := int64(0)
	var err error
	switch {
	case h.flag == 'S':
		size, err = a.oldMap(h, m)
	case h.pax["GNU.sparse.major"] == "1" && h.pax["GNU.sparse.minor"] == "0":
		if size, err = h.realSize(); err == nil {
			err = a.mapInData(h, m)
		}
	case h.pax["GNU.sparse.map"] != "":
		if size, err = h.realSize(); err == nil {
			err = textMap(h.pax["GNU.sparse.map"], m)
		}
	default:
		return false, nil
	}
	if name := h.pax["GNU.sparse.name"]; name != "" {
		h.name = name
	}
	if err != nil {
		return true, err
	}
	return true, m.finish(it, h.name, size, h.size)
}

func (h *header) realSize() (int64, error) {
	for _, key := range []string{"GNU.sparse.realsize", "GNU.sparse.size"} {
		if s := h.pax[key]; s != "" {
			n, err := decimal(s)
			if err != nil {
				return 0, fmt.Errorf("%w: %s %q", ErrBad, key, s[:min(len(s), 40)])
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: a map of holes without a size", ErrBad)
}

// oldMap reads the map in the header and the blocks behind it.
func (a *Archive) oldMap(h *header, m *mapper) (size int64, err error) {
	if size, err = number(h.block[483:495]); err != nil {
		return 0, err
	}
	if size < 0 {
		return 0, fmt.Errorf("%w: a file of %d bytes", ErrBad, size)
	}
	if err := m.fields(h.block[386:482]); err != nil {
		return 0, err
	}
	var b [blockSize]byte
	for more := h.block[482] != 0; more; more = b[504] != 0 {
		if err := a.raw.all(b[:]); err != nil {
			return 0, err
		}
		if err := m.fields(b[:504]); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// fields takes pairs of an offset and a length, of 12 bytes each.
func (m *mapper) fields(b []byte) error {
	for ; len(b) >= 24 && b[0] != 0; b = b[24:] {
		off, err := number(b[:12])
		if err != nil {
			return err
		}
		n, err := number(b[12:24])
		if err != nil {
			return err
		}
		if err := m.add(off, n); err != nil {
			return err
		}
	}
	return nil
}

// textMap takes the map of the formats 0.0 and 0.1: off,len,off,len…
func textMap(s string, m *mapper) error {
	for s != "" {
		var first, second string
		first, s, _ = strings.Cut(s, ",")
		second, s, _ = strings.Cut(s, ",")
		off, err := decimal(first)
		n, err2 := decimal(second)
		if err != nil || err2 != nil {
			return fmt.Errorf("%w: a map of holes that is none", ErrBad)
		}
		if err := m.add(off, n); err != nil {
			return err
		}
	}
	return nil
}

// mapInData reads the map of format 1.0, which stands before the data: lines of
// one number each, filled up to whole blocks.
func (a *Archive) mapInData(h *header, m *mapper) error {
	left := h.size
	var b [blockSize]byte
	at := len(b)
	line := func() (int64, error) {
		var digits []byte
		for {
			if at == len(b) {
				if left < blockSize {
					return 0, fmt.Errorf("%w: a map of holes that does not end", ErrBad)
				}
				if err := a.raw.all(b[:]); err != nil {
					return 0, err
				}
				left -= blockSize
				at = 0
			}
			c := b[at]
			at++
			if c == '\n' {
				break
			}
			if digits = append(digits, c); len(digits) > 20 {
				return 0, fmt.Errorf("%w: a map of holes that is none", ErrBad)
			}
		}
		n, err := strconv.ParseUint(string(digits), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("%w: a map of holes with the number %q", ErrBad, digits)
		}
		return int64(n), nil
	}
	count, err := line()
	for ; err == nil && count > 0; count-- {
		var off, n int64
		if off, err = line(); err != nil {
			break
		}
		if n, err = line(); err == nil {
			err = m.add(off, n)
		}
	}
	h.size = left
	return err
}

// A stretch is data of a file: where it begins and ends in the file, and where
// it begins among the file's data.
type stretch struct{ start, end, data int64 }

// A File is a member's entry and, of a regular file, its content.
type File struct {
	Entry *rec.Entry

	time  rec.Time // what its own header says, also where the entry is a link's
	data  io.ReaderAt
	maps  io.ReaderAt
	item  *item
	inode *inode  // if this is its first name
	at    stretch // the last that Segment returned
	next  int64   // number of the one behind it in the map
}

// Segment returns the next stretch of data at or after off: what is not data is
// a hole. Behind the last one the error is io.EOF. Calls go forward.
func (f *File) Segment(off int64) (start, end int64, err error) {
	size := int64(f.Entry.Size)
	if !f.item.sparse {
		f.at = stretch{0, size, 0}
		if off >= size {
			return size, size, io.EOF
		}
		return off, size, nil
	}
	for off >= f.at.end {
		if f.next == f.item.mapN {
			return size, size, io.EOF
		}
		var b [stretchSize]byte
		if _, err := f.maps.ReadAt(b[:], f.item.mapAt+f.next*stretchSize); err != nil {
			return 0, 0, fmt.Errorf("read map of holes: %w", err)
		}
		f.next++
		begin, n := int64(binary.BigEndian.Uint64(b[:])), int64(binary.BigEndian.Uint64(b[8:]))
		f.at = stretch{begin, begin + n, f.at.data + f.at.end - f.at.start}
	}
	return max(off, f.at.start), f.at.end, nil
}

// ReadAt reads data of the stretch that Segment returned last. What cannot be
// read is an error: the archive has become shorter.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < f.at.start || off+int64(len(p)) > f.at.end {
		return 0, fmt.Errorf("read at %d outside of the data from %d to %d", off, f.at.start, f.at.end)
	}
	n, err := f.data.ReadAt(p, f.item.at+f.at.data+off-f.at.start)
	if n == len(p) {
		return n, nil
	}
	return n, cut(err)
}
