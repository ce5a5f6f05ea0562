package diff

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"syscall"

	"preserve/lib/content"
	"preserve/lib/inode"
	"preserve/lib/page"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// compare says what differs between the stream and the tree below a directory, which is only read. With
// turned the directory is the first of the two.
func (s stream) compare(dir string, turned bool) error {
	b := s.base
	roots, err := source.Resolve(dir, []string{"."}, nil)
	if err != nil {
		return err
	}
	files, err := source.OpenRoots(roots)
	if err != nil {
		return err
	}
	defer files.Close()
	c := &comparer{Base: b, printer: newPrinter(b.Env, turned), roots: roots, files: files, inodes: map[fileID]uint64{}, seed: maphash.MakeSeed()}
	defer c.closeFile()
	err = content.InOrder(c, 0, func(sink content.Sink) error {
		return s.src.Either(b.Choose.Active(), sink)
	})
	if err == nil {
		c.begin("?") // nothing may have come
		err = c.until(nil, true)
	}
	if c.live != nil {
		c.live.close()
	}
	return c.end(err)
}

// A place is a directory of the snapshot. Of a partial one the snapshot does not
// say all that was in it: it could not be read, or is only on the way.
type place struct {
	path    string
	partial bool
}

// A comparer goes through the snapshot and the live tree side by side.
type comparer struct {
	reading.Base
	*printer
	roots []rec.Root
	files *source.Source
	cover cover // of the goroutine that hands over
	live  *liveTree

	// inodes are the live files of several names that were met: under which path of
	// the snapshot, as a hash.
	inodes map[fileID]uint64
	seed   maphash.Seed

	dirs []place // from the root to the last entry

	// The file whose content comes.
	path   string // "" if it is not compared
	open   *inode.File
	stat   inode.Stat
	differ bool
	buf    []byte
}

type fileID struct{ dev, ino uint64 }

// begin starts to read the live tree, once it is known how much of it counts.
func (c *comparer) begin(first string) {
	if c.live == nil {
		c.cover = cover{roots: c.Snap.Roots, all: first == "" || len(c.Snap.Roots) == 0}
		walked := c.cover
		c.live = newLiveTree(c.Env, c.roots, &walked)
	}
}

// until takes live entries before a path, all if it is nil: they are not in the
// snapshot. It says so if tell is true.
func (c *comparer) until(path *string, tell bool) error {
	for {
		e, err := c.live.peek()
		if e == nil || path != nil && rec.ComparePaths(e.Path, *path) >= 0 {
			return err
		}
		if inside, partial := c.within(e.Path); tell && inside && !partial {
			c.differs("extra", e.Path, e.Type.String())
		}
		c.live.drop()
	}
}

// within reports whether a path is inside a directory of the snapshot, and whether the deepest
// of them is partial.
func (c *comparer) within(path string) (inside, partial bool) {
	for _, d := range slices.Backward(c.dirs) {
		if rec.Below(path, d.path) {
			return true, d.partial
		}
	}
	return false, false
}

// enter takes down that the snapshot has a directory.
func (c *comparer) enter(e *rec.Entry) {
	for n := len(c.dirs); n > 0 && !rec.Below(e.Path, c.dirs[n-1].path); n-- {
		c.dirs = c.dirs[:n-1]
	}
	c.dirs = append(c.dirs, place{e.Path, e.Err != "" || e.Way || e.Unread || e.Skipped})
}

func (c *comparer) Entry(e *rec.Entry) error {
	c.closeFile()
	c.begin(e.Path)
	if err := c.until(&e.Path, true); err != nil {
		return err
	}
	c.Flawed(e)
	if e.Type == rec.Dir {
		c.enter(e)
	}
	l, err := c.live.peek()
	if err != nil {
		return err
	}
	if l == nil || l.Path != e.Path { // gone, or not covered
		return c.look(e, "")
	}
	live := *l
	c.live.drop()
	if live.Type == rec.HardLink && e.Type != rec.HardLink {
		// Of this file another name came before, perhaps one that is not in the
		// snapshot.
		return c.look(e, live.Leader)
	}
	return c.entry(e, &live)
}

// look compares an entry with what the system says of its path now.
func (c *comparer) look(e *rec.Entry, leader string) error {
	st, err := c.files.Stat(e.Path)
	l := &rec.Entry{Leader: leader, Type: st.Type, Mode: st.Mode, UID: st.UID, GID: st.GID, MTime: st.MTime, Size: st.Size,
		Major: st.Major, Minor: st.Minor, Links: st.Links, Ino: st.Ino, Dev: st.Dev}
	if err == nil && st.Type == rec.Symlink {
		l.Target, err = c.files.Link(e.Path)
	}
	if err != nil {
		return c.vanished(e, err)
	}
	return c.entry(e, l)
}

