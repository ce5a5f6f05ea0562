package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"preserve/lib/id"
)

// Limits of a segment.
const (
	MaxPacks = 1 << 20
	MaxRows  = 1 << 32
)

const (
	segMagic  = "PVI1"
	segHeader = 4 + 4 + 8
	packSize  = id.Size + 8
	blockSize = 4096
)

// A Pack is one row of a segment's table of packs.
type Pack struct {
	Name id.ID
	Size uint64
}

// A Row says where a blob or session is.
type Row struct {
	ID     id.ID
	Pack   uint32 // an index in the table of packs
	Offset uint32
	Length uint32
	Kind   uint8
}

// compare orders rows by id, pack and offset.
func (r *Row) compare(o *Row) int {
	if c := bytes.Compare(r.ID[:], o.ID[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(r.Pack, o.Pack), cmp.Compare(r.Offset, o.Offset))
}

func (r *Row) append(b []byte) []byte {
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Pack)
	b = binary.BigEndian.AppendUint32(b, r.Offset)
	b = binary.BigEndian.AppendUint32(b, r.Length)
	return append(b, r.Kind, 0, 0, 0)
}

// A List is a pack and its entries, for EncodeSegment.
type List struct {
	Pack
	Entries []Entry
}

// EncodeSegment makes a segment of the lists of packs, which it reorders, and its
// name. Packs must differ; one may have no entries. Limits: MaxPacks.
func EncodeSegment(lists []List) (data []byte, name id.ID, err error) {
	slices.SortFunc(lists, func(a, b List) int { return bytes.Compare(a.Name[:], b.Name[:]) })
	packs := make([]Pack, 0, len(lists))
	n := 0
	for _, l := range lists {
		n += len(l.Entries)
	}
	rows := make([]Row, 0, n)
	for i, l := range lists {
		if i > 0 && l.Name == lists[i-1].Name {
			return nil, id.ID{}, fmt.Errorf("pack %s given twice", l.Name)
		}
		packs = append(packs, l.Pack)
		for _, e := range l.Entries {
			rows = append(rows, Row{e.ID, uint32(i), e.Offset, e.Length, e.Kind})
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return a.compare(&b) })
	if len(packs) > MaxPacks {
		return nil, id.ID{}, fmt.Errorf("%d packs: over the limit of %d", len(packs), MaxPacks)
	}
	data = encodeSegment(packs, rows)
	return data, segmentName(data, len(packs), len(rows)), nil
}

// segmentName is the SHA-256 of header, table of packs and checksums: of the rows
// the checksums speak. So a reader that opens a large segment and reads few of its
// rows knows the name, too.
func segmentName(data []byte, packs, rows int) (name id.ID) {
	h := sha256.New()
	at := segHeader + packs*packSize
	h.Write(data[:at])
	h.Write(data[at+rows*RowSize:])
	h.Sum(name[:0])
	return name
}

func encodeSegment(packs []Pack, rows []Row) []byte {
	body := segHeader + len(packs)*packSize + len(rows)*RowSize
	b := make([]byte, 0, body+4*blocks(int64(body)))
	b = append(b, segMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(packs)))
	b = binary.BigEndian.AppendUint64(b, uint64(len(rows)))
	for _, p := range packs {
		b = append(b, p.Name[:]...)
		b = binary.BigEndian.AppendUint64(b, p.Size)
	}
	for i := range rows {
		b = rows[i].append(b)
	}
	for at := 0; at < body; at += blockSize {
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:min(at+blockSize, body)], castagnoli))
	}
	return b
}

// blocks is the number of blocks of a body.
func blocks(body int64) int { return int((body + blockSize - 1) / blockSize) }

// A Segment reads one index segment. It may be used by many goroutines.
type Segment struct {
	name  id.ID
	packs []Pack
	n     int64
	rows0 int64 // where the rows begin
	body  int64 // how long what the checksums cover is
	head  []byte
	sums  []byte // the checksums; nil where the cache has no room for them
	r     io.ReaderAt
	mem   []byte // all of the body, if it was parsed from memory
	cache *Cache
	seat  uint64 // where in the cache its first block goes
}

