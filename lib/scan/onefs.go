package scan

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// ErrNoMounts is returned by Walk with Options.OneFileSystem where the system
// tells nobody which mount a file is on.
var ErrNoMounts = errors.New("this system does not tell mounts apart (Linux 5.8 and later do)")

// haveMounts reports whether the system tells mounts apart.
var haveMounts = sync.OnceValue(func() bool {
	var st inode.Stat
	return inode.StatAt(unix.AT_FDCWD, "/", &st) == nil && st.Mount != 0
})

// A place is where one file system of a walk is: a mount, and on it a device. A
// bind mount has the device of what it shows, and a btrfs subvolume has its
// parent's mount, so neither number alone would do.
type place struct{ mount, dev uint64 }

func placeOf(st *inode.Stat) place { return place{st.Mount, st.Dev} }

// elsewhere reports whether what was looked at is on another file system than
// the root that the walk is in. Only of directories is the device asked for: the
// files of an overlay have others than its directories.
func (w *walker) elsewhere(st *inode.Stat) bool {
	return w.OneFileSystem && (st.Mount != w.here.mount || st.Type == rec.Dir && st.Dev != w.here.dev)
}

// mounted deals with a name where another file system begins. A directory is an
// entry without children; it is not opened, so that nothing is mounted by
// looking. Anything else is left out: a single file that is mounted over another
// is content of the other file system. Sources at or below the name are walked,
// each on the file system that it is on.
func (w *walker) mounted(dirfd int, path, name string, st *inode.Stat) error {
	for _, r := range w.inner {
		if r.Path == path {
			return w.top(dirfd, path, name)
		}
	}
	w.out.leftOut(path)
	if w.Mounted != nil {
		w.Mounted(path, st.Type)
	}
	if st.Type != rec.Dir {
		return nil
	}
	w.e = rec.Entry{Path: path, Type: rec.Dir, Mode: 0o755, Way: true}
	if err := w.visit(&w.e); err != nil {
		return err
	}
	return w.below(path)
}

// mountPoint is mounted for a name that was not looked at. What would be seen there is the other
// file system's, and its server may not answer: so the metadata of the empty directory is made up.
func (w *walker) mountPoint(l *level, index int, path string) error {
	for _, r := range w.inner {
		if r.Path == path {
			fd, err := w.fd(l)
			if err != nil {
				return w.unseen(path, rec.Dir, inode.Op("open its directory again", err))
			}
			return w.top(fd, path, l.Name(index))
		}
	}
	typ := l.List[index].Type
	w.out.leftOut(path)
	if w.Mounted != nil {
		w.Mounted(path, typ)
	}
	if typ != rec.Dir {
		return nil
	}
	w.e = rec.Entry{Path: path, Type: rec.Dir, Mode: 0o755, Way: true}
	if err := w.visit(&w.e); err != nil {
		return err
	}
	return w.below(path)
}

// below walks the sources below a mount point that is an entry already.
func (w *walker) below(path string) error {
	done := path
	for _, r := range w.inner {
		if r.Path == path || !rec.Below(r.Path, path) || done != path && rec.Below(r.Path, done) {
			continue
		}
		if err := w.root(r, done); err != nil {
			return err
		}
		done = r.Path
	}
	return nil
}

// innerRoots returns the roots behind the first that are below it.
func innerRoots(roots []rec.Root) []rec.Root {
	n := 1
	for n < len(roots) && roots[n].Dir == roots[0].Dir && rec.Below(roots[n].Path, roots[0].Path) {
		n++
	}
	return roots[1:n]
}
