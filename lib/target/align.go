package target

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A diff says in what something differs from its entry.
type diff struct {
	owner, mode, xattrs, mtime, flags bool
	had                               uint32   // inode flags
	names                             []string // of extended attributes
}

func (d *diff) any() bool { return d.owner || d.mode || d.xattrs || d.mtime || d.flags }

// compare finds out in what the thing differs from its entry; an owner that
// cannot be set is no difference.
func (m *meta) compare(st *inode.Stat) (d diff, err error) {
	e := m.e
	if e.UID != st.UID || e.GID != st.GID {
		d.owner = true
		if group, denied := m.t.deniedOwner(e); denied && (!group || e.GID == st.GID) || m.t.planning() && m.t.uid != 0 {
			d.owner, m.noOwner = false, true
		}
	}
	if omit := m.t.into.Omit; omit.Out(inode.XAttrAccessACL) {
		_, err := m.in.Get(inode.XAttrAccessACL, nil)
		m.listless = err != nil // a list that is there stays, and its mask is in the mode
	}
	d.mode = e.Type != rec.Symlink && m.wantMode() != st.Mode
	d.mtime = e.MTime != st.MTime
	a, err := m.in.XAttrs(m.t.into.Omit)
	if err != nil {
		return d, err
	}
	xs := a.XAttrs
	for _, x := range xs {
		d.names = append(d.names, x.Name)
	}
	d.xattrs = m.xattrsDiffer(xs)
	if m.in.Proc == "" {
		if d.had, err = inode.Flags(m.in.FD); err != nil {
			return d, err
		}
		d.flags = d.had != m.wantFlags()
	}
	return d, nil
}

func (t *Target) deniedOwner(e *rec.Entry) (group, denied bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, denied = t.denied[[2]uint32{e.UID, e.GID}]
	return group, denied
}

// xattrsDiffer compares extended attributes; labels that come from policy and
// not from a backup do not count.
func (m *meta) xattrsDiffer(have []rec.XAttr) bool {
	want := m.e.XAttrs
	for _, x := range have {
		if m.e.Omits(x.Name) && !slices.ContainsFunc(want, func(w rec.XAttr) bool { return w.Name == x.Name }) {
			continue
		}
		i, found := slices.BinarySearchFunc(want, x.Name, func(w rec.XAttr, name string) int { return bytes.Compare([]byte(w.Name), []byte(name)) })
		if !found && stale(x.Name) || found && !bytes.Equal(want[i].Value, x.Value) {
			return true
		}
	}
	for _, x := range want {
		if x.Name == inode.XAttrCapability && m.noOwner || m.t.into.Omit.Out(x.Name) {
			continue
		}
		if !slices.ContainsFunc(have, func(h rec.XAttr) bool { return h.Name == x.Name }) {
			return true
		}
	}
	return false
}

// stale reports whether an attribute that the entry lacks is to be removed.
func stale(name string) bool { return !isSecurity(name) || name == inode.XAttrCapability }

// empowers reports whether the difference is that a file gets the power of its
// owner, or of its capabilities.
func (m *meta) empowers(st *inode.Stat, d diff) bool {
	if m.e.Type != rec.File || m.noOwner || !(d.owner || d.mode || d.xattrs) {
		return false
	}
	return m.e.Mode&0o6000 != 0 && (d.owner || st.Mode&0o6000 != m.e.Mode&0o6000) ||
		slices.ContainsFunc(m.e.XAttrs, func(x rec.XAttr) bool { return x.Name == inode.XAttrCapability }) && (d.owner || d.xattrs)
}

// bring aligns what differs, and counts it.
func (m *meta) bring(st *inode.Stat, d diff) error {
	if (d.any() || m.noOwner) && !m.t.planning() {
		if err := m.align(st, d); err != nil {
			return err
		}
	}
	if d.any() {
		m.t.did(Metadata, m.e.Path)
	}
	return nil
}

// align brings what was there before in line with its entry, and touches only
// what differs.
func (m *meta) align(st *inode.Stat, d diff) error {
	m.xattrs = slices.DeleteFunc(d.names, func(n string) bool { return !stale(n) })
	m.exact, m.flags = true, true
	if d.had&(inode.FlagImmutable|inode.FlagAppend) != 0 {
		d.flags = thawFD(m.in.FD) || d.flags // if it cannot be, what it forbids is named
	}
	if d.owner || m.noOwner { // that it cannot be set is counted there
		if err := m.chown(st.UID, st.GID); err != nil {
			return err
		}
		changed := d.owner && !m.noOwner // that clears some
		d.mode, d.xattrs = changed || m.wantMode() != st.Mode, changed || d.xattrs
	}
	if d.xattrs {
		m.lend(st)
		if err := m.setXAttrs(); err != nil {
			return err
		}
		d.mode = true // an access control list changes it
	}
	if d.mode && m.e.Type != rec.Symlink {
		if err := m.chmod(); err != nil {
			return err
		}
	}
	if d.mtime {
		if err := m.setTimes(); err != nil {
			return err
		}
	}
	if d.flags {
		m.setFlags()
	}
	return nil
}

// lend gives the owner the right to write to a file or directory of his that lacks it, for as
// long as its extended attributes are set: the kernel asks for it even of an owner
// who may change the mode. Whoever calls it sets the mode afterwards.
func (m *meta) lend(st *inode.Stat) {
	if (m.e.Type == rec.File || m.e.Type == rec.Dir) && st.Mode&0o200 == 0 && m.in.Proc == "" {
		_ = unix.Fchmod(m.in.FD, st.Mode&0o777|0o200) // what needs it says so
	}
}
