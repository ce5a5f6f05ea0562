package scan

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// Errors of following links.
var (
	// ErrLoop is reported by Walk for a link that leads back to a directory that
	// holds it.
	ErrLoop     = errors.New("which is a directory that it lies in")
	errDangling = errors.New("which does not exist")
	errCircle   = errors.New("which leads round in a circle, or through /proc to what a process has open")
	errTooDeep  = errors.New("which may hold the link (it lies too deep to tell)")
	errTooMany  = fmt.Errorf("which is below more than %d links to directories", maxJumps)
)

// maxJumps is how many links to directories a path may lead through. The system
// itself follows no more than 40 in one path.
const maxJumps = 32

// A jump is a link to a directory that the walk has followed and is below.
type jump struct {
	above []inode.ID // the directory that holds the link, and those above it
	links *links     // the hard links outside
}

// through visits what a link leads to, in place of the link. If it cannot, it says
// why, and kept is true: the link is an entry itself.
func (w *walker) through(dirfd int, path, name string, top bool) (kept bool, err error) {
	fd, err := source.OpenFollow(dirfd, name, unix.O_PATH)
	if inode.Exhausted(err) {
		return false, inode.Op("follow link "+rec.Quote(path), err)
	}
	var st inode.Stat
	if err == nil {
		defer inode.Close(fd)
		err = inode.StatAt(fd, "", &st)
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
	var above []inode.ID
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
	st.Entry(&w.e)
	w.e.Path = path
	if st.Type == rec.Dir {
		return false, w.jump(fd, path, top, above)
	}
	w.e.Links = 0
	if w.Attributes {
		w.attributes(source.PlaceAttributes(fd, st.Type, w.Omit))
	}
	return false, w.visit(&w.e)
}

// jump visits the directory fd, which a link led to. Its hard links are a matter
// of their own: what is met by another way is a copy.
func (w *walker) jump(fd int, path string, top bool, above []inode.ID) error {
	w.jumps = append(w.jumps, jump{above, w.links})
	w.links = newLinks(false)
	again, err := w.dir(fd, path, ".", top)
	if again && err == nil {
		w.Report.Warn(path, inode.ErrReplaced)
	}
	last := len(w.jumps) - 1
	w.links = w.jumps[last].links
	w.jumps = w.jumps[:last]
	return err
}

// noLoop returns ErrLoop if a directory that a link in dirfd leads to is one that
// the walk is in, or is above one. Else it returns dirfd and all above it.
func (w *walker) noLoop(dirfd int, st *inode.Stat) (above []inode.ID, err error) {
	if len(w.jumps) == maxJumps {
		return nil, errTooMany
	}
	above, err = climb(dirfd)
	to := inode.ID{Dev: st.Dev, Ino: st.Ino}
	if slices.Contains(above, to) || slices.ContainsFunc(w.jumps, func(j jump) bool { return slices.Contains(j.above, to) }) {
		return nil, ErrLoop
	}
	return above, err
}

// climb returns a directory and all above it, as far as they can be searched: what
// cannot be searched cannot be walked either.
func climb(dirfd int) ([]inode.ID, error) {
	var ids []inode.ID
	at := dirfd
	name := "."
	for {
		fd, err := inode.OpenAt(at, name, inode.OpenPath)
		if at != dirfd {
			inode.Close(at)
		}
		if err == unix.EACCES || err == unix.ENOENT {
			return ids, nil
		}
		if err != nil {
			return nil, fmt.Errorf("which may hold the link (look at the directories above that: %w)", err)
		}
		var st inode.Stat
		err = inode.StatAt(fd, "", &st)
		id := inode.ID{Dev: st.Dev, Ino: st.Ino}
		if err != nil || len(ids) > 0 && ids[len(ids)-1] == id || len(ids) == 2*rec.MaxDepth {
			inode.Close(fd)
			if err == nil && len(ids) == 2*rec.MaxDepth {
				err = errTooDeep
			}
			return ids, err
		}
		ids = append(ids, id)
		at, name = fd, ".."
	}
}
