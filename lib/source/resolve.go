package source

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// MaxLinks is how many links may follow each other in a source's path.
const MaxLinks = 40

// Resolve turns the sources that a user named into roots in path order. Relative
// ones begin from dir, which is the working directory if empty, and are stored
// under their relative path; absolute ones, and those that lead out of dir, are
// stored under their absolute path without the leading "/". Links in the
// parents of a source are resolved, since an entry below a link could not be
// restored: note, which may be nil, is told what such a source is stored as.
// The last name is not followed unless a "/" stands behind it. Sources below
// other sources are left out.
//
// Every source must exist; the error names the one that does not. Sources that
// would be stored under the same path, or have a stored parent in common, but
// are found in different directories, are ErrMixed.
func Resolve(dir string, sources []string, note func(source, stored string)) ([]rec.Root, error) {
	r, err := NewResolver(dir)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		root, plain, err := r.Add(source)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", rec.Quote(source), err)
		}
		if !plain && note != nil {
			note(source, root.Path)
		}
	}
	return r.Roots()
}

// A Resolver does what Resolve does with one source after the other, for lists of
// them that may name what does not exist.
type Resolver struct {
	// Inner keeps sources below other sources, for a walk of one file system each.
	Inner bool
	start string
	roots []rec.Root
}

// NewResolver begins with no source.
func NewResolver(dir string) (*Resolver, error) {
	start, err := startDir(dir)
	return &Resolver{start: start}, err
}

// Add resolves a source, and keeps its root if there is no error. The source is
// plain if it is stored under the path that its words say.
func (r *Resolver) Add(source string) (root rec.Root, plain bool, err error) {
	root, plain, err = resolve(r.start, source)
	if err == nil {
		r.roots = append(r.roots, root)
	}
	return root, plain, err
}

// Roots returns the roots as Resolve does, and forgets them.
func (r *Resolver) Roots() ([]rec.Root, error) {
	roots := r.roots
	r.roots = nil
	roots, err := merge(roots)
	if !r.Inner {
		roots = outermost(roots)
	}
	return roots, err
}

// startDir returns the physical path of the directory that relative sources
// begin from.
func startDir(dir string) (string, error) {
	if !strings.HasPrefix(dir, "/") {
		wd, err := unix.Getwd()
		if err == nil && !strings.HasPrefix(wd, "/") { // "(unreachable)/…"
			err = unix.ENOENT
		}
		if err != nil {
			return "", inode.Op("find the working directory", err)
		}
		dir = wd + "/" + dir
	}
	start, fd, err := physical(dir)
	if err != nil {
		return "", inode.Op("directory "+rec.Quote(filepath.Clean(dir)), err)
	}
	defer inode.Close(fd)
	if err := isDir(fd); err != nil {
		return "", inode.Op("directory "+rec.Quote(filepath.Clean(dir)), err)
	}
	return start, nil
}

// isDir returns ENOTDIR unless fd is a directory.
func isDir(fd int) error {
	var st inode.Stat
	err := inode.StatAt(fd, "", &st)
	if err == nil && st.Type != rec.Dir {
		err = unix.ENOTDIR
	}
	return err
}

// resolve makes a root of one source. It is plain if the path is the one that
// the words say, no link in between.
func resolve(start, source string) (root rec.Root, plain bool, err error) {
	if source == "" {
		return root, false, unix.ENOENT
	}
	full := source
	relative := !strings.HasPrefix(source, "/")
	if relative {
		full = start + "/" + source
	}
	trimmed := strings.TrimRight(full, "/")
	last := inode.Base(trimmed)
	follow := trimmed != full || last == "." || last == ".." || last == ""
	if follow {
		trimmed, last = full, ""
	} else {
		trimmed = trimmed[:len(trimmed)-len(last)]
	}
	where, fd, err := physical(trimmed)
	if err != nil {
		return root, false, err
	}
	defer inode.Close(fd)
	if follow {
		err = isDir(fd)
	} else {
		var st inode.Stat
		err = inode.StatAt(fd, last, &st)
		where = strings.TrimSuffix(where, "/") + "/" + last
	}
	if err != nil {
		return root, false, err
	}
	root = rec.Root{Dir: "/", Path: where[1:]}
	if relative && start != "/" && rec.Below(where, start) {
		root = rec.Root{Dir: start, Path: strings.TrimPrefix(where[len(start):], "/")}
	}
	return root, filepath.Clean(full) == where, rec.CheckPath(root.Path)
}

// physical resolves all links in an absolute path, of any length, and returns
// the path that remains together with an open descriptor (O_PATH) of its end,
// which may be of any type unless a "/" follows.
func physical(path string) (string, int, error) {
	fd, err := inode.OpenAt(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return "", -1, err
	}
	var names []string // of the path so far
	todo := path
	links := 0
	for todo != "" {
		name, rest, _ := strings.Cut(todo, "/")
		todo = rest
		if name == "" || name == "." {
			continue
		}
		next, err := inode.OpenAt(fd, name, inode.OpenPath)
		if err != nil {
			inode.Close(fd)
			return "", -1, err
		}
		target, _, err := inode.ReadLink(next, "", make([]byte, 256))
		switch {
		case err == nil: // a link: go on where it points to, from here or from the top
			inode.Close(next)
			if links++; links > MaxLinks {
				err = unix.ELOOP
			} else {
				todo = target + "/" + todo
				if strings.HasPrefix(target, "/") {
					inode.Close(fd)
					names = nil
					fd, err = inode.OpenAt(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY)
				}
			}
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL): // not a link
			inode.Close(fd)
			fd, err = next, nil
			if name != ".." {
				names = append(names, name)
			} else if len(names) > 0 {
				names = names[:len(names)-1]
			}
		default:
			inode.Close(next)
		}
		if err != nil {
			inode.Close(fd)
			return "", -1, err
		}
	}
	return "/" + strings.Join(names, "/"), fd, nil
}

// merge puts roots into path order, each of them once.
func merge(roots []rec.Root) ([]rec.Root, error) {
	slices.SortFunc(roots, func(a, b rec.Root) int {
		if c := rec.ComparePaths(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Dir, b.Dir)
	})
	roots = slices.Compact(roots)
	for i, up := 1, 0; i < len(roots); i++ {
		r, last := roots[i], roots[up]
		if r.Dir != last.Dir && (last.Path == "" || top(r.Path) == top(last.Path)) {
			return nil, mixed(last, r)
		}
		if !rec.Below(r.Path, last.Path) {
			up = i
		}
	}
	return roots, nil
}

// outermost leaves out the roots that are below others.
func outermost(roots []rec.Root) (out []rec.Root) {
	for _, r := range roots {
		if n := len(out); n == 0 || !rec.Below(r.Path, out[n-1].Path) {
			out = append(out, r)
		}
	}
	return out
}

// top returns the first name of a path.
func top(path string) string {
	name, _, _ := strings.Cut(path, "/")
	return name
}
