package source

import (
	"errors"
	"fmt"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A Watch tells whether the sources of a run, and the file systems mounted below them, are at
// its end what they were when they were scanned. A disk that is pulled out, or a server that
// goes away, looks otherwise like a tree of which all was deleted.
//
// Entry and End are for one goroutine, Vanished for many. Memory: for each root and each device
// below.
type Watch struct {
	roots []rec.Root
	stack []int // places that the entry at hand is in, innermost last

	mu     sync.Mutex
	places []Place
}

// A Place is a root, or a directory where another file system begins.
type Place struct {
	Path     string
	Root     bool
	Entries  uint64 // at and below it, not below places in it
	Vanished uint64 // of them
	Err      error  // why it is not what it was; nil if it is

	typ      rec.Type
	dev, ino uint64
}

// ErrElsewhere says that a directory is not the one that was scanned.
var ErrElsewhere = errors.New("not the directory that was scanned: unmounted meanwhile?")

// NewWatch begins to watch the roots of a stream's head.
func NewWatch(roots []rec.Root) *Watch { return &Watch{roots: roots} }

// Entry takes an entry of the tree, in path order.
func (w *Watch) Entry(e *rec.Entry) {
	for n := len(w.stack); n > 0 && !rec.Below(e.Path, w.places[w.stack[n-1]].Path); n-- {
		w.stack = w.stack[:n-1]
	}
	root := false
	for _, r := range w.roots {
		root = root || r.Path == e.Path
	}
	n := len(w.stack)
	other := n > 0 && e.Type == rec.Dir && !e.Way && e.Dev != 0 && e.Dev != w.places[w.stack[n-1]].dev
	w.mu.Lock()
	defer w.mu.Unlock()
	if root || other {
		w.stack = append(w.stack, len(w.places))
		w.places = append(w.places, Place{Path: e.Path, Root: root, typ: e.Type, dev: e.Dev, ino: e.Ino})
		n++
	}
	if n > 0 && e.Off == 0 {
		w.places[w.stack[n-1]].Entries++
	}
}

// Vanished says that a name has vanished since it was seen.
func (w *Watch) Vanished(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.places) - 1; i >= 0; i-- {
		if rec.Below(path, w.places[i].Path) {
			w.places[i].Vanished++
			return
		}
	}
}

// Bounds of what is normal: files come and go while a backup runs.
const (
	fewVanished  = 10
	partVanished = 100 // one in so many
)

// End looks at the places again and returns those that are not what they were, or from which too
// much has vanished. nothing says that nothing is left of any root: there is no tree to store.
func (w *Watch) End() (lost []Place, nothing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	roots, gone := 0, 0
	for i := range w.places {
		p := &w.places[i]
		p.Err = w.look(p)
		if p.Root {
			roots++
			if p.Err != nil && p.Vanished+1 >= p.Entries && p.Vanished > 0 {
				gone++
			}
		}
		if p.Err == nil && p.Vanished > fewVanished && p.Vanished > p.Entries/partVanished {
			p.Err = fmt.Errorf("%d of %d names in it vanished during the backup", p.Vanished, p.Entries)
		}
		if p.Err != nil {
			lost = append(lost, *p)
		}
	}
	return lost, roots > 0 && gone == roots
}

// look compares a place with what is there now, by its path from the top: a descriptor would show
// what is no longer mounted there.
func (w *Watch) look(p *Place) error {
	dir := ""
	for _, r := range w.roots {
		if rec.Below(p.Path, r.Path) {
			dir = r.Dir
		}
	}
	at := path.Join(dir, p.Path)
	if dir == "" || len(at) >= inode.PathMax {
		return nil
	}
	var st inode.Stat
	switch err := inode.StatTo(unix.AT_FDCWD, at, &st); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		if p.typ == rec.Symlink || p.typ != rec.Dir && p.Vanished == 0 {
			return nil // a link to nothing; a file that was read before it went
		}
		return ErrElsewhere
	case err != nil:
		return inode.Op("look at it again", err)
	case p.typ == rec.Dir && p.ino != 0 && (st.Ino != p.ino || st.Dev != p.dev):
		return ErrElsewhere
	}
	return nil
}
