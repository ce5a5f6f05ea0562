package target

import (
	"errors"
	"hash/maphash"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// flagCasefold is FS_CASEFOLD_FL: names in the directory are the same whatever
// their case.
const flagCasefold = 0x40000000

var (
	errMounted = errors.New("another file system is mounted there: nothing in it is deleted")
	errOurs    = errors.New("it is a repository or a cache of Preserve, and is not deleted")
	errFolds   = errors.New("this file system takes different names for the same: nothing in it is deleted")
	errRemains = errors.New("what is left in it was named")
)

var nameSeed = maphash.MakeSeed()

// named takes down that a name in a directory has an entry.
func (t *Target) named(d *dir, name string) {
	if t.sweeps(d) {
		d.names = append(d.names, maphash.String(nameSeed, name))
	}
}

// sweeps reports whether a directory is looked through for what has no entry: to delete it, or, if
// the snapshot does not vouch for the directory, to count it. What is beside the way to something
// is nobody's business.
func (t *Target) sweeps(d *dir) bool {
	return t.into.Delete && d.old && !(d.entry != nil && d.entry.Way)
}

// sweep removes what has no entry from a directory that was there before and is
// complete now. fd is the directory.
func (t *Target) sweep(d *dir, fd int) {
	if !t.sweeps(d) || t.spare.Load() {
		return
	}
	var extra []string
	slices.Sort(d.names)
	r := remover{t: t, d: d}
	err := inode.EachName(fd, func(name string) error {
		_, known := slices.BinarySearch(d.names, maphash.String(nameSeed, name))
		if known || strings.HasPrefix(name, t.prefix) || d.parent == nil && name == "lost+found" || d.parent == nil && (slices.Contains(t.marks, name) || slices.Contains(t.spoilt, name)) {
			return nil
		}
		if d.keep {
			t.spared(inode.Join(d.path, name))
			return nil
		}
		if extra = append(extra, name); len(extra) > 4096 {
			r.all(fd, extra)
			extra = extra[:0]
		}
		return errIf(r.refuses(fd))
	})
	if err == nil {
		r.all(fd, extra)
	} else if err != errStop {
		t.report(d.path, "look for what is to be deleted", err)
	}
	d.names = nil
}

func errIf(stop bool) error {
	if stop {
		return errStop
	}
	return nil
}

// A remover removes what is in one directory and has no entry.
type remover struct {
	t      *Target
	d      *dir
	looked bool // whether anything in the directory may be removed at all
	no     bool
	later  []string // directories that were too deep, and are in r.d now
}

// refuses reports, and says once, that nothing may be removed from the directory.
func (r *remover) refuses(fd int) bool {
	if r.looked {
		return r.no
	}
	r.looked = true
	if !r.t.planning() {
		r.t.fold.Do(func() { r.t.folds = r.t.foldsNames(fd) })
	}
	why := error(nil)
	if all, err := inode.AllFlags(fd); err == nil && all&flagCasefold != 0 || r.t.folds {
		why = errFolds
	} else if isOurs(fd) {
		why = errOurs
	} else if m, err := mountOf(fd); err != nil || m != r.t.mount {
		why = errMounted
	}
	if r.no = why != nil; r.no {
		r.t.report(r.d.path, "delete what is not in the snapshot", why)
	}
	return r.no
}

func (r *remover) all(fd int, names []string) {
	for _, name := range names {
		path := inode.Join(r.d.path, name)
		if err := r.remove(fd, fd, path, name, 0); err != nil && err != errRemains {
			r.t.report(path, "delete", err)
		}
		r.deep(fd)
	}
}

// deep removes what was moved up.
func (r *remover) deep(fd int) {
	for len(r.later) > 0 {
		name := r.later[len(r.later)-1]
		r.later = r.later[:len(r.later)-1]
		path := inode.Join(r.d.path, name)
		if err := r.remove(fd, fd, path, name, 0); err != nil && err != errRemains {
			r.t.report(path, "delete", err)
		}
	}
}

// maxSweep is how deep a remover goes with a descriptor for each directory; what
// is deeper it moves up first.
const maxSweep = 64

// remove removes one name in dirfd with all that is below it. top is the
// directory that all of it is in.
func (r *remover) remove(top, dirfd int, path, name string, depth int) error {
	var st inode.Stat
	if err := inode.StatAt(dirfd, name, &st); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	if r.t.into.Keep != nil && r.t.into.Keep(path, st.Type == rec.Dir) {
		r.t.spared(path)
		return errRemains
	}
	how := 0
	if st.Type == rec.Dir {
		if r.t.planning() {
			r.t.did(Delete, path)
		}
		if err := r.empty(top, dirfd, path, name, depth); err == errMovedUp {
			return nil
		} else if err != nil {
			return err
		}
		how = unix.AT_REMOVEDIR
	}
	if r.t.planning() {
		if st.Type != rec.Dir {
			r.t.did(Delete, path)
		}
		return nil
	}
	err := unix.Unlinkat(dirfd, name, how)
	if denied(err) {
		f := thawFile(dirfd, name)
		defer f.back(r.t, path)
		thawed := f != nil
		if dirfd == top {
			thawed = r.t.thaw(r.d, dirfd) || thawed
		} else {
			thawed = thawFD(dirfd) || thawed
		}
		if thawed {
			err = unix.Unlinkat(dirfd, name, how)
		}
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	r.t.did(Delete, path)
	return nil
}

// empty removes all that is in the directory name. It returns errRemains if
// something stays that was named.
func (r *remover) empty(top, dirfd int, path, name string, depth int) error {
	if depth >= maxSweep {
		return r.moveUp(top, dirfd, name)
	}
	fd, err := r.t.openForSweep(dirfd, name)
	if err != nil {
		return err
	}
	defer inode.Close(fd)
	if m, err := mountOf(fd); err != nil || m != r.t.mount {
		return errMounted
	}
	if isOurs(fd) {
		return errOurs
	}
	var remains error
	err = inode.EachName(fd, func(child string) error {
		err := r.remove(top, fd, inode.Join(path, child), child, depth+1)
		if err != nil {
			if err != errRemains {
				r.t.report(inode.Join(path, child), "delete", err)
			}
			remains = errRemains
		}
		return nil
	})
	if err == nil {
		err = remains
	}
	return err
}

// moveUp brings a directory that is too deep to where it is not, under a
// temporary name: it has no entry and is about to go.
func (r *remover) moveUp(top, dirfd int, name string) error {
	if r.t.planning() {
		return nil // it was said; what is below it is not
	}
	to := r.t.newName()
	if err := unix.Renameat2(dirfd, name, top, to, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	r.later = append(r.later, to)
	return errMovedUp
}

var errMovedUp = errors.New("moved up")

// openForSweep opens a directory whose content goes, though its mode may forbid
// that to its owner.
func (t *Target) openForSweep(dirfd int, name string) (int, error) {
	fd, err := t.openDir(dirfd, name, inode.OpenDir)
	if t.planning() || err != nil && !denied(err) {
		return fd, err
	}
	if err == nil {
		var st inode.Stat
		if err := inode.StatAt(fd, "", &st); err == nil && st.UID == uint32(os.Geteuid()) && st.Mode&0o700 != 0o700 {
			_ = unix.Fchmod(fd, st.Mode|0o700) // what follows tells
		}
		return fd, nil
	}
	at, perr := inode.OpenAt(dirfd, name, inode.OpenPath|unix.O_DIRECTORY)
	if perr != nil {
		return -1, err
	}
	defer inode.Close(at)
	var st inode.Stat
	if inode.StatAt(at, "", &st) != nil || st.UID != uint32(os.Geteuid()) || unix.Chmod(inode.OfPath(at).Proc, st.Mode|0o700) != nil {
		return -1, err
	}
	return inode.OpenAt(dirfd, name, inode.OpenDir)
}

// isOurs reports whether a directory is a repository or a cache of Preserve.
func isOurs(fd int) bool {
	var st inode.Stat
	return inode.StatAt(fd, inode.CacheMarker, &st) == nil || inode.IsConfig(fd) && inode.StatAt(fd, "packs", &st) == nil && inode.StatAt(fd, "snapshots", &st) == nil
}

// makeRoom removes a directory where the snapshot has something else.
func (t *Target) makeRoom(n *Node, dirfd int, name string) error {
	r := remover{t: t, d: n.dir}
	var st inode.Stat
	switch err := inode.StatAt(dirfd, name, &st); {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case st.Type != rec.Dir:
		return unix.EEXIST
	}
	if t.into.Delete && !t.spare.Load() && !n.dir.keep {
		err := r.empty(dirfd, dirfd, n.e.Path, name, 0)
		if r.deep(dirfd); err != nil {
			return err
		}
	}
	err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
	if denied(err) {
		f := thawFile(dirfd, name)
		if f != nil || n.dir.found && t.thaw(n.dir, dirfd) {
			err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
		}
		f.back(t, n.e.Path)
	}
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return errTaken
	}
	return err
}
