package tree

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

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
	Omit *Omit
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
			if fd, err = openRoot(r.Dir); err != nil {
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

// openRoot opens the directory that a root's path begins from.
func openRoot(dir string) (int, error) {
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, op("open source directory "+rec.Quote(dir), err)
	}
	return fd, nil
}

// Close closes the directories. Files that were opened stay open.
func (s *Source) Close() {
	for _, fd := range s.dirs {
		closeFD(fd)
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
func (s *Source) Open(path string) (*File, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return nil, err
	}
	fd, err := openLeased(openBeneath, dirfd, path)
	if err != nil {
		return nil, op("open", err)
	}
	return newFile(fd, s.Omit), nil
}

// openLeased opens a file for reading. Where a file server holds a lease on it,
// which an open that does not wait cannot break, it waits.
func openLeased(open func(dirfd int, path string, flags int) (int, error), dirfd int, path string) (int, error) {
	fd, err := quietly(open, dirfd, path, openFile)
	if err != unix.EAGAIN {
		return fd, err
	}
	place, err := open(dirfd, path, openPath)
	if err != nil {
		return -1, err
	}
	defer closeFD(place)
	var st Stat
	if err := statAt(place, "", &st); err != nil {
		return -1, err
	}
	if st.Type != rec.File {
		return -1, unix.EAGAIN
	}
	return openAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(place), unix.O_RDONLY)
}

// Stat reads the metadata of an entry's path as it is now.
func (s *Source) Stat(path string) (Stat, error) {
	var st Stat
	dirfd, err := s.dir(path)
	if err != nil {
		return st, err
	}
	fd, err := openBeneath(dirfd, path, openPath)
	if err != nil {
		return st, op("stat", err)
	}
	defer closeFD(fd)
	if err := statAt(fd, "", &st); err != nil {
		return st, op("stat", err)
	}
	return st, nil
}

// Look is Stat in a single call of the system, to compare with what the file was:
// nothing is opened. Links on the way are followed, so that it may be another file,
// anywhere; its inode tells.
func (s *Source) Look(path string) (Stat, error) {
	if len(path) >= pathMax || path == "" {
		return s.Stat(path)
	}
	var st Stat
	dirfd, err := s.dir(path)
	if err != nil {
		return st, err
	}
	look := statAt
	if s.follow {
		look = statTo
	}
	if err := look(dirfd, path, &st); err != nil {
		return st, op("stat", err)
	}
	return st, nil
}

// Link reads the target of a symbolic link.
func (s *Source) Link(path string) (string, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return "", err
	}
	fd, err := openBeneath(dirfd, path, openPath)
	if err != nil {
		return "", op("read link", err)
	}
	defer closeFD(fd)
	target, _, err := readLink(fd, "", make([]byte, 256))
	if err != nil {
		return "", op("read link", err)
	}
	return target, nil
}

// Attributes reads the extended attributes of every namespace that the caller
// may see, in order of name, and the inode flags of SettableFlags, of an entry of
// any type. Where the file system has none there are none. The error is
// ErrAttributes for too many. What Omit leaves alone, or cannot be read, is in Omitted, with an error too.
func (s *Source) Attributes(path string, typ rec.Type) (Attributes, error) {
	dirfd, err := s.dir(path)
	if err != nil {
		return unknown(), err
	}
	return attributesAt(openBeneath, dirfd, path, typ, s.Omit)
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
