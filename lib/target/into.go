package target

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
)

// Into says what a Target does with what is there already. The zero value is
// for a directory that is new or empty.
type Into struct {
	Overwrite Overwrite
	// InPlace patches large regular files themselves instead of building a new
	// one beside them.
	InPlace bool
	// Delete removes what has no entry from directories that have one. It goes
	// with Changed and Always.
	Delete bool
	// DeleteExcluded deletes also in directories of which names were left out of the backup on
	// request. It goes with Delete.
	DeleteExcluded bool
	// Keep, if not nil, says of a path that has no entry that it is not deleted. It is called by
	// many goroutines.
	Keep func(path string, dir bool) bool
	// Spared, if not nil, is told of each path that Delete would have deleted, had it an entry
	// that vouches for its directory, or had Keep not spared it.
	Spared func(path string)
	// Copied, if not nil, is told of each hard link that became a copy of its file, and why no link
	// can be made. It is called by many goroutines.
	Copied func(path string, why error)
	// Omit leaves extended attributes alone, on what is made and on what is there.
	Omit *inode.Omit
	// KeepDirSymlink follows a symbolic link of ours or root's that leads to a directory, where
	// the snapshot has a directory.
	KeepDirSymlink bool
	// Part says that not all entries of the snapshot come. What an earlier restore
	// left undone may then be among the others, so that the mark of that one stays.
	Part bool
	// Sections allows Section.
	Sections bool
	// Plan, if not nil, is told what would be done, and nothing is: not a byte is
	// written. It is called by the goroutine of Begin and Close.
	Plan func(a Act, path string)
}

// Overwrite says which of the things that are there a restore puts others in
// place of. Directories are kept in any case, and entered.
type Overwrite uint8

// What is overwritten. Nothing takes only a directory that is new or empty.
// Never makes what is missing, Changed also replaces what is not as its entry
// says, and takes a regular file of the same size and modification time to be
// the same; Always replaces all.
const (
	Nothing Overwrite = iota
	Never
	Changed
	Always
)

var overwrites = [...]string{"", "never", "changed", "always"}

// ParseOverwrite knows never, changed and always, and returns Nothing for
// anything else.
func ParseOverwrite(s string) Overwrite {
	for i, n := range overwrites {
		if n == s {
			return Overwrite(i)
		}
	}
	return Nothing
}

// An Act is what a restore does with one path.
type Act uint8

// Update is new content for something of the same type, Replace is something of
// another type, Metadata leaves the content alone.
const (
	Create Act = iota
	Update
	Replace
	Delete
	Metadata
	acts
)

func (a Act) String() string {
	return [...]string{"create", "update", "replace", "delete", "metadata"}[a]
}

// Counts says what a Target has done, or with Into.Plan what it would do.
type Counts struct {
	Done      [acts]uint64 // by Act
	Conflicts uint64       // what Never left as it was
	Spared    uint64       // what has no entry and was not deleted, see Into.Spared
}

// did counts and tells.
func (t *Target) did(a Act, path string) {
	t.mu.Lock()
	t.counts.Done[a]++
	t.mu.Unlock()
	if t.into.Plan != nil {
		t.into.Plan(a, path)
	}
}

// spared counts and tells what is not deleted.
func (t *Target) spared(path string) {
	t.mu.Lock()
	t.counts.Spared++
	t.mu.Unlock()
	if t.into.Spared != nil {
		t.into.Spared(path)
	}
}

// Counts returns what was done so far.
func (t *Target) Counts() Counts { t.mu.Lock(); defer t.mu.Unlock(); return t.counts }

// Spare has nothing more deleted, from now on and in every directory that has
// not been left: a part of the entries is lost, so that nobody knows what has
// none.
func (t *Target) Spare() { t.spare.Store(true) }

func (t *Target) planning() bool { return t.into.Plan != nil }

// ErrBusy is returned by OpenTarget when another restore writes into the same
// directory.
var ErrBusy = errors.New("another restore is writing into it")

// lock keeps two restores into one directory apart. A file system that knows no
// locks has none.
func lock(fd int) error {
	for {
		switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrBusy
		default:
			return nil
		}
	}
}

// A mount is one mounted file system, or one place where it is mounted if the
// system tells these apart.
type mount struct{ dev, id uint64 }

func mountOf(fd int) (mount, error) {
	var x unix.Statx_t
	for {
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE|unix.STATX_MNT_ID, &x)
		if err == unix.EINTR {
			continue
		}
		m := mount{dev: unix.Mkdev(x.Dev_major, x.Dev_minor)}
		if x.Mask&unix.STATX_MNT_ID != 0 {
			m.id = x.Mnt_id
		}
		return m, err
	}
}

// isTemp reports whether a name is one that a Target gives to temporary files.
func isTemp(name string) bool {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	if !ok || len(rest) < tempRandom+2 || rest[tempRandom] != '-' || len(rest) > tempRandom+14 {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		digit := c >= '0' && c <= '9'
		switch {
		case i < tempRandom && (digit || c >= 'a' && c <= 'f'), i == tempRandom:
		case i > tempRandom && (digit || c >= 'a' && c <= 'z'):
		default:
			return false
		}
	}
	return true
}

// OpenDir opens a directory to list it and to work in it.
func (t *Target) openDir(dirfd int, name string, flags int) (int, error) {
	if t.planning() {
		return inode.Quietly(inode.OpenAt, dirfd, name, flags)
	}
	return inode.OpenAt(dirfd, name, flags)
}

// errStop ends EachName early.
var errStop = errors.New("stop")

// denied reports whether rights or inode flags forbid something.
func denied(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

func thawFD(fd int) bool {
	all, err := inode.AllFlags(fd)
	return err == nil && all&(inode.FlagImmutable|inode.FlagAppend) != 0 && inode.WriteFlags(fd, all&^(inode.FlagImmutable|inode.FlagAppend)) == nil
}
