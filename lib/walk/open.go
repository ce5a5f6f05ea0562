package walk

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// theSnapshot opens the blob that must be the snapshot that was asked for, and
// checks who made it. A partial one is ErrPartial unless it was asked for.
func theSnapshot(open *box.Opener, b *rec.Blob, o *Options) (*snap.Snapshot, error) {
	want := o.Want
	if b.Kind != rec.KindSnapshot {
		return nil, fmt.Errorf("%w: kind %d where a snapshot is due", ErrUnexpected, b.Kind)
	}
	if !want.IsZero() && b.ID != want {
		return nil, fmt.Errorf("%w: %s came, %s was asked for", ErrOther, b.ID.Short(), want.Short())
	}
	s, err := OpenSnapshot(open, b)
	if err == nil && s.Partial && !o.Partial {
		err = fmt.Errorf("snapshot %s: %w", b.ID.Short(), ErrPartial)
	}
	return s, err
}

// addSession takes a session of a stream. One that does not open, of another master key or damaged,
// matters when a blob needs it.
func addSession(open *box.Opener, data []byte) error {
	if _, err := open.AddSession(data); errors.Is(err, box.ErrSessions) {
		return err
	}
	return nil
}

// OpenSnapshot opens a blob of kind 9 and checks certificate and signature, and
// that the Opener does not refuse its writer.
func OpenSnapshot(open *box.Opener, b *rec.Blob) (*snap.Snapshot, error) {
	plain, err := open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, b.Data)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", b.ID.Short(), err)
	}
	s, err := snap.Decode(plain)
	if err == nil {
		err = open.VerifySnapshot(b.ID, b.Sig, s.WriterKey, s.WriterName, s.WriterCert)
	}
	if errors.Is(err, box.ErrRevoked) {
		return nil, fmt.Errorf("snapshot %s of %s: %w", b.ID.Short(), s.Time.Std().Format(time.RFC3339), err)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", b.ID.Short(), err)
	}
	return s, nil
}

// A node is a page with entries, or an index page with the first keys of
// its children.
type node struct {
	id      id.ID
	kind    uint8
	refs    []byte
	keys    []page.Key
	entries []*rec.Entry
}

// readNode reads what a page or index page says that was opened, checks that by itself, and
// that it begins with the key first, if that is not nil. The node holds nothing of b.
func readNode(b *rec.Blob, plain []byte, first *page.Key) (n *node, err error) {
	if !page.Distinct(b.Refs) {
		return nil, fmt.Errorf("page %s: %w: a reference comes twice", b.ID.Short(), page.ErrPage)
	}
	n = &node{id: b.ID, kind: b.Kind, refs: append([]byte(nil), b.Refs...)}
	what, key := "page", page.Key{}
	if b.Kind > rec.KindPage {
		what = "index page"
		if n.keys, err = page.DecodeIndex(plain, b.NRefs()); err == nil {
			key = n.keys[0]
		}
	} else if n.entries, err = page.Decode(plain, b.NRefs()); err == nil {
		key = page.KeyOf(n.entries[0])
	}
	if err == nil && first != nil && key != *first {
		err = fmt.Errorf("%w: it begins with %s, the page above says %s", page.ErrPage, key, *first)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, b.ID.Short(), err)
	}
	return n, nil
}

// distinct returns references in order of first use, as pv-get follows them: those
// of a page that did not open may be anything.
func distinct(refs []byte) []byte {
	var r page.Refs
	for i := range slices.Chunk(refs, id.Size) {
		r.Index(id.ID(i))
	}
	return r.Bytes
}
