package chunk

import (
	"errors"
	"fmt"
	"io"

	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// Caches are what earlier runs left, to be asked for one path after the other, in
// path order. The newest is asked first. One goroutine uses them.
type caches struct {
	trust  trust
	alone  *alone
	env    *tool.Env
	system func(*rec.Entry) source.FileSystem
	omit   *inode.Omit // attributes that this run leaves out
	list   []*shelf
	base   []id.ID // their snapshots, in the order of the command line
	// Devices of which it was said that their files are read again.
	timeless map[uint64]bool
}

// A shelf is one cache.
type shelf struct {
	name      id.ID
	cache     *cache.Reader
	next      *rec.Entry // the first that was not passed; nil at the end
	near, far rec.Time   // see trust.cutoffs
}

// errTorn is a large file in a cache whose pieces do not make one file.
var errTorn = errors.New("pieces of a file that do not follow each other")

// vouch reports whether a cache stands for what the scan found. Then e gets from it
// what a reading would have given: attributes, flags, content by id. If e has More
// then, the pieces that follow are to be had from more.
func (c *caches) vouch(e *rec.Entry) (more *shelf, ok bool, err error) {
	for i := 0; i < len(c.list); i++ {
		s := c.list[i]
		k, err := s.find(e.Path)
		if err != nil {
			c.drop(i, err)
			i--
			continue
		}
		if k != nil && e.Way && k.Way && k.Type == rec.Dir {
			// What changes beside the source is not the source's: else each file that comes and goes in a
			// directory above it would make another tree.
			e.MTime = k.MTime
		}
		if k == nil || !c.omit.Covers(k) || !c.trust.same(e, k, s.near, s.far, c.on) || c.alone.shared(k) {
			continue
		}
		ok, err := c.complete(s, k)
		if err != nil {
			return nil, false, err
		}
		if ok {
			e.XAttrs, e.Omitted, e.Flags, e.Extents, e.More, e.Alone = k.XAttrs, k.Omitted, k.Flags, k.Extents, k.More, k.Alone
			c.omit.Apply(e)
			return s, true, nil
		}
	}
	return nil, false, nil
}

// on is system, and says once of each device why its files are read again.
func (c *caches) on(e *rec.Entry) source.FileSystem {
	what := c.system(e)
	if !what.ChangeTimes && !c.trust.ignoreCTime && !c.timeless[e.Dev] {
		if c.timeless == nil {
			c.timeless = map[uint64]bool{}
		}
		c.timeless[e.Dev] = true
		c.env.Notice("files on the file system of %s are read again in each run: %s does not keep change times of its own; --ignore-ctime trusts size and mtime", rec.Quote(e.Path), what.Name)
	}
	return what
}

// drop goes on without a cache that turned out to be damaged.
func (c *caches) drop(i int, err error) {
	s := c.list[i]
	s.close()
	c.list = append(c.list[:i], c.list[i+1:]...)
	c.env.Notice("%s: files behind this place are read again", err)
}

// close ends the use of all caches.
func (c *caches) close() {
	for _, s := range c.list {
		s.close()
	}
	c.list = nil
}

func (s *shelf) close() { _ = s.cache.Close() } // it was only read

// advance goes to the next entry.
func (s *shelf) advance() (err error) {
	if s.next, err = s.cache.Next(); err == io.EOF {
		s.next, err = nil, nil
	}
	return err
}

// find passes what comes before path, and returns the first entry at path, or nil.
func (s *shelf) find(path string) (*rec.Entry, error) {
	for s.next != nil {
		switch at := rec.ComparePaths(s.next.Path, path); {
		case at > 0:
			return nil, nil
		case at == 0 && s.next.Off == 0:
			return s.next, nil
		}
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// complete reports whether the content of the file that begins with k is whole,
// was consistent, and is not distrusted. It looks at all its pieces before the
// first is taken: nothing of a file can be taken back.
func (c *caches) complete(s *shelf, k *rec.Entry) (bool, error) {
	if k.Type != rec.File {
		return true, nil
	}
	ahead := s.cache
	for p := k; ; {
		if bad, err := c.trust.distrusts(p.Extents); bad || err != nil {
			return false, err
		}
		if p.Inconsistent || p.CheckContent() != nil {
			return false, nil
		}
		if !p.More {
			return p.Size == k.Size, nil
		}
		if p == k {
			ahead = s.cache.Fork()
		}
		q, err := ahead.Next()
		if err != nil || !follows(p, q) {
			return false, nil // whoever asks for the next path is told of the damage
		}
		p = q
	}
}

// follows reports whether q is the piece behind p.
func follows(p, q *rec.Entry) bool {
	n, err := p.ContentLen()
	return err == nil && q.Path == p.Path && q.Type == rec.File && q.Err == "" && q.Off == p.Off+n
}

// piece returns the piece behind p of a file that complete has seen.
func (s *shelf) piece(p *rec.Entry) (*rec.Entry, error) {
	err := s.advance()
	if err == nil && (s.next == nil || !follows(p, s.next)) {
		err = errTorn
	}
	if err != nil {
		return nil, fmt.Errorf("cache of snapshot %s: %s: it was whole a moment ago: %w", s.name, rec.Quote(p.Path), err)
	}
	q := s.next
	return &rec.Entry{Path: q.Path, Type: rec.File, Size: q.Size, Off: q.Off, More: q.More, Extents: q.Extents}, nil
}
