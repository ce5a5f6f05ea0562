package chunk

import (
	"flag"
	"path"
	"strings"

	"preserve/lib/bounds"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// Alone are the patterns of --no-group: a small file that they match is never in a chunk with
// others. Nil and the zero value match nothing. Once it is loaded, many goroutines may match.
type alone struct {
	given []string
	rules pattern.List
	roots []rec.Root // of the tree, by which paths have a second spelling
}

// flag adds --no-group to the flags, for load.
func (a *alone) flag(fs *flag.FlagSet) {
	fs.Func("no-group", "", func(s string) error { a.given = append(a.given, s); return nil })
}

// load reads the patterns.
func (a *alone) load() error {
	for _, text := range a.given {
		if err := a.rules.Add(text, "--no-group", false); err != nil {
			return tool.Usagef("%s", err)
		}
	}
	return nil
}

// match reports whether a file is meant: the last pattern that matches it decides, else the
// last that matches the directory above it, and so on up. A pattern means the path as it is
// stored, or as the system has it.
func (a *alone) match(stored string) bool {
	if a == nil || a.rules.Len() == 0 {
		return false
	}
	if said, is := a.spelled(stored); is {
		return said
	}
	for _, r := range a.roots {
		if !rec.Below(stored, r.Path) {
			continue
		}
		shown := strings.TrimPrefix(path.Join(r.Dir, stored), "/")
		if shown == stored {
			continue
		}
		if said, is := a.spelled(shown); is {
			return said
		}
	}
	return false
}

// spelled is match for one spelling of a path; is reports whether a pattern says anything.
func (a *alone) spelled(at string) (said, is bool) {
	for dir := false; at != "" && at != "."; dir = true {
		if r := a.rules.Match(at, dir); r != nil {
			return !r.Negated, true
		}
		at = path.Dir(at)
	}
	return false, false
}

// shared reports whether a cache that has k may not stand for its file: the file is to be alone,
// and may lie in a blob with others.
func (a *alone) shared(k *rec.Entry) bool {
	return k.Type == rec.File && !k.Alone && k.Size <= bounds.SmallFile && fromCache(k) && a.match(k.Path)
}
