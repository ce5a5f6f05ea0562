package scan

import (
	"hash/maphash"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// A LinkReporter hears of what leads out of the entries of a walk, from the
// goroutine that walks. None of it is a fault.
type LinkReporter interface {
	// LeadsOut says that a symbolic link points to what is there, but not among the
	// entries: it lies outside the roots, or was left out. place is where it
	// points, as an absolute path.
	LeadsOut(path, target, place string)
	// NamesOutside says that of a file's names, all in number, only some are among
	// the entries: met in number, the first of them named. It comes at the end of
	// the walk, in path order.
	NamesOutside(names []string, met, all uint32)
}

// Bounds of what leads remembers. Beyond them it says less.
const (
	maxGone  = 1 << 18 // places that were left out
	maxLater = 8 << 20 // bytes of links that point forward
)

// leads finds the symbolic links that lead out of a walk. It takes a target's path
// as it is written: if other links in it lead out, they are told of themselves.
// Whether there is anything at a place it asks only as far as the mount reaches
// that the path begins on: a look beyond could mount something, or wait for ever
// for a server that is gone, and all for a remark.
//
// Of what is below the roots it remembers what was left out, not what was taken. A
// link that points back in path order is judged at once, one that points forward
// when the walk has ended.
type leads struct {
	tell  LinkReporter // or nil: then nothing is done
	roots []rec.Root   // in path order
	dirs  []string     // of the roots, each once
	dir   string       // where paths begin from now
	seed  maphash.Seed
	gone  map[uint64]struct{} // hashes of the paths of what was left out
	later []forward
	size  int // of later
}

// A forward link points to a path that the walk has not come to.
type forward struct{ path, target, place, to string }

func newLeads(roots []rec.Root, tell LinkReporter) *leads {
	l := &leads{tell: tell, roots: roots, seed: maphash.MakeSeed(), gone: map[uint64]struct{}{}}
	for _, r := range roots {
		if !slices.Contains(l.dirs, r.Dir) {
			l.dirs = append(l.dirs, r.Dir)
		}
	}
	return l
}

// root returns the root of that path.
func (l *leads) root(path string) (r rec.Root, ok bool) {
	i, ok := slices.BinarySearchFunc(l.roots, path, func(r rec.Root, p string) int { return rec.ComparePaths(r.Path, p) })
	if ok {
		r = l.roots[i]
	}
	return r, ok
}

// link judges a symbolic link in the directory dirfd that is an entry.
func (l *leads) link(dirfd int, from, target string) {
	if l.tell == nil {
		return
	}
	place := target
	if !strings.HasPrefix(target, "/") {
		place = l.dir + "/" + rec.Parent(from) + "/" + target
	}
	place = path.Clean(place)
	to, inside := l.path(place[1:])
	switch {
	case !inside || l.left(to):
		if !missing(dirfd, target) {
			l.tell.LeadsOut(from, target, place)
		}
	case rec.ComparePaths(to, from) > 0 && l.size < maxLater:
		l.later = append(l.later, forward{from, target, place, to})
		l.size += len(from) + len(target) + 2*len(place) + 64
	}
}

// path returns what a place, an absolute path without its leading "/", is stored
// as, if it is at or below a root.
func (l *leads) path(place string) (path string, inside bool) {
	for _, dir := range l.dirs {
		if dir = dir[1:]; !rec.Below(place, dir) {
			continue
		}
		path := strings.TrimPrefix(place[len(dir):], "/")
		for up := path; ; up = rec.Parent(up) {
			if r, ok := l.root(up); ok && r.Dir[1:] == dir {
				return path, true
			}
			if up == "" {
				break
			}
		}
	}
	return "", false
}

// leftOut says that what is stored under a path, or below it, is left out. Roots
// below it are not meant.
func (l *leads) leftOut(path string) {
	if l.tell != nil && len(l.gone) < maxGone {
		l.gone[maphash.String(l.seed, path)] = struct{}{}
	}
}

// left reports whether what is stored under a path was left out so far.
func (l *leads) left(path string) bool {
	for len(l.gone) > 0 {
		if _, gone := l.gone[maphash.String(l.seed, path)]; gone {
			return true
		}
		if _, named := l.root(path); named || path == "" {
			break
		}
		path = rec.Parent(path)
	}
	return false
}

// end judges what could not be judged before, when the walk has ended. l is of the
// files that no link led to.
func (l *leads) end(files *links) {
	if l.tell == nil {
		return
	}
	for _, f := range l.later {
		if l.left(f.to) && !missing(unix.AT_FDCWD, f.place) {
			l.tell.LeadsOut(f.path, f.target, f.place)
		}
	}
	for _, f := range files.unseen() {
		l.tell.NamesOutside(append([]string{f.leader}, f.also...), f.all-f.left, f.all)
	}
}

// missing reports whether a link in the directory dirfd points to nothing. Where
// another mount begins nobody knows.
func missing(dirfd int, target string) bool {
	at, err := inode.OpenAt(dirfd, begin(target), inode.OpenPath)
	var here, st inode.Stat
	if err != nil || inode.StatAt(at, "", &here) != nil {
		return false
	}
	defer func() { inode.Close(at) }()
	buf := make([]byte, 256)
	todo := target
	for hops := 0; todo != ""; {
		var name string
		name, todo, _ = strings.Cut(todo, "/")
		if name == "" || name == "." {
			continue
		}
		next, err := inode.OpenAt(at, name, inode.OpenPath)
		if err != nil {
			return err == unix.ENOENT || err == unix.ENOTDIR
		}
		if err := inode.StatAt(next, "", &st); err != nil || st.Mount != here.Mount || st.Mount == 0 {
			inode.Close(next)
			return false
		}
		if st.Type == rec.Symlink {
			more, _, err := inode.ReadLink(next, "", buf)
			inode.Close(next)
			if hops++; err != nil || hops > source.MaxLinks {
				return err == nil
			}
			todo = more + "/" + todo
			if !strings.HasPrefix(more, "/") {
				continue
			}
			next, err = inode.OpenAt(unix.AT_FDCWD, "/", inode.OpenPath)
			if err != nil {
				return false
			}
			if inode.StatAt(next, "", &st) != nil || st.Mount != here.Mount {
				inode.Close(next)
				return false
			}
		}
		inode.Close(at)
		at = next
	}
	return false
}

// begin is where a link's path begins.
func begin(target string) string {
	if strings.HasPrefix(target, "/") {
		return "/"
	}
	return "."
}
