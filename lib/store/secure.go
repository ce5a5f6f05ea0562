package store

import (
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
	all := *v // with the rows that are retired
	p.r.checkPacks(v, "")
	p.r.mu.Lock()
	p.r.view = v
	p.r.mu.Unlock()
	p.view, p.retired = v, &all
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

// save copies a blob that is only in packs that a collector lets go, and all copies of it: nobody here can tell
// which one opens. It reports false if it is in none.
func (p *Put) save(i id.ID, kinds Kinds) (bool, error) {
	if p.saved.Has(i) {
		return true, nil
	}
	item, err := p.r.copyFrom(p.retired, i, kinds, 0)
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for {
		next := item.Next
		err := p.saveOne(item)
		item.Free()
		if err != nil {
			return false, err
		}
		if next == 0 {
			break
		}
		if item, err = p.r.copyFrom(p.retired, i, kinds, next); errors.Is(err, ErrMissing) {
			break
		} else if err != nil {
			return false, err
		}
	}
	p.saved.Add(i)
	return true, nil
}

func (p *Put) saveOne(item *Item) error {
	sid := item.Blob.SID
	if p.sessions[sid] == nil {
		p.sessions[sid] = item.Session
		defer delete(p.sessions, sid)
	}
	return p.append(item.Blob)
}
