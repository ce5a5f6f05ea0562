package objects

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
)

const (
	dirPerm  = 0o700
	filePerm = 0o600
	// tempDir is the directory of the temporaries.
	tempDir = "tmp"
	// lockName is the object that Lock locks.
	lockName = "lock"
)

// A Dir is a Store in a directory.
type Dir struct {
	root  string
	share sharing
	files *handles
	// Before, if not nil, is called with each step of a Writer before it is taken; its error is the
	// step's. It is for tests.
	Before func(step string) error
}

// OpenDir opens a directory.
func OpenDir(root string) (*Dir, error) {
	share, err := sharingOf(root)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, share: share, files: newHandles()}, nil
}

// MakeDir makes a directory for objects, unless it is there: then made is false. The one above must be there:
// a path below a disk that is not mounted should not come into being.
func MakeDir(root string) (made bool, err error) {
	err = mkRoot(root)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Sync makes the directory's own name durable.
func (d *Dir) Sync() error { return durable.SyncDir(filepath.Dir(filepath.Clean(d.root))) }

// String returns the directory as it was given.
func (d *Dir) String() string { return d.root }

// Path returns where an object lies, for messages.
func (d *Dir) Path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Mkdirs makes those directories of names that are not there: all of them in a new
// repository, some in one that was copied by something that leaves out empty
// directories.
func (d *Dir) Mkdirs(names ...string) error {
	made := false
	for _, name := range names {
		err := d.share.mkdir(d.Path(name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		made = made || err == nil
	}
	if !made {
		return nil
	}
	return durable.SyncDir(d.root)
}

// mkdir makes a directory and those above it that are not there, but never the store's own: that of a disk
// that is not mounted any more must not come into being. made is told each.
func (d *Dir) mkdir(dir string, made func(dir string)) error {
	err := d.share.mkdir(d.Path(dir))
	if errors.Is(err, fs.ErrNotExist) && parent(dir) != "" {
		if err = d.mkdir(parent(dir), made); err == nil {
			err = d.share.mkdir(d.Path(dir))
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err == nil:
		made(dir)
	}
	return err
}

// parent returns the directory of names that a directory lies in; "" is the store's own.
func parent(dir string) string {
	if i := strings.LastIndexByte(dir, '/'); i >= 0 {
		return dir[:i]
	}
	return ""
}

// openFile opens an object for reading. The error is ErrNotFile for what is no file.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotFile}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

type file struct {
	*os.File
	info Info
}

func (f *file) Info() Info { return f.info }

// infoOf knows that a pack without a time has that of 1970: see temp.Undated.
func infoOf(st fs.FileInfo) Info {
	i := Info{Size: st.Size()}
	if at := st.ModTime(); at.UnixNano() != 0 {
		i.Time = at
	}
	return i
}

// Open implements Store.
func (d *Dir) Open(name string) (Object, error) {
	f, st, err := openFile(d.Path(name))
	if err != nil {
		return nil, err
	}
	return &file{f, infoOf(st)}, nil
}

// ReadAt implements Store.
func (d *Dir) ReadAt(name string, p []byte, off int64) (int, error) {
	return d.files.readAt(d.Path(name), p, off)
}

// Stat implements Store.
func (d *Dir) Stat(name string) (Info, error) {
	st, err := os.Stat(d.Path(name))
	if err != nil {
		return Info{}, err
	}
	return infoOf(st), nil
}

// List implements Store.
func (d *Dir) List(dir string) ([]string, error) {
	list, err := os.ReadDir(d.Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

// Put implements Store.
func (d *Dir) Put(name string, data []byte) error {
	path := d.Path(name)
	err := durable.WriteFileAs(path, data, d.share.file, d.share.fit)
	if errors.Is(err, fs.ErrNotExist) {
		// A copy that leaves out empty directories.
		var made []string
		err = d.mkdir(parent(name), func(dir string) { made = append(made, dir) })
		for _, dir := range made {
			if err == nil {
				err = durable.SyncDir(d.Path(parent(dir)))
			}
		}
		if err == nil {
			err = durable.WriteFileAs(path, data, d.share.file, d.share.fit)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		// Whoever made it may not have come to this.
		if serr := durable.SyncDir(filepath.Dir(path)); serr != nil {
			return serr
		}
	}
	return err
}

// Delete implements Store.
func (d *Dir) Delete(name string) error {
	path := d.Path(name)
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Close implements Store.
func (d *Dir) Close() { d.files.close() }

// Places returns the directories that the objects are in: the store's own, and where links in it
// lead to, if some of its directories lie on another disk.
func (d *Dir) Places() []string {
	places := []string{d.root}
	for _, dir := range []string{d.root, d.Path("packs")} {
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

// Lock implements Store. It is a lock on the object "lock", which is made if a copy of the repository
// lost it. Where that cannot be made, nobody can lock it alone either: then there is nothing to be
// locked. It is an open file description lock: it belongs to the open file, and works over
// NFS.
func (d *Dir) Lock(alone bool) (io.Closer, error) {
	c, err := d.lock(alone)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	err = d.Put(lockName, nil)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return d.lock(alone)
	case !alone && (errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)):
		return io.NopCloser(nil), nil
	}
	return nil, err
}

func (d *Dir) lock(alone bool) (io.Closer, error) {
	path := d.Path(lockName)
	var f *os.File
	var err error
	l := unix.Flock_t{Type: unix.F_RDLCK}
	if alone {
		l.Type = unix.F_WRLCK
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	} else {
		f, _, err = openFile(path)
	}
	if err != nil {
		return nil, err
	}
	if err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err == nil {
		return f, nil
	}
	f.Close()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return nil, ErrLocked
	case noLocks(err):
		return nil, &noLocksError{path, err}
	}
	return nil, fmt.Errorf("%q: %w", path, err)
}

// A noLocksError is an ErrNoLocks that says what the system said.
type noLocksError struct {
	path string
	err  error
}

func (e *noLocksError) Error() string   { return fmt.Sprintf("%q: %v", e.path, e.err) }
func (e *noLocksError) Unwrap() []error { return []error{ErrNoLocks, e.err} }

// maxReserve is how much should stay free on a large file system; on a small one
// it is a hundredth.
const maxReserve = 256 << 20

// Space implements Store. A file system that does not know its size has no reserve.
func (d *Dir) Space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.root, &st); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %q: %w", d.root, err)
	}
	if st.Blocks == 0 {
		return Space{Free: math.MaxInt64}, nil
	}
	unit := uint64(max(st.Frsize, 1))
	return Space{st.Bavail * unit, min(st.Blocks*unit/100, maxReserve), st.Files > 0 && st.Ffree == 0}, nil
}

// Used implements Store. An object that is published meanwhile is counted once: temporaries come first.
func (d *Dir) Used() (n int64, err error) {
	type inode struct{ dev, ino uint64 }
	temps := map[inode]bool{}
	add := func(remember bool) fs.WalkDirFunc {
		return func(_ string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary of another writer
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				f := inode{sys.Dev, sys.Ino}
				if !remember && temps[f] {
					return nil
				}
				if remember {
					temps[f] = true
				}
			}
			n += (st.Size() + Block - 1) / Block * Block
			return nil
		}
	}
	err = filepath.WalkDir(d.Path(tempDir)+"/", add(true))
	for _, place := range d.Places() {
		if err == nil {
			err = filepath.WalkDir(place+"/", add(false))
		}
	}
	if err != nil {
		err = fmt.Errorf("add up the repository's size: %w", err)
	}
	return n, err
}

// IsTemp reports whether a name is that of something that was never finished. Only Sweep looks at those
// below "tmp".
func IsTemp(name string) bool {
	return len(name) > len(durable.TempPrefix) && strings.HasPrefix(name, durable.TempPrefix)
}

// touch gives a file the time of its file system.
func touch(path string) error {
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{now, now}, 0)
}

// epoch is the time of what has none.
var epoch = time.Unix(0, 0)
