// Package page is the metadata tree: entries ⇄ pages, pages ⇄ the index pages
// above them, and the rules that a whole tree of entries must keep. It knows
// plaintext only: names and seals are the business of package box.
//
// The format is docs/format/snapshots.md.
//
//	page         entries at rest, one behind the other; its references are the
//	             data blobs of their extents, in order of first use
//	index page   [path, offset] of the first entry below each child, one behind
//	             the other; its references are the children
package page

import (
	"errors"
	"fmt"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// MaxPlain bounds the plaintext of pages and index pages.
const MaxPlain = 4 << 20

// ErrPage is what is wrong with a page that breaks a rule of the format.
var ErrPage = errors.New("not a valid page")

// Encode returns a page's plaintext. The extents' N are indexes into the page's
// references.
func Encode(w *wire.Writer, entries []*rec.Entry) {
	for _, e := range entries {
		e.Encode(w, rec.AtRest)
	}
}

// Decode is the inverse of Encode, for a page with nrefs references. It insists
// on the canonical form, on at least one entry, and on references that are all
// used, in order of first use.
func Decode(plain []byte, nrefs int) ([]*rec.Entry, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("%w: %d bytes", ErrPage, len(plain))
	}
	c := wire.NewCursor(plain, true)
	var entries []*rec.Entry
	var room []rec.Entry // for the next entries: few large pieces of memory cost less than many small ones
	used := 0
	for c.More() {
		if len(room) == 0 {
			room = make([]rec.Entry, 32)
		}
		e := &room[0]
		room = room[1:]
		if err := e.Decode(c, rec.AtRest); err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrPage, len(entries), err)
		}
		for i := range e.Extents {
			x := &e.Extents[i]
			switch {
			case x.Hole:
			case x.N == uint64(used) && used < nrefs:
				used++
			case x.N >= uint64(used):
				return nil, fmt.Errorf("%w: entry %s: extent %d names reference %d of %d, out of turn", ErrPage, rec.Quote(e.Path), i, x.N, nrefs)
			}
		}
		entries = append(entries, e)
	}
	if used != nrefs || len(entries) == 0 {
		return nil, fmt.Errorf("%w: %d entries use %d of %d references", ErrPage, len(entries), used, nrefs)
	}
	return entries, nil
}

// A Key is the place of an entry in the order of a tree.
type Key struct {
	Path string
	Off  uint64
}

// KeyOf returns an entry's Key.
func KeyOf(e *rec.Entry) Key { return Key{e.Path, e.Off} }

// Compare orders keys by path, then offset.
func (k Key) Compare(l Key) int {
	if c := rec.ComparePaths(k.Path, l.Path); c != 0 {
		return c
	}
	switch {
	case k.Off < l.Off:
		return -1
	case k.Off > l.Off:
		return 1
	}
	return 0
}

func (k Key) String() string {
	if k.Off == 0 {
		return rec.Quote(k.Path)
	}
	return fmt.Sprintf("%s at %d", rec.Quote(k.Path), k.Off)
}

// EncodeIndex returns an index page's plaintext.
func EncodeIndex(w *wire.Writer, firsts []Key) {
	for _, k := range firsts {
		w.Array(2)
		w.BinString(k.Path)
		w.Uint(k.Off)
	}
}

// DecodeIndex is the inverse of EncodeIndex. Keys must ascend, one for each
// reference.
func DecodeIndex(plain []byte, nrefs int) ([]Key, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("%w: index page of %d bytes", ErrPage, len(plain))
	}
	c := wire.NewCursor(plain, true)
	var keys []Key
	for c.More() {
		if c.Array(2) != 2 {
			c.Fail(fmt.Errorf("%w: not [path, offset]", ErrPage))
		}
		k := Key{string(c.Bin(rec.MaxPath)), c.Uint(rec.MaxSize)}
		if err := rec.CheckPath(k.Path); err != nil {
			c.Fail(err)
		}
		if n := len(keys); n > 0 && keys[n-1].Compare(k) >= 0 {
			c.Fail(fmt.Errorf("%s: %w", k, rec.ErrOrder))
		}
		keys = append(keys, k)
	}
	if err := c.Finish(); err != nil {
		return nil, fmt.Errorf("%w: index row %d: %w", ErrPage, len(keys), err)
	}
	if len(keys) != nrefs || nrefs == 0 {
		return nil, fmt.Errorf("%w: %d index rows for %d children", ErrPage, len(keys), nrefs)
	}
	return keys, nil
}

