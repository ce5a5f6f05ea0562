package pattern

import (
	"errors"
	"flag"
	"strings"
)

// Names is a list of patterns for names that are no paths: those of extended attributes. A pattern means the
// whole name, "user.*" or "security.selinux"; as in List the last one that matches decides, and "!" takes
// back what one before it matches. The zero value matches nothing. All matches every name.
type Names struct {
	All  bool
	list List
}

// Flags adds --no-xattrs, which is All, and --exclude-xattr.
func (n *Names) Flags(fs *flag.FlagSet) {
	fs.BoolVar(&n.All, "no-xattrs", false, "")
	fs.Func("exclude-xattr", "", n.Add)
}

// Add adds a pattern. The error is ErrPattern or ErrLimit, or says that it takes back nothing.
func (n *Names) Add(text string) error {
	rest, negated := strings.CutPrefix(text, "!")
	if negated && n.list.Len() == 0 {
		return errors.New("it takes back nothing: no pattern stands before it")
	}
	pattern := "/" + strings.TrimPrefix(rest, "/") // from the beginning of the name
	if negated {
		pattern = "!" + pattern
	}
	return n.list.add(pattern, text, "--exclude-xattr", false)
}

// Any reports whether a name can match.
func (n *Names) Any() bool { return n.All || n.list.Len() > 0 }

// Match reports whether a name matches. A "/" in it is a character like others.
func (n *Names) Match(name string) bool {
	if n.All {
		return true
	}
	for i := range len(name) {
		if name[i] == '/' {
			if r := n.list.Match(name[:i], true); r != nil && !r.Negated {
				return true
			}
		}
	}
	r := n.list.Match(name, false)
	return r != nil && !r.Negated
}
