package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"preserve/lib/id"
)

// While a put goes on, a collector may let packs go on which it has relied. So it looks what
// collectors have decided meanwhile, when its checkpoint is there, which is a root for them from then
// on; and once more when its snapshot is there, before anybody is told. What has been let go
// is still there for a day, or else for as long as somebody has the repository open: it is
// copied out.

// maxLooks bounds how often collectors may come in between.
const maxLooks = 100

// secure makes sure that all that a snapshot reaches is in packs that no collector lets go. The
// snapshot, or a checkpoint of it, is a root for collectors already; if something is gone, which
// is ErrMissing, or cannot be saved, it is marked as forgotten, if it is own: if nobody had stored
// one of this id before. Who knows the id of another's snapshot must not be able to have that
// forgotten.
func (p *Put) secure(s *Snapshot, own func() (bool, error)) error {
	err := p.look(s)
	if err == nil {
		return nil
	}
	mark, merr := own()
	if mark {
		_, merr = p.r.mark("forgotten", s.ID)
	}
	if merr != nil {
		return fmt.Errorf("%w (and it could not be marked as forgotten: %w)", err, merr)
	}
	return err
}

func (p *Put) look(s *Snapshot) error {
	for range maxLooks {
		epoch, err := p.r.names("gc")
		if err != nil {
			return err
		}
		if slices.Equal(epoch, p.view.state.epoch) {
			return nil
		}
		if err := p.saveAll(s); err != nil {
			return err
		}
	}
	return errRestless
}

// saveAll looks through all that a snapshot reaches, in a view of now, and copies what is only in
// packs that collectors let go.
func (p *Put) saveAll(s *Snapshot) error {
	v, err := p.r.loadView()
	if err != nil {
		return err
	}
	if len(v.state.damaged) > 0 {
		return fmt.Errorf("gc/%s is %w", v.state.damaged[0], ErrDamaged)
	}
	all, err := p.r.loadAll()
	if err != nil {
		return err
	}
	p.r.checkPacks(v, "")
	p.r.mu.Lock()
	p.r.view = v
	p.r.mu.Unlock()
	p.view, p.retired = v, all
	p.meta, p.data, p.lacking, p.saved = map[id.ID]uint64{}, id.Set{}, id.Set{}, id.Set{}
	err = p.checkStored(s.ID, s.Blob.Kind, s.Blob.Refs)
	p.retired = nil
	if err == nil {
		err = p.complete("the snapshot", "a collector has removed it meanwhile, and it was not committed: run the backup again")
	}
	if err != nil {
		return err
	}
	return p.barrier()
}

// save copies what of a blob is only in packs that collectors let go: each copy that is not, byte for
// byte, in a pack that counts. What metadata of these refers to is saved, too: nobody here can tell
// which copy opens. It reports whether there is such a copy; while nothing is saved there is none.
func (p *Put) save(i id.ID, kinds Kinds) (saved bool, err error) {
	if p.retired == nil {
		return false, nil
	}
	if p.saved.Has(i) {
		return true, nil
	}
	for row := range p.retired.lookup(i, p.r.badSegment) {
		if !kinds.Has(row.Kind) || !p.retired.state.retired[row.Pack] {
			continue
		}
		item, err := p.r.item(row)
		if err != nil {
			continue // damaged or gone: it does not count
		}
		refs, err := p.saveCopy(item)
		item.Free()
		if err == nil && refs != nil {
			saved = p.saved.Add(i) || saved
			was := p.trial
			p.trial = true // one copy must be whole, as checkMeta says; the others may be rubbish
			if err = p.checkStored(i, row.Kind, refs); errors.Is(err, errLacks) {
				err = nil
			}
			p.trial = was
		}
		if err != nil {
			return saved, err
		}
	}
	return saved, nil
}

// saveCopy copies a copy of a blob, unless it is there. It returns what it refers to; nil if it is there.
func (p *Put) saveCopy(item *Item) (refs []byte, err error) {
	b := item.Blob
	for row := range p.view.lookup(b.ID, p.r.badSegment) {
		if row.Kind != b.Kind {
			continue
		}
		other, err := p.r.item(row)
		if err != nil {
			continue
		}
		same := other.Blob.SID == b.SID && bytes.Equal(other.Blob.Refs, b.Refs) && bytes.Equal(other.Blob.Data, b.Data) && bytes.Equal(other.Blob.Sig, b.Sig)
		other.Free()
		if same {
			return nil, nil
		}
	}
	if p.sessions[b.SID] == nil {
		p.sessions[b.SID] = item.Session
		defer delete(p.sessions, b.SID)
	}
	if err := p.append(b); err != nil {
		return nil, err
	}
	return append([]byte{}, b.Refs...), nil
}
