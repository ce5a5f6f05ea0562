package tree

import (
	"fmt"
	"io"
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
	return &File{fd: fd, omit: s.Omit, hole: -1}, nil
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

// A File is an open file of a Source. ReadAt, Stat, Same and Attributes may be
// called from several goroutines, NextSegment from one.
type File struct {
	fd   int
	omit *Omit
	hole int64 // where the last segment ended; -1 before the first
	// told is the size that the system reports of a file that is longer, and size how long it
	// is. See Reveal.
	told, size uint64
}

// Close closes the file.
func (f *File) Close() error { return unix.Close(f.fd) }

// Rewind lets NextSegment begin anew.
func (f *File) Rewind() { f.hole = -1 }

// ReadAt reads as io.ReaderAt says.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, op("read", err)
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}

// Stat reads the file's metadata as it is now.
func (f *File) Stat() (Stat, error) {
	var st Stat
	if err := statAt(f.fd, "", &st); err != nil {
		return st, op("stat", err)
	}
	if f.size > 0 && st.Size == f.told {
		st.Size, st.Blocks = f.size, (f.size+511)/512 // without holes
	}
	return st, nil
}

// ReadPast reads as ReadAt does, but at least len(p)-1 bytes count as all: it asks for one byte more
// than a file should have, and takes no second look if that is not there.
func (f *File) ReadPast(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p)-1 || done == 0 {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, op("read", err)
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// MaxReveal is how much content beyond a file's size is looked for.
const MaxReveal = 1 << 30

// Reveal looks for content beyond the size that the system reports, which st has: files of /proc report
// none, documents that a program makes when they are read report too little. From then on Stat
// says how long the file is, and that it has no holes. It returns false for a file that ends where
// it should, or has grown meanwhile. whole is false if there is more than MaxReveal.
func (f *File) Reveal(st *Stat) (more, whole bool, err error) {
	buf := make([]byte, 64<<10)
	end := st.Size
	for end-st.Size <= MaxReveal {
		n, err := f.ReadAt(buf[:min(len(buf), probeSize+int(end-st.Size))], int64(end))
		if err != nil && err != io.EOF {
			return false, false, err
		}
		if n > 0 && end == st.Size {
			now, err := f.Stat()
			if err != nil || now.Size > st.Size {
				return false, true, err // it grows: that is another matter
			}
		}
		if end += uint64(n); err == io.EOF {
			whole = true
			break
		}
	}
	if end == st.Size {
		return false, true, nil
	}
	f.told, f.size = st.Size, end
	return true, whole, nil
}

// probeSize is how much is read first to see whether there is anything.
const probeSize = 4096

// Same reports whether st is of the file that the walk saw: of the same type
// and, where the entry has them, inode and device. Else the error is
// ErrReplaced and says what is there now.
func (st *Stat) Same(e *rec.Entry) error {
	switch {
	case st.Type != e.Type:
		return fmt.Errorf("%w: a %s where the scan saw a %s", ErrReplaced, st.Type, e.Type)
	case e.Ino != 0 && st.Ino != e.Ino, e.Dev != 0 && st.Dev != e.Dev:
		return fmt.Errorf("%w: another %s than the scan saw", ErrReplaced, st.Type)
	}
	return nil
}

// Same is Stat.Same of the file as it is now.
func (f *File) Same(e *rec.Entry) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return st.Same(e)
}

// Attributes is Source.Attributes of the open file.
func (f *File) Attributes() (Attributes, error) { return attributes(f.fd, f.omit) }

// NextSegment returns the next stretch of data at or after off; between
// segments, and behind the last one up to the size, there are holes. When there
// is none left the error is io.EOF. Calls go forward, each from the end of the
// segment before; st is what Stat said of the file, and its size is where the
// last segment ends at most. A file whose blocks fill its size costs no call, one
// that turns out to have no hole costs one.
func (f *File) NextSegment(st *Stat, off int64) (start, end int64, err error) {
	size := int64(st.Size)
	switch {
	case off >= size:
		return size, size, io.EOF
	case st.Blocks >= (st.Size+511)/512:
		return off, size, nil
	}
	if off != f.hole {
		end, err := f.seek(off, unix.SEEK_HOLE)
		if err == unix.EINVAL {
			return off, size, nil // the file system knows no holes
		}
		if err == nil && end > off {
			f.hole = end
			return off, min(end, size), nil
		}
		if err != nil && err != unix.ENXIO {
			return 0, 0, op("look for holes", err)
		}
	}
	start, err = f.seek(off, unix.SEEK_DATA)
	if err == unix.ENXIO || err == nil && start >= size {
		return size, size, io.EOF
	}
	if err == nil {
		end, err = f.seek(start, unix.SEEK_HOLE)
	}
	if err == unix.ENXIO { // it shrank: reading will tell
		return size, size, io.EOF
	}
	if err != nil {
		return 0, 0, op("look for holes", err)
	}
	f.hole = end
	return start, min(end, size), nil
}

func (f *File) seek(off int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(f.fd, off, whence)
		if err != unix.EINTR {
			return n, err
		}
	}
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
