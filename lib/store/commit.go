package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// takeSnapshot keeps a snapshot blob, with its session, until it is known what it
// is: a checkpoint record names it, or it is what the stream commits.
func (p *Put) takeSnapshot(b *rec.Blob) error {
	if s := p.snapshot; s != nil {
		return fmt.Errorf("snapshot %s behind snapshot %s, which no checkpoint record names: a stream has one: %w", b.ID, s.ID, rec.ErrTwice)
	}
	if _, err := p.r.where(b.ID); errors.Is(err, ErrForgotten) {
		return fmt.Errorf("snapshot %s is %w: %q", b.ID, ErrForgotten, p.r.String())
	}
	c := *b
	c.Data, c.Refs, c.Sig = slices.Clone(b.Data), slices.Clone(b.Refs), slices.Clone(b.Sig)
	p.snapshot = &Snapshot{rec.Stored{ID: b.ID, As: p.o.As}, p.sessions[b.SID], &c}
	return nil
}

// Checkpoint makes the snapshot that was received last, and all that it reaches,
// durable under checkpoints. If something is missing, or the last checkpoint was written
// too short a time ago, this one is passed over, and the answer says why. It is not the
// snapshot that Commit commits. Another id than that of the snapshot received last is
// ErrOrder.
func (p *Put) Checkpoint(i id.ID) (passed string, err error) {
	s := p.snapshot
	if s == nil || s.ID != i {
		return "", fmt.Errorf("checkpoint %s, which is not the snapshot that came before it: %w", i, ErrOrder)
	}
	p.snapshot = nil
	switch {
	case p.missing.Len() > 0:
		passed = "something is missing"
	case !p.checkpoint.IsZero() && time.Since(p.checkpoint) < p.o.CheckpointEvery:
		passed = fmt.Sprintf("less than %v have passed since the last one", p.o.CheckpointEvery)
	}
	if passed != "" {
		p.Count.Passed++
		return passed, nil
	}
	if _, err := p.root(s, event{Checkpoint: i.String()}); err != nil {
		return "", err
	}
	p.Count.Checkpoints++
	p.checkpoint = time.Now()
	return "", nil
}

// root makes all that was received durable, and then a root of a snapshot: a
// collector keeps what it reaches from now on, and only now is it of use to look
// whether one was at work meanwhile. It returns the bytes of the object. In the log the
// root is named as in e.
func (p *Put) root(s *Snapshot, e event) ([]byte, error) {
	// The object has blob and session once more, and a commit writes it twice.
	if err := p.checkRoom(2 * (recordSize(s.Blob) + sessionSize + 1<<10 + block)); err != nil {
		return nil, err
	}
	if p.journal != nil {
		p.journal.root = e
	}
	if err := p.barrier(); err != nil {
		return nil, err
	}
	if err := p.logRoot(); err != nil {
		return nil, err
	}
	now, err := p.now()
	if err != nil {
		return nil, err
	}
	s.Received = now
	var nonce [rec.NonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	data, err := s.encode(nonce)
	if err != nil {
		return nil, err
	}
	own, err := p.create(object("checkpoints", s.ID), data)
	if err == nil {
		err = p.secure(s, func() (bool, error) {
			_, serr := p.r.o.Stat(object("snapshots", s.ID))
			if errors.Is(serr, fs.ErrNotExist) {
				return own, nil
			}
			return false, serr // if there is one, it is not this put's
		})
	}
	return data, err
}

// Commit makes the snapshot that was received be there. The caller has seen the
// end record. It returns the snapshot's id. When it returns nil, everything that
// the snapshot reaches is durable.
func (p *Put) Commit() (id.ID, error) {
	s := p.snapshot
	if s == nil {
		return id.ID{}, errors.New("the stream has no snapshot: there is nothing to commit")
	}
	if err := p.complete("the snapshot", "it was not committed"); err != nil {
		return s.ID, err
	}
	data, err := p.root(s, event{Snapshot: s.ID.String()})
	own := false
	if err == nil {
		own, err = p.create(object("snapshots", s.ID), data)
	}
	if err == nil {
		err = p.checkOwn(s)
	}
	if err == nil {
		err = p.secure(s, func() (bool, error) { return own, nil })
	}
	p.committed = err == nil
	return s.ID, err
}

// checkOwn makes sure that what is there as the snapshot is this one: somebody who knew the
// id may have been faster, and no object is replaced.
func (p *Put) checkOwn(s *Snapshot) error {
	there, err := p.r.CheckSnapshot(s.ID, false)
	if errors.Is(err, ErrDamaged) {
		return nil // readers take the copy in checkpoints, or in a pack
	}
	if err == nil && !sameSnapshot(there.Blob, s.Blob) {
		err = fmt.Errorf("snapshot %s is in %q with other bytes: %w", s.ID, p.r.String(), ErrTaken)
	}
	return err
}

// sameSnapshot reports whether two blobs of one snapshot's id are the same, whatever sessions
// they come with.
func sameSnapshot(a, b *rec.Blob) bool {
	return bytes.Equal(a.Refs, b.Refs) && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Sig, b.Sig)
}

// Unchanged makes sure that snapshot i, one that the stream rests on, is there with
// all that it reaches, as Blob does of a page that was not received: what is
// missing is told, and the error is ErrMissing. The caller has seen the end record,
// which says that the tree is that snapshot's. When it returns nil, what was
// received is durable, too: it may have been missing before. No snapshot is
// written. Another than one of the base, or a stream that has a snapshot of its
// own, is ErrOrder.
func (p *Put) Unchanged(i id.ID) error {
	switch {
	case p.snapshot != nil:
		return fmt.Errorf("the end says that nothing has changed since snapshot %s, and snapshot %s came: %w", i, p.snapshot.ID, ErrOrder)
	case !slices.Contains(p.base, i):
		return fmt.Errorf("the end says that nothing has changed since snapshot %s, on which the stream does not rest: %w", i, ErrOrder)
	}
	s, err := p.r.committed(i)
	if err != nil {
		return err
	}
	if err := p.checkStored(i, rec.KindSnapshot, s.Blob.Refs); err != nil {
		return err
	}
	if err := p.complete("snapshot "+i.String(), "nothing has changed since it, but it cannot be relied on"); err != nil {
		return err
	}
	if err := p.barrier(); err != nil {
		return err
	}
	_, err = p.r.committed(i) // it may have been forgotten meanwhile
	return err
}

// complete returns ErrMissing if anything was missing.
func (p *Put) complete(what, so string) error {
	if n := p.missing.Len(); n > 0 {
		return fmt.Errorf("%s needs what is %w (blobs: %d): %s", what, ErrMissing, n, so)
	}
	return nil
}

// now is the store's time.
func (p *Put) now() (rec.Time, error) {
	at, err := p.w.Now()
	if err != nil {
		return rec.Time{}, p.spaceError(err)
	}
	return rec.TimeOf(at), nil
}
