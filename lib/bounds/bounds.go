// Package bounds decides where groups of small files, pages of entries, index
// pages and pieces of huge files end. It knows no data beyond the few bytes
// that it is shown, and keeps nothing.
//
// Every decision is a MAC under a key derived from the cut key, never an
// unkeyed hash: whoever does not hold the key cannot tell from sizes alone
// where a known tree would be cut. The same path gives the same decision in
// every run, so that an unchanged region is cut into the same pages.
package bounds

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// What pv-chunk aims at; readers accept whatever the limits of the format allow
// (docs/format/writers.md).
const (
	SmallFile  = 256 << 10 // smaller files are grouped
	GroupMin   = 2 << 20   // of weight: a group is not ended by a decision before this
	GroupMax   = 4 << 20   // of weight: and never grows over this
	groupBits  = 3         // one file in 8 ends a group that is large enough
	pageBits   = 8         // one path in 256 begins a page
	indexBits  = 6         // one page in 64 begins an index page, and so on upwards
	pieceBits  = 8         // one chunk in 256 ends a piece of a huge file
	edge       = 64        // bytes of each end of a file that decide about groups
	MaxEntries = 1024      // entries of a page
	MaxBytes   = 256 << 10 // bytes of its entries, unless it is a single one
	MaxRefs    = 1024      // references of a page, and children of an index page
)

// Bounds makes the decisions. It is not safe for concurrent use.
type Bounds struct {
	page, group hash.Hash
	sum         [sha256.Size]byte
	path        []byte // room for a path
	roots       map[string]bool
}

// New returns Bounds under the keys that the cut key gives for groups and pages,
// for a tree with the given roots: only the part of a path below its root
// decides, so that a tree is cut in the same places wherever it stands and
// however its root is spelled.
func New(groupKey, pageKey []byte, roots []string) *Bounds {
	b := &Bounds{page: hmac.New(sha256.New, pageKey), group: hmac.New(sha256.New, groupKey), roots: map[string]bool{}}
	for _, r := range roots {
		b.roots[r] = true
	}
	return b
}

// below returns the part of a path that lies below its root; the path itself
// above all roots.
func (b *Bounds) below(path string) string {
	if b.roots[path] {
		return ""
	}
	for i := range len(path) {
		if path[i] == '/' && b.roots[path[:i]] {
			return path[i+1:]
		}
	}
	return path
}

// zeros returns the number of leading zero bits of the MAC over the parts.
func (b *Bounds) zeros(h hash.Hash, parts ...[]byte) int {
	h.Reset()
	for _, p := range parts {
		h.Write(p)
	}
	return bits.LeadingZeros64(binary.BigEndian.Uint64(h.Sum(b.sum[:0])))
}

var (
	tagPath  = []byte("path\x00")
	tagPiece = []byte("piece\x00")
)

// PageBegins reports whether a page begins with the entry at path.
func (b *Bounds) PageBegins(path string) bool {
	return b.pathZeros(path) >= pageBits
}

// pathZeros is zeros of what decides about a path.
func (b *Bounds) pathZeros(path string) int {
	b.path = append(append(b.path[:0], tagPath...), b.below(path)...)
	return b.zeros(b.page, b.path)
}

// IndexBegins reports whether an index page of the given level (1 and up: one
// less than its kind) begins with the child whose first entry is at path.
func (b *Bounds) IndexBegins(level int, path string) bool {
	return b.pathZeros(path) >= pageBits+indexBits*level
}

// GroupEnds reports whether a group that has reached GroupMin ends behind a file
// with this content.
func (b *Bounds) GroupEnds(content []byte) bool {
	n := len(content)
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(n))
	return b.zeros(b.group, size[:], content[:min(n, edge)], content[max(0, n-edge):]) >= groupBits
}

// Weight is what a small file adds to its group: its size, or four times that if
// it hardly compresses. Files that compress gain from each other's company up
// to megabytes (docs/chunking.md); the others only make a group slow to fetch
// for the sake of one file.
func Weight(content []byte) int {
	if dense(content) {
		return 4 * len(content)
	}
	return len(content)
}

// dense judges by how evenly the byte values of a sample are distributed: by
// the number of pairs of equal bytes in it.
func dense(content []byte) bool {
	const sample = 1024
	n := len(content)
	if n < sample {
		return false
	}
	var count [256]uint32
	step := n / sample
	for i := range sample {
		count[content[i*step]]++
	}
	pairs := uint32(0)
	for _, c := range count {
		pairs += c * c
	}
	// Of bytes at random there are n + n(n-1)/256, of text ten times as many.
	const random = sample + sample*(sample-1)/256
	return pairs < random*3/2
}

// PieceEnds reports whether a piece of a huge file ends behind this chunk.
func (b *Bounds) PieceEnds(chunk []byte) bool {
	return b.zeros(b.page, tagPiece, chunk[max(0, len(chunk)-edge):]) >= pieceBits
}
