package target

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/acl"
	"preserve/lib/inode"
	"preserve/lib/rec"
)

func isSecurity(name string) bool { return strings.HasPrefix(name, "security.") }

// A meta gives one thing that was just made the metadata of its entry.
type meta struct {
	t        *Target
	e        *rec.Entry
	in       inode.Handle
	xattrs   []string // that it may have already
	exact    bool     // it has just these
	flags    bool     // it may have inode flags already
	coarse   bool     // its times may not be kept to the nanosecond
	noOwner  bool     // the owner could not be set
	listless bool     // it does not have the entry's access list
}

// meta is for something just made, by its open file; g, which may be nil, is
// what it got from its surroundings.
func (t *Target) meta(e *rec.Entry, in inode.Handle, g *given) meta {
	m := meta{t: t, e: e, in: in, coarse: true}
	if g != nil {
		m.xattrs, m.flags, m.coarse = g.xattrs, g.flags != 0, g.coarse
	}
	return m
}

// look finds out what a directory that was there before has already.
func (m *meta) look() error {
	names, err := m.in.XAttrNames()
	m.xattrs = slices.DeleteFunc(names, isSecurity)
	m.flags = true
	return err
}

// apply sets owner, extended attributes, mode and times, in this order: a change
// of owner clears capabilities and setuid, an ACL changes the mode, and every
// change but the last would change the times. uid and gid are what the thing has
// by now. What the file system or the user's rights do not allow is reported;
// errors are those that end the restore.
func (m *meta) apply(uid, gid uint32) error {
	if err := m.chown(uid, gid); err != nil {
		return err
	}
	if err := m.setXAttrs(); err != nil {
		return err
	}
	if m.e.Type != rec.Symlink {
		if err := m.chmod(); err != nil {
			return err
		}
	}
	return m.setTimes()
}

// soften reports an error that concerns only this entry, and returns others.
func (m *meta) soften(what string, err error) error {
	if err == nil {
		return nil
	}
	if hopeless(err) {
		return inode.Op(what, err)
	}
	m.t.lacks(m.e.Path, what, err)
	return nil
}

// chown sets the owner unless the thing has it already. Without the right to,
// it sets the group at least, and counts, but for a device: whoever owns that
// may use it, so it is refused with a *Warning.
func (m *meta) chown(uid, gid uint32) error {
	e, t := m.e, m.t
	if e.UID == uid && e.GID == gid {
		return nil
	}
	key := [2]uint32{e.UID, e.GID}
	t.mu.Lock()
	group, denied := t.denied[key]
	t.mu.Unlock()
	if !denied {
		err := error(unix.EPERM)
		if e.UID != inode.NoID && e.GID != inode.NoID {
			err = m.lchown(int(e.UID), int(e.GID))
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOVERFLOW), inode.Unsupported(err):
			group = e.GID != gid && e.GID != inode.NoID
		default:
			return inode.Op("set owner", err)
		}
	}
	if group {
		group = m.lchown(-1, int(e.GID)) == nil
	}
	m.noOwner = true
	if e.Type == rec.Char || e.Type == rec.Block {
		return &Warning{Path: e.Path, What: "create " + e.Type.String(), Err: inode.ErrOwner}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.denied) < 1024 {
		t.denied[key] = group
	}
	t.left.Owners++
	if e.Mode&0o6000 != 0 {
		t.left.SetID++
	}
	if slices.ContainsFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == inode.XAttrCapability }) && !m.leaves(inode.XAttrCapability) {
		t.left.Capabilities++
	}
	return nil
}

func (m *meta) lchown(uid, gid int) error {
	if m.in.Proc == "" {
		return unix.Fchown(m.in.FD, uid, gid)
	}
	return unix.Fchownat(m.in.FD, "", uid, gid, unix.AT_EMPTY_PATH)
}

// leaves reports whether an extended attribute is neither set nor removed: on request, or since the entry does not
// know it.
func (m *meta) leaves(name string) bool { return m.t.into.Omit.Out(name) || m.e.Omits(name) }

// setXAttrs sets the entry's extended attributes, and removes those that the
// thing got from the directory around it.
func (m *meta) setXAttrs() error {
	for _, name := range m.xattrs {
		if m.t.into.Omit.Out(name) {
			continue
		}
		if !m.exact && (name == inode.XAttrDefaultACL && m.e.Type != rec.Dir || m.e.Type == rec.Symlink) {
			continue
		}
		if slices.ContainsFunc(m.e.XAttrs, func(x rec.XAttr) bool { return x.Name == name }) || m.e.Omits(name) {
			continue
		}
		err := m.in.Remove(name)
		if errors.Is(err, unix.ENODATA) || inode.Unsupported(err) {
			continue
		}
		if err := m.soften("remove inherited attribute "+rec.Quote(name), err); err != nil {
			return err
		}
	}
	var list *rec.XAttr
	for i := range m.e.XAttrs {
		x := &m.e.XAttrs[i]
		switch {
		case m.t.into.Omit.Out(x.Name):
			m.listless = m.listless || x.Name == inode.XAttrAccessACL
			continue
		case x.Name == inode.XAttrCapability && m.noOwner:
			continue // counted by chown
		case x.Name == inode.XAttrAccessACL:
			list = x
			continue // it sets the mode, which may forbid the attributes after it
		}
		if _, err := m.giveXAttr(x); err != nil {
			return err
		}
	}
	if list != nil {
		set, err := m.giveXAttr(list)
		m.listless = !set
		return err
	}
	return nil
}

