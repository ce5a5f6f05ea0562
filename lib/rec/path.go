package rec

import (
	"errors"
	"fmt"
	"strings"
)

// Errors about paths; match them with errors.Is.
var (
	ErrPath  = errors.New("not a path that can be stored")
	ErrOrder = errors.New("not in path order")
)

// ComparePaths orders paths as every stream and page does: as bytes, with "/"
// counted as byte 0, so that a directory is followed by all that is below it
// before its next sibling: a, a/b, a-b.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			return -1
		}
		if y == '/' {
			return 1
		}
		if x < y {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// CheckPath accepts the paths that an entry may carry: relative, without empty,
// "." or ".." parts, without NUL, within the limits. The empty path is the
// snapshot's root directory itself.
func CheckPath(p string) error {
	if p == "" {
		return nil
	}
	if len(p) > MaxPath {
		return fmt.Errorf("%w: %d bytes long", ErrPath, len(p))
	}
	if strings.IndexByte(p, 0) >= 0 {
		return fmt.Errorf("%w: %q has a NUL", ErrPath, p)
	}
	for rest, depth, more := p, 1, true; more; depth++ {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("%w: %q has a part %q", ErrPath, p, name)
		case len(name) > MaxName:
			return fmt.Errorf("%w: a name of %d bytes", ErrPath, len(name))
		case depth > MaxDepth:
			return fmt.Errorf("%w: more than %d directories deep", ErrPath, MaxDepth)
		}
	}
	return nil
}

// Parent returns the path of the directory that holds p; "" for a top-level
// name and for the root itself.
func Parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Below reports whether p is dir or lies below it.
func Below(p, dir string) bool {
	return dir == "" || strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}
