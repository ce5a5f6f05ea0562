package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"preserve/lib/id"
)

// randomLists makes packs with entries under ids that random fills.
func randomLists(seed uint64, packs, perPack int, random func(r *rand.Rand, i *id.ID)) []List {
	r := rand.New(rand.NewPCG(seed, 1))
	var lists []List
	for range packs {
		l := List{Pack: Pack{Size: 1 << 30}}
		uniform(r, &l.Name)
		for k := range perPack {
			e := Entry{Offset: uint32(1000 * k), Length: 1 + uint32(r.Uint64N(1000)), Kind: uint8(r.Uint64N(11))}
			random(r, &e.ID)
			l.Entries = append(l.Entries, e)
		}
		lists = append(lists, l)
	}
	return lists
}

func uniform(r *rand.Rand, i *id.ID) {
	for k := 0; k < id.Size; k += 8 {
		binary.BigEndian.PutUint64(i[k:], r.Uint64())
	}
}

// clustered ids share all but their last bytes, as an attacker's may.
func clustered(r *rand.Rand, i *id.ID) {
	*i = id.ID{7, 7, 7, 7, 7, 7, 7, 7}
	binary.BigEndian.PutUint64(i[24:], r.Uint64N(3000))
}

// skewed ids lie at both ends of the range.
func skewed(r *rand.Rand, i *id.ID) {
	uniform(r, i)
	n := r.Uint64()
	binary.BigEndian.PutUint64(i[:], n>>r.Uint64N(64))
	if n&1 == 1 {
		i[0] = 0xff
	}
}

// slowLookup is the reference: all rows, in order.
func slowLookup(s *Segment, i id.ID) (rows []Row) {
	for k := range s.Len() {
		if row, err := s.Row(k); err == nil && row.ID == i {
			rows = append(rows, row)
		}
	}
	return rows
}

