package target

import (
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// tempPrefix begins the name of every temporary file; random hexadecimal digits,
// "-" and a number to base 36 follow.
const (
	tempPrefix = ".pv-tmp-"
	tempRandom = 16
)

// given is what a new file or directory gets from the directory that it is made
// in, without being asked.
type given struct {
	uid, gid uint32
	flags    uint32   // inode flags
	xattrs   []string // inherited ACLs and properties
	coarse   bool     // times are not kept to the nanosecond
}

// A probe finds out once what is given in a directory that was there before.
type probe struct {
	once  sync.Once
	given *given
	err   error
}

// givenIn returns what things made in the directory get from it. What is made
// in directories that this restore made gets the same as they did.
func (t *Target) givenIn(d *dir) (*given, error) {
	if d.probe == nil {
		return d.given, nil
	}
	d.probe.once.Do(func() {
		d.probe.err = t.inDir(d, func(dirfd int) (err error) {
			d.probe.given, err = t.look(dirfd)
			return err
		})
	})
	return d.probe.given, d.probe.err
}

// look finds out what new things get in a directory, from one made for that.
func (t *Target) look(dirfd int) (*given, error) {
	name := t.newName()
	if err := unix.Mkdirat(dirfd, name, 0o700); err != nil {
		return nil, inode.Op("create a directory in it", err)
	}
	g := &given{}
	fd, err := inode.OpenAt(dirfd, name, inode.OpenDir)
	if err == nil {
		err = g.of(fd)
		inode.Close(fd)
	}
	if rerr := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); rerr != nil {
		return nil, inode.Op("remove a directory in it", rerr)
	}
	return g, err
}

func (g *given) of(fd int) error {
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil {
		return inode.Op("stat", err)
	}
	g.uid, g.gid = st.UID, st.GID
	names, err := inode.Handle{FD: fd}.XAttrNames()
	if err != nil {
		return err
	}
	for _, n := range names {
		if !isSecurity(n) { // labels come from policy, not from the parent
			g.xattrs = append(g.xattrs, n)
		}
	}
	fine := rec.Time{Sec: 1_000_000_001, Nsec: 123_456_789}
	ts := unix.Timespec{Sec: fine.Sec, Nsec: int64(fine.Nsec)}
	g.coarse = inode.SetTimes(fd, &[2]unix.Timespec{ts, ts}) != nil || inode.StatAt(fd, "", &st) != nil || st.MTime != fine
	g.flags, err = inode.Flags(fd)
	return err
}

// foldsNames reports whether the file system takes names for the same that differ
// in case, or in how a letter with an accent is written.
func (t *Target) foldsNames(dirfd int) bool {
	name := t.newName()
	for _, twins := range [][2]string{{"a", "A"}, {"\u00e9", "e\u0301"}, {"\u00e9", "\u00c9"}} {
		if unix.Mkdirat(dirfd, name+twins[0], 0o700) != nil {
			continue // not writable, or no such names here
		}
		var a, b inode.Stat
		same := inode.StatAt(dirfd, name+twins[0], &a) == nil && inode.StatAt(dirfd, name+twins[1], &b) == nil && a.SameFile(&b)
		_ = unix.Unlinkat(dirfd, name+twins[0], unix.AT_REMOVEDIR) // it is empty; if not, it is found and named next time
		if same {
			return true
		}
	}
	return false
}
