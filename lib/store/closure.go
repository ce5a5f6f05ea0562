package store

import (
	"errors"
	"fmt"
	"hash/maphash"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// shape is what must be the same wherever an id comes again: the kind, in the
// upper byte, and a hash of the references.
func (p *Put) shape(kind uint8, refs []byte) uint64 {
	return uint64(kind)<<56 | maphash.Bytes(p.seed, refs)>>8
}

func conflict(i id.ID, come, have string) error {
	return fmt.Errorf("blob %s came %s, but the repository has it %s: %w", i, come, have, ErrConflict)
}

func shapeText(kind uint8, refs int) string {
	return fmt.Sprintf("as kind %d with %d references", kind, refs)
}

// had reports whether a blob is there already, from this run or from before. If
// it is, but with another kind or other references, the error is ErrConflict.
func (p *Put) had(b *rec.Blob) (bool, error) {
	if was, ok := p.meta[b.ID]; ok {
		if was != p.shape(b.Kind, b.Refs) {
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), fmt.Sprintf("as kind %d with other references", was>>56))
		}
		return true, nil
	}
	if p.data.Has(b.ID) {
		if b.Kind != rec.KindData {
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), "as kind 0")
		}
		return true, nil
	}
	listed := false
	for row := range p.view.lookup(b.ID, p.r.badSegment) {
		if row.Kind != b.Kind {
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), fmt.Sprintf("as kind %d", row.Kind))
		}
		if listed = true; b.Kind == rec.KindData {
			return true, nil
		}
	}
	if !listed {
		return false, nil
	}
	return p.sameStored(b)
}

// sameStored compares a blob with the stored one. A stored one that is damaged
// does not count as had.
func (p *Put) sameStored(b *rec.Blob) (bool, error) {
	item, err := p.r.getFrom(p.view, b.ID, Just(b.Kind))
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer item.Free()
	if string(item.Blob.Refs) != string(b.Refs) {
		return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), shapeText(item.Blob.Kind, item.Blob.NRefs())+", which are others")
	}
	return true, nil
}

// below is the range of kinds that a blob of a kind refers to.
func below(kind uint8) Kinds {
	if kind == rec.KindSnapshot {
		return rootKinds
	}
	return Just(kind - 1)
}

// checkRefs checks that all that a blob refers to was received in this run or is
// had, down to where this run has checked already. Misses are told and counted;
// a reference to another kind is ErrConflict. It nests at most nine deep, since
// kinds descend.
func (p *Put) checkRefs(i id.ID, kind uint8, refs []byte) error {
	for at := 0; at < len(refs); at += id.Size {
		ref := id.ID(refs[at : at+id.Size])
		var err error
		if want := below(kind); want.High == rec.KindData {
			err = p.checkData(i, ref)
		} else {
			err = p.checkMeta(i, ref, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func wrongKind(i, ref id.ID, have uint8) error {
	return fmt.Errorf("blob %s refers to %s, which is of kind %d: %w", i, ref, have, ErrConflict)
}

func (p *Put) checkData(i, ref id.ID) error {
	if p.data.Has(ref) {
		return nil
	}
	if was, ok := p.meta[ref]; ok {
		return wrongKind(i, ref, uint8(was>>56))
	}
	for row := range p.view.lookup(ref, p.r.badSegment) {
		if row.Kind != rec.KindData {
			return wrongKind(i, ref, row.Kind)
		}
		return nil
	}
	return p.miss(ref)
}

func (p *Put) checkMeta(i, ref id.ID, want Kinds) error {
	if was, ok := p.meta[ref]; ok {
		if kind := uint8(was >> 56); !want.Has(kind) {
			return wrongKind(i, ref, kind)
		}
		return nil
	}
	if p.data.Has(ref) {
		return wrongKind(i, ref, rec.KindData)
	}
	listed := false
	for row := range p.view.lookup(ref, p.r.badSegment) {
		if !want.Has(row.Kind) {
			return wrongKind(i, ref, row.Kind)
		}
		listed = true
	}
	if !listed {
		return p.miss(ref)
	}
	// Not received in this run: that it is there does not mean that what it
	// refers to is.
	item, err := p.r.getFrom(p.view, ref, want)
	if errors.Is(err, ErrMissing) {
		p.r.opts.Note("%s: %v", ref, err)
		return p.miss(ref)
	}
	if err != nil {
		return err
	}
	kind, refs := item.Blob.Kind, append([]byte(nil), item.Blob.Refs...)
	item.Free()
	if len(p.meta) <= 2*maxChecked {
		p.meta[ref] = p.shape(kind, refs)
	}
	return p.checkRefs(ref, kind, refs)
}

// miss tells and counts an id that is not there.
func (p *Put) miss(i id.ID) error {
	if !p.missing.Add(i) {
		return nil
	}
	if p.missing.Len() > maxMisses {
		return fmt.Errorf("more than %d blobs are %w", maxMisses, ErrMissing)
	}
	if p.o.Missing == nil {
		return nil
	}
	return p.o.Missing(i)
}

// Heal stores a blob of a stream in order loose if no good copy of it is there:
// a copy that is listed is read, and if it is damaged the blob is stored beside
// it. Nothing is checked of what it refers to. It reports whether the blob was
// stored. Errors as with Blob.
func (p *Put) Heal(b *rec.Blob) (bool, error) {
	if err := p.accept(b); err != nil {
		return false, err
	}
	had, err := p.whole(b)
	if err != nil {
		return false, err
	}
	return !had, p.store(b, had)
}

// whole reports whether a good copy of a blob is there.
func (p *Put) whole(b *rec.Blob) (bool, error) {
	if _, ok := p.meta[b.ID]; ok || p.data.Has(b.ID) {
		return p.had(b)
	}
	listed := false
	for row := range p.view.lookup(b.ID, p.r.badSegment) {
		if row.Kind == pack.KindSession || row.Kind != b.Kind {
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), fmt.Sprintf("as kind %d", row.Kind))
		}
		listed = true
	}
	if !listed {
		return false, nil
	}
	return p.sameStored(b)
}
