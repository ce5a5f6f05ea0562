package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

const (
	// MaxMeta bounds the sealed data of a blob with references: 4 MiB of
	// plaintext, padded and sealed, come to less.
	MaxMeta = 5 << 20
	// maxSnapshot bounds a snapshot object.
	maxSnapshot = MaxMeta + 64<<10
)

// A Snapshot is a snapshot object: the blob, its session, and what the
// repository says of it.
type Snapshot struct {
	rec.Stored
	Session *rec.Session
	Blob    *rec.Blob
}

// encode returns the object's bytes: a sealed stream of head, stored, session,
// blob, end.
func (s *Snapshot) encode(nonce [rec.NonceSize]byte) ([]byte, error) {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, v := range []rec.Record{
		&rec.Head{Kind: rec.Sealed, Order: rec.Loose, Nonce: nonce[:]},
		&s.Stored, s.Session, s.Blob,
		&rec.End{Entries: 1, Bytes: uint64(len(s.Blob.Data))},
	} {
		if err := w.Write(v); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// parseSnapshot is the inverse of encode. It accepts what encode writes and
// nothing else; the rest is ErrDamaged.
func parseSnapshot(data []byte, want id.ID) (*Snapshot, error) {
	bad := func(err error) (*Snapshot, error) { return nil, fmt.Errorf("%w: %w", ErrDamaged, err) }
	r := rec.NewReader(bytes.NewReader(data), rec.Sealed)
	r.Strict()
	var all []rec.Record
	for len(all) <= 5 {
		v, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return bad(err)
		}
		all = append(all, v)
	}
	if len(all) != 5 {
		return bad(fmt.Errorf("%d records", len(all)))
	}
	h, ok0 := all[0].(*rec.Head)
	stored, ok1 := all[1].(*rec.Stored)
	session, ok2 := all[2].(*rec.Session)
	blob, ok3 := all[3].(*rec.Blob)
	if !ok0 || !ok1 || !ok2 || !ok3 || len(h.Nonce) != rec.NonceSize {
		return bad(errors.New("other records than a snapshot object has"))
	}
	s := &Snapshot{*stored, session, blob}
	if err := s.check(want); err != nil {
		return bad(err)
	}
	if again, err := s.encode([rec.NonceSize]byte(h.Nonce)); err != nil || !bytes.Equal(again, data) {
		return bad(errors.New("not as it is written"))
	}
	return s, nil
}

func (s *Snapshot) check(want id.ID) error {
	switch {
	case s.ID != want || s.Blob.ID != want:
		return errors.New("another snapshot is in its place")
	case s.Blob.Kind != rec.KindSnapshot:
		return fmt.Errorf("its blob is of kind %d", s.Blob.Kind)
	case s.Blob.SID != pack.SID(s.Session):
		return errors.New("its session is another")
	case s.Blob.Sum() != s.Blob.CRC:
		return errors.New("its checksum does not hold")
	}
	return nil
}

// Snapshots returns the ids of the snapshots that are not marked as forgotten,
// sorted.
func (r *Repo) Snapshots() ([]id.ID, error) {
	ids, err := r.names("snapshots")
	if err != nil {
		return nil, err
	}
	gone, err := r.Forgotten()
	if err != nil {
		return nil, err
	}
	var forgotten id.Set
	for _, g := range gone {
		forgotten.Add(g)
	}
	ids = slices.DeleteFunc(ids, forgotten.Has)
	slices.SortFunc(ids, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids, nil
}

// Forgotten returns the ids of the snapshots that are marked as forgotten, sorted.
func (r *Repo) Forgotten() ([]id.ID, error) {
	ids, err := r.names("forgotten")
	slices.SortFunc(ids, func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids, err
}

// where returns the directory of a snapshot or checkpoint. The error is
// ErrMissing or ErrForgotten.
func (r *Repo) where(i id.ID) (dir string, err error) {
	for _, dir := range []string{"forgotten", "snapshots", "checkpoints"} {
		_, err := r.o.Stat(object(dir, i))
		switch {
		case err == nil && dir == "forgotten":
			return "", ErrForgotten
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("read the repository: %w", err)
		}
	}
	return "", ErrMissing
}

// HasSnapshot reports whether i is a snapshot or a checkpoint that is not marked
// as forgotten.
func (r *Repo) HasSnapshot(i id.ID) (bool, error) {
	_, err := r.where(i)
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrForgotten) {
		return false, nil
	}
	return err == nil, err
}

// IsCommitted reports whether i is a snapshot that is not marked as forgotten. A
// checkpoint is none: it may be of a part of a tree.
func (r *Repo) IsCommitted(i id.ID) (bool, error) {
	dir, err := r.where(i)
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrForgotten) {
		return false, nil
	}
	return dir == "snapshots", err
}

// committed reads a snapshot that is no mere checkpoint; of one the error is
// ErrMissing.
func (r *Repo) committed(i id.ID) (*Snapshot, error) {
	switch is, err := r.IsCommitted(i); {
	case err != nil:
		return nil, err
	case is:
		return r.Snapshot(i)
	}
	if _, err := r.where(i); err != nil {
		return nil, r.whereError("snapshot "+i.String(), err)
	}
	return nil, fmt.Errorf("snapshot %s is %w: %q has a checkpoint of that id", i, ErrMissing, r.String())
}

// whereError says of a snapshot that it is missing or forgotten, or what kept us
// from knowing.
func (r *Repo) whereError(what string, err error) error {
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrForgotten) {
		return fmt.Errorf("%s is %w: %q", what, err, r.String())
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Snapshot reads a snapshot or checkpoint. If its object is damaged, that is named, and the copy
// in checkpoints is taken, which has the same bytes; or else the blob from the packs, and
// what the repository says of it is lost. Errors: ErrMissing, ErrForgotten, ErrDamaged,
// explained.
func (r *Repo) Snapshot(i id.ID) (*Snapshot, error) {
	dir, err := r.where(i)
	if err != nil {
		return nil, r.whereError("snapshot "+i.String(), err)
	}
	path := r.String() + "/" + object(dir, i)
	s, err := r.readSnapshot(dir, i)
	if err == nil {
		return s, nil
	}
	if s, cerr := r.readSnapshot("checkpoints", i); cerr == nil {
		r.opts.Warn("%q: %v: the copy in checkpoints was used", path, err)
		return s, nil
	}
	item, gerr := r.Get(i, Just(rec.KindSnapshot))
	if gerr != nil {
		return nil, fmt.Errorf("snapshot %s: %q: %w", i, path, err)
	}
	r.opts.Warn("%q: %v: the copy in a pack was used; when it was received is not known", path, err)
	return &Snapshot{rec.Stored{ID: i}, item.Session, item.Blob}, nil
}

func (r *Repo) readSnapshot(dir string, i id.ID) (*Snapshot, error) {
	data, err := readAll(r.o, object(dir, i), maxSnapshot)
	if err != nil {
		return nil, err
	}
	return parseSnapshot(data, i)
}
