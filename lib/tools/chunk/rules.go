package chunk

import (
	"math"

	"preserve/lib/bounds"
	"preserve/lib/cdc"
	"preserve/lib/key"
	"preserve/lib/rec"
)

// rules are what decides where chunks, groups, pages and pieces end, beside the
// limits of the format.
type rules struct {
	chunker *rec.Chunker // for the head; nil for an uncut stream
	chunk   int          // bytes of the largest chunk of a large file
	cut     func(data []byte) int

	pageBegins func(path string) bool
	groupEnds  func(content []byte) bool
	pieceEnds  func(chunk []byte) bool

	alone              *alone // small files that are in no group; nil for none
	groupMin, groupMax int    // of weight
	pageData           int    // a page with so many bytes of chunks ends
	ahead              int    // bytes of chunks that go ahead of entries that wait
}

// keyed are the rules under a cut key, for a tree with the given roots.
func keyed(cut key.Cutter, p cdc.Params, roots []string) (*rules, error) {
	cutter, err := cdc.New(cut.Gear(cdc.MaterialSize), p)
	if err != nil {
		return nil, err
	}
	group, page := cut.Group(), cut.Page()
	b := bounds.New(group.Bytes(), page.Bytes(), roots)
	return &rules{
		chunker: &rec.Chunker{Name: cdc.Name, Min: uint64(p.Min), Avg: uint64(p.Avg), Max: uint64(p.Max)},
		chunk:   p.Max, cut: cutter.Cut,
		pageBegins: b.PageBegins, groupEnds: b.GroupEnds, pieceEnds: b.PieceEnds,
		groupMin: bounds.GroupMin, groupMax: bounds.GroupMax, pageData: math.MaxInt, ahead: 2 << 30,
	}, nil
}

// Sizes of an uncut stream: what its reader has to keep from one cut to the
// next.
const (
	plainChunk = 1 << 20
	plainPage  = 4 << 20
	plainAhead = 40 << 20
)

// plain are rules that need no key and say nothing: the stream is to be cut
// again.
func plain() *rules {
	never := func([]byte) bool { return false }
	return &rules{
		chunk: plainChunk, cut: func(data []byte) int { return min(len(data), plainChunk) },
		pageBegins: func(string) bool { return false }, groupEnds: never, pieceEnds: never,
		groupMin: plainChunk, groupMax: plainChunk, pageData: plainPage, ahead: plainAhead,
	}
}
