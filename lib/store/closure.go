package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// shape is what must be the same wherever an id comes again in a run: the kind, in
// the upper byte, and a hash of the references.
func (p *Put) shape(kind uint8, refs []byte) uint64 {
	return uint64(kind)<<56 | maphash.Bytes(p.seed, refs)>>8
}

// received marks the shape of metadata that came in this run: others are of what was
// stored before, which somebody else may have stored under the id.
const received = 1 << 63

func kindOf(shape uint64) uint8 { return uint8(shape &^ received >> 56) }

func conflict(i id.ID, come, have string) error {
	return fmt.Errorf("blob %s came %s, and before that %s: %w", i, come, have, ErrConflict)
}

func shapeText(kind uint8, refs int) string {
	return fmt.Sprintf("as kind %d with %d references", kind, refs)
}

// A copyKey tells copies of a blob apart, by the checksum of the whole record.
type copyKey struct {
	id  id.ID
	crc uint32
}

// A last is the blob that came last and was not had, and how many copies of it came.
type last struct {
	copyKey
	copies int
}

// came reports whether a blob came before in this run. The same id with another kind
// or other references is ErrConflict; but a page may come directly behind another copy of it.
func (p *Put) came(b *rec.Blob) (bool, error) {
	was, meta := p.meta[b.ID]
	switch {
	case meta && was&received != 0:
		switch {
		case was == p.shape(b.Kind, b.Refs)|received:
		case p.just == b.ID && rootKinds.Has(b.Kind) && rootKinds.Has(kindOf(was)):
			return p.last.id == b.ID && p.last.copies > maxShapes, nil
		default:
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), fmt.Sprintf("as kind %d with other references", kindOf(was)))
		}
	case p.data.Has(b.ID):
		if b.Kind != rec.KindData {
			return false, conflict(b.ID, shapeText(b.Kind, b.NRefs()), "as kind 0")
		}
	default:
		return false, nil
	}
	return true, nil
}

// another reports whether a blob is another copy of the one that came just before it
// and was stored. Nobody here can tell which one opens.
func (p *Put) another(b *rec.Blob) bool {
	return p.last.id == b.ID && p.last.crc != b.CRC && p.last.copies <= maxCopies
}

// had reports whether a blob is there already, from this run or from before: a good copy, and of
// metadata one with the same references. What is there under the id as
// another kind, or with other references, or is damaged, does not count.
func (p *Put) had(b *rec.Blob) (bool, error) {
	if came, err := p.came(b); came || err != nil {
		return came && !p.another(b), err
	}
	return p.stored(b, func(o *rec.Blob) bool {
		return bytes.Equal(o.Refs, b.Refs) && (b.Kind != rec.KindSnapshot || sameSnapshot(o, b))
	}), nil
}

