package store

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
)

// A pack is durable before a segment lists it. A put that is killed in between, or
// a segment that is lost, leaves orphans: packs that are whole, and that no segment
// lists.

// errEnough ends a search for orphans.
var errEnough = errors.New("enough")

// orphans calls fn with each pack that no segment of v lists, as its own list says
// what is in it. One that has no such list, or another name, is passed over: it may
// be damaged, or none of ours. An error of fn ends it and is returned.
func (r *Repo) orphans(v *view, fn func(l pack.List) error) error {
	var listed id.Set
	for _, name := range v.packs {
		listed.Add(name)
	}
	for _, s := range v.large {
		if r.isBad(s.name) {
			continue
		}
		for _, p := range s.Packs() {
			listed.Add(p.Name)
		}
	}
	return r.EachPack(func(name id.ID) error {
		if listed.Has(name) || v.state.retired[name] {
			return nil
		}
		if l, ok := r.readList(name); ok {
			return fn(l)
		}
		return nil
	})
}

// withOrphans returns v with the rows of the packs that no good segment lists, as
// far as they fit into memory.
func (r *Repo) withOrphans(v *view) (*view, error) {
	all := *v
	all.searched = true
	all.rows, all.packs, all.sizes = slices.Clone(v.rows), slices.Clone(v.packs), slices.Clone(v.sizes)
	n := 0
	err := r.orphans(v, func(l pack.List) error {
		if len(all.rows)+len(l.Entries) > maxMerged {
			return errEnough
		}
		n++
		all.packs, all.sizes = append(all.packs, l.Name), append(all.sizes, l.Size)
		for _, e := range l.Entries {
			all.rows = append(all.rows, pack.Row{ID: e.ID, Pack: uint32(len(all.packs) - 1), Offset: e.Offset, Length: e.Length, Kind: e.Kind})
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		r.opts.Warn("so many packs are in no index segment that not all of them can be read here: a put lists them (pv-put, with any stream); until then blobs seem to be missing")
	case err != nil:
		return nil, err
	case n > 0:
		r.opts.Note("%d packs are in no index segment: what is in them was read from the packs; the next put lists them", n)
	}
	slices.SortFunc(all.rows, compareRows)
	return &all, nil
}

// readList reads the list of a pack that no segment has. What it cannot read it names: a
// warning, unless the pack has gone meanwhile or is damaged.
func (r *Repo) readList(name id.ID) (l pack.List, ok bool) {
	f, err := r.open(packName(name))
	if err == nil {
		defer f.Close()
		l, err = readListOf(f)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil && l.Name != name, errors.Is(err, ErrDamaged):
		r.opts.Note("pack %s is in no index, and not whole: it is passed over", name)
	case err != nil:
		r.opts.Warn("pack %s is in no index segment, and cannot be read: %v: blobs that only it holds are unavailable", name, err)
	default:
		return l, true
	}
	return l, false
}

func readListOf(f objects.Object) (l pack.List, err error) {
	size := f.Info().Size
	l.Size = uint64(size)
	l.Name, l.Entries, err = pack.ReadList(f, size)
	return l, err
}

// adopt lists the orphans in segments: what a put that was killed has stored need
// not be stored again.
func (p *Put) adopt() error {
	var lists []pack.List
	rows := 0
	err := p.r.orphans(p.view, func(l pack.List) error {
		lists = append(lists, l)
		if rows += len(l.Entries); rows < barrierRows {
			return nil
		}
		take := lists
		lists, rows = nil, 0
		return p.list(take)
	})
	if err == nil && len(lists) > 0 {
		err = p.list(lists)
	}
	return err
}

// list publishes a segment of orphans, without what older packs have. A name that the view knows is that of a
// segment that is damaged, since it would list them else: it cannot be replaced, so
// each of the packs gets a segment of its own, and is passed over if that is it.
func (p *Put) list(lists []pack.List) error {
	for k := range lists {
		l, err := p.r.novel(p.view, lists[k], nil)
		if errors.Is(err, ErrDamaged) {
			l, err = lists[k], nil // whoever reads a record finds what is wrong with it
		}
		if err != nil {
			return err
		}
		lists[k] = l
	}
	data, name, err := pack.EncodeSegment(lists)
	switch {
	case err != nil:
		return err
	case p.view.names[name] && len(lists) == 1:
		return nil
	case p.view.names[name]:
		for k := range lists {
			if err := p.list(lists[k : k+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := p.checkRoom(len(data) + len(lists)*eventPack + block); err != nil {
		return err
	}
	// Whoever published the packs may not have come to this.
	dirs := []string{"packs"}
	for _, l := range lists {
		dirs = append(dirs, path.Dir(packName(l.Name)))
	}
	if err := p.w.Sync(dirs...); err != nil {
		return err
	}
	if err := p.logLists(eventAdopt, name, lists); err != nil {
		return err
	}
	if err := p.date(lists); err != nil {
		return err
	}
	if err := p.write(object("index", name), data); err != nil {
		return err
	}
	p.Count.Adopted += len(lists)
	return p.r.add(p.view, name, data)
}

// maxOrphanRows bounds what of orphans is kept in memory for a list.
const maxOrphanRows = 1 << 20

// orphanIDs returns the ids of the blobs in orphans, sorted; not of all, if there
// are very many.
func (r *Repo) orphanIDs(v *view) (rows []pack.Row, err error) {
	err = r.orphans(v, func(l pack.List) error {
		for _, e := range l.Entries {
			rows = append(rows, pack.Row{ID: e.ID, Kind: e.Kind})
		}
		if len(rows) >= maxOrphanRows {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	slices.SortFunc(rows, func(a, b pack.Row) int { return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Kind, b.Kind)) })
	return rows, err
}
