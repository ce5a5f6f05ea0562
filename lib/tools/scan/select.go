package scan

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/inode"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/tool"
)

// The tag of cache directories and what it begins with: https://bford.info/cachedir.
const (
	cacheTag  = "CACHEDIR.TAG"
	signature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// A selection is what the command line leaves out. It is a walk's tree.Chooser.
type selection struct {
	given   []given // patterns, in the order of the command line
	rules   pattern.List
	caches  bool
	present []string
	largest uint64
	larger  string // as it was given; "" for no limit
	// shut are directories that mark another one: they are kept, empty.
	shut   map[string]bool
	counts map[cause]uint64
	// aliases are sources that are stored under other paths than they were named by.
	aliases []alias
	inside  bool // something that a walk came to was left out
}

// given is one flag with a pattern or a file of patterns.
type given struct {
	kind, text string // exclude, include or exclude-from
	fold       bool
}

// flag is how the user wrote it.
func (g given) flag() string {
	if g.fold {
		return "--i" + g.kind
	}
	return "--" + g.kind
}

// A cause is why something is left out: a rule, or a flag with its argument.
type cause struct {
	rule *pattern.Rule
	flag string
}

func (c cause) String() string {
	if c.rule != nil {
		return c.rule.String()
	}
	return c.flag
}

// selectFlags adds the flags that leave things out.
func selectFlags(fs *flag.FlagSet) *selection {
	s := &selection{shut: map[string]bool{}, counts: map[cause]uint64{}}
	for _, kind := range []string{"exclude", "include", "exclude-from"} {
		for _, fold := range []bool{false, true} {
			fs.Func(given{kind: kind, fold: fold}.flag()[2:], "", func(text string) error {
				s.given = append(s.given, given{kind, text, fold})
				return nil
			})
		}
	}
	fs.BoolVar(&s.caches, "exclude-caches", false, "")
	fs.Func("exclude-if-present", "", func(name string) error {
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return fmt.Errorf("the name of a file is meant, without a directory")
		}
		s.present = append(s.present, name)
		return nil
	})
	fs.Func("exclude-larger-than", "", func(text string) (err error) {
		s.larger = text
		s.largest, err = parseSize(text)
		return err
	})
	return s
}

