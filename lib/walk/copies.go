package walk

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// Why a symbolic link stays one, and what ends a walk that follows links.
var (
	ErrDangling = errors.New("what it leads to is not in the snapshot")
	ErrLoop     = errors.New("it leads in a circle")
	ErrLost     = errors.New("what it leads to was in a page that is missing or damaged")
	ErrCopies   = errors.New("links lead to so many files that following them would not come to an end")
)

const (
	// maxLinks is how many links may lead to one another, and how many copies
	// may be made inside of one another.
	maxLinks = 40
	// maxSteps is how many names are looked up to follow one link.
	maxSteps = 4096
)

// maxCopied is how many entries may be put in the place of links: directories
// full of links to each other hold, followed, more than any disk.
var maxCopied = 10_000_000

// A scope is a part of the tree that is walked: all of it, or what is put in the
// place of a link.
type scope struct {
	up       *scope
	at       string    // in up, the link
	from, to string    // paths below from are moved to
	begin    page.Key  // what belongs to it
	end      *page.Key // nil: all behind begin
	single   bool      // one file, with links as its number of links
	links    uint32
	chosen   bool // a single file was

	check  page.Checker
	pruned bool
	// names has the files with further names: where the first name, chosen, has
	// gone.
	names map[string]string
}

// below is the key behind all that is below a path.
func below(path string) page.Key { return page.Key{Path: path + "\x01"} }

// last is a key behind all pieces of a file.
func last(path string) page.Key { return page.Key{Path: path, Off: math.MaxUint64} }

// move returns the path under which the walk has what stands at a path.
func (s *scope) move(path string) string { return s.to + path[len(s.from):] }

// moved returns a range of keys, cut to the scope, as the walk has it.
func (s *scope) moved(first page.Key, next *page.Key) (page.Key, *page.Key) {
	if s.end == nil {
		return first, next
	}
	if first.Compare(s.begin) < 0 {
		first = s.begin
	}
	if next == nil || next.Compare(*s.end) > 0 {
		next = s.end
	}
	return page.Key{Path: s.move(first.Path), Off: first.Off}, &page.Key{Path: s.move(next.Path), Off: next.Off}
}

// promotes says whether a further name may become a first one. Where nobody asks
// for content, it stays what it is.
func (d *drive) promotes() bool {
	return d.o.Choose != nil && !d.o.MetaOnly || d.o.Follow != nil || d.o.Unshare
}

// enter takes a record of a scope, from a page with these references.
func (d *drive) enter(s *scope, e *rec.Entry, refs []byte) error {
	if s.end == nil {
		return d.record(s, e, e.Path, refs)
	}
	if !s.single { // those are no more than there are links
		d.copied++
	}
	if d.copied > maxCopied {
		return fmt.Errorf("%s: %w: %d copies", rec.Quote(s.to), ErrCopies, maxCopied)
	}
	c := *e
	c.Path = s.move(e.Path)
	if err := rec.CheckPath(c.Path); err != nil {
		return fmt.Errorf("copy of %s below %s: %w", rec.Quote(s.from), rec.Quote(s.to), err)
	}
	if !s.single {
		return d.record(s, &c, e.Path, refs)
	}
	if c.Off == 0 {
		c.Links = s.links
	}
	chosen, err := d.choose(&c, refs)
	s.chosen = s.chosen || chosen
	return err
}

// copy walks what a scope says.
func (d *drive) copy(s *scope) error {
	s.names = map[string]string{}
	s.check.Skip()
	depth := 4
	if !s.single {
		depth = window
	}
	ds, err := d.descend(func(first page.Key, next *page.Key) bool {
		if first.Compare(*s.end) >= 0 || next != nil && next.Compare(s.begin) <= 0 {
			return false
		}
		return d.reaches(s.moved(first, next))
	}, depth)
	if err != nil {
		return err
	}
	return d.through(ds, s)
}

// copyFile puts the file that stands at from at the path to.
func (d *drive) copyFile(from, to string, links uint32) (chosen bool, err error) {
	end := last(from)
	s := &scope{from: from, to: to, begin: page.Key{Path: from}, end: &end, single: true, links: links}
	err = d.copy(s)
	return s.chosen, err
}

// further takes a further name of a file: a link to where the first name has
// gone. If it has gone nowhere, or each name is to be a file, it becomes a first
// name.
func (d *drive) further(s *scope, e *rec.Entry, src string) error {
	if name, ok := s.names[e.Leader]; ok && !d.o.Unshare {
		c := *e
		c.Leader = name
		_, err := d.choose(&c, nil)
		return err
	}
	if end := last(e.Path); !d.reaches(page.Key{Path: e.Path}, &end) {
		return nil
	}
	first, err := d.find(e.Leader)
	if errors.Is(err, ErrLost) {
		return d.sink.Orphan(e)
	}
	if err == nil && (first == nil || first.Type == rec.HardLink || first.Links < 2) {
		err = fmt.Errorf("entry %s: %w: its first name %s is not among the entries with links", rec.Quote(e.Path), page.ErrPage, rec.Quote(e.Leader))
	}
	if err != nil {
		return err
	}
	if first.Type == rec.Symlink && d.o.Follow != nil {
		c := *first
		c.Path = e.Path
		return d.symlink(s, &c, src)
	}
	links := first.Links
	if d.o.Unshare {
		links = 0
	}
	chosen, err := d.copyFile(e.Leader, e.Path, links)
	if chosen && links > 0 {
		s.names[e.Leader] = e.Path
	}
	return err
}

