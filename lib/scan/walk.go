// Package scan walks directories below roots and makes entries of what it meets, in path order. It opens no
// file's content. What is left out, has vanished or could not be read goes to a Reporter and is said in
// the entry of its directory.
//
// A walk holds a bounded number of directories open, and the names of those that it is in.
package scan

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// Options of a walk.
type Options struct {
	// Attributes reads extended attributes and inode flags too. It opens every
	// file.
	Attributes bool
	// Omit leaves some of them out. It goes with Attributes.
	Omit *inode.Omit
	// Choose, if not nil, leaves things out.
	Choose Chooser
	// OneFileSystem keeps each root to the file system that it is on: to its mount,
	// and on that to its device, which a btrfs subvolume has of its own. Where
	// another begins, a directory is an entry without children; anything else, a
	// file that is mounted over another, is no entry. Roots below others are
	// walked where the others do not come to them. Mounted, if not nil, is told of
	// each such place, before its entry.
	OneFileSystem bool
	Mounted       func(path string, typ rec.Type)
	// Follow takes what links lead to in their place: see Walk.
	Follow bool
	// Links, if not nil, is told of links that lead out of the roots and of files
	// with names outside.
	Links LinkReporter
	// Report is told what is not in the entries; it must not be nil.
	Report Reporter
}

// A Reporter hears of what a walk met beside entries, from the goroutine that
// walks.
type Reporter interface {
	// Warn says that something is left out or without its content.
	Warn(path string, err error)
	// Vanished says that a name was gone before it could be looked at.
	Vanished(path string)
	// Skipped says that a directory was not descended into, on purpose. Its
	// entry comes before.
	Skipped(path, why string)
}

// Walk reads the metadata of the roots, as Resolve returns them, and calls visit
// with every entry in path order: the parents of the roots, the roots, and all
// that is below them. An entry is valid until visit returns, its strings and
// slices for ever. An error of visit ends the walk and is returned as it is.
//
// Nothing is read but directories, link targets and inodes, and no link is
// followed. Entries are as package rec says: the first name of a file with
// several carries Links, the others are hard links to it. A directory that
// cannot be read is an entry with Err, and reported. With Options.Attributes, what has
// attributes that cannot be read is reported with ErrBare. A directory that is a repository or a cache of Preserve is an entry without children, unless it
// is a root.
//
// With Options.Follow a link is the entry of what it leads to, and a directory that
// it leads to is walked. A link stays a link, and is reported, if it leads to
// nothing, or to a directory that the walk is in or that is above one, so that it
// would never end. Names of a file are hard links if no link led to them, or the same
// link to a directory; else each is a file of its own.
//
// A root below another one of the same Dir is walked with it, or, with
// Options.OneFileSystem, where that one does not come to it.
//
// Memory: the names in the directories from the root to the entry, and for each
// file with further names still unseen its path.
func Walk(roots []rec.Root, o Options, visit func(*rec.Entry) error) error {
	if o.OneFileSystem && !haveMounts() {
		return ErrNoMounts
	}
	if o.Follow {
		if err := source.CheckFollow(); err != nil {
			return err
		}
	}
	w := &walker{Options: o, visit: visit, rootfd: -1, links: newLinks(o.Links != nil), dents: make([]byte, 64<<10), link: make([]byte, 512)}
	w.ahead = newAhead()
	w.ahead.skip = w.elsewhere
	if o.OneFileSystem {
		w.mounts = readMounts()
	}
	w.out = newLeads(roots, o.Links)
	defer w.leaveRoot()
	var before rec.Root
	for i, r := range roots {
		if i > 0 && rec.ComparePaths(before.Path, r.Path) >= 0 {
			return fmt.Errorf("root %s: %w", rec.Quote(r.Path), rec.ErrOrder)
		}
		if i > 0 && r.Dir == before.Dir && rec.Below(r.Path, before.Path) {
			continue
		}
		if i == 0 || r.Dir != before.Dir {
			if err := w.changeRoot(r.Dir); err != nil {
				return err
			}
			before.Path = ""
		}
		w.inner = innerRoots(roots[i:])
		if err := w.root(r, before.Path); err != nil {
			return err
		}
		before = r
	}
	w.out.end(w.links)
	return nil
}

// maxOpen is how many directories a walk holds open. Deeper trees close the
// upper ones, and open them again on the way back.
var maxOpen = inode.FewDescriptors(128)

type walker struct {
	Options
	visit  func(*rec.Entry) error
	e      rec.Entry
	links  *links
	rootfd int // of the root's Dir
	stack  []*level
	nopen  int
	ahead  *ahead
	dents  []byte // from the system
	link   []byte
	here   place      // of the root; see OneFileSystem
	inner  []rec.Root // that are below the root
	jumps  []jump     // that the walk is below; see Follow
	mounts mounts
	out    *leads
}

func (w *walker) changeRoot(dir string) error {
	w.leaveRoot()
	var err error
	w.rootfd, err = source.OpenRoot(dir)
	w.ahead.begin(w.rootfd)
	w.out.dir = dir
	return err
}

