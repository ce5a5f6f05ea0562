// Package source is what a backup reads from: the paths that the user named, and files below them, opened
// once more after a scan saw them.
//
//   - Resolve turns the paths of a command line into roots, and says under which paths they are stored.
//   - Source opens files below those roots without following any link, and says whether they are
//     still what the scan saw.
//   - FileSystem and Watch say what a file system keeps, and whether a root has gone away.
//
// The number of directories that are held open is bounded.
package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A Source opens the files of a tree that a walk saw, by the paths of their
// entries. All its methods but Close may be called from several goroutines at
// once.
type Source struct {
	roots []rec.Root // in path order, none below another
	fds   []int      // of their Dirs
	dirs  map[string]int
	// Omit leaves some extended attributes out. Set it before anything is opened.
	Omit *inode.Omit
	// follow is set by Follow.
	follow bool
	// systems are the answers of FileSystem, by device.
	systems sync.Map
}

// OpenRoots opens the directories that the roots of a stream's head name. Roots
// of different directories where one lies below the other are ErrMixed.
func OpenRoots(roots []rec.Root) (*Source, error) {
	s := &Source{dirs: map[string]int{}}
	sorted := slices.SortedStableFunc(slices.Values(roots), func(a, b rec.Root) int { return rec.ComparePaths(a.Path, b.Path) })
	for _, r := range sorted {
		if n := len(s.roots); n > 0 && rec.Below(r.Path, s.roots[n-1].Path) {
			if up := s.roots[n-1]; r.Dir != up.Dir {
				s.Close()
				return nil, mixed(up, r)
			}
			continue
		}
		fd, ok := s.dirs[r.Dir]
		if !ok {
			var err error
			if fd, err = OpenRoot(r.Dir); err != nil {
				s.Close()
				return nil, err
			}
			s.dirs[r.Dir] = fd
		}
		s.roots = append(s.roots, r)
		s.fds = append(s.fds, fd)
	}
	return s, nil
}

// OpenRoot opens the directory that a root's path begins from.
func OpenRoot(dir string) (int, error) {
	fd, err := inode.OpenAt(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, inode.Op("open source directory "+rec.Quote(dir), err)
	}
	return fd, nil
}

// Close closes the directories. Files that were opened stay open.
func (s *Source) Close() {
	for _, fd := range s.dirs {
		inode.Close(fd)
	}
	s.dirs, s.fds, s.roots = nil, nil, nil
}

// dir finds the directory that an entry's path begins from: of the root that it
// is at or below, or that it is a parent of.
func (s *Source) dir(path string) (int, error) {
	if err := rec.CheckPath(path); err != nil {
		return -1, err
	}
	i, found := slices.BinarySearchFunc(s.roots, path, func(r rec.Root, p string) int { return rec.ComparePaths(r.Path, p) })
	switch {
	case found, i < len(s.roots) && rec.Below(s.roots[i].Path, path):
		return s.fds[i], nil
	case i > 0 && rec.Below(path, s.roots[i-1].Path):
		return s.fds[i-1], nil
	}
	return -1, ErrOutside
}

// Open opens the regular file of that path for reading. The file may be of any
// type by now: Same tells. Errors wrap those of the system, ErrOutside, or
// rec.ErrPath. The caller closes the file.
func (s *Source) Open(path string) (*inode.File, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return nil, err
	}
	fd, err := inode.OpenLeased(inode.OpenBeneath, dirfd, path)
	if err != nil {
		return nil, inode.Op("open", err)
	}
	return inode.NewFile(fd, s.Omit), nil
}

// Stat reads the metadata of an entry's path as it is now.
func (s *Source) Stat(path string) (inode.Stat, error) {
	var st inode.Stat
	dirfd, err := s.dir(path)
	if err != nil {
		return st, err
	}
	fd, err := inode.OpenBeneath(dirfd, path, inode.OpenPath)
	if err != nil {
		return st, inode.Op("stat", err)
	}
	defer inode.Close(fd)
	if err := inode.StatAt(fd, "", &st); err != nil {
		return st, inode.Op("stat", err)
	}
	return st, nil
}

// Look is Stat in a single call of the system, to compare with what the file was:
// nothing is opened. Links on the way are followed, so that it may be another file,
// anywhere; its inode tells.
func (s *Source) Look(path string) (inode.Stat, error) {
	if len(path) >= inode.PathMax || path == "" {
		return s.Stat(path)
	}
	var st inode.Stat
	dirfd, err := s.dir(path)
	if err != nil {
		return st, err
	}
	look := inode.StatAt
	if s.follow {
		look = inode.StatTo
	}
	if err := look(dirfd, path, &st); err != nil {
		return st, inode.Op("stat", err)
	}
	return st, nil
}

// Link reads the target of a symbolic link.
func (s *Source) Link(path string) (string, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return "", err
	}
	fd, err := inode.OpenBeneath(dirfd, path, inode.OpenPath)
	if err != nil {
		return "", inode.Op("read link", err)
	}
	defer inode.Close(fd)
	target, _, err := inode.ReadLink(fd, "", make([]byte, 256))
	if err != nil {
		return "", inode.Op("read link", err)
	}
	return target, nil
}

// Attributes reads the extended attributes of every namespace that the caller
// may see, in order of name, and the inode flags of SettableFlags, of an entry of
// any type. Where the file system has none there are none. The error is
// ErrAttributes for too many. What Omit leaves alone, or cannot be read, is in Omitted, with an error too.
func (s *Source) Attributes(path string, typ rec.Type) (inode.Attributes, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return inode.UnknownAttributes(), err
	}
	return inode.ReadAttributesAt(inode.OpenBeneath, dirfd, path, typ, s.Omit)
}

// mixed says which two sources cannot be stored in one tree.
func mixed(a, b rec.Root) error {
	name := func(r rec.Root) string { return rec.Quote(strings.TrimSuffix(r.Dir, "/") + "/" + r.Path) }
	both := top(a.Path)
	if both == "" {
		both = "."
	}
	return fmt.Errorf("%s and %s %w %s", name(a), name(b), ErrMixed, rec.Quote(both))
}

// Errors of this package; match them with errors.Is. Errors of the system are
// wrapped as they are: errors.Is(err, fs.ErrNotExist) works.
var (
	// ErrMixed is returned by Resolve and OpenRoots for sources in different
	// directories that would store the same path or have a stored parent in
	// common.
	ErrMixed = errors.New("come from different directories and would both be stored at or below")
	// ErrOutside is returned by Source for a path at or below no root.
	ErrOutside = errors.New("not at or below a source")
)
