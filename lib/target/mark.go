package target

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A restore that writes into a directory leaves a mark in it, which goes when
// everything has reached the disk. A mark that is still there tells of one that
// did not end. If the system has been started since, what was written from then
// on may look complete, with its size and its time, and not be: it is not taken
// to be the same. If the system still runs, only the restore died, and what it
// completed is good.
const (
	markName = "0" // behind the prefix of all temporary names
	markText = "A restore into this directory did not end. Run it again with --overwrite changed: that completes it and removes this file.\n"
	markBoot = "boot "
)

// bootID tells one run of the system from another; "" if that cannot be known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// setMark makes the mark durable. Where the directory itself cannot be written
// to, though perhaps others in it, there is none.
func (t *Target) setMark() error {
	name := t.prefix + markName
	return t.inDir(t.root, func(dirfd int) error {
		fd, err := inode.CreateAt(dirfd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|inode.OpenSafe, 0o600)
		if t.root.old && (denied(err) || errors.Is(err, unix.EROFS)) {
			return nil
		}
		if err != nil {
			return inode.Op("create a file in it", err)
		}
		_, err = unix.Write(fd, []byte(markText+markBoot+bootID()+"\n"))
		if err == nil {
			err = unix.Fsync(fd)
		}
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
		if err == nil {
			err = unix.Fsync(dirfd)
		}
		if err != nil {
			_ = unix.Unlinkat(dirfd, name, 0) // the error at hand matters more
			return inode.Op("write a file in it", err)
		}
		t.marks = append(t.marks, name)
		return nil
	})
}

// readMark learns from the mark of an earlier restore: a file of ours that says
// what marks say. One that is cut, or empty, is of a restore that was ended before
// it wrote anything else. One into a directory below the target stays, and so do
// all if this restore does not complete everything.
func (t *Target) readMark(d *dir, dirfd int, name string) {
	fd, err := inode.OpenAt(dirfd, name, inode.OpenFile)
	if err != nil {
		return
	}
	defer inode.Close(fd)
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil || st.Type != rec.File || st.UID != uint32(os.Geteuid()) {
		return
	}
	buf := make([]byte, 512)
	n, err := unix.Pread(fd, buf, 0)
	read := string(buf[:max(n, 0)])
	text, ours := strings.CutPrefix(read, markText)
	begun := err == nil && !ours && strings.HasPrefix(markText, read)
	if err == nil && !ours && !begun {
		return
	}
	boot, _ := strings.CutPrefix(text, markBoot)
	here := bootID()
	died := !begun && (err != nil || here == "" || strings.TrimSpace(boot) != here)
	switch {
	case d != t.root:
	case !t.completes():
		t.spoilt = append(t.spoilt, name)
	default:
		t.marks = append(t.marks, name)
		t.earlier = append(t.earlier, strings.TrimSuffix(name, markName))
	}
	if died && (t.since == nil || before(st.MTime, *t.since)) {
		t.since = &st.MTime
	}
}

// completes reports whether this restore completes what an earlier one began: it
// takes all entries, and replaces what is not as they say.
func (t *Target) completes() bool {
	return !t.into.Part && (t.into.Overwrite == Changed || t.into.Overwrite == Always)
}

// removeMarks removes the marks, when all is on the disk.
func (t *Target) removeMarks() error {
	if len(t.marks) == 0 || t.planning() {
		return nil
	}
	return t.inDir(t.root, func(dirfd int) error {
		for _, name := range t.marks {
			if err := unix.Unlinkat(dirfd, name, 0); err != nil && err != unix.ENOENT {
				return inode.Op("remove "+rec.Quote(name), err)
			}
		}
		return nil
	})
}

// tidy removes what an earlier restore, of which the target has a mark, left in a
// directory that is there: files under its temporary names, and directories if
// they are empty. Such names without a mark are not ours. It reads the marks.
func (t *Target) tidy(d *dir, fd int) error {
	var left []string
	err := inode.EachName(fd, func(name string) error {
		switch {
		case !isTemp(name) || strings.HasPrefix(name, t.prefix):
		case strings.HasSuffix(name, "-"+markName):
			t.readMark(d, fd, name)
		default:
			left = append(left, name)
		}
		return nil
	})
	if err != nil {
		return inode.Op("read", err)
	}
	for _, name := range left {
		if slices.Contains(t.earlier, name[:len(t.prefix)]) {
			t.removeLeft(d, fd, name)
		}
	}
	return nil
}

func (t *Target) removeLeft(d *dir, fd int, name string) {
	if !t.planning() {
		err := unlinkAny(fd, name)
		if denied(err) {
			f := thawFile(fd, name)
			if f != nil || t.thaw(d, fd) {
				err = unlinkAny(fd, name)
			}
			f.back(t, inode.Join(d.path, name))
		}
		if err != nil {
			if err != unix.ENOENT && !t.into.Delete { // else it has no entry, and goes with what has none
				t.report(inode.Join(d.path, name), "remove what an earlier restore left", err)
			}
			return
		}
	}
	t.did(Delete, inode.Join(d.path, name))
}

// unlinkAny removes a name, of a directory if that is empty.
func unlinkAny(dirfd int, name string) error {
	err := unix.Unlinkat(dirfd, name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		if derr := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); derr != unix.ENOTDIR {
			err = derr
		}
	}
	return err
}