// symlink puts in the place of a link what it leads to.
func (d *drive) symlink(s *scope, e *rec.Entry, src string) error {
	c := *e
	c.Links = 0
	end := below(e.Path)
	if !d.reaches(page.Key{Path: e.Path}, &end) {
		return nil
	}
	to, err := d.lead(src, e.Target)
	if err == nil && to.Type == rec.Dir && s.holds(src, to.Path) {
		err = ErrLoop
	}
	switch {
	case errors.Is(err, ErrDangling), errors.Is(err, ErrLoop), errors.Is(err, ErrLost):
		chosen, cerr := d.choose(&c, nil)
		if chosen {
			d.o.Follow(&c, err)
		}
		return cerr
	case err != nil:
		return err
	case to.Type != rec.Dir:
		_, err = d.copyFile(to.Path, e.Path, 0)
		return err
	}
	end = below(to.Path)
	return d.copy(&scope{up: s, at: src, from: to.Path, to: e.Path, begin: page.Key{Path: to.Path}, end: &end})
}

// holds reports whether a directory is one of those that the walk is in on its
// way to a link: put there, it would hold itself. So it is if the walk is in too
// many copies.
func (s *scope) holds(link, dir string) bool {
	for depth := 0; s != nil; s, depth = s.up, depth+1 {
		if rec.Below(dir, s.from) && rec.Below(rec.Parent(link), dir) || depth >= maxLinks {
			return true
		}
		link = s.at
	}
	return false
}

// lead returns the entry that a link leads to: not a link itself, nor a further
// name. Errors: ErrDangling, ErrLoop, ErrLost, and those that end the walk.
func (d *drive) lead(link, target string) (*rec.Entry, error) {
	at, rest, links := rec.Parent(link), target, 0
	for range maxSteps {
		if strings.HasPrefix(rest, "/") && rest == target {
			at = ""
		}
		name, tail, more := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch name {
		case "", ".":
			if rest = tail; !more {
				return d.directory(at)
			}
			continue
		case "..":
			if at, rest = rec.Parent(at), tail; !more {
				return d.directory(at)
			}
			continue
		}
		path := name
		if at != "" {
			path = at + "/" + name
		}
		e, err := d.firstName(path)
		switch {
		case err != nil:
			return nil, err
		case e.Type == rec.Symlink:
			if links++; links > maxLinks {
				return nil, ErrLoop
			}
			if target = e.Target; more {
				target += "/" + tail
			}
			rest = target
		case e.Type == rec.Dir && more:
			at, rest = path, tail
		case more:
			return nil, ErrDangling
		default:
			return e, nil
		}
	}
	return nil, ErrLoop
}

// firstName returns the entry at a path; of a further name, that of the first.
func (d *drive) firstName(path string) (*rec.Entry, error) {
	e, err := d.find(path)
	if err == nil && e != nil && e.Type == rec.HardLink {
		e, err = d.find(e.Leader)
	}
	if err == nil && (e == nil || e.Type == rec.HardLink) {
		err = ErrDangling
	}
	return e, err
}

// directory returns the entry of a directory. The root holds every link.
func (d *drive) directory(path string) (*rec.Entry, error) {
	if path == "" {
		return nil, ErrLoop
	}
	return d.firstName(path)
}

// find returns the first record that stands at a path, nil if there is none.
// Without a page on the way the error is ErrLost.
func (d *drive) find(path string) (*rec.Entry, error) {
	key := page.Key{Path: path}
	n, _, err := d.node(d.root, rec.KindPage, rec.KindIndexMax, nil)
	for err == nil && n != nil && n.keys != nil {
		at, here := slices.BinarySearchFunc(n.keys, key, page.Key.Compare)
		if !here {
			at--
		}
		if at < 0 {
			return nil, nil
		}
		n, _, err = d.node(id.ID(n.refs[at*id.Size:]), n.kind-1, n.kind-1, &n.keys[at])
	}
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, ErrLost
	}
	at, here := slices.BinarySearchFunc(n.entries, key, func(e *rec.Entry, key page.Key) int { return page.KeyOf(e).Compare(key) })
	if !here {
		return nil, nil
	}
	return n.entries[at], n.entries[at].Check()
}

// has reports whether a path is in the tree. Without a page on the way the error is ErrLost.
func (d *drive) has(path string) (bool, error) {
	e, err := d.find(path)
	return e != nil, err
}
