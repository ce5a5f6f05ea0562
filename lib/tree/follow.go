package tree

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// Errors of following links.
var (
	// ErrLoop is reported by Walk for a link that leads back to a directory that
	// holds it.
	ErrLoop = errors.New("which is a directory that it lies in")
	// ErrNoFollow is returned by Walk and Source.Follow where links cannot be
	// followed safely.
	ErrNoFollow = errors.New("this system cannot follow links safely (that takes openat2, of Linux 5.6, and /proc)")

	errDangling = errors.New("which does not exist")
	errCircle   = errors.New("which leads round in a circle, or through /proc to what a process has open")
	errTooDeep  = errors.New("which may hold the link (it lies too deep to tell)")
	errTooMany  = fmt.Errorf("which is below more than %d links to directories", maxJumps)
)

// maxJumps is how many links to directories a path may lead through. The system
// itself follows no more than 40 in one path.
const maxJumps = 32

// openFollow opens what a path below dirfd leads to when links are followed, but
// no "magic" ones: those of /proc lead to whatever a process has open. Paths of
// any length are good.
func openFollow(dirfd int, path string, flags int) (int, error) {
	if path == "" {
		return openAt(dirfd, ".", flags)
	}
	at := dirfd
	for {
		step, rest := cutPath(path)
		how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_MAGICLINKS}
		if rest != "" {
			how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
		}
		fd, err := unix.Openat2(at, step, &how)
		if err == unix.EINTR {
			continue
		}
		if at != dirfd {
			closeFD(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// canFollow returns ErrNoFollow where openFollow would not be safe.
func canFollow() error {
	if !haveOpenat2() {
		return ErrNoFollow
	}
	var st Stat
	if statAt(unix.AT_FDCWD, "/proc/self/fd", &st) != nil {
		return ErrNoFollow
	}
	return nil
}

// A jump is a link to a directory that the walk has followed and is below.
type jump struct {
	above []inodeID // the directory that holds the link, and those above it
	links *links    // the hard links outside
}

// through visits what a link leads to, in place of the link. If it cannot, it says
// why, and kept is true: the link is an entry itself.
func (w *walker) through(dirfd int, path, name string, top bool) (kept bool, err error) {
	fd, err := openFollow(dirfd, name, unix.O_PATH)
	if Exhausted(err) {
		return false, op("follow link "+rec.Quote(path), err)
	}
	var st Stat
	if err == nil {
		defer closeFD(fd)
		err = statAt(fd, "", &st)
	}
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		err = errDangling
	case err == unix.ELOOP:
		err = errCircle
	case err != nil:
		err = fmt.Errorf("which cannot be followed (%w)", err)
	case top:
		w.here = placeOf(&st)
	case w.elsewhere(&st):
		if w.Mounted != nil {
			w.Mounted(path, rec.Symlink)
		}
		return true, nil
	}
	if err == nil && st.Type == rec.None {
		err = fmt.Errorf("which is of a type that this program does not know (%w)", rec.ErrUnknown)
	}
	var above []inodeID
	if err == nil && st.Type == rec.Dir {
		above, err = w.noLoop(dirfd, &st)
	}
	if err != nil {
		w.Report.Warn(path, fmt.Errorf("points to %s, %w: stored as a link", rec.Quote(w.e.Target), err))
		return true, nil
	}
	if !top && w.Choose != nil && (w.Choose.Drop(path, st.Type) || !w.Choose.Take(path, &st, true)) {
		w.out.leftOut(path)
		return false, nil
	}
	st.entry(&w.e)
	w.e.Path = path
	if st.Type == rec.Dir {
		return false, w.jump(fd, path, top, above)
	}
	w.e.Links = 0
	if w.Attributes {
		w.attributes(placeAttributes(fd, st.Type, w.Omit))
	}
	return false, w.visit(&w.e)
}

// jump visits the directory fd, which a link led to. Its hard links are a matter
// of their own: what is met by another way is a copy.
func (w *walker) jump(fd int, path string, top bool, above []inodeID) error {
	w.jumps = append(w.jumps, jump{above, w.links})
	w.links = newLinks(false)
	again, err := w.dir(fd, path, ".", top)
	if again && err == nil {
		w.Report.Warn(path, ErrReplaced)
	}
	last := len(w.jumps) - 1
	w.links = w.jumps[last].links
	w.jumps = w.jumps[:last]
	return err
}

// noLoop returns ErrLoop if a directory that a link in dirfd leads to is one that
// the walk is in, or is above one. Else it returns dirfd and all above it.
func (w *walker) noLoop(dirfd int, st *Stat) (above []inodeID, err error) {
	if len(w.jumps) == maxJumps {
		return nil, errTooMany
	}
	above, err = climb(dirfd)
	to := inodeID{st.Dev, st.Ino}
	if slices.Contains(above, to) || slices.ContainsFunc(w.jumps, func(j jump) bool { return slices.Contains(j.above, to) }) {
		return nil, ErrLoop
	}
	return above, err
}

// climb returns a directory and all above it, as far as they can be searched: what
// cannot be searched cannot be walked either.
func climb(dirfd int) ([]inodeID, error) {
	var ids []inodeID
	at := dirfd
	name := "."
	for {
		fd, err := openAt(at, name, openPath)
		if at != dirfd {
			closeFD(at)
		}
		if err == unix.EACCES || err == unix.ENOENT {
			return ids, nil
		}
		if err != nil {
			return nil, fmt.Errorf("which may hold the link (look at the directories above that: %w)", err)
		}
		var st Stat
		err = statAt(fd, "", &st)
		id := inodeID{st.Dev, st.Ino}
		if err != nil || len(ids) > 0 && ids[len(ids)-1] == id || len(ids) == 2*rec.MaxDepth {
			closeFD(fd)
			if err == nil && len(ids) == 2*rec.MaxDepth {
				err = errTooDeep
			}
			return ids, err
		}
		ids = append(ids, id)
		at, name = fd, ".."
	}
}

// openPlace opens for reading the regular file or directory that a descriptor
// names the place of, and nothing else.
func openPlace(place int, typ rec.Type) (int, error) {
	// The last name is a link of /proc that leads to the file itself.
	path := "/proc/self/fd/" + strconv.Itoa(place)
	flags := openFile
	if typ == rec.Dir {
		flags = openDir
	}
	fd, err := quietly(openAt, unix.AT_FDCWD, path, flags&^unix.O_NOFOLLOW)
	if err == unix.EAGAIN { // see openLeased
		fd, err = openAt(unix.AT_FDCWD, path, unix.O_RDONLY)
	}
	return fd, err
}

// placeAttributes is attributes of what a descriptor names the place of.
func placeAttributes(place int, typ rec.Type, o *Omit) (Attributes, error) {
	if typ != rec.File && typ != rec.Dir {
		return pathInode(place).xattrs(o)
	}
	fd, err := openPlace(place, typ)
	if err != nil {
		return unknown(), op("open", err)
	}
	defer closeFD(fd)
	return attributes(fd, o)
}

// Follow lets OpenEntry and EntryAttributes follow links, as a walk with
// Options.Follow did. It is called before any of them. Where that cannot be done
// safely the error is ErrNoFollow.
func (s *Source) Follow() error {
	s.follow = true
	return canFollow()
}

// OpenEntry is Open of the entry's path. After Follow the path may lead through
// links: then nothing is opened but the very file that the walk saw, else the error
// is ErrReplaced.
func (s *Source) OpenEntry(e *rec.Entry) (*File, error) {
	f, err := s.Open(e.Path)
	if !s.follow || !isLink(err) {
		return f, err
	}
	place, err := s.place(e)
	if err != nil {
		return nil, err
	}
	defer closeFD(place)
	fd, err := openPlace(place, rec.File)
	if err != nil {
		return nil, op("open", err)
	}
	return newFile(fd, s.Omit), nil
}

// EntryAttributes is Attributes of the entry's path; links are followed as by
// OpenEntry.
func (s *Source) EntryAttributes(e *rec.Entry) (Attributes, error) {
	if !s.follow {
		return s.Attributes(e.Path, e.Type)
	}
	place, err := s.place(e)
	if err != nil {
		return unknown(), err
	}
	defer closeFD(place)
	return placeAttributes(place, e.Type, s.Omit)
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
	var st Stat
	fd, err := openBeneath(dirfd, e.Path, openPath)
	if err == nil {
		if err = statAt(fd, "", &st); err == nil && (st.Type == e.Type || st.Type != rec.Symlink) {
			return fd, nil
		}
		closeFD(fd)
	} else if !isLink(err) {
		return -1, op("open", err)
	}
	flags := unix.O_PATH
	if e.Type == rec.Symlink { // the walk kept it
		flags |= unix.O_NOFOLLOW
	}
	if fd, err = openFollow(dirfd, e.Path, flags); err != nil {
		return -1, op("open", err)
	}
	err = statAt(fd, "", &st)
	if err == nil && (e.Ino == 0 || e.Dev == 0) {
		err = fmt.Errorf("%w: the scan does not say which %s", ErrReplaced, e.Type)
	}
	if err == nil {
		err = st.Same(e)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}
