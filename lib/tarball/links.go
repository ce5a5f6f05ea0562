package tarball

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"preserve/lib/rec"
)

// maxLinks bounds the memory for hard links: their names, and the entries of
// the files that have them.
const maxLinks = 64 << 20

// A link is a hard link that no later member has replaced.
type link struct {
	target string // never a hard link itself
	before uint64 // the file is the last one of that path before this member
	file   *inode // nil if there is none
}

// An inode is a file with several names. What it is comes from one member, but
// the first of its names that is left in path order gets it all.
type inode struct {
	item   *item
	names  uint32
	leader string // empty until the first name came
}

// links are the hard links of an archive. They are in memory.
type links struct {
	byName map[string]*link
	inodes map[string][]*inode // by the path of the member that they come from
	used   int
	limit  int
}

func (l *links) take(n int) error {
	if l.used += n; l.used > l.limit {
		return fmt.Errorf("%w: the names of hard links, and of what they are links to, take more than %d bytes", ErrLimit, l.limit)
	}
	return nil
}

// add takes a member that is a hard link.
func (l *links) add(name, target string, seq uint64) error {
	to := &link{target: target, before: seq}
	if t := l.byName[target]; t != nil && target != name {
		*to = *t // a link to a link
	}
	l.byName[name] = to
	return l.take(len(name) + len(target) + 256)
}

// replaced says that a later member has that name.
func (l *links) replaced(name string) { delete(l.byName, name) }

// resolve finds what each link is a link to; next returns all items in order.
func (l *links) resolve(next func() (*item, error)) error {
	byTarget := map[string][]*link{}
	for _, k := range l.byName {
		byTarget[k.target] = append(byTarget[k.target], k)
	}
	for _, ks := range byTarget {
		slices.SortFunc(ks, func(a, b *link) int { return cmp.Compare(a.before, b.before) })
	}
	var last, file *item // of the path so far; nil if it is none that has links
	for {
		it, err := next()
		if err != nil && err != io.EOF {
			return err
		}
		if last != nil && (err == io.EOF || last.entry.Path != it.entry.Path) {
			if err := l.bind(byTarget[last.entry.Path], file); err != nil {
				return err
			}
			for _, n := range l.inodes[last.entry.Path] {
				if n.item.seq == last.seq {
					n.names++ // its own name is left
				}
			}
			file = nil
		}
		if err == io.EOF {
			return nil
		}
		// What was made a link before this member came is one to the member
		// before it.
		path := it.entry.Path
		ks := byTarget[path]
		i := 0
		for i < len(ks) && ks[i].before <= it.seq {
			i++
		}
		if err := l.bind(ks[:i], file); err != nil {
			return err
		}
		if i > 0 {
			byTarget[path] = ks[i:]
		}
		last, file = it, it
		if it.link || it.entry.Type == rec.Dir {
			file = nil
		}
	}
}

// bind makes links links to a file.
func (l *links) bind(ks []*link, file *item) error {
	if len(ks) == 0 || file == nil {
		return nil
	}
	n := &inode{item: file}
	l.inodes[file.entry.Path] = append(l.inodes[file.entry.Path], n)
	for _, k := range ks {
		k.file = n
		n.names++
	}
	return l.take(file.size())
}

// of returns the inode of the item that is left of its path, nil if it has no
// other names. ok is false for a hard link to nothing.
func (l *links) of(it *item) (n *inode, ok bool) {
	if it.link {
		k := l.byName[it.entry.Path]
		if k == nil {
			return nil, false
		}
		return k.file, k.file != nil
	}
	for _, n := range l.inodes[it.entry.Path] {
		if n.item.seq == it.seq {
			return n, true
		}
	}
	return nil, true
}
