package target

import (
	"os"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// enter enters a directory that is there.
func (t *Target) enter(d *dir, st *inode.Stat) error {
	name := inode.Base(d.path)
	var fd int
	flags := inode.OpenDir
	if d.linked = st.Type == rec.Symlink; d.linked {
		flags &^= unix.O_NOFOLLOW
	}
	err := t.inDir(d.parent, func(pfd int) (err error) {
		if fd, err = t.openDir(pfd, name, flags); denied(err) && !t.planning() && openUp(pfd, name) {
			if fd, err = inode.OpenAt(pfd, name, inode.OpenDir); err == nil {
				d.thawed, d.hadMode = true, st.Mode
				d.hadFlags, _ = inode.AllFlags(fd) // without them there is nothing to give back
			}
		}
		return err
	})
	if err != nil {
		return refused(d.path, "open directory", replaced(err))
	}
	var m mount
	if err = inode.StatAt(fd, "", &d.made); err == nil {
		m, err = mountOf(fd)
	}
	if err == nil && m.dev != t.mount.dev {
		err = t.other(m.dev, fd)
	}
	d.found = true
	if err == nil && d.parent.old {
		d.old, d.probe = true, &probe{}
		err = t.tidy(d, fd)
	} else {
		d.given = d.parent.given
	}
	if err != nil {
		inode.Close(fd)
		return refused(d.path, "open directory", err)
	}
	if d.linked {
		d.pins++ // until forget
	}
	t.push(d, fd)
	return nil
}

// other takes down a file system that is mounted below the target: it is to be
// synchronised at the end, too.
func (t *Target) other(dev uint64, fd int) error {
	if _, known := t.others[dev]; known {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if t.others == nil {
		t.others = map[uint64]int{}
	}
	t.others[dev] = fd
	return nil
}

// openUp gives a directory of ours a mode that lets us in.
func openUp(dirfd int, name string) bool {
	fd, err := inode.OpenAt(dirfd, name, inode.OpenPath|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer inode.Close(fd)
	var st inode.Stat
	return inode.StatAt(fd, "", &st) == nil && st.UID == uint32(os.Geteuid()) && st.Mode&0o700 != 0o700 &&
		unix.Chmod(inode.OfPath(fd).Proc, st.Mode|0o700) == nil
}
