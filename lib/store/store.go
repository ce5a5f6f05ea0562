// Package store is a repository of objects, under ids: put, get, has, walk,
// lock. It knows no key: it stores what it is given, checks its shape, its
// checksums and that nothing refers to what is not there, and gives it back.
//
// Layout and formats are specified in docs/format/repository.md, put and get in
// docs/format/protocol.md. Nothing that was published is ever changed,
// renamed over or deleted here: what put removes are its own temporaries, and
// those of puts that were killed.
//
//	config            what the repository is; published once
//	lock              a shared lock for put and get, an exclusive one for a collector
//	ballast           64 KiB to be removed on a full disk
//	keys/NAME         wrapped keys (package key)
//	packs/AB/NAME     packs (package pack); AB is the first byte of NAME
//	index/SHA256      index segments (package pack)
//	gc/SHA256         what collectors have decided and seen (verdict.go)
//	snapshots/ID      snapshot objects
//	checkpoints/ID    the same, written before the last check of a commit; also of
//	                  what a run that goes on has stored so far
//	forgotten/ID      a mark: this snapshot counts no more
//	kept/ID           a mark: this snapshot is not to be forgotten
//	tmp/              temporaries
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// Errors of this package; match them with errors.Is.
var (
	ErrNone      = errors.New("not a Preserve repository")
	ErrNewer     = errors.New("made by a newer version of Preserve: upgrade")
	ErrLocked    = errors.New("locked by a collector")
	ErrBusy      = errors.New("in use")
	ErrNotEmpty  = errors.New("holds other things: give an empty or a new directory")
	ErrNoParent  = objects.ErrNoParent
	ErrMissing   = errors.New("missing in the repository")
	ErrForgotten = errors.New("marked as forgotten")
	ErrTaken     = errors.New("somebody else has stored something under its id before")
	ErrKept      = errors.New("marked to be kept")
	ErrDamaged   = pack.ErrDamaged
)

// ballastSize is how large the object is that a collector removes first on a full disk.
const ballastSize = 64 << 10

// subdirs are the directories of a repository.
var subdirs = []string{"keys", "packs", "index", "gc", "snapshots", "checkpoints", "forgotten", "kept", "tmp"}

// Options say where remarks go. Both functions may be nil and may be called by
// several goroutines.
type Options struct {
	// Warn is told of damage by which something is lost.
	Warn func(format string, args ...any)
	// Writes says that something will be stored.
	Writes bool
	// Note is told of damage by which nothing is lost, as far as is known yet.
	Note func(format string, args ...any)
}

// A Repo is an open repository, under a shared lock until Close. Reading may be
// done by many goroutines.
type Repo struct {
	o      objects.Store
	config Config
	opts   Options
	lock   io.Closer // nil where there is none
	alone  bool      // nobody else has it open
	cache  *pack.Cache

	search sync.Mutex // held by newer; taken before mu

	mu        sync.Mutex // guards the pointer to the view and the maps
	view      *view
	ages      map[id.ID]int64 // of packs; see age
	strangers map[id.ID]bool  // ids that were named; see strange

	bad  sync.Mutex     // guards told; taken behind mu
	told map[id.ID]bool // segments that were named as damaged

	smu      sync.Mutex // guards sessions
	sessions map[id.ID]*rec.Session
}

// ID is the repository's own id: which it is, wherever it lies.
func (r *Repo) ID() [16]byte { return r.config.ID }

// Open opens the repository in dir and takes the shared lock. It returns
// ErrNone, ErrNewer or ErrLocked, explained.
func Open(dir string, o Options) (*Repo, error) {
	d, err := objects.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q is %w (no such directory)", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	return OpenStore(d, o)
}

// OpenStore is Open of the repository whose objects are in s, which it closes.
func OpenStore(s objects.Store, o Options) (*Repo, error) { return openStore(s, o, false) }