// parseSize reads a size in bytes, or with K, M, G or T in units of 1024.
func parseSize(text string) (uint64, error) {
	digits := text
	shift := 0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("KMGT", text[n-1]&^0x20); i >= 0 {
			digits, shift = text[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("a number is meant, with K, M, G or T behind it for units of 1024")
	}
	return n << shift, nil
}

// load reads the patterns. A bad one on the command line is a usage error.
func (s *selection) load() error {
	for _, g := range s.given {
		add := s.rules.Add
		switch g.kind {
		case "exclude-from":
			if err := s.loadFile(g); err != nil {
				return fmt.Errorf("%s: %w", g.flag(), err)
			}
			continue
		case "include":
			if s.rules.Len() == 0 {
				return tool.Usagef("%s %q takes back nothing: no pattern to exclude stands before it", g.flag(), g.text)
			}
			if strings.HasPrefix(g.text, "!") {
				return tool.Usagef(`%s %q: it stands without a "!"; for a name that begins with one write "\!"`, g.flag(), g.text)
			}
			add = s.rules.AddNegated
		}
		if err := add(g.text, g.flag(), g.fold); err != nil {
			return tool.Usagef("%s", err)
		}
	}
	return nil
}

func (s *selection) loadFile(g given) error {
	f, err := os.Open(g.text)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.rules.AddFile(f, rec.Quote(g.text), g.fold)
}

// chooser is the selection, or nil if it takes everything.
func (s *selection) chooser() scan.Chooser {
	if s.rules.Len() == 0 && !s.caches && len(s.present) == 0 && s.larger == "" {
		return nil
	}
	return s
}

// judge says whether a path by itself is left out, and why.
func (s *selection) judge(path string, st *inode.Stat) (why cause, out bool) {
	if why, out = s.byName(path, st.Type); out {
		return why, out
	}
	return s.bySight(path, st, true)
}

// byName says whether a path is left out by patterns. Of a type that is not known (None) it
// must be left out as a directory and as anything else.
func (s *selection) byName(path string, typ rec.Type) (why cause, out bool) {
	r := s.match(path, typ == rec.Dir)
	if r == nil || r.Negated {
		return cause{}, false
	}
	if typ == rec.None {
		if d := s.match(path, true); d == nil || d.Negated {
			return cause{}, false
		}
	}
	return cause{rule: r}, true
}

// An alias is a source whose parents lead through links: its path as it was named, without a leading
// "/", and as it is stored. Patterns mean what is below it by either.
type alias struct{ named, stored string }

// alias takes down that a source is stored under another path.
func (s *selection) alias(source string, root rec.Root) {
	named := strings.TrimPrefix(path.Clean(source), "/")
	if rec.CheckPath(named) == nil && named != "." {
		s.aliases = append(s.aliases, alias{named, root.Path})
	}
}

// match is the last rule that matches a path, in any of its spellings.
func (s *selection) match(at string, dir bool) *pattern.Rule {
	r := s.rules.Match(at, dir)
	for _, a := range s.aliases {
		if !rec.Below(at, a.stored) {
			continue
		}
		other := s.rules.Match(a.named+at[len(a.stored):], dir)
		if other != nil && (r == nil || slices.Index(s.rules.Rules(), other) > slices.Index(s.rules.Rules(), r)) {
			r = other
		}
	}
	return r
}

// bySight says whether a path that its name does not leave out is left out by what was seen of it;
// known says that its type was known before.
func (s *selection) bySight(path string, st *inode.Stat, known bool) (why cause, out bool) {
	if !known {
		if why, out = s.byName(path, st.Type); out {
			return why, out
		}
	}
	if s.larger != "" && st.Type == rec.File && st.Size > s.largest {
		return cause{flag: "--exclude-larger-than " + s.larger}, true
	}
	return cause{}, false
}

// above finds the uppermost of the directories above a path that a pattern leaves
// out.
func (s *selection) above(path string) (at string, why cause, out bool) {
	dir := inode.Stat{Type: rec.Dir}
	for i := range path {
		if path[i] == '/' {
			if why, out := s.judge(path[:i], &dir); out {
				return path[:i], why, true
			}
		}
	}
	return "", cause{}, false
}

// astray tells of patterns on the command line that name a path as the system
// does, where it is stored by another: with -C, or from the working directory.
func (s *selection) astray(roots []rec.Root, tell func(format string, args ...any)) {
	if slices.ContainsFunc(roots, func(r rec.Root) bool { return r.Dir == "/" }) {
		return
	}
	dir := roots[0].Dir // there is no other way to have several
	for _, r := range s.rules.Rules() {
		p := "/" + r.Prefix()
		if r.From != "--exclude" || r.Text[0] != '/' || !rec.Below(p, dir) {
			continue
		}
		if _, err := os.Lstat(dir + p); err != nil {
			tell("%s matches nothing: paths are stored as they are below %s here: leave that out in front", r, rec.Quote(dir))
		}
	}
}

// enter returns the names that are wanted of a directory, and why no others are;
// nil if all are wanted.
func (s *selection) enter(d *scan.Dir) (names []string, why cause) {
	if s.shut[d.Path] {
		delete(s.shut, d.Path)
		return []string{}, cause{flag: "--exclude-if-present " + rec.Quote(d.Path[strings.LastIndexByte(d.Path, '/')+1:])}
	}
	if s.caches && d.Begins(cacheTag, signature) {
		names, why = append(names, cacheTag), cause{flag: "--exclude-caches"}
	}
	for _, name := range s.present {
		if d.Has(name) {
			names, why = append(names, name), cause{flag: "--exclude-if-present " + rec.Quote(name)}
			s.shut[strings.TrimPrefix(d.Path+"/"+name, "/")] = true
		}
	}
	return names, why
}

// Drop implements tree.Chooser.
func (s *selection) Drop(path string, typ rec.Type) bool { return s.count(s.byName(path, typ)) }

// Take implements tree.Chooser.
func (s *selection) Take(path string, st *inode.Stat, known bool) bool {
	return !s.count(s.bySight(path, st, known))
}

// Looks implements tree.Chooser.
func (s *selection) Looks() bool { return s.larger != "" }

// count counts what is left out.
func (s *selection) count(why cause, out bool) bool {
	if out {
		s.counts[why]++
		s.inside = true
	}
	return out
}

// Enter implements tree.Chooser.
func (s *selection) Enter(d *scan.Dir) []string {
	names, why := s.enter(d)
	if len(names) > 0 {
		s.counts[why]++
	}
	return names
}

// tell says with -v what was left out.
func (s *selection) tell(env *tool.Env) {
	var all uint64
	causes := make([]cause, 0, len(s.counts))
	for c, n := range s.counts {
		causes = append(causes, c)
		all += n
	}
	if all == 0 {
		return
	}
	slices.SortFunc(causes, func(a, b cause) int {
		return cmp.Or(cmp.Compare(s.counts[b], s.counts[a]), cmp.Compare(a.String(), b.String()))
	})
	env.Log.Debug(fmt.Sprintf("left out: %d names and contents of directories, not counting what is below them", all))
	for i, c := range causes {
		if i == 20 {
			env.Log.Debug(fmt.Sprintf("left out: by %d more rules", len(causes)-i))
			break
		}
		env.Log.Debug(fmt.Sprintf("left out: %d by %s", s.counts[c], c))
	}
}