func (w *walker) leaveRoot() {
	if w.rootfd >= 0 {
		w.ahead.end()
		inode.Close(w.rootfd)
		w.rootfd = -1
	}
}

// root walks one root. Those of its parents that are parents of before too have
// been entries already.
func (w *walker) root(r rec.Root, before string) error {
	if r.Path == "" {
		return w.top(w.rootfd, "", ".")
	}
	for i := 0; i < len(r.Path); i++ {
		if r.Path[i] != '/' || len(before) >= i && before[:i] == r.Path[:i] && (len(before) == i || before[i] == '/') {
			continue
		}
		if done, err := w.parent(r.Path[:i]); done || err != nil {
			return err
		}
	}
	dir := rec.Parent(r.Path)
	fd, err := inode.OpenBeneath(w.rootfd, dir, inode.OpenPath|unix.O_DIRECTORY)
	if err != nil {
		return w.unseen(r.Path, rec.None, inode.Op("open directory "+rec.Quote(dir), err))
	}
	defer inode.Close(fd)
	return w.top(fd, r.Path, inode.Base(r.Path))
}

// parent visits a parent of a root. If it cannot, what is below it cannot be
// either, and it is done.
func (w *walker) parent(path string) (done bool, err error) {
	fd, err := inode.OpenBeneath(w.rootfd, path, inode.OpenPath|unix.O_DIRECTORY)
	var st inode.Stat
	if err == nil {
		defer inode.Close(fd)
		err = inode.StatAt(fd, "", &st)
	}
	if err != nil {
		return true, w.unseen(path, rec.Dir, inode.Op("open directory", err))
	}
	st.Entry(&w.e)
	w.e.Path, w.e.Way = path, true
	if w.Attributes {
		w.attributes(inode.ReadAttributesAt(inode.OpenBeneath, w.rootfd, path, rec.Dir, w.Omit))
	}
	return false, w.visit(&w.e)
}

// top walks a root: the entry of that name in the directory dirfd, which
// belongs to the caller.
func (w *walker) top(dirfd int, path, name string) error {
	var st inode.Stat
	if err := inode.StatAt(dirfd, name, &st); err != nil {
		return w.gone(path, rec.None, "stat", err)
	}
	defer func(outer place) { w.here = outer }(w.here)
	w.here = placeOf(&st)
	return w.entry(dirfd, path, name, &st, true)
}

// entry visits one name in the directory dirfd, and all that is below it.
func (w *walker) entry(dirfd int, path, name string, st *inode.Stat, top bool) error {
	for tries := 0; ; tries++ {
		again, err := w.try(dirfd, path, name, st, top)
		if !again || err != nil {
			return err
		}
		// It was replaced by something of another type: look again.
		was := st.Type
		if err := inode.StatAt(dirfd, name, st); err != nil {
			return w.gone(path, was, "stat", err)
		}
		if tries == 3 {
			return w.unseen(path, st.Type, inode.ErrReplaced)
		}
		if !top && w.Choose != nil && (w.Choose.Drop(path, st.Type) || !w.Choose.Take(path, st, true)) {
			w.out.leftOut(path)
			return nil
		}
	}
}

// gone deals with an error of looking at a name: it has gone, or it is unseen.
func (w *walker) gone(path string, typ rec.Type, what string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		w.Report.Vanished(path)
		return nil
	}
	return w.unseen(path, typ, inode.Op(what, err))
}

// unseen visits a name of which no more is known than that it is there: without an entry it
// would look deleted. A directory is one, on the way to what is in it; all else is a file. Its metadata
// is made up.
func (w *walker) unseen(path string, typ rec.Type, err error) error {
	w.e = rec.Entry{Path: path, Type: rec.File}
	if typ == rec.Dir {
		w.e.Type, w.e.Mode, w.e.Way = rec.Dir, 0o700, true
	}
	w.out.leftOut(path)
	w.fault(err)
	return w.visit(&w.e)
}

func (w *walker) try(dirfd int, path, name string, st *inode.Stat, top bool) (again bool, err error) {
	if !top && w.elsewhere(st) {
		return false, w.mounted(dirfd, path, name, st)
	}
	e := &w.e
	st.Entry(e)
	e.Path = path
	switch st.Type {
	case rec.Dir:
		return w.dir(dirfd, path, name, top)
	case rec.None:
		return false, w.unseen(path, rec.None, fmt.Errorf("%w: of a type that this program does not know", rec.ErrUnknown))
	case rec.Symlink:
		e.Target, w.link, err = inode.ReadLink(dirfd, name, w.link)
		switch {
		case err == unix.EINVAL:
			return true, nil
		case err != nil:
			return false, w.gone(path, rec.Symlink, "read link", err)
		case e.Target == "" || len(e.Target) > rec.MaxPath:
			return false, w.unseen(path, rec.Symlink, fmt.Errorf("read link: %w: a target of %d bytes", rec.ErrPath, len(e.Target)))
		}
		if w.Follow {
			if kept, err := w.through(dirfd, path, name, top); !kept {
				return false, err
			}
		} else {
			w.out.link(dirfd, path, e.Target)
		}
	}
	if e.Links > 1 {
		if leader := w.links.seen(path, st); leader != "" {
			*e = rec.Entry{Path: path, Type: rec.HardLink, Leader: leader,
				CTime: e.CTime, BTime: e.BTime, Ino: e.Ino, Dev: e.Dev}
			return false, w.visit(e)
		}
	}
	if w.Attributes {
		a, err := inode.ReadAttributesAt(inode.OpenAt, dirfd, name, st.Type, w.Omit)
		if errors.Is(err, unix.ENOENT) {
			w.links.forget(st) // the next name is the first
			w.Report.Vanished(path)
			return false, nil
		}
		w.attributes(a, err)
	}
	return false, w.visit(e)
}

