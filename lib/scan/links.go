package scan

import (
	"cmp"
	"slices"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// Bounds of the further names that links keep for a report.
const (
	maxAlso = 3       // of one file
	maxHeld = 1 << 16 // of all
)

// links are the files with several names of which not all were met.
type links struct {
	of    map[inode.ID]*linked
	names bool // keep further names
	held  int  // of them
}

type linked struct {
	leader    string
	also      []string // further names
	all, left uint32
	typ       rec.Type
	btime     rec.Time
}

func newLinks(names bool) *links { return &links{of: map[inode.ID]*linked{}, names: names} }

// seen returns the first name of the file that is now met under path too, or ""
// if this is the first. A number that was given to another file meanwhile is
// known by the file's type and birth.
func (l *links) seen(path string, st *inode.Stat) string {
	key := inode.ID{Dev: st.Dev, Ino: st.Ino}
	f := l.of[key]
	if f == nil || f.typ != st.Type || f.btime != st.BTime {
		l.forget(st)
		l.of[key] = &linked{leader: path, all: st.Links, left: st.Links - 1, typ: st.Type, btime: st.BTime}
		return ""
	}
	if f.left--; f.left == 0 {
		l.forget(st)
	} else if l.names && len(f.also) < maxAlso && l.held < maxHeld {
		f.also = append(f.also, path)
		l.held++
	}
	return f.leader
}

// forget lets the next name of a file be its first.
func (l *links) forget(st *inode.Stat) {
	key := inode.ID{Dev: st.Dev, Ino: st.Ino}
	if f := l.of[key]; f != nil {
		l.held -= len(f.also)
		delete(l.of, key)
	}
}

// unseen returns the files of which names were not met, in order of their first
// name.
func (l *links) unseen() []*linked {
	var fs []*linked
	for _, f := range l.of {
		fs = append(fs, f)
	}
	slices.SortFunc(fs, func(a, b *linked) int {
		return cmp.Or(rec.ComparePaths(a.leader, b.leader), cmp.Compare(a.left, b.left))
	})
	return fs
}
