package chunk

import (
	"sync"

	"preserve/lib/bounds"
	"preserve/lib/rec"
)

// openGroups bounds how many owners' groups are open at once.
const openGroups = 6

// A group is small files of one owner in one chunk.
type group struct {
	uid    uint32
	data   []byte
	weight int // see bounds.Weight
	uses   []use
}

// A use is an extent that waits for its chunk's number.
type use struct {
	entry  *rec.Entry
	extent int
}

var groupPool = sync.Pool{New: func() any { b := make([]byte, 0, bounds.GroupMax); return &b }}

func groupMemory() []byte { return (*groupPool.Get().(*[]byte))[:0] }

// small adds the data of a small file to the group of its owner, or writes it alone.
func (a *assembler) small(f *file) error {
	e := f.entry
	e.Alone = a.rules.alone.match(e.Path)
	if e.Alone {
		g := &group{data: groupMemory()}
		a.fill(g, f)
		return a.writeGroup(g)
	}
	weight := bounds.Weight(f.data)
	g, err := a.group(e.UID, weight)
	if err != nil {
		return err
	}
	g.weight += weight
	a.fill(g, f)
	if g.weight >= a.rules.groupMin && a.rules.groupEnds(f.data) {
		return a.closeGroup(len(a.page.groups) - 1)
	}
	return nil
}

// fill puts the data of a file into a group.
func (a *assembler) fill(g *group, f *file) {
	e := f.entry
	base := len(g.data)
	g.data = append(g.data, f.data...)
	pos := int64(0)
	for _, s := range f.segs {
		if s.off > pos {
			e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: uint64(s.off - pos)})
		}
		g.uses = append(g.uses, use{e, len(e.Extents)})
		e.Extents = append(e.Extents, rec.Extent{Off: uint64(base), Len: uint64(s.len)})
		base += int(s.len)
		pos = s.off + s.len
	}
	if uint64(pos) < e.Size {
		e.Extents = append(e.Extents, rec.Extent{Hole: true, Len: e.Size - uint64(pos)})
	}
}

// group returns the owner's open group, with room for a file of that weight, as
// the last of the page's, which are in order of use.
func (a *assembler) group(uid uint32, weight int) (*group, error) {
	p := a.page
	for i, g := range p.groups {
		if g.uid != uid {
			continue
		}
		if g.weight+weight > a.rules.groupMax {
			if err := a.closeGroup(i); err != nil {
				return nil, err
			}
			break
		}
		p.groups = append(append(p.groups[:i], p.groups[i+1:]...), g)
		return g, nil
	}
	if len(p.groups) == openGroups {
		if err := a.closeGroup(0); err != nil {
			return nil, err
		}
	}
	g := &group{uid: uid, data: groupMemory()}
	p.groups = append(p.groups, g)
	return g, nil
}

// closeGroup writes a group of the page as a chunk.
func (a *assembler) closeGroup(i int) error {
	g := a.page.groups[i]
	a.page.groups = append(a.page.groups[:i], a.page.groups[i+1:]...)
	a.page.grouped++
	return a.writeGroup(g)
}

// writeGroup writes a group as a chunk, and lets go of its memory.
func (a *assembler) writeGroup(g *group) error {
	n, err := a.chunk(g.data)
	for _, u := range g.uses {
		u.entry.Extents[u.extent].N = n
	}
	groupPool.Put(&g.data)
	return err
}

func (a *assembler) closeGroups() error {
	for len(a.page.groups) > 0 {
		if err := a.closeGroup(0); err != nil {
			return err
		}
	}
	return nil
}
