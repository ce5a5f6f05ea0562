// Package content is what a snapshot holds, in the clear, on its way through a
// process: pages of entries, and the data that belongs into them. It names those
// who stand on that way: a Sink takes what package walk verifies, or what Read reads
// from a content stream, and does not know which of them it was; a Chooser picks;
// an Ordered takes all of it in path order. Writer and Read are the two directions
// of a content stream.
//
// It knows no key.
package content

import (
	"errors"
	"fmt"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// Errors of what comes.
var (
	// ErrMissing is why a blob is lost that the repository cannot give.
	ErrMissing = errors.New("missing in the repository")
	// ErrPartial is what comes of a checkpoint, and why nothing comes behind its end.
	ErrPartial = errors.New("a checkpoint of a run that did not end, not a whole snapshot")
	// ErrTold is why something is lost in a content stream: the stage that lost it has said more.
	ErrTold = errors.New("lost on the way: the stage before has said why")
	// ErrIncomplete is a stream that ends too early.
	ErrIncomplete = errors.New("the stream ended before the whole snapshot came")
)

// A Loss is a blob that cannot be had. A walk goes on without it: what needs it is left out, and
// nothing else is. Only the snapshot itself and its root end the walk.
//
// What was sealed by a writer of the master, and breaks a rule, is no loss: that ends the walk.
type Loss struct {
	ID id.ID
	// Why is ErrMissing, ErrTold, or what box.Opener.Open says of the blob that came; of the end
	// of a checkpoint, ErrPartial.
	Why error
}

// String says what is wrong with the blob: "is missing in the repository".
func (l Loss) String() string {
	switch {
	case errors.Is(l.Why, ErrMissing):
		return "is " + ErrMissing.Error()
	case errors.Is(l.Why, ErrTold):
		return "was " + ErrTold.Error()
	}
	return "is damaged: " + l.Why.Error()
}

// A Use is a place in a file where data of a blob belongs.
type Use struct {
	Entry    int // index into the page's Entries
	At       int64
	Off, Len int // in the blob's plaintext
}

// A Page is a page's entries, in order, and for each of its data blobs where its
// data belongs.
type Page struct {
	Entries []*rec.Entry
	Refs    []id.ID
	Uses    [][]Use // Uses[i] belong to Refs[i]
	State   any     // the sink's own

	size []int // the least plaintext of each blob
}

// NewPage returns a page of entries whose extents name refs by number, and works out
// where each blob's data belongs. Offset and length of each extent are those that
// page.Checker lets through.
func NewPage(entries []*rec.Entry, refs []byte) *Page {
	n := len(refs) / id.Size
	p := &Page{Entries: entries, Refs: make([]id.ID, n), Uses: make([][]Use, n), size: make([]int, n)}
	for i := range p.Refs {
		p.Refs[i] = id.ID(refs[i*id.Size:])
	}
	for n, e := range entries {
		at := int64(e.Off)
		for _, x := range e.Extents {
			if !x.Hole {
				p.Uses[x.N] = append(p.Uses[x.N], Use{n, at, int(x.Off), int(x.Len)})
				p.size[x.N] = max(p.size[x.N], int(x.Off+x.Len))
			}
			at += int64(x.Len)
		}
	}
	return p
}

// Give gives the sink data, of which a page must not need more than there is.
func (p *Page) Give(s Sink, ref int, plain []byte) error {
	if err := p.Fits(ref, len(plain)); err != nil {
		return err
	}
	return s.Data(p, ref, plain)
}

// Fits checks that the page needs no more of a blob than its size.
func (p *Page) Fits(ref, size int) error {
	if need := p.size[ref]; size < need {
		return fmt.Errorf("data blob %s of %s: %w: %d bytes where extents need %d", p.Refs[ref].Short(), p.Where(ref), page.ErrPage, size, need)
	}
	return nil
}

// Where names a file that a blob belongs to.
func (p *Page) Where(ref int) string {
	if len(p.Uses[ref]) == 0 {
		return "no file"
	}
	return rec.Quote(p.Entries[p.Uses[ref][0].Entry].Path)
}

// A Sink takes what a walk verifies, or Read reads. An error from any method ends that.
type Sink interface {
	// Snapshot comes first. Of a content stream i is zero, and of s there are
	// only host, user, time, roots, and the names that come before all entries.
	Snapshot(i id.ID, s *snap.Snapshot) error
	// Page comes before its data, in path order, from one goroutine. The sink may
	// take Uses out of it that it does not need.
	Page(p *Page) error
	// Data brings blob ref of p; plain is valid until Data returns. It is
	// called from several goroutines, for pages that came already. A driven walk may
	// bring blobs in another order than that of the pages: Data must not wait
	// for another blob.
	Data(p *Page, ref int, plain []byte) error
	// Missing says that blob ref of p cannot be had. It is called as Data is.
	Missing(p *Page, ref int, l Loss) error
	// Gap says that a page cannot be had: entries from first on, up to but not
	// including next (all that remain if next is nil), are unknown.
	Gap(first page.Key, next *page.Key, l Loss) error
	// End is the stream's last record.
	End(e *rec.End) error
	// Orphan says that an entry cannot be used since a page is missing.
	Orphan(e *rec.Entry) error
}

// A Chooser stands between what comes and its sink: it picks, changes and adds
// entries. It is called by one goroutine, with every record in path order, and
// never sees one that the checks refuse.
type Chooser interface {
	// Choose returns what the sink gets in place of e, in order: nothing, e, or
	// a copy of e with other metadata, whose Extents are e's or nil. Entries
	// that must come first, without content, may stand before it. It must not
	// change e itself. The slice is read before the next call.
	Choose(e *rec.Entry) ([]*rec.Entry, error)
	// Reaches reports whether Choose may return anything for a record at or
	// behind first and before next (all that remain if next is nil), or needs to
	// see one there: a page of which it returns false need not be fetched. It is
	// asked ahead of Choose, and never changes its mind. next may be no entry's
	// key. Of a range that holds one path only, what is asked is whether Choose
	// would return it: an answer that is true for no reason costs a search.
	Reaches(first page.Key, next *page.Key) bool
}

// Choose is what a Chooser makes of a page's entries; nil lets all through.
func Choose(c Chooser, entries []*rec.Entry) ([]*rec.Entry, error) {
	if c == nil {
		return entries, nil
	}
	chosen := entries[:0:0]
	for _, e := range entries {
		es, err := c.Choose(e)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, es...)
	}
	return chosen, nil
}
