package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// A Chooser leaves things out of a walk, from the goroutine that walks.
type Chooser interface {
	// Take says whether a name below a root becomes an entry. What is below a
	// directory that does not is not looked at either. It is asked of the names in
	// a directory before the first of them is an entry, and again of one that was
	// replaced meanwhile, or of what a link leads to that is followed; not of roots and their parents.
	Take(path string, st *Stat) bool
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
func (d *Dir) Has(name string) bool { return d.l.has(name) }

// Begins reports whether the directory has a regular file of that name that
// begins with that text.
func (d *Dir) Begins(name, text string) bool {
	if !d.l.has(name) {
		return false
	}
	var st Stat
	if statAt(d.fd, name, &st) != nil || st.Type != rec.File {
		return false // a device is not opened to look
	}
	fd, err := quietly(openAt, d.fd, name, openFile)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	buf := make([]byte, len(text))
	n, err := unix.Pread(fd, buf, 0)
	return err == nil && string(buf[:n]) == text
}

// choose asks the Chooser about a batch.
func (w *walker) choose(l *level) {
	for i := range l.batch {
		c := &l.batch[i]
		c.path = join(l.path, l.name(c.index))
		c.out = c.err == nil && !w.Choose.Take(c.path, &c.st)
		if c.out {
			w.out.leftOut(c.path)
		}
	}
}

// enter restricts a directory to the names that the Chooser wants of it, and
// reports whether there are such: then whatever else comes to be in it is not
// wanted.
func (w *walker) enter(l *level, fd int) bool {
	if w.Choose == nil {
		return false
	}
	names := w.Choose.Enter(&Dir{Path: l.path, l: l, fd: fd})
	if names == nil {
		return false
	}
	l.list = slices.DeleteFunc(l.list, func(d dirent) bool {
		if slices.Contains(names, string(l.bytes(d))) {
			return false
		}
		w.out.leftOut(join(l.path, string(l.bytes(d))))
		return true
	})
	return true
}
