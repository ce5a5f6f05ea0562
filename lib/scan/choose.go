package scan

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A Chooser leaves things out of a walk, from the goroutine that walks.
type Chooser interface {
	// Drop says whether a name below a root is left out by its path alone. It is asked first, when
	// only the directory was read: what is dropped is not looked at at all, so it may be a mount
	// that hangs. typ is what the directory says of the name, or None if it does not.
	// Neither it nor Take is asked of roots and their parents.
	Drop(path string, typ rec.Type) bool
	// Take says whether a name that was not dropped becomes an entry, by what was seen of it; known says
	// that Drop knew the same type. What is below a directory that does not is not looked at
	// either. It is asked again of one that was replaced meanwhile, and of what a link leads to
	// that is followed.
	Take(path string, st *inode.Stat, known bool) bool
	// Looks reports whether Take may leave out what Drop has not, though it knew the type: by size,
	// say. Then the names of a directory are looked at before its entry.
	Looks() bool
	// Enter says what a walk sees of a directory whose entry it has visited: names
	// of it, or all if they are nil. It is asked of roots too.
	Enter(d *Dir) (names []string)
}

// A Dir is a directory that a walk is about to enter. It is valid until Enter
// returns.
type Dir struct {
	Path string
	l    *level
	fd   int
}

// Has reports whether the directory has a name.
func (d *Dir) Has(name string) bool { return d.l.Has(name) }

// Begins reports whether the directory has a regular file of that name that
// begins with that text.
func (d *Dir) Begins(name, text string) bool {
	if !d.l.Has(name) {
		return false
	}
	var st inode.Stat
	if inode.StatAt(d.fd, name, &st) != nil || st.Type != rec.File {
		return false // a device is not opened to look
	}
	fd, err := inode.Quietly(inode.OpenAt, d.fd, name, inode.OpenFile)
	if err != nil {
		return false
	}
	defer inode.Close(fd)
	buf := make([]byte, len(text))
	n, err := unix.Pread(fd, buf, 0)
	return err == nil && string(buf[:n]) == text
}

// choose asks the Chooser about a batch that was looked at, and reports whether it leaves
// anything out.
func (w *walker) choose(l *level) (out bool) {
	for i := range l.batch {
		c := &l.batch[i]
		c.path = inode.Join(l.path, l.Name(c.index))
		c.out = c.err == nil && !w.Choose.Take(c.path, &c.st, l.List[c.index].Type == c.st.Type)
		if c.out {
			w.out.leftOut(c.path)
			out = true
		}
	}
	return out
}

// drop takes out of a directory what the Chooser leaves out by name, and what no path can
// hold. It says so in the directory's entry, which is w.e: what is missing there may exist.
func (w *walker) drop(l *level) {
	long := len(l.path)+1+rec.MaxName > rec.MaxPath || strings.Count(l.path, "/")+2 > rec.MaxDepth
	if w.Choose == nil && !long {
		return
	}
	l.List = slices.DeleteFunc(l.List, func(d inode.Dirent) bool {
		path := inode.Join(l.path, string(l.Bytes(d)))
		if w.Choose != nil && w.Choose.Drop(path, d.Type) {
			w.e.Skipped = true
			w.out.leftOut(path)
			return true
		}
		if err := rec.CheckPath(path); err != nil {
			w.e.Unread = true
			w.Report.Warn(path, err)
			w.out.leftOut(path)
			return true
		}
		return false
	})
	switch {
	case w.Choose == nil || !w.Choose.Looks() || len(l.List) == 0:
	case len(l.List) > batchSize:
		w.e.Skipped = true // perhaps: to know, each would have to be looked at twice
	default:
		w.look(l, 0)
		for i := range l.batch {
			w.e.Skipped = w.e.Skipped || l.batch[i].out
		}
	}
}

// enter restricts a directory to the names that the Chooser wants of it. Whatever else is in it,
// or comes to be in it, is not wanted, and its entry, which is w.e, says so.
func (w *walker) enter(l *level, fd int) {
	if w.Choose == nil {
		return
	}
	names := w.Choose.Enter(&Dir{Path: l.path, l: l, fd: fd})
	if names == nil {
		return
	}
	l.List = slices.DeleteFunc(l.List, func(d inode.Dirent) bool {
		if slices.Contains(names, string(l.Bytes(d))) {
			return false
		}
		w.out.leftOut(inode.Join(l.path, string(l.Bytes(d))))
		return true
	})
	w.e.Skipped = true
}