func reencode(s *Segment) ([]byte, error) {
	rows := make([]Row, 0, s.n)
	for i := range s.n {
		r, err := s.Row(i)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return encodeSegment(s.packs, rows), nil
}

// lookup appends the rows of an id to rows, in order of pack and offset, at most
// limit of them.
func lookup(s *Segment, rows []Row, i id.ID, limit int) ([]Row, error) {
	at, err := s.Search(i)
	for ; err == nil && at < s.n && limit > 0; at++ {
		var row Row
		if row, err = s.Row(at); err != nil || row.ID != i {
			break
		}
		rows = append(rows, row)
		limit--
	}
	return rows, err
}

func mustEncode(t testing.TB, lists []List) []byte {
	t.Helper()
	data, _, err := EncodeSegment(lists)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSegmentAgainstReference(t *testing.T) {
	for name, random := range map[string]func(*rand.Rand, *id.ID){"uniform": uniform, "clustered": clustered, "skewed": skewed} {
		for _, packs := range []int{0, 1, 3, 20} {
			lists := randomLists(uint64(packs), packs, 40, random)
			data := mustEncode(t, lists)
			mem, err := ParseSegment(data)
			if err != nil {
				t.Fatalf("%s %d: %v", name, packs, err)
			}
			disk, err := OpenSegment(bytes.NewReader(data), int64(len(data)), NewCache(1<<16))
			if err != nil {
				t.Fatal(err)
			}
			bare, err := OpenSegment(bytes.NewReader(data), int64(len(data)), bareCache())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*Segment{disk, bare} {
				if again, err := reencode(s); err != nil || !bytes.Equal(again, data) || s.Name() != mem.Name() {
					t.Fatalf("%s %d: another encoding: %v", name, packs, err)
				}
			}
			asked := []id.ID{{}, {0xff}, {7}, id.ID(bytes.Repeat([]byte{0xff}, 32))}
			for _, l := range lists {
				for _, e := range l.Entries {
					asked = append(asked, e.ID)
				}
			}
			for _, i := range asked {
				want := slowLookup(mem, i)
				for _, s := range []*Segment{mem, disk, bare} {
					got, err := lookup(s, nil, i, 1000)
					if err != nil || !slices.Equal(got, want) {
						t.Fatalf("%s %d: %v: %v, %v, want %v", name, packs, i, got, err, want)
					}
				}
			}
		}
	}
}

// A lookup of a uniform id comes to about one block, and of any id to a number
// that grows like the logarithm.
func TestSegmentReads(t *testing.T) {
	for name, c := range map[string]struct {
		random func(*rand.Rand, *id.ID)
		most   float64
	}{"uniform": {uniform, 2.5}, "clustered": {clustered, 30}, "skewed": {skewed, 30}} {
		lists := randomLists(5, 100, 1000, c.random)
		data := mustEncode(t, lists)
		src := &countReads{r: bytes.NewReader(data)}
		s, err := OpenSegment(src, int64(len(data)), NewCache(1<<20))
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(9, 9))
		total := 0
		const n = 300
		for k := range n {
			i := lists[k%len(lists)].Entries[r.IntN(1000)].ID
			if k%3 == 0 {
				c.random(r, &i)
			}
			s.cache = NewCache(1 << 20)
			src.n = 0
			if _, err := lookup(s, nil, i, 1); err != nil {
				t.Fatal(err)
			}
			total += src.n
		}
		if avg := float64(total) / n; avg > c.most {
			t.Errorf("%s: %.1f blocks for a lookup, want at most %.1f", name, avg, c.most)
		} else {
			t.Logf("%s: %.1f blocks for a lookup in %d rows", name, avg, s.Len())
		}
	}
}

// bareCache is a cache without room for checksums.
func bareCache() *Cache { return &Cache{slots: make([]slot, 4), sums: newRoom(0)} }

// TestHugeSegmentsTakeNoMemory: a file with holes costs whoever has the disk nothing, and may be a segment of
// 200 GB, whose checksums alone have 200 MB.
func TestHugeSegmentsTakeNoMemory(t *testing.T) {
	var open []*Segment
	cache := NewCache(1 << 16)
	for n := range 4 {
		s := &sparse{head: []byte(segMagic), size: 0}
		s.head = binary.BigEndian.AppendUint32(s.head, 0)
		rows := int64(MaxRows) - int64(n)
		s.head = binary.BigEndian.AppendUint64(s.head, uint64(rows))
		s.size = segHeader + rows*RowSize
		s.size += 4 * int64(blocks(s.size))
		seg, err := OpenSegment(s, s.size, cache)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, seg)
	}
	small := mustEncode(t, randomLists(1, 3, 60, uniform))
	for range 2 {
		seg, err := OpenSegment(bytes.NewReader(small), int64(len(small)), cache)
		if err != nil || seg.sums == nil {
			t.Errorf("the checksums of a small one are not held, %v", err)
		}
		open = append(open, seg)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 32<<20 {
		t.Errorf("%d segments hold %d bytes", len(open), m.HeapAlloc)
	}
	if _, err := open[0].Row(1 << 30); !errors.Is(err, ErrDamaged) {
		t.Errorf("a row of zeros: %v", err)
	}
	// What is not used any more gives back its room.
	cache = NewCache(1)
	if _, err := OpenSegment(bytes.NewReader(small), int64(len(small)), cache); err != nil {
		t.Fatal(err)
	}
	clear(cache.slots) // what is read next does that
	for cache.sums.left.Load() != sumsRoom {
		runtime.GC()
		runtime.Gosched()
	}
}

// sparse is a file of zeros behind a head.
type sparse struct {
	head []byte
	size int64
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

type countReads struct {
	r *bytes.Reader
	n int
}

func (c *countReads) ReadAt(p []byte, off int64) (int, error) {
	c.n++
	return c.r.ReadAt(p, off)
}

// Each byte matters.
func TestSegmentDamage(t *testing.T) {
	data := mustEncode(t, randomLists(1, 3, 60, uniform))
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if _, err := ParseSegment(bad); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d: %v", i, err)
		}
		for _, cache := range []*Cache{NewCache(1 << 16), bareCache()} {
			s, err := OpenSegment(bytes.NewReader(bad), int64(len(bad)), cache)
			if err == nil {
				_, err = reencode(s)
			}
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("byte %d, read in parts: %v", i, err)
			}
		}
	}
	for n := range data {
		if _, err := ParseSegment(data[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, err := ParseSegment(append(bytes.Clone(data), 0)); !errors.Is(err, ErrDamaged) {
		t.Fatal("trailing byte", err)
	}
}

// Valid checksums do not make up for wrong contents.
func TestSegmentRefuses(t *testing.T) {
	p := []Pack{{id.ID{1}, 100}, {id.ID{2}, 100}}
	good := []Row{{ID: id.ID{1}, Pack: 0, Offset: 5, Length: 5}, {ID: id.ID{1}, Pack: 1, Offset: 1, Length: 5}, {ID: id.ID{2}, Pack: 0, Offset: 95, Length: 5, Kind: 10}}
	if _, err := ParseSegment(encodeSegment(p, good)); err != nil {
		t.Fatal(err)
	}
	change := func(k int, fn func(*Row)) []byte {
		rows := slices.Clone(good)
		fn(&rows[k])
		return encodeSegment(p, rows)
	}
	patch := func(off int, v byte) []byte {
		raw := encodeSegment(p, good)
		raw = raw[:len(raw)-4]
		raw[off] = v
		return seal(raw)
	}
	row := segHeader + 2*packSize
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"twice":           {encodeSegment(p, []Row{good[0], good[0]}), ErrDamaged},
		"unsorted":        {encodeSegment(p, []Row{good[2], good[0]}), ErrDamaged},
		"unsorted places": {encodeSegment(p, []Row{good[1], good[0]}), ErrDamaged},
		"no such pack":    {change(0, func(r *Row) { r.Pack = 2 }), ErrDamaged},
		"behind the pack": {change(2, func(r *Row) { r.Offset = 96 }), ErrDamaged},
		"overflow":        {change(2, func(r *Row) { r.Offset, r.Length = 1<<32-1, 1<<32-1 }), ErrDamaged},
		"empty":           {change(0, func(r *Row) { r.Length = 0 }), ErrDamaged},
		"no id":           {change(0, func(r *Row) { r.ID = id.ID{} }), ErrDamaged},
		"kind 11":         {change(0, func(r *Row) { r.Kind = 11 }), ErrVersion},
		"flag":            {patch(row+45, 1), ErrVersion},
		"padding":         {patch(row+46, 1), ErrDamaged},
		"packs unsorted":  {encodeSegment([]Pack{p[1], p[0]}, good), ErrDamaged},
		"packs twice":     {encodeSegment([]Pack{p[0], p[0]}, good), ErrDamaged},
		"pack too large":  {encodeSegment([]Pack{p[0], {id.ID{2}, 1 << 33}}, good), ErrDamaged},
		"version 2":       {patch(3, '2'), ErrVersion},
		"version 0":       {patch(3, '0'), ErrDamaged},
		"magic":           {patch(0, 'Q'), ErrDamaged},
		"huge counts":     {patch(8, 0xff), ErrDamaged},
	} {
		if _, err := ParseSegment(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := EncodeSegment([]List{{Pack: p[0]}, {Pack: p[0]}}); err == nil {
		t.Error("a pack given twice is encoded")
	}
}

// seal appends the checksums to a body.
func seal(body []byte) []byte {
	data := slices.Clone(body)
	for len(body) > 0 {
		n := min(blockSize, len(body))
		data = binary.BigEndian.AppendUint32(data, crc32.Checksum(body[:n], castagnoli))
		body = body[n:]
	}
	return data
}

// FuzzSegment: what parses encodes to the same bytes. The input is a body, to
// which the checksums are appended, or the fuzzer would never get past them.
func FuzzSegment(f *testing.F) {
	for n := range 3 {
		data := mustEncode(f, randomLists(uint64(n), n, 3, uniform))
		s, err := ParseSegment(data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:s.body], true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum {
			b = seal(b)
		}
		s, err := ParseSegment(b)
		disk, derr := OpenSegment(bytes.NewReader(b), int64(len(b)), NewCache(1<<14))
		if err != nil {
			if derr == nil {
				for i := range min(disk.Len(), 1000) {
					if _, err := disk.Row(i); err != nil {
						break
					}
				}
			}
			return
		}
		if derr != nil {
			t.Fatalf("parsed, but not opened: %v", derr)
		}
		again, err := reencode(disk)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded otherwise (%v):\n%x\n%x", err, b, again)
		}
		for i := range s.Len() {
			row, err := s.Row(i)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := lookup(disk, nil, row.ID, 10000); err != nil || !slices.Contains(got, row) {
				t.Fatalf("row %d is not found: %v, %v", i, got, err)
			}
		}
	})
}

func FuzzToc(f *testing.F) {
	e := Entry{ID: id.ID{1}, Offset: uint32(headLen), Length: 9, CRC: 3, Kind: 10}
	f.Add(appendToc(nil, []Entry{e, {ID: id.ID{2}, Offset: uint32(headLen) + 9, Length: 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseToc(b)
		if err == nil && !bytes.Equal(appendToc(nil, list), b) {
			t.Fatalf("encoded otherwise: %x", b)
		}
	})
}
