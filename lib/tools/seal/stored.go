package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/tool"
)

// stored is what is said to be in the repository already, and need not be sealed
// or sent: what the bases reach, by the lists in the cache, and --known; without
// --distrust. Whether it is true is for pv-put to find out. Its methods but open
// and close may be called by many goroutines.
type stored struct {
	env             *tool.Env
	bases           []base // as the head names them: the newest last
	known, distrust *ids.List
	broken          atomic.Bool // known or distrust cannot be read any more
}

// A base is a full snapshot and what it reaches.
type base struct {
	id     id.ID
	list   *cache.IDs
	broken *atomic.Bool
}

// readKnown reads the two files, each of which may be "" for none.
func readKnown(env *tool.Env, known, distrust string) (*stored, error) {
	s := &stored{env: env}
	for _, f := range []struct {
		flag, name string
		to         **ids.List
	}{{"known", known, &s.known}, {"distrust", distrust, &s.distrust}} {
		if f.name == "" {
			continue
		}
		file, err := os.Open(f.name)
		if err == nil {
			*f.to, err = ids.ReadText(file)
			file.Close()
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("--%s %q: %w", f.flag, f.name, err)
		}
	}
	return s, nil
}

// open opens the lists of the bases in a cache. A checkpoint has none; nor need
// another: then more is sent than is necessary.
func (s *stored) open(dir string, bases []id.ID, secret key.Secret, k key.ID) {
	for _, b := range bases {
		list, err := cache.OpenIDs(dir, b, secret, k)
		switch {
		case err == nil:
			s.bases = append(s.bases, base{b, list, new(atomic.Bool)})
		case errors.Is(err, fs.ErrNotExist):
			s.env.Log.Debug(fmt.Sprintf("snapshot %s has no list of blobs in the cache", b.Short()))
		default:
			s.env.Notice("%v: what snapshot %s holds is sealed again", err, b.Short())
		}
	}
}

// has reports whether the blob i need not be sent.
func (s *stored) has(i id.ID) bool {
	if s.broken.Load() {
		return false
	}
	bad, err := s.distrust.Has(i)
	known := false
	if err == nil && !bad {
		known, err = s.known.Has(i)
	}
	if err != nil {
		if !s.broken.Swap(true) {
			s.env.Notice("list of ids: %v: nothing is taken as stored any more", err)
		}
		return false
	}
	for k := len(s.bases) - 1; k >= 0 && !known && !bad; k-- {
		b := &s.bases[k]
		if b.broken.Load() {
			continue
		}
		if known, err = b.list.Has(i); err != nil && !b.broken.Swap(true) {
			s.env.Notice("%v: what else snapshot %s holds is sealed again", err, b.id.Short())
		}
	}
	return known
}

// hasMeta reports whether the metadata blob i need not be sent. As soon as anything is
// distrusted none is relied on: what lies below a page that is not there nobody can
// tell, and pages are small.
func (s *stored) hasMeta(i id.ID) bool { return s.distrust.Len() == 0 && s.has(i) }

// prev returns the newest full snapshot that this one builds on; zero if there is
// none.
func (s *stored) prev() id.ID {
	if len(s.bases) == 0 {
		return id.ID{}
	}
	return s.bases[len(s.bases)-1].id
}

// same returns the newest base whose tree has this root.
func (s *stored) same(root id.ID) (i id.ID, ok bool) {
	for k := len(s.bases) - 1; k >= 0; k-- {
		if s.bases[k].list.Root() == root {
			return s.bases[k].id, true
		}
	}
	return i, false
}

// close lets go of files.
func (s *stored) close() {
	for _, b := range s.bases {
		_ = b.list.Close() // it was read only
	}
	_ = s.known.Close() // temporary files without a name
	_ = s.distrust.Close()
}
