// Package store is a repository under ids, in a directory: put, get, has, walk,
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
//	gc/SHA256         a collector's segments: refused by this version
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
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// Errors of this package; match them with errors.Is.
var (
	ErrNone      = errors.New("not a Preserve repository")
	ErrNewer     = errors.New("made by a newer version of Preserve: upgrade")
	ErrCollected = errors.New("collected by a newer version of Preserve: upgrade")
	ErrLocked    = errors.New("locked by a collector")
	ErrNotEmpty  = errors.New("holds other things: give an empty or a new directory")
	ErrNoParent  = errors.New("the directory above it does not exist")
	ErrMissing   = errors.New("missing in the repository")
	ErrForgotten = errors.New("marked as forgotten")
	ErrTaken     = errors.New("somebody else has stored something under its id before")
	ErrKept      = errors.New("marked to be kept")
	ErrDamaged   = pack.ErrDamaged
)

const (
	dirPerm     = 0o700
	filePerm    = 0o600
	ballastSize = 64 << 10
)

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
	dir    string
	config Config
	opts   Options
	lock   *os.File // nil where there is none
	share  sharing
	files  *handles
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
// ErrNone, ErrNewer, ErrCollected or ErrLocked, explained.
func Open(dir string, o Options) (*Repo, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range []*func(string, ...any){&o.Warn, &o.Note} {
		if *f == nil {
			*f = func(string, ...any) {}
		}
	}
	r := &Repo{dir: dir, config: c, opts: o, files: newHandles(), cache: pack.NewCache(8 << 20)}
	if r.share, err = sharingOf(dir); err == nil {
		r.lock, err = openLock(r.path("lock"), r.share)
	}
	if noLocks(err) {
		// What a lock keeps away is a collector, and nothing else.
		risk := "what a collector (pv-gc) removes meanwhile is missing here"
		if o.Writes {
			risk = "a collector (pv-gc) that runs meanwhile may remove what this run stores or rests on: let none run"
		}
		r.opts.Note("%v: %s", err, risk)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.checkCollected(); err != nil {
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
	err := mkRoot(dir)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := checkEmpty(dir); err != nil {
		if _, again := readConfig(dir); again == nil {
			return nil // another process was faster
		}
		return err
	}
	share, err := sharingOf(dir)
	if err == nil {
		err = makeSubdirs(dir, share)
	}
	if err != nil {
		return err
	}
	c, err := newConfig()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"lock", nil}, {"ballast", make([]byte, ballastSize)}, {"config", c.encode()}} {
		if err := durable.WriteFileAs(filepath.Join(dir, f.name), f.data, share.file, share.fit); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the repository: %w", err)
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if made {
		return durable.SyncDir(filepath.Dir(filepath.Clean(dir)))
	}
	return nil
}

// makeSubdirs makes the directories that are not there: all of them in a new
// repository, some in one that was copied by something that leaves out empty
// directories.
func makeSubdirs(dir string, share sharing) error {
	made := false
	for _, name := range subdirs {
		err := share.mkdir(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the repository: %w", err)
		}
		made = made || err == nil
	}
	if !made {
		return nil
	}
	return durable.SyncDir(dir)
}

// checkEmpty accepts a directory that holds nothing but what a creator makes
// before the config, and what a new file system has.
func checkEmpty(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	own := map[string]bool{"lock": true, "ballast": true, "lost+found": true}
	for _, e := range list {
		if own[e.Name()] || isTemp(e.Name()) {
			continue
		}
		sub, err := os.ReadDir(filepath.Join(dir, e.Name()))
		if !isSubdir(e.Name()) || err != nil || len(sub) > 0 && e.Name() != "tmp" {
			return fmt.Errorf("%q has no config, so it is no repository, and it %w", dir, ErrNotEmpty)
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

func isTemp(name string) bool {
	return len(name) > len(durable.TempPrefix) && name[:len(durable.TempPrefix)] == durable.TempPrefix
}

// Places returns the directories that the repository is in: its own, and where links in it
// lead to, if some of its directories lie on another disk.
func (r *Repo) Places() []string {
	places := []string{r.dir}
	for _, dir := range []string{r.dir, r.path("packs")} {
		list, err := os.ReadDir(dir)
		if err != nil {
			continue // whoever needs it says so
		}
		for _, e := range list {
			if e.Type()&fs.ModeSymlink != 0 {
				places = append(places, filepath.Join(dir, e.Name()))
			}
		}
	}
	return places
}

// Dir returns the repository's directory as it was given.
func (r *Repo) Dir() string { return r.dir }

// Config returns what the repository is.
func (r *Repo) Config() Config { return r.config }

// Close gives up the lock and closes all files.
func (r *Repo) Close() {
	r.files.close()
	if r.lock != nil {
		// Closing releases the lock; there is nothing to be lost in a file
		// that is only locked.
		_ = r.lock.Close()
	}
}

func (r *Repo) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// checkCollected refuses a repository in which a collector has been at work:
// this version knows neither retired rows nor dropped packs.
func (r *Repo) checkCollected() error {
	list, err := os.ReadDir(r.path("gc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the repository: %w", err)
	}
	for _, e := range list {
		if !isTemp(e.Name()) {
			return fmt.Errorf("%q was %w", r.dir, ErrCollected)
		}
	}
	return nil
}

// openLock takes the lock, and makes its file if a copy of the repository lost
// it. Where it cannot be made nobody can collect either: then there is none.
func openLock(path string, share sharing) (*os.File, error) {
	f, err := lockShared(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	err = durable.WriteFileAs(path, nil, share.file, share.fit)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return lockShared(path)
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission):
		return nil, nil
	}
	return nil, fmt.Errorf("lock the repository: %w", err)
}

// lockShared takes the lock that keeps an exclusive collector away. It is an
// open file description lock: it belongs to the open file, and works over NFS.
func lockShared(path string) (*os.File, error) {
	f, err := openObject(path)
	if err != nil {
		return nil, fmt.Errorf("lock the repository: %w", err)
	}
	l := unix.Flock_t{Type: unix.F_RDLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("%q is %w: try again later", filepath.Dir(path), ErrLocked)
	}
	return nil, fmt.Errorf("lock the repository: %q: %w", path, err)
}

// names returns the ids that name the objects in a directory, sorted. Other
// names are none of ours. A directory that is not there holds none: a copy may
// have left it out because it was empty.
func (r *Repo) names(dir string) ([]id.ID, error) {
	list, err := os.ReadDir(r.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	var ids []id.ID
	for _, e := range list {
		if i, err := id.Parse(e.Name()); err == nil && i.String() == e.Name() {
			ids = append(ids, i)
		}
	}
	return ids, nil
}