func openStore(s objects.Store, o Options, alone bool) (*Repo, error) {
	c, err := readConfig(s)
	if err != nil {
		s.Close()
		return nil, err
	}
	for _, f := range []*func(string, ...any){&o.Warn, &o.Note} {
		if *f == nil {
			*f = func(string, ...any) {}
		}
	}
	r := &Repo{o: s, config: c, opts: o, cache: pack.NewCache(8 << 20), alone: alone}
	r.lock, err = s.Lock(alone)
	switch {
	case alone && errors.Is(err, objects.ErrLocked):
		err = fmt.Errorf("%q is %w: try again when backups and restores have ended", s, ErrBusy)
	case alone && errors.Is(err, objects.ErrNoLocks):
		err = fmt.Errorf("lock the repository: %w: nothing can be removed at once", err)
	case errors.Is(err, objects.ErrNoLocks):
		// What a lock keeps away is a collector, and nothing else.
		risk := "what a collector (pv-gc) removes meanwhile is missing here"
		if o.Writes {
			risk = "a collector (pv-gc) that runs meanwhile may remove what this run stores or rests on: let none run"
		}
		r.opts.Note("lock the repository: %v: %s", err, risk)
		err = nil
	case errors.Is(err, objects.ErrLocked):
		err = fmt.Errorf("%q is %w: try again later", s, ErrLocked)
	case err != nil:
		err = fmt.Errorf("lock the repository: %w", damaged(err))
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Create makes a repository of a missing or empty directory, unless it is one
// already, and opens it. Many processes may do so at once. The directory that
// holds it must exist: a path below a disk that is not mounted should not come
// into being. A directory that holds anything else is ErrNotEmpty.
func Create(dir string, o Options) (*Repo, error) {
	r, err := Open(dir, o)
	if !errors.Is(err, ErrNone) {
		return r, err
	}
	if err := create(dir); err != nil {
		return nil, err
	}
	return Open(dir, o)
}

func create(dir string) error {
	made, err := objects.MakeDir(dir)
	if err != nil {
		return err
	}
	d, err := objects.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := checkEmpty(d); err != nil {
		if _, again := readConfig(d); again == nil {
			return nil // another process was faster
		}
		return err
	}
	if err := d.Mkdirs(subdirs...); err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	if err := Make(d); err != nil {
		return err
	}
	if made {
		return d.Sync()
	}
	return nil
}

// Make makes an empty repository of an empty store. Many processes may do so at once.
func Make(s objects.Store) error {
	c, err := newConfig()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"lock", nil}, {"ballast", make([]byte, ballastSize)}, {"config", c.encode()}} {
		if err := s.Put(f.name, f.data); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the repository: %w", err)
		}
	}
	return nil
}

// checkEmpty accepts a directory that holds nothing but what a creator makes
// before the config, and what a new file system has.
func checkEmpty(d objects.Store) error {
	list, err := d.List("")
	if err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	own := map[string]bool{"lock": true, "ballast": true, "lost+found": true}
	for _, name := range list {
		if own[name] || objects.IsTemp(name) {
			continue
		}
		sub, err := d.List(name)
		if !isSubdir(name) || err != nil || len(sub) > 0 && name != "tmp" {
			return fmt.Errorf("%q has no config, so it is no repository, and it %w", d, ErrNotEmpty)
		}
	}
	return nil
}

func isSubdir(name string) bool {
	for _, s := range subdirs {
		if s == name {
			return true
		}
	}
	return false
}

// Places returns the directories that the repository is in: see objects.Store.
func (r *Repo) Places() []string { return r.o.Places() }

// String says where the repository is, as it was given.
func (r *Repo) String() string { return r.o.String() }

// Config returns what the repository is.
func (r *Repo) Config() Config { return r.config }

// Close gives up the lock and closes all objects.
func (r *Repo) Close() {
	r.o.Close()
	if r.lock != nil {
		// Closing releases the lock; nothing was written.
		_ = r.lock.Close()
	}
}
