package source

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// Errors of following links.
var (
	// ErrNoFollow is returned by Walk and Source.Follow where links cannot be
	// followed safely.
	ErrNoFollow = errors.New("this system cannot follow links safely (that takes openat2, of Linux 5.6, and /proc)")
)

// OpenFollow opens what a path below dirfd leads to when links are followed, but
// no "magic" ones: those of /proc lead to whatever a process has open. Paths of
// any length are good.
func OpenFollow(dirfd int, path string, flags int) (int, error) {
	if path == "" {
		return inode.OpenAt(dirfd, ".", flags)
	}
	at := dirfd
	for {
		step, rest := inode.CutPath(path)
		how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_MAGICLINKS}
		if rest != "" {
			how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
		}
		fd, err := unix.Openat2(at, step, &how)
		if err == unix.EINTR {
			continue
		}
		if at != dirfd {
			inode.Close(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// CheckFollow returns ErrNoFollow where OpenFollow would not be safe.
func CheckFollow() error {
	if !inode.HaveOpenat2() {
		return ErrNoFollow
	}
	var st inode.Stat
	if inode.StatAt(unix.AT_FDCWD, "/proc/self/fd", &st) != nil {
		return ErrNoFollow
	}
	return nil
}

// openPlace opens for reading the regular file or directory that a descriptor
// names the place of, and nothing else.
func openPlace(place int, typ rec.Type) (int, error) {
	// The last name is a link of /proc that leads to the file itself.
	path := "/proc/self/fd/" + strconv.Itoa(place)
	flags := inode.OpenFile
	if typ == rec.Dir {
		flags = inode.OpenDir
	}
	fd, err := inode.Quietly(inode.OpenAt, unix.AT_FDCWD, path, flags&^unix.O_NOFOLLOW)
	if err == unix.EAGAIN { // see OpenLeased
		fd, err = inode.OpenAt(unix.AT_FDCWD, path, unix.O_RDONLY)
	}
	return fd, err
}

// PlaceAttributes is attributes of what a descriptor names the place of.
func PlaceAttributes(place int, typ rec.Type, o *inode.Omit) (inode.Attributes, error) {
	if typ != rec.File && typ != rec.Dir {
		return inode.OfPath(place).XAttrs(o)
	}
	fd, err := openPlace(place, typ)
	if err != nil {
		return inode.UnknownAttributes(), inode.Op("open", err)
	}
	defer inode.Close(fd)
	return inode.ReadAttributes(fd, o)
}

// Follow lets OpenEntry and EntryAttributes follow links, as a walk with
// Options.Follow did. It is called before any of them. Where that cannot be done
// safely the error is ErrNoFollow.
func (s *Source) Follow() error {
	s.follow = true
	return CheckFollow()
}

// OpenEntry is Open of the entry's path. After Follow the path may lead through
// links: then nothing is opened but the very file that the walk saw, else the error
// is ErrReplaced.
func (s *Source) OpenEntry(e *rec.Entry) (*inode.File, error) {
	f, err := s.Open(e.Path)
	if !s.follow || !isLink(err) {
		return f, err
	}
	place, err := s.place(e)
	if err != nil {
		return nil, err
	}
	defer inode.Close(place)
	fd, err := openPlace(place, rec.File)
	if err != nil {
		return nil, inode.Op("open", err)
	}
	return inode.NewFile(fd, s.Omit), nil
}

// EntryAttributes is Attributes of the entry's path; links are followed as by
// OpenEntry.
func (s *Source) EntryAttributes(e *rec.Entry) (inode.Attributes, error) {
	if !s.follow {
		return s.Attributes(e.Path, e.Type)
	}
	place, err := s.place(e)
	if err != nil {
		return inode.UnknownAttributes(), err
	}
	defer inode.Close(place)
	return PlaceAttributes(place, e.Type, s.Omit)
}

// isLink reports whether an error says that there is a link in a path.
func isLink(err error) bool { return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) }

// place opens the place of an entry. Where links lead there it must be what the
// walk saw, known by its inode.
func (s *Source) place(e *rec.Entry) (int, error) {
	dirfd, err := s.dir(e.Path)
	if err != nil {
		return -1, err
	}
	var st inode.Stat
	fd, err := inode.OpenBeneath(dirfd, e.Path, inode.OpenPath)
	if err == nil {
		if err = inode.StatAt(fd, "", &st); err == nil && (st.Type == e.Type || st.Type != rec.Symlink) {
			return fd, nil
		}
		inode.Close(fd)
	} else if !isLink(err) {
		return -1, inode.Op("open", err)
	}
	flags := unix.O_PATH
	if e.Type == rec.Symlink { // the walk kept it
		flags |= unix.O_NOFOLLOW
	}
	if fd, err = OpenFollow(dirfd, e.Path, flags); err != nil {
		return -1, inode.Op("open", err)
	}
	err = inode.StatAt(fd, "", &st)
	if err == nil && (e.Ino == 0 || e.Dev == 0) {
		err = fmt.Errorf("%w: the scan does not say which %s", inode.ErrReplaced, e.Type)
	}
	if err == nil {
		err = st.Same(e)
	}
	if err != nil {
		inode.Close(fd)
		return -1, err
	}
	return fd, nil
}