// A Tree builds index pages above pages that are given to it in order.
type Tree struct {
	// Begins says whether an index page of a level begins with a path.
	Begins func(level int, path string) bool
	// Seal stores an index page and returns its id.
	Seal func(kind uint8, refs, plain []byte) (id.ID, error)

	// MaxChildren bounds the children of an index page.
	MaxChildren int
	// MaxBytes bounds its rows, unless they are fewer than two.
	MaxBytes int

	levels []level // levels[k] are children of kind k+1
}

type level struct {
	keys  []Key
	refs  []byte
	bytes int
	below bool // an index page of these was made already: there will be another
}

// Add takes the next page.
func (t *Tree) Add(first Key, page id.ID) error { return t.add(0, first, page) }

func (t *Tree) add(k int, first Key, child id.ID) error {
	if k+1 > rec.KindIndexMax {
		return fmt.Errorf("%w: more than %d levels of index pages", ErrPage, rec.KindIndexMax-1)
	}
	if k == len(t.levels) {
		t.levels = append(t.levels, level{})
	}
	l := &t.levels[k]
	size := len(first.Path) + 16
	full := len(l.keys) >= t.MaxChildren || len(l.keys) > 1 && l.bytes+size > t.MaxBytes
	// A page that begins inside a file never begins an index page by
	// decision: a huge file would begin one with each of its pages.
	if len(l.keys) > 0 && (full || first.Off == 0 && t.Begins(k+1, first.Path)) {
		if err := t.flush(k); err != nil {
			return err
		}
		l = &t.levels[k]
	}
	l.keys = append(l.keys, first)
	l.refs = append(l.refs, child[:]...)
	l.bytes += size
	return nil
}

func (t *Tree) flush(k int) error {
	l := &t.levels[k]
	w := wire.NewWriter()
	EncodeIndex(w, l.keys)
	first := l.keys[0]
	i, err := t.Seal(uint8(k+2), l.refs, w.Bytes())
	if err != nil {
		return err
	}
	*l = level{below: true}
	return t.add(k+1, first, i)
}

// Finish makes what index pages remain and returns the root. A Tree without
// pages is an error.
func (t *Tree) Finish() (root id.ID, err error) {
	for k := 0; k < len(t.levels); k++ {
		l := &t.levels[k]
		if k == len(t.levels)-1 && len(l.keys) == 1 && !l.below {
			return id.ID(l.refs), nil
		}
		if len(l.keys) > 0 {
			if err := t.flush(k); err != nil {
				return id.ID{}, err
			}
		}
	}
	return id.ID{}, fmt.Errorf("%w: a tree without entries", ErrPage)
}

// Copy returns a Tree in the state of t, which goes on independently: finishing it
// gives the root of the pages so far. It shares Begins and Seal with t.
func (t *Tree) Copy() *Tree {
	c := *t
	c.levels = slices.Clone(t.levels)
	for k := range c.levels {
		l := &c.levels[k]
		l.keys, l.refs = slices.Clone(l.keys), slices.Clone(l.refs)
	}
	return &c
}

// Refs collects the references of a page in order of first use.
type Refs struct {
	Bytes []byte
	at    map[id.ID]uint64
}

// Index returns the index of i among the references, adding it if it is new.
func (r *Refs) Index(i id.ID) uint64 {
	n, ok := r.at[i]
	if !ok {
		if r.at == nil {
			r.at = map[id.ID]uint64{}
		}
		n = uint64(len(r.at))
		r.at[i] = n
		r.Bytes = append(r.Bytes, i[:]...)
	}
	return n
}

// Distinct reports whether no reference comes twice.
func Distinct(refs []byte) bool {
	ids := make([]id.ID, 0, len(refs)/id.Size)
	for p := range slices.Chunk(refs, id.Size) {
		ids = append(ids, id.ID(p))
	}
	slices.SortFunc(ids, func(a, b id.ID) int { return slices.Compare(a[:], b[:]) })
	return len(slices.Compact(ids)) == len(refs)/id.Size
}