// dir visits a directory and all that is below it. The entry is w.e.
func (w *walker) dir(dirfd int, path, name string, top bool) (again bool, err error) {
	fd, err := inode.Quietly(inode.OpenAt, dirfd, name, inode.OpenDir)
	switch {
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return true, nil
	case err == unix.ENOENT:
		w.Report.Vanished(path)
		return false, nil
	case inode.Exhausted(err):
		return false, inode.Op("open directory "+rec.Quote(path), err)
	case err != nil:
		w.fault(inode.Op("open directory", err))
		w.out.leftOut(path)
		return false, w.visit(&w.e)
	}
	if w.OneFileSystem && !top {
		var st inode.Stat
		if inode.StatAt(fd, "", &st) == nil && w.elsewhere(&st) { // mounted meanwhile
			inode.Close(fd)
			return true, nil
		}
	}
	l := w.push(fd, path)
	defer w.pop()
	if err := l.Read(fd, w.dents); err != nil {
		w.e.Unread = true
		w.fault(inode.Op("read directory", err))
	}
	if w.Attributes {
		w.attributes(inode.ReadAttributes(fd, w.Omit))
	}
	why := ""
	if !top {
		why = l.ours(fd)
	}
	if w.e.Way = why != ""; !w.e.Way {
		w.enter(l, fd)
		w.markMounts(l, fd)
		w.drop(l)
	}
	if err := w.visit(&w.e); err != nil {
		return false, err
	}
	if why != "" {
		w.Report.Skipped(path, why)
		w.out.leftOut(path)
		return false, nil
	}
	return false, w.children(l)
}

// look looks at a batch of names of a directory from index at on, asks the Chooser about them, and
// returns where the next batch begins.
func (w *walker) look(l *level, at int) (next int) {
	workers := w.ahead.workers(len(l.List) - at)
	begun := time.Now()
	next = l.stat(l.fd, at, workers)
	took := time.Since(begun)
	if w.Choose != nil {
		w.choose(l)
	}
	w.ahead.after(took*time.Duration(workers), l)
	l.looked = next
	return next
}

// children walks what is in a directory.
func (w *walker) children(l *level) error {
	for at := 0; at < len(l.List); {
		_, err := w.fd(l)
		switch {
		case inode.Exhausted(err):
			return inode.Op("open directory "+rec.Quote(l.path)+" again", err)
		case err != nil:
			return w.lost(l, at, err)
		case at == 0 && l.looked > 0:
			at = l.looked
		default:
			at = w.look(l, at)
		}
		for i := range l.batch {
			b := &l.batch[i]
			if b.out {
				continue
			}
			path := b.path
			if w.Choose == nil {
				path = inode.Join(l.path, l.Name(b.index))
			}
			if b.err == errMount {
				err = w.mountPoint(l, b.index, path)
			} else if b.err != nil {
				err = w.gone(path, l.List[b.index].Type, "stat", b.err)
			} else if fd, ferr := w.fd(l); ferr != nil {
				return w.lost(l, b.index, ferr)
			} else {
				err = w.entry(fd, path, inode.Base(path), &b.st, false)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// lost deals with a directory that cannot be opened again to look at its names from index at on: if
// it has gone, so have they, else they are unseen.
func (w *walker) lost(l *level, at int, err error) error {
	if errors.Is(err, unix.ENOENT) {
		w.Report.Vanished(l.path)
		return nil
	}
	for ; at < len(l.List); at++ {
		if err := w.unseen(inode.Join(l.path, l.Name(at)), l.List[at].Type, inode.Op("open its directory again", err)); err != nil {
			return err
		}
	}
	return nil
}

// fault reports why the entry at hand has no content.
func (w *walker) fault(err error) {
	w.e.Err = rec.Text(err.Error())
	w.Report.Warn(w.e.Path, err)
}

// attributes adds extended attributes and flags to the entry at hand.
func (w *walker) attributes(a inode.Attributes, err error) {
	w.e.XAttrs, w.e.Omitted, w.e.Flags = a.XAttrs, a.Omitted, a.Flags
	if err != nil && w.e.Err == "" {
		w.Report.Warn(w.e.Path, inode.Bare(err))
	}
}
