package target

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// NewTarget is OpenTarget for a directory that is new or empty.
func NewTarget(path string) (*Target, error) { return OpenTarget(path, Into{}) }

// OpenTarget creates the directory path, whose parent must exist, or takes an
// existing one as into says: an empty one, but for a lost+found, which every
// new file system has; or with Into.Overwrite any. Nobody else can open it as a
// Target meanwhile. The error is ErrNotEmpty, ErrBusy or the system's.
func OpenTarget(path string, into Into) (*Target, error) {
	t := &Target{
		Warn: func(*Warning) {}, into: into, temps: map[*temp]struct{}{}, patched: map[*Out]struct{}{}, denied: map[[2]uint32]bool{},
		leaders: newLeaders(), uid: uint32(os.Geteuid()),
	}
	t.idle = sync.NewCond(&t.mu)
	if into.Sections {
		t.runs = runs{maphash.MakeSeed(), map[uint64]bool{}, map[string]*dir{}}
	}
	var random [tempRandom / 2]byte
	_, _ = rand.Read(random[:]) // never fails
	t.prefix = tempPrefix + hex.EncodeToString(random[:]) + "-"
	fd, made, err := t.openRoot(path)
	if err != nil {
		return nil, err
	}
	t.root = &dir{fd: fd, refs: 1, found: true, virtual: fd < 0}
	if fd >= 0 {
		if err := t.enterRoot(made); err != nil {
			inode.Close(fd)
			return nil, fmt.Errorf("directory %s: %w", rec.Quote(path), err)
		}
	}
	t.stack = []*dir{t.root}
	return t, nil
}

// OpenRoot makes and opens the target's directory; the descriptor is -1 if it is
// not there and is only planned.
func (t *Target) openRoot(path string) (fd int, made bool, err error) {
	if !t.planning() {
		err = unix.Mkdir(path, 0o777)
		made = err == nil
	}
	if err == nil || errors.Is(err, unix.EEXIST) {
		if fd, err = t.openDir(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
			return fd, made, nil
		}
		if err != unix.ENOENT || !t.planning() {
			return -1, made, inode.Op("open directory "+rec.Quote(path), err)
		}
		above := filepath.Dir(filepath.Clean(path))
		if fd, err = inode.OpenAt(unix.AT_FDCWD, above, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			inode.Close(fd)
			return -1, false, nil
		}
	}
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("the directory above it, %s: %w", rec.Quote(filepath.Dir(filepath.Clean(path))), err)
	}
	return -1, false, inode.Op("create directory "+rec.Quote(path), err)
}

// enterRoot looks at the target's directory and makes it ours.
func (t *Target) enterRoot(made bool) (err error) {
	r := t.root
	if !t.planning() {
		if err := lock(r.fd); err != nil {
			return err
		}
	}
	if err := inode.StatAt(r.fd, "", &r.made); err != nil {
		return inode.Op("stat", err)
	}
	if t.mount, err = mountOf(r.fd); err != nil {
		return inode.Op("stat", err)
	}
	switch {
	case t.into.Overwrite != Nothing && !made:
		r.old, r.probe = true, &probe{}
		return nil
	case !made:
		if t.adopt, err = isEmpty(r.fd); err != nil {
			return err
		}
	}
	if t.planning() {
		r.virtual = true
		return nil
	}
	g, err := t.look(r.fd)
	if err != nil {
		return err
	}
	t.uid, r.given = g.uid, g
	return nil
}

// isEmpty returns ErrNotEmpty for a directory with anything in it but a
// lost+found.
func isEmpty(fd int) (lostFound bool, err error) {
	err = inode.EachName(fd, func(name string) error {
		if name != "lost+found" {
			return fmt.Errorf("%w: it has %s in it", inode.ErrNotEmpty, rec.Quote(name))
		}
		lostFound = true
		return nil
	})
	return lostFound, err
}