// Name returns the name that the segment must have: whatever else is wrong with
// its bytes is found when they are read.
func (s *Segment) Name() id.ID { return s.name }

// Packs returns the table of packs, in order of name. It is not the caller's to
// change.
func (s *Segment) Packs() []Pack { return s.packs }

// Len returns the number of rows.
func (s *Segment) Len() int64 { return s.n }

// ParseSegment reads a whole segment strictly: rows sorted, unique and in range,
// checksums right, nothing behind them. The segment keeps data. What a later
// version may allow is ErrVersion, all else that is wrong ErrDamaged.
func ParseSegment(data []byte) (*Segment, error) {
	s := &Segment{r: bytes.NewReader(data), mem: data}
	if err := s.open(int64(len(data))); err != nil {
		return nil, err
	}
	for b := range len(s.sums) / 4 {
		at := b * blockSize
		if err := s.checkBlock(b, data[at:min(int64(at+blockSize), s.body)]); err != nil {
			return nil, err
		}
	}
	if err := s.readPacks(); err != nil {
		return nil, err
	}
	var last Row
	for i := range s.n {
		row, err := s.Row(i)
		if err != nil {
			return nil, err
		}
		if i > 0 && last.compare(&row) >= 0 {
			return nil, fmt.Errorf("row %d: not sorted: %w", i, ErrDamaged)
		}
		last = row
	}
	return s, nil
}

// OpenSegment opens a segment of size bytes that is read as it is asked for,
// each block checked against its checksum and kept in cache for a while. Only
// the table of packs and, as far as cache has room, the checksums are held in memory:
// a file with holes may have any number of them. Errors as with
// ParseSegment, but the order of the rows is not checked.
func OpenSegment(r io.ReaderAt, size int64, cache *Cache) (*Segment, error) {
	s := &Segment{r: r, cache: cache, seat: cache.seat()}
	if err := s.open(size); err != nil {
		return nil, err
	}
	return s, s.readPacks()
}

// open reads header and checksums.
func (s *Segment) open(size int64) error {
	head := make([]byte, segHeader)
	if err := readAt(s.r, head[:min(size, segHeader)], 0); err != nil {
		return err
	}
	if string(head[:3]) == segMagic[:3] && head[3] > segMagic[3] && head[3] <= '9' {
		return fmt.Errorf("segment version %c: %w", head[3], ErrVersion)
	}
	if string(head[:4]) != segMagic || size < segHeader {
		return fmt.Errorf("not an index segment: %w", ErrDamaged)
	}
	packs, rows := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint64(head[8:])
	if packs > MaxPacks || rows > MaxRows {
		return fmt.Errorf("segment of %d packs, %d rows: %w", packs, rows, ErrDamaged)
	}
	s.n = int64(rows)
	s.rows0 = segHeader + int64(packs)*packSize
	s.body = s.rows0 + s.n*RowSize
	if want := s.body + 4*int64(blocks(s.body)); size != want {
		return fmt.Errorf("segment of %d bytes that should have %d: %w", size, want, ErrDamaged)
	}
	if n := 4 * blocks(s.body); s.cache == nil || s.cache.sums.hold(s, n) {
		s.sums = make([]byte, n)
		if err := readAt(s.r, s.sums, s.body); err != nil {
			return err
		}
	}
	s.packs = make([]Pack, packs)
	s.head = head
	return nil
}

func (s *Segment) checkBlock(n int, b []byte) error {
	var raw [4]byte
	if s.sums != nil {
		copy(raw[:], s.sums[4*n:])
	} else if err := readAt(s.r, raw[:], s.body+4*int64(n)); err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(raw[:]) {
		return fmt.Errorf("block %d of the segment: its checksum does not hold: %w", n, ErrDamaged)
	}
	return nil
}

func (s *Segment) readPacks() error {
	raw := make([]byte, packSize)
	h := sha256.New()
	h.Write(s.head)
	for i := range s.packs {
		if err := s.read(raw, segHeader+int64(i)*packSize); err != nil {
			return err
		}
		p := Pack{id.ID(raw[:id.Size]), binary.BigEndian.Uint64(raw[id.Size:])}
		if p.Size > MaxSize || i > 0 && bytes.Compare(s.packs[i-1].Name[:], p.Name[:]) >= 0 {
			return fmt.Errorf("pack %d of the segment: %w", i, ErrDamaged)
		}
		s.packs[i] = p
		h.Write(raw)
	}
	if err := s.hashSums(h); err != nil {
		return err
	}
	h.Sum(s.name[:0])
	return nil
}

