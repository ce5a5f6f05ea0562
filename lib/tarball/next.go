package tarball

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"preserve/lib/rec"
)

// Next returns the next entry in path order, and io.EOF behind the last. A path
// that the archive has several times is what its last member says. Directories
// that it has not are made: of mode 0755 and user 0, as old as the first entry in
// them. Of a file with several names the first in path order has its content,
// and the others are links to it.
func (a *Archive) Next() (*File, error) {
	for {
		if len(a.queue) > 0 {
			f := a.queue[0]
			a.queue = a.queue[1:]
			return f, nil
		}
		it, err := a.survivor()
		if err != nil {
			return nil, err
		}
		if f := a.finished(it); f != nil {
			a.place(f)
		}
	}
}

// survivor returns the last item of the next path.
func (a *Archive) survivor() (*item, error) {
	it := a.ahead
	if it == nil {
		var err error
		if it, err = a.items(); err != nil {
			return nil, err
		}
	}
	for {
		next, err := a.items()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if err == io.EOF || next.entry.Path != it.entry.Path {
			a.ahead = next
			return it, nil
		}
		it = next
	}
}

// finished makes of an item what is to be returned; nil if it is left out.
func (a *Archive) finished(it *item) *File {
	path := it.entry.Path
	n, ok := a.links.of(it)
	if !ok && it.entry.Type == rec.File { // a hard link with content of its own
		n, ok = nil, true
	}
	if !ok {
		a.o.Warn(path, fmt.Errorf("left out: a hard link to what is not in the archive before it"))
		return nil
	}
	e := *it.entry
	own := e.MTime
	if n != nil {
		if n.leader != "" {
			return &File{Entry: &rec.Entry{Path: path, Type: rec.HardLink, Leader: n.leader}, item: &item{}, time: own}
		}
		it = n.item
		e = *it.entry
		e.Path = path
		if n.names > 1 {
			e.Links = n.names
		}
	}
	e.XAttrs = slices.Clone(e.XAttrs)
	a.acls(&e)
	return &File{Entry: &e, time: own, item: it, inode: n, data: a.raw.contents(), maps: a.maps}
}

// place puts an entry into the queue, behind the directories that it needs.
func (a *Archive) place(f *File) {
	e := f.Entry
	if a.barrier != "" && rec.Below(e.Path, a.barrier) {
		a.o.Warn(e.Path, fmt.Errorf("left out: %s is no directory", rec.Quote(a.barrier)))
		return
	}
	for len(a.dirs) > 0 && !rec.Below(e.Path, a.dirs[len(a.dirs)-1]) {
		a.dirs = a.dirs[:len(a.dirs)-1]
	}
	for i := range len(e.Path) {
		if e.Path[i] != '/' {
			continue
		}
		if dir := e.Path[:i]; len(a.dirs) == 0 || !rec.Below(a.dirs[len(a.dirs)-1], dir) {
			a.queue = append(a.queue, &File{item: &item{}, Entry: &rec.Entry{Path: dir, Type: rec.Dir, Mode: 0o755, MTime: f.time, Way: true}})
			a.dirs = append(a.dirs, dir)
		}
	}
	switch {
	case e.Type != rec.Dir:
		a.barrier = e.Path
		if f.inode != nil {
			f.inode.leader = e.Path
		}
	case e.Path != "":
		a.dirs = append(a.dirs, e.Path)
	}
	a.queue = append(a.queue, f)
}

// maxOwners is how many user ids, and how many group ids, get names.
const maxOwners = 65536

// owners are the names that an archive gives to ids.
type owners struct {
	names map[uint32]string
	ids   map[string]uint32
	odd   bool // a conflict was told
}

// add takes the name of an owner. Of several names of one id the first stays.
func (o *owners) add(id uint32, name string, notice func(string), what string) {
	if name == "" || len(name) > rec.MaxName {
		return
	}
	had, known := o.names[id]
	switch {
	case known && had != name && !o.odd:
		o.odd = true
		notice(fmt.Sprintf("%s %d is called %s and %s in the archive: the first name of each number is kept", what, id, rec.Quote(had), rec.Quote(name)))
	case known || len(o.names) >= maxOwners:
	case o.names == nil:
		o.names, o.ids = map[uint32]string{id: name}, map[string]uint32{name: id}
	default:
		o.names[id] = name
		if _, twice := o.ids[name]; !twice {
			o.ids[name] = id
		}
	}
}

func (o *owners) table() (names []rec.Name) {
	for _, id := range slices.Sorted(maps.Keys(o.names)) {
		names = append(names, rec.Name{ID: id, Name: o.names[id]})
	}
	return names
}
