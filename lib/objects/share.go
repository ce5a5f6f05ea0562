package objects

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A sharing is who may use what is made in a repository. It is its owner alone, or, where
// the group may write the repository's directory, that group: then all that is made has
// the directory's mode bits and its group, whatever the umask is, as in git's shared
// repositories.
type sharing struct {
	file, dir os.FileMode
	group     int // -1 for none
}

// private is what only its owner uses.
var private = sharing{filePerm, dirPerm, -1}

// groupWrite is the bit that makes a directory a group's.
const groupWrite = 0o020

// sharingOf looks at a repository's directory.
func sharingOf(dir string) (sharing, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return private, fmt.Errorf("open the repository %q: %w", dir, err)
	}
	perm := os.FileMode(st.Mode & 0o777)
	if perm&groupWrite == 0 {
		return private, nil
	}
	return sharing{perm&0o666 | filePerm, perm | dirPerm | os.ModeSetgid, int(st.Gid)}, nil
}

// fit gives what was just made its group and mode bits. Where the file system keeps
// neither there is nothing to give.
func (s sharing) fit(f *os.File) error {
	if s.group < 0 {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	want := s.file
	if st.IsDir() {
		want = s.dir
	}
	err = f.Chown(-1, s.group)
	if cerr := f.Chmod(want); err == nil {
		err = cerr
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// mkdir makes a directory, which must not be there.
func (s sharing) mkdir(path string) error {
	if err := os.Mkdir(path, s.dir.Perm()); err != nil || s.group < 0 {
		return err
	}
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close() // it was not written
	return s.fit(d)
}

// mkRoot makes the directory of a new repository. It is its owner's alone, unless the
// directory above is set up for a group (setgid, and the group may write) and the umask
// lets the group write.
func mkRoot(dir string) error {
	perm := os.FileMode(dirPerm)
	if above, err := os.Stat(filepath.Dir(filepath.Clean(dir))); err == nil && above.Mode()&os.ModeSetgid != 0 && above.Mode()&groupWrite != 0 {
		perm = above.Mode().Perm() &^ 0o002
	}
	err := os.Mkdir(dir, perm)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("make the repository %q: %w", dir, ErrNoParent)
	case err != nil && !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("make the repository: %w", err)
	case err != nil || perm == dirPerm:
		return err
	}
	if st, serr := os.Stat(dir); serr == nil && st.Mode()&groupWrite == 0 {
		// The umask keeps the group out.
		err = os.Chmod(dir, dirPerm)
	}
	return err
}

// noLocks reports whether a file system has no locks, by the error of a try.
func noLocks(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP)
}
