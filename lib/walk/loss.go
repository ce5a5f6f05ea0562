package walk

import (
	"errors"
	"fmt"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// isLoss reports whether an error of Opener.Open is about the blob that came; not, about the key.
func isLoss(err error) bool { return err != nil && !errors.Is(err, box.ErrCannot) }

// otherKind is why a blob is lost in the place of which there is one of another kind. If that is
// what a writer has named so, the snapshot is not valid: then the second error is not nil.
func otherKind(open *box.Opener, b *rec.Blob, due uint8) (why, err error) {
	why = fmt.Errorf("%w: it is of kind %d, not %d", ErrUnexpected, b.Kind, due)
	if _, err := open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, b.Data); err == nil {
		return nil, fmt.Errorf("blob %s: %w", b.ID.Short(), why)
	}
	return why, nil
}

func noSnapshot(l Loss) error {
	if errors.Is(l.Why, ErrMissing) {
		return fmt.Errorf("snapshot %s: the repository cannot give it", l.ID.Short())
	}
	return fmt.Errorf("snapshot %s: %w", l.ID.Short(), l.Why)
}

func noRoot(l Loss) error {
	return fmt.Errorf("the snapshot's root page %s: %w: nothing can be read", l.ID.Short(), l.Why)
}

// admit checks the next entry of a tree. It gives it to take, behind directories that were lost with
// a page; or to orphan, if it cannot be used without what was lost. An entry whose beginning was
// passed over goes to nobody. It stands in page i; at is the time that made-up directories get.
//
// A directory that is made up is only a way: nobody knows its owner and mode, nor what else is in it.
func admit(c *page.Checker, e *rec.Entry, i id.ID, at rec.Time, take, orphan func(*rec.Entry) error) error {
	for _, p := range c.Parents(e) {
		if err := take(&rec.Entry{Path: p, Type: rec.Dir, Mode: 0o700, MTime: at, Way: true, Unread: true}); err != nil {
			return err
		}
	}
	switch err := c.Next(e); {
	case errors.Is(err, page.ErrSkipped):
		return nil
	case errors.Is(err, page.ErrOrphan):
		return orphan(e)
	case err != nil:
		return fmt.Errorf("page %s: %w", i.Short(), err)
	}
	return take(e)
}

// partEnd tells a sink where the part of a tree ends that a checkpoint has.
func partEnd(c *page.Checker, s Sink, top id.ID) error {
	at, ok := c.Behind()
	if !ok {
		return nil
	}
	return s.Gap(at, nil, Loss{ID: top, Why: ErrPartial})
}

// whole checks, at the end of a tree of which no page was lost, that it is the one that was
// counted. With part, pages were passed over.
func whole(c *page.Checker, s *snap.Snapshot, part bool) error {
	if err := c.Finish(); err != nil && !s.Partial {
		return err
	}
	if c.Entries > s.Entries || c.Bytes > s.Bytes || !part && (c.Entries < s.Entries || c.Bytes < s.Bytes) {
		return fmt.Errorf("%w: %d entries of %d, %d bytes of %d", ErrCounts, c.Entries, s.Entries, c.Bytes, s.Bytes)
	}
	return nil
}