// hashSums writes the checksums to h.
func (s *Segment) hashSums(h io.Writer) error {
	if s.sums != nil {
		_, err := h.Write(s.sums)
		return err
	}
	buf := make([]byte, 64<<10)
	for at, end := s.body, s.body+4*int64(blocks(s.body)); at < end; {
		part := buf[:min(int64(len(buf)), end-at)]
		if err := readAt(s.r, part, at); err != nil {
			return err
		}
		_, _ = h.Write(part) // a hash never fails
		at += int64(len(part))
	}
	return nil
}

// read fills p with the bytes at off of the body, from checked blocks.
func (s *Segment) read(p []byte, off int64) error {
	if s.mem != nil {
		copy(p, s.mem[off:])
		return nil
	}
	for len(p) > 0 {
		n := off / blockSize
		b, err := s.cache.get(s, n)
		if err != nil {
			return err
		}
		k := copy(p, b[off-n*blockSize:])
		p, off = p[k:], off+int64(k)
	}
	return nil
}

// load reads and checks a block.
func (s *Segment) load(n int64) ([]byte, error) {
	b := make([]byte, min(blockSize, s.body-n*blockSize))
	if err := readAt(s.r, b, n*blockSize); err != nil {
		return nil, err
	}
	return b, s.checkBlock(int(n), b)
}

// Row returns row i.
func (s *Segment) Row(i int64) (Row, error) {
	var raw [RowSize]byte
	if err := s.read(raw[:], s.rows0+i*RowSize); err != nil {
		return Row{}, err
	}
	r, err := s.parseRow(raw[:])
	if err != nil {
		return Row{}, fmt.Errorf("row %d of the segment: %w", i, err)
	}
	return r, nil
}

func (s *Segment) parseRow(raw []byte) (Row, error) {
	r := Row{
		ID:     id.ID(raw[:32]),
		Pack:   binary.BigEndian.Uint32(raw[32:]),
		Offset: binary.BigEndian.Uint32(raw[36:]),
		Length: binary.BigEndian.Uint32(raw[40:]),
		Kind:   raw[44],
	}
	switch {
	case raw[45] != 0, r.Kind > KindSession:
		return r, ErrVersion
	case raw[46]|raw[47] != 0, int64(r.Pack) >= int64(len(s.packs)), r.Length == 0, r.ID.IsZero(),
		uint64(r.Offset)+uint64(r.Length) > s.packs[r.Pack].Size:
		return r, ErrDamaged
	}
	return r, nil
}

// near is how far beside its guess Search looks to bound the target from the
// other side: less than a block.
const near = 24

// Search returns the index of the first row whose id is not below i; Len if
// there is none. Ids are uniform, so that interpolation comes to about one
// block; where they are not, bisection bounds the number of steps.
func (s *Segment) Search(i id.ID) (int64, error) {
	lo, hi := int64(0), s.n
	low, high := uint64(0), uint64(math.MaxUint64) // what ids in between begin with
	want := binary.BigEndian.Uint64(i[:])
	for step := 0; lo < hi; step++ {
		mid := lo + (hi-lo)/2
		if step < 8 && low < high && want >= low && want <= high {
			part := float64(want-low) / float64(high-low)
			mid = min(lo+int64(part*float64(hi-lo)), hi-1)
			switch {
			case step < 2:
			case hi-mid > mid-lo:
				mid = min(mid+near, hi-1)
			default:
				mid = max(mid-near, lo)
			}
		}
		row, err := s.Row(mid)
		if err != nil {
			return 0, err
		}
		at := binary.BigEndian.Uint64(row.ID[:])
		if bytes.Compare(row.ID[:], i[:]) < 0 {
			lo, low = mid+1, at
		} else {
			hi, high = mid, at
		}
	}
	return lo, nil
}
