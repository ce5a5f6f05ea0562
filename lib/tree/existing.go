package tree

import (
	"bytes"
	"errors"
	"hash/maphash"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// met is what a Target remembers of files that it found and kept.
type met struct {
	shared map[uint64]struct{} // those with several names, hashes of their numbers
}

// maxShared bounds met.shared; what finds no room is written anew.
const maxShared = 1 << 20

// errTaken says that a directory with something in it stands where the
// snapshot has none.
var errTaken = errors.New("a directory that is not empty is in its place, and is removed only with --delete")

// errNever says that a directory cannot be made since something was kept.
var errNever = errors.New("in its place is something else, which is kept: nothing below it is restored")

// meet looks at what has the name of an entry in a directory that was there
// before, and decides. It is done if nothing is to be made; else n.old is what is
// there, nil if nothing is.
func (t *Target) meet(n *Node) (done bool, err error) {
	e := n.e
	dirfd, err := t.acquire(n.dir)
	if err != nil {
		return true, err
	}
	defer t.release(n.dir)
	var st Stat
	switch err := statAt(dirfd, base(e.Path), &st); {
	case errors.Is(err, unix.ENOENT):
		return t.plan(n, dirfd, nil)
	case err != nil:
		return true, refused(e.Path, "look for what is there already", err)
	}
	if t.into.Overwrite == Never {
		t.conflict()
		if e.Links > 1 && e.Type != rec.HardLink && t.same(dirfd, e, &st) {
			t.keepLeader(n, &st)
		}
		return true, nil
	}
	if st.Type == rec.Dir && !(t.into.Delete && !t.spare.Load()) {
		if empty, err := t.isEmptyDir(dirfd, base(e.Path)); err != nil || !empty {
			return true, &Warning{e.Path, "create " + e.Type.String(), errTaken}
		}
	}
	if e.Type != rec.HardLink && t.into.Overwrite == Changed && t.same(dirfd, e, &st) {
		if kept, err := t.keep(n, dirfd, &st); kept || err != nil {
			return true, err
		}
	}
	n.old = &st
	return t.plan(n, dirfd, &st)
}

func (t *Target) conflict() { t.mu.Lock(); t.counts.Conflicts++; t.mu.Unlock() }

func (t *Target) isEmptyDir(dirfd int, name string) (bool, error) {
	fd, err := t.openDir(dirfd, name, openDir)
	if err != nil {
		return false, err
	}
	defer closeFD(fd)
	err = eachName(fd, func(string) error { return errStop })
	if err == errStop {
		return false, nil
	}
	return err == nil, err
}

// same reports whether what is there has the content of the entry: of a regular
// file its size and time say so, unless it may have got them from a restore that
// a power failure ended.
func (t *Target) same(dirfd int, e *rec.Entry, st *Stat) bool {
	if st.Type != e.Type || e.Err != "" {
		return false
	}
	switch e.Type {
	case rec.File:
		return st.Size == e.Size && st.MTime == e.MTime && !(t.since != nil && st.Size > 0 && !before(st.CTime, *t.since))
	case rec.Symlink:
		target, _, err := readLink(dirfd, base(e.Path), make([]byte, len(e.Target)+1))
		return err == nil && target == e.Target
	case rec.Char, rec.Block:
		return st.Major == e.Major && st.Minor == e.Minor
	}
	return true
}

func before(a, b rec.Time) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// keep leaves what has the entry's content as it is, and brings its metadata in
// line. It does not where that might reach beyond this entry, so that it must be
// made anew: what has other names is not touched, they may be in other
// directories and anybody's; and what could have been put there by somebody else
// does not become a program that runs with the power of its owner.
func (t *Target) keep(n *Node, dirfd int, st *Stat) (bool, error) {
	e := n.e
	id := maphash.Comparable(nameSeed, inodeID{st.Dev, st.Ino})
	if _, twice := t.met.shared[id]; st.Links > 1 && (twice || len(t.met.shared) >= maxShared) {
		return false, nil // two entries, one file
	}
	in, err := openInode(dirfd, base(e.Path), e.Type)
	if err != nil {
		return false, nil // what cannot be looked at is made anew, or named when that fails
	}
	defer closeFD(in.fd)
	var now Stat
	if err := statAt(in.fd, "", &now); err != nil || !now.sameFile(st) || now.CTime != st.CTime {
		return false, nil // it changes under our eyes
	}
	m := t.meta(e, in, nil)
	d, err := m.compare(st)
	if err != nil {
		return false, nil
	}
	if d.any() && (st.Links > 1 || m.empowers(st, d)) {
		return false, nil
	}
	if st.Links > 1 {
		if t.met.shared == nil {
			t.met.shared = map[uint64]struct{}{}
		}
		t.met.shared[id] = struct{}{}
	}
	if e.Links > 1 {
		t.keepLeader(n, st)
	}
	return true, m.bring(st, d)
}

// openInode opens something to look at its attributes, a file as such if we may
// read it.
func openInode(dirfd int, name string, typ rec.Type) (inode, error) {
	if typ == rec.File {
		fd, err := quietly(openAt, dirfd, name, openFile)
		if err == nil {
			return inode{fd: fd}, nil
		}
		if !denied(err) {
			return inode{}, err
		}
	}
	fd, err := openAt(dirfd, name, openPath)
	return pathInode(fd), err
}

// keepLeader makes a file that was kept known to its further names.
func (t *Target) keepLeader(n *Node, st *Stat) {
	l := &leader{node: n, refs: 1, ended: true, ino: st.Ino, dev: st.Dev}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaders.busy[n.e.Path] = l
	if n.dir.barred && t.uid != 0 {
		l.held = true
		n.dir.refs++
	}
	t.finishLeader(l)
}

// A diff says in what something differs from its entry.
type diff struct {
	owner, mode, xattrs, mtime, flags bool
	had                               uint32   // inode flags
	names                             []string // of extended attributes
}

func (d *diff) any() bool { return d.owner || d.mode || d.xattrs || d.mtime || d.flags }

// compare finds out in what the thing differs from its entry; an owner that
// cannot be set is no difference.
func (m *meta) compare(st *Stat) (d diff, err error) {
	e := m.e
	if e.UID != st.UID || e.GID != st.GID {
		d.owner = true
		if group, denied := m.t.deniedOwner(e); denied && (!group || e.GID == st.GID) || m.t.planning() && m.t.uid != 0 {
			d.owner, m.noOwner = false, true
		}
	}
	d.mode = e.Type != rec.Symlink && m.wantMode() != st.Mode
	d.mtime = e.MTime != st.MTime
	xs, err := m.in.xattrs()
	if err != nil {
		return d, err
	}
	for _, x := range xs {
		d.names = append(d.names, x.Name)
	}
	d.xattrs = m.xattrsDiffer(xs)
	if m.in.proc == "" {
		if d.had, err = getFlags(m.in.fd); err != nil {
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
		i, found := slices.BinarySearchFunc(want, x.Name, func(w rec.XAttr, name string) int { return bytes.Compare([]byte(w.Name), []byte(name)) })
		if !found && stale(x.Name) || found && !bytes.Equal(want[i].Value, x.Value) {
			return true
		}
	}
	for _, x := range want {
		if x.Name == xattrCapability && m.noOwner {
			continue
		}
		if !slices.ContainsFunc(have, func(h rec.XAttr) bool { return h.Name == x.Name }) {
			return true
		}
	}
	return false
}

// stale reports whether an attribute that the entry lacks is to be removed.
func stale(name string) bool { return !isSecurity(name) || name == xattrCapability }

// empowers reports whether the difference is that a file gets the power of its
// owner, or of its capabilities.
func (m *meta) empowers(st *Stat, d diff) bool {
	if m.e.Type != rec.File || m.noOwner || !(d.owner || d.mode || d.xattrs) {
		return false
	}
	return m.e.Mode&0o6000 != 0 && (d.owner || st.Mode&0o6000 != m.e.Mode&0o6000) ||
		slices.ContainsFunc(m.e.XAttrs, func(x rec.XAttr) bool { return x.Name == xattrCapability }) && (d.owner || d.xattrs)
}

// bring aligns what differs, and counts it.
func (m *meta) bring(st *Stat, d diff) error {
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
func (m *meta) align(st *Stat, d diff) error {
	m.xattrs = slices.DeleteFunc(d.names, func(n string) bool { return !stale(n) })
	m.exact, m.flags = true, true
	if d.had&(flagImmutable|flagAppend) != 0 {
		d.flags = thawFD(m.in.fd) || d.flags // if it cannot be, what it forbids is named
	}
	if d.owner || m.noOwner { // that it cannot be set is counted there
		if err := m.chown(st.UID, st.GID); err != nil {
			return err
		}
		changed := d.owner && !m.noOwner // that clears some
		d.mode, d.xattrs = changed || m.wantMode() != st.Mode, changed || d.xattrs
	}
	if d.xattrs {
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

// plan tells what would be made of a node. It is done if that is all.
func (t *Target) plan(n *Node, dirfd int, st *Stat) (done bool, err error) {
	if !t.planning() {
		return false, nil
	}
	e := n.e
	if e.Err != "" && e.Type == rec.File {
		return true, nil // it has no content and will not be made
	}
	typ := e.Type
	if typ == rec.HardLink {
		l := t.leaderOf(n.dir, e.Leader)
		if l == nil {
			return true, ErrLeader
		}
		if typ = l.node.e.Type; st != nil && l.ino == st.Ino && l.dev == st.Dev {
			return true, nil
		}
	} else if e.Links > 1 {
		t.leaders.done[t.leaders.key(e.Path)] = finished{typ: e.Type}
	}
	switch {
	case st == nil:
		t.did(Create, e.Path)
	case st.Type == typ:
		t.did(Update, e.Path)
	default:
		t.did(Replace, e.Path)
	}
	if st != nil && st.Type == rec.Dir && t.into.Delete {
		r := remover{t: t, d: n.dir}
		if err := r.empty(dirfd, dirfd, e.Path, base(e.Path), 0); err != nil && err != errRemains {
			t.report(e.Path, "remove the directory in its place", err)
		}
	}
	return true, nil
}

// made counts a node that was made.
func (n *Node) made() {
	switch {
	case n.old == nil:
		n.t.did(Create, n.e.Path)
	case n.old.Type == n.e.Type, n.e.Type == rec.HardLink && n.old.Type == n.leader.node.e.Type:
		n.t.did(Update, n.e.Path)
	default:
		n.t.did(Replace, n.e.Path)
	}
}

// place gives what was made under a temporary name in the node's directory its
// own, in place of what is there.
func (n *Node) place(dirfd int, temp string) error {
	t, name := n.t, base(n.e.Path)
	if n.old == nil {
		return renameNew(dirfd, temp, name)
	}
	if n.old.Type == rec.Dir {
		if err := t.makeRoom(n, dirfd, name); err != nil {
			return err
		}
		return renameNew(dirfd, temp, name)
	}
	err := unix.Renameat(dirfd, temp, dirfd, name)
	if denied(err) && thawFile(dirfd, name) {
		err = unix.Renameat(dirfd, temp, dirfd, name)
	}
	return err
}

// refused makes an error of this node, like the function; in a directory that was
// there before, others may well make things too.
func (n *Node) refused(what string, err error) error {
	if n.dir.old && errors.Is(err, unix.EEXIST) {
		return &Warning{n.e.Path, what, ErrExists}
	}
	return refused(n.e.Path, what, err)
}

// inDir calls fn with the descriptor of a directory, and again if the
// directory's mode or flags forbade what fn does and it is ours to change them
// until it is complete.
func (t *Target) inDir(d *dir, fn func(dirfd int) error) error {
	fd, err := t.acquire(d)
	if err != nil {
		return err
	}
	defer t.release(d)
	if err = fn(fd); denied(err) && d.found && t.thaw(d, fd) {
		err = fn(fd)
	}
	return err
}

// thaw opens a directory that was there before to its owner, and clears flags
// that forbid to make or remove anything in it. Its own are given back when it
// is complete.
func (t *Target) thaw(d *dir, fd int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.thawed || t.planning() {
		return d.thawed
	}
	var st Stat
	all, err := allFlags(fd)
	if err != nil || statAt(fd, "", &st) != nil {
		return false
	}
	d.thawed = thawFD(fd)
	if st.UID == uint32(os.Geteuid()) && st.Mode&0o700 != 0o700 && unix.Fchmod(fd, st.Mode|0o700) == nil {
		d.thawed = true
	}
	d.hadMode, d.hadFlags = st.Mode, all
	return d.thawed
}

// freeze undoes thaw.
func (d *dir) freeze(fd int) error {
	if err := unix.Fchmod(fd, d.hadMode); err != nil {
		return err
	}
	if all, err := allFlags(fd); err != nil || all == d.hadFlags {
		return err
	}
	return writeFlags(fd, d.hadFlags)
}