// entry compares an entry with what is in its place.
func (c *comparer) entry(e, l *rec.Entry) error {
	if e.Type == rec.HardLink {
		c.further(e, l)
		return nil
	}
	if e.Type != l.Type {
		c.differs("type", e.Path, e.Type.String(), l.Type.String())
		return nil
	}
	if e.Way {
		return nil // its metadata may be made up
	}
	if at := (fileID{l.Dev, l.Ino}); l.Links > 1 && e.Type != rec.Dir {
		if c.inodes[at] == 0 {
			c.inodes[at] = maphash.String(c.seed, e.Path) | 1
		} else {
			c.differs("links", e.Path, "-", nameOf(l.Leader))
		}
	}
	c.metadata(e, l)
	a, err := c.files.Attributes(e.Path, e.Type)
	if err != nil {
		return c.vanished(e, err)
	}
	c.attributes(e, a.XAttrs, a.Flags)
	switch {
	case e.Type != rec.File || e.Err != "" || e.Size == 0 && l.Size == 0 && !e.More:
		return nil
	case e.Size != l.Size && !e.More:
		c.differs("size", e.Path, fmt.Sprint(e.Size), fmt.Sprint(l.Size))
		return nil
	}
	c.path = e.Path
	return nil
}

// further compares a further name of a file: it must lead to the file that the
// first one leads to.
func (c *comparer) further(e, l *rec.Entry) {
	want := maphash.String(c.seed, e.Leader) | 1
	if c.inodes[fileID{l.Dev, l.Ino}] == want {
		return
	}
	c.differs("links", e.Path, nameOf(e.Leader), nameOf(l.Leader))
}

// nameOf is the first name of a file, "-" for none.
func nameOf(leader string) string {
	if leader == "" {
		return "-"
	}
	return rec.Quote(leader)
}

// metadata compares what the system tells of every file. Content of another size
// is not compared.
func (p *printer) metadata(e, l *rec.Entry) {
	if e.Type == rec.Symlink && e.Target != l.Target {
		p.differs("target", e.Path, rec.Quote(e.Target), rec.Quote(l.Target))
	}
	if e.Major != l.Major || e.Minor != l.Minor {
		p.differs("device", e.Path, fmt.Sprintf("%d,%d", e.Major, e.Minor), fmt.Sprintf("%d,%d", l.Major, l.Minor))
	}
	if e.Type != rec.Symlink && e.Mode != l.Mode {
		p.differs("mode", e.Path, fmt.Sprintf("%04o", e.Mode), fmt.Sprintf("%04o", l.Mode))
	}
	if e.UID != l.UID || e.GID != l.GID {
		p.differs("owner", e.Path, fmt.Sprintf("%d:%d", e.UID, e.GID), fmt.Sprintf("%d:%d", l.UID, l.GID))
	}
	if e.MTime != l.MTime {
		p.differs("mtime", e.Path, reading.Stamp(e.MTime), reading.Stamp(l.MTime))
	}
}

// attributes compares extended attributes and inode flags with those of an entry.
func (p *printer) attributes(e *rec.Entry, have []rec.XAttr, flags uint32) {
	want := e.XAttrs
	have = slices.DeleteFunc(slices.Clone(have), func(x rec.XAttr) bool {
		return e.Omits(x.Name) && !slices.ContainsFunc(want, func(w rec.XAttr) bool { return w.Name == x.Name })
	})
	for len(want)+len(have) > 0 { // both are in order of name
		switch {
		case len(have) == 0 || len(want) > 0 && want[0].Name < have[0].Name:
			p.differs("xattrs", e.Path, rec.Quote(want[0].Name), "missing")
			want = want[1:]
		case len(want) == 0 || have[0].Name < want[0].Name:
			p.differs("xattrs", e.Path, rec.Quote(have[0].Name), "extra")
			have = have[1:]
		default:
			if !bytes.Equal(want[0].Value, have[0].Value) {
				p.differs("xattrs", e.Path, rec.Quote(want[0].Name), "differs")
			}
			want, have = want[1:], have[1:]
		}
	}
	if e.Flags != flags {
		p.differs("flags", e.Path, letters(e.Flags), letters(flags))
	}
}

func letters(flags uint32) string {
	if flags == 0 {
		return "-"
	}
	return inode.FlagNames(flags)
}

// vanished deals with what cannot be read: what is gone is missing, all else is
// named; only if the system has run out of something, that ends the comparison.
func (c *comparer) vanished(e *rec.Entry, err error) error {
	c.path = ""
	switch {
	case inode.Exhausted(err):
		return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		c.differs("missing", e.Path, e.Type.String())
	default:
		c.Env.Warn("%s: cannot be compared: %v", rec.Quote(e.Path), err)
	}
	return nil
}

// Gap passes over what is live where the snapshot says nothing.
func (c *comparer) Gap(first page.Key, next *page.Key, l content.Loss) error {
	c.closeFile()
	c.begin(first.Path)
	if err := c.until(&first.Path, true); err != nil {
		return err
	}
	var path *string
	if next != nil {
		path = &next.Path
	}
	if err := c.until(path, false); err != nil {
		return err
	}
	return c.Base.Gap(first, next, l)
}

func (c *comparer) Orphan(e *rec.Entry) error {
	if err := c.until(&e.Path, true); err != nil {
		return err
	}
	if l, err := c.live.peek(); err != nil {
		return err
	} else if l != nil && l.Path == e.Path {
		c.live.drop()
	}
	return c.Base.Orphan(e)
}
