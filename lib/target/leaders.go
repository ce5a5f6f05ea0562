package target

import (
	"hash/maphash"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// leaders are the first names of files with several. All are kept to the end,
// since a name made during the scan makes more than Links; so of those that are
// complete only what a further name needs is.
type leaders struct {
	seed maphash.Seed
	busy map[string]*leader  // by path: being made, not made, or not complete before the end
	done map[uint64]finished // by hash of path
}

// finished is a leader that is complete.
type finished struct {
	ino, dev uint64
	typ      rec.Type
}

func newLeaders() leaders {
	return leaders{maphash.MakeSeed(), map[string]*leader{}, map[uint64]finished{}}
}

func (l *leaders) key(path string) uint64 { return maphash.String(l.seed, path) }

// leaderOf returns the leader that a hard link in the directory d names, nil if
// there is none. With t.mu held.
func (t *Target) leaderOf(d *dir, path string) *leader {
	if l := t.leaders.busy[path]; l != nil {
		return l
	}
	f, ok := t.leaders.done[t.leaders.key(path)]
	if !ok {
		return nil
	}
	n := &Node{t: t, dir: t.dirOf(d, rec.Parent(path)), e: &rec.Entry{Path: path, Type: f.typ}}
	return &leader{node: n, ended: true, ino: f.ino, dev: f.dev}
}

// dirOf returns the directory of that path: d or one above it, or one that is
// opened by its path and not recognised. What is made of it is.
func (t *Target) dirOf(d *dir, path string) *dir {
	for at := d; at != nil; at = at.parent {
		if at.path == path {
			return at
		}
	}
	return &dir{parent: t.root, path: path, fd: -1, passing: true}
}

// finishLeader keeps of a leader only what further names need. With t.mu held.
func (t *Target) finishLeader(l *leader) {
	path := l.node.e.Path
	if t.leaders.busy[path] == l && l.refs == 1 && l.ended && l.err == nil && !l.held && !l.late && l.node.e.Flags&(inode.FlagImmutable|inode.FlagAppend) == 0 {
		delete(t.leaders.busy, path)
		t.leaders.done[t.leaders.key(path)] = finished{l.ino, l.dev, l.node.e.Type}
	}
}