// stored reports whether a good copy is there that is the same as b, among those that are tried
// first. Of a crowd of copies not all are read: what is not found is stored again, as the youngest.
func (p *Put) stored(b *rec.Blob, same func(*rec.Blob) bool) bool {
	rows, _ := p.r.copies(p.view, b.ID, Just(b.Kind))
	for _, row := range rows[:min(len(rows), maxTried)] {
		item, err := p.r.item(row)
		if err != nil {
			continue // damaged, gone or without its session: it does not count
		}
		found := same(item.Blob)
		item.Free()
		if found {
			return true
		}
	}
	return false
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
// a reference to what came as another kind is ErrConflict. It nests at most nine deep, since
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

// wrongKind says that i refers to what came in this run as a kind that does not go below it:
// an error of the stream, unless i is a copy that was stored before. That lacks it.
func (p *Put) wrongKind(i, ref id.ID, have uint8) error {
	if p.deep > 0 {
		return p.miss(ref)
	}
	return fmt.Errorf("blob %s refers to %s, which came as kind %d: %w", i, ref, have, ErrConflict)
}

func (p *Put) checkData(i, ref id.ID) error {
	if p.data.Has(ref) {
		return nil
	}
	if was := p.meta[ref]; was&received != 0 {
		return p.wrongKind(i, ref, kindOf(was))
	}
	saved, err := p.save(ref, Just(rec.KindData))
	if err != nil || saved || p.r.listed(p.view, ref, rec.KindData) {
		return err
	}
	return p.miss(ref)
}

func (p *Put) checkMeta(i, ref id.ID, want Kinds) error {
	if was, ok := p.meta[ref]; ok {
		kind := kindOf(was)
		switch {
		case want.Has(kind):
			return nil
		case was&received != 0:
			return p.wrongKind(i, ref, kind)
		}
	}
	if p.data.Has(ref) {
		return p.wrongKind(i, ref, rec.KindData)
	}
	// Not received in this run: that it is there does not mean that what it
	// refers to is.
	if p.trial && p.lacking.Has(ref) {
		return errLacks
	}
	saved, err := p.save(ref, want)
	if err != nil {
		return err
	}
	item, err := p.r.copyFrom(p.view, ref, want, 0)
	if errors.Is(err, ErrMissing) && saved {
		item, err = p.r.copyFrom(p.retired, ref, want, 0)
	}
	if errors.Is(err, ErrMissing) {
		if !p.trial {
			p.r.opts.Note("%s: %v", ref, err)
		}
		return p.miss(ref)
	}
	if err != nil {
		return err
	}
	kind, refs, next := item.Blob.Kind, bytes.Clone(item.Blob.Refs), item.Next
	item.Free()
	if next > 0 { // there are others: this one may be rubbish
		whole, err := p.wholeCopy(ref, want)
		if whole || err != nil {
			return err
		}
		if p.lacking.Len() < maxMisses {
			p.lacking.Add(ref)
		}
		if p.trial {
			return errLacks
		}
	}
	if err := p.checkStored(ref, kind, refs); err != nil {
		return err
	}
	p.checked(ref, kind, refs)
	return nil
}

// checkStored is checkRefs of a blob that was not received.
func (p *Put) checkStored(i id.ID, kind uint8, refs []byte) error {
	p.deep++
	defer func() { p.deep-- }()
	return p.checkRefs(i, kind, refs)
}

// checked remembers that metadata that was not received was checked.
func (p *Put) checked(ref id.ID, kind uint8, refs []byte) {
	if len(p.meta) <= 2*maxChecked {
		p.meta[ref] = p.shape(kind, refs)
	}
}

// errLacks says that a copy refers to what is missing, while several are tried.
var errLacks = errors.New("a copy refers to what is missing")

// wholeCopy reports whether of all that a copy of ref refers to nothing is missing, the oldest
// copy first. Nobody here can tell which copy opens: what somebody has stored with other
// references must not end the puts of others. What a copy lacks is not told.
func (p *Put) wholeCopy(ref id.ID, want Kinds) (bool, error) {
	was := p.trial
	p.trial = true
	defer func() { p.trial = was }()
	v, found := p.view, false
	if p.retired != nil { // of each copy everything is saved
		v = p.retired
	}
	var last uint64
	for n, more := 0, true; more; {
		item, err := p.r.copyFrom(v, ref, want, n)
		if errors.Is(err, ErrMissing) {
			return found, nil
		}
		if err != nil {
			return false, err
		}
		kind, refs, first := item.Blob.Kind, bytes.Clone(item.Blob.Refs), n == 0
		n, more = item.Next, item.Next > 0
		item.Free()
		shape := p.shape(kind, refs)
		if !first && shape == last {
			continue
		}
		last = shape
		err = p.checkStored(ref, kind, refs)
		if err == nil {
			p.checked(ref, kind, refs)
			if found = true; p.retired == nil {
				return true, nil
			}
		} else if !errors.Is(err, errLacks) {
			return false, err
		}
	}
	return found, nil
}

// miss tells and counts an id that is not there; of a copy that is tried it is errLacks.
func (p *Put) miss(i id.ID) error {
	if p.trial {
		return errLacks
	}
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

// Heal stores a blob of a stream in order loose, unless just this copy of it is
// there and good: of others nobody here can tell whether they open. Nothing is
// checked of what it refers to. It reports whether the blob was stored. Errors as
// with Blob.
func (p *Put) Heal(b *rec.Blob) (bool, error) {
	if err := p.accept(b); err != nil {
		return false, err
	}
	c := copyKey{b.ID, b.CRC}
	if p.copies[c] {
		return false, p.store(b, true)
	}
	if p.copies == nil || len(p.copies) == barrierRows { // then some may be stored twice
		p.copies = map[copyKey]bool{}
	}
	p.copies[c] = true
	had := p.stored(b, func(o *rec.Blob) bool {
		return o.SID == b.SID && bytes.Equal(o.Refs, b.Refs) && bytes.Equal(o.Data, b.Data)
	})
	return !had, p.store(b, had)
}
