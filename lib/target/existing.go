package target

import (
	"errors"
	"hash/maphash"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// met is what a Target remembers of files that it found and kept.
type met struct {
	mu     sync.Mutex
	shared map[uint64]struct{} // those with several names, hashes of their numbers
}

// maxShared bounds met.shared; what finds no room is written anew.
const maxShared = 1 << 20

// has reports whether a file was kept, or might have been.
func (m *met) has(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, twice := m.shared[id]
	return twice || len(m.shared) >= maxShared
}

func (m *met) add(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shared == nil {
		m.shared = map[uint64]struct{}{}
	}
	m.shared[id] = struct{}{}
}

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
	var st inode.Stat
	switch err := inode.StatAt(dirfd, inode.Base(e.Path), &st); {
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
		if empty, err := t.isEmptyDir(dirfd, inode.Base(e.Path)); err != nil || !empty {
			return true, &Warning{Path: e.Path, What: "create " + e.Type.String(), Err: errTaken}
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
	fd, err := t.openDir(dirfd, name, inode.OpenDir)
	if err != nil {
		return false, err
	}
	defer inode.Close(fd)
	err = inode.EachName(fd, func(string) error { return errStop })
	if err == errStop {
		return false, nil
	}
	return err == nil, err
}

// same reports whether what is there has the content of the entry: of a regular
// file its size and time say so, unless it may have got them from a restore that
// a power failure ended.
func (t *Target) same(dirfd int, e *rec.Entry, st *inode.Stat) bool {
	if st.Type != e.Type || e.Err != "" {
		return false
	}
	switch e.Type {
	case rec.File:
		return st.Size == e.Size && st.MTime == e.MTime && !(t.since != nil && st.Size > 0 && !before(st.CTime, *t.since))
	case rec.Symlink:
		target, _, err := inode.ReadLink(dirfd, inode.Base(e.Path), make([]byte, len(e.Target)+1))
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
func (t *Target) keep(n *Node, dirfd int, st *inode.Stat) (bool, error) {
	e := n.e
	id := maphash.Comparable(nameSeed, inode.ID{Dev: st.Dev, Ino: st.Ino})
	if st.Links > 1 && t.met.has(id) {
		return false, nil // two entries, one file
	}
	in, err := openInode(dirfd, inode.Base(e.Path), e.Type)
	if err != nil {
		return false, nil // what cannot be looked at is made anew, or named when that fails
	}
	defer inode.Close(in.FD)
	var now inode.Stat
	if err := inode.StatAt(in.FD, "", &now); err != nil || !now.SameFile(st) || now.CTime != st.CTime {
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
		t.met.add(id)
	}
	if e.Links > 1 {
		t.keepLeader(n, st)
	}
	return true, m.bring(st, d)
}

// openInode opens something to look at its attributes, a file as such if we may
// read it.
func openInode(dirfd int, name string, typ rec.Type) (inode.Handle, error) {
	if typ == rec.File {
		fd, err := inode.Quietly(inode.OpenAt, dirfd, name, inode.OpenFile)
		if err == nil {
			return inode.Handle{FD: fd}, nil
		}
		if !denied(err) {
			return inode.Handle{}, err
		}
	}
	fd, err := inode.OpenAt(dirfd, name, inode.OpenPath)
	return inode.OfPath(fd), err
}

// keepLeader makes a file that was kept known to its further names.
func (t *Target) keepLeader(n *Node, st *inode.Stat) {
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

// stands reports whether what is there is a leader's file, or, on another file system, the copy of it that
// Changed would keep.
func (t *Target) stands(l *leader, st *inode.Stat) bool {
	if l.dev == st.Dev || t.into.Overwrite != Changed {
		return l.ino == st.Ino && l.dev == st.Dev
	}
	from, err := t.acquire(l.node.dir)
	if err != nil {
		return false
	}
	defer t.release(l.node.dir)
	var first inode.Stat
	return inode.StatAt(from, inode.Base(l.node.e.Path), &first) == nil && first.Type == st.Type && first.Size == st.Size && first.MTime == st.MTime
}

// plan tells what would be made of a node. It is done if that is all.
func (t *Target) plan(n *Node, dirfd int, st *inode.Stat) (done bool, err error) {
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
			return true, inode.ErrLeader
		}
		if typ = l.node.e.Type; st != nil && l.ino != 0 && t.stands(l, st) {
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
		if err := r.empty(dirfd, dirfd, e.Path, inode.Base(e.Path), 0); err != nil && err != errRemains {
			t.report(e.Path, "remove the directory in its place", err)
		}
	}
	return true, nil
}