// giveXAttr sets one extended attribute, and reports it if that is not possible.
func (m *meta) giveXAttr(x *rec.XAttr) (set bool, err error) {
	err = m.setXAttr(x)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		// Too large for this file system's inodes, as a rule, and not a
		// full disk: writing the next file tells.
		err = errTooLarge
	}
	return err == nil, m.soften("set extended attribute "+rec.Quote(x.Name), err)
}

var errTooLarge = errors.New("no room for it in this file system")

// wantMode is the mode that the thing should have. Without ownership nobody gets
// the power of another. Without its access list the group does not get what the list's mask, which
// stands in its place in the mode, leaves to others.
func (m *meta) wantMode() uint32 {
	mode := m.e.Mode
	if m.noOwner {
		mode &^= 0o6000
	}
	if m.listless {
		mode = mode&^0o070 | ownGroup(m.e)
	}
	return mode
}

// ownGroup is what the owning group may do by an entry's access list, as bits of its mode.
func ownGroup(e *rec.Entry) uint32 {
	perm := e.Mode >> 3 & 7 // the mask, if there is one
	for _, x := range e.XAttrs {
		list, err := acl.Decode(x.Value)
		if x.Name != inode.XAttrAccessACL || err != nil {
			continue
		}
		for _, a := range list {
			if a.Tag == acl.GroupObj {
				perm &= uint32(a.Perm)
			}
		}
	}
	return perm << 3
}

// chmod sets the mode.
func (m *meta) chmod() error {
	mode := m.wantMode()
	if m.in.Proc == "" {
		return m.soften("set mode", unix.Fchmod(m.in.FD, mode))
	}
	err := unix.Fchmodat(m.in.FD, "", mode, unix.AT_EMPTY_PATH)
	if inode.Unsupported(err) || errors.Is(err, unix.EINVAL) { // before Linux 6.6
		err = unix.Chmod(m.in.Proc, mode)
	}
	return m.soften("set mode", err)
}

// SetTimes sets the modification time. The time of access is not recorded.
func (m *meta) setTimes() error {
	want := m.e.MTime
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.Timespec{Sec: want.Sec, Nsec: int64(want.Nsec)}}
	var err error
	if m.in.Proc == "" {
		err = inode.SetTimes(m.in.FD, &ts)
	} else {
		err = unix.UtimesNanoAt(m.in.FD, "", ts[:], unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EINVAL) { // before Linux 5.8
			err = unix.UtimesNanoAt(unix.AT_FDCWD, m.in.Proc, ts[:], 0)
		}
	}
	if err == nil && (m.coarse || want.Sec < -1<<31 || want.Sec >= 1<<31) {
		// Some file systems take another time without a word.
		var st inode.Stat
		if err = inode.StatAt(m.in.FD, "", &st); err == nil && st.MTime != want {
			err = errTime
		}
	}
	return m.soften("set modification time", err)
}

var errTime = errors.New("this file system has no such time")

// wantFlags are the inode flags that the thing should have.
func (m *meta) wantFlags() uint32 { return m.e.Flags & inode.SettableFlags }

// setFlags sets inode flags, last of all: some forbid any further change.
func (m *meta) setFlags() {
	want := m.wantFlags()
	if want == 0 && !m.flags {
		return
	}
	all, err := inode.AllFlags(m.in.FD)
	if err == nil && all&inode.SettableFlags == want {
		return
	}
	if err == nil {
		err = inode.WriteFlags(m.in.FD, all&^inode.SettableFlags|want)
	}
	if err != nil {
		// One by one, so that those that can be set are.
		for rest := uint32(inode.SettableFlags); rest != 0; rest &= rest - 1 {
			bit := rest & -rest
			next := all&^bit | want&bit
			if next == all {
				continue
			}
			if werr := inode.WriteFlags(m.in.FD, next); werr == nil {
				all = next
			} else {
				err = werr
			}
		}
	}
	// A file system may pass over a flag that it does not know without a word.
	all, _ = inode.AllFlags(m.in.FD)
	if missed := (all ^ want) & inode.SettableFlags; missed != 0 {
		if err == nil {
			err = errFlags
		}
		m.t.lacks(m.e.Path, "set inode flags "+inode.FlagNames(missed), err)
	}
}

var errFlags = errors.New("this file system does not know them")
