package unpack

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"

	"preserve/lib/page"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/tree"
	"preserve/lib/walk"
)

// A choice is what the user said of what is to be had, and whose it is to be.
type choice struct {
	patterns  []string // the words behind DIR
	literal   bool     // they are paths
	lists     lists    // of further paths
	exclude   []string
	strip     int
	numeric   bool
	mapUsers  []string
	mapGroups []string
}

func (c *choice) flags(fs *flag.FlagSet) {
	add := func(list *[]string) func(string) error {
		return func(s string) error { *list = append(*list, s); return nil }
	}
	fs.Func("exclude", "", add(&c.exclude))
	fs.BoolVar(&c.literal, "literal", false, "")
	fs.Func("files-from", "", func(file string) error {
		if file == "-" && slices.Contains(c.lists.files, "-") {
			return errors.New("stdin can be read once")
		}
		c.lists.files = append(c.lists.files, file)
		return nil
	})
	fs.BoolVar(&c.lists.nul, "from0", false, "")
	fs.IntVar(&c.strip, "strip-components", 0, "")
	fs.BoolVar(&c.numeric, "numeric-ids", false, "")
	fs.Func("map-user", "", add(&c.mapUsers))
	fs.Func("map-group", "", add(&c.mapGroups))
}

// check refuses what does not go with the mode.
func (c *choice) check(m *mode) error {
	switch {
	case !m.picks && len(c.patterns) > 0:
		return tool.Usagef("unexpected argument %q", c.patterns[0])
	case c.literal && len(c.patterns) == 0:
		return tool.Usagef("--literal says that PATTERNs are paths, and there is none")
	case !m.picks && len(c.exclude) > 0:
		return tool.Usagef("--exclude does not go with --%s", m.flag)
	case !m.picks && len(c.lists.files) > 0:
		return tool.Usagef("--files-from does not go with --%s", m.flag)
	case c.lists.nul && len(c.lists.files) == 0:
		return tool.Usagef("--from0 says how the paths of --files-from end, which is missing")
	case !m.strips && c.strip != 0:
		return tool.Usagef("--strip-components does not go with --%s", m.flag)
	case c.strip < 0:
		return tool.Usagef("--strip-components takes a number of names, not %d", c.strip)
	case !m.owns && (c.numeric || len(c.mapUsers)+len(c.mapGroups) > 0):
		return tool.Usagef("--numeric-ids, --map-user and --map-group do not go with --%s, which shows owners as they are in the snapshot", m.flag)
	}
	return nil
}

// A chooser is the walk.Chooser of all modes: it lets through what the user
// chose, with the parents that it needs, strips names off the front of paths,
// and gives everything the owners that it has here.
//
// A PATTERN brings what it matches and all that is below; of several that match
// the same path, the last decides. What --exclude matches is left out with all that
// is below it, whatever a PATTERN says.
type chooser struct {
	env    *tool.Env
	mode   *mode
	strip  int
	owners *owners // nil: they stay as they are
	// powerless: owners could not be set, which is told once for all
	powerless bool
	wishes    []wish // PATTERNs and listed paths
	barred    []wish // patterns of --exclude
	roots     []rec.Root
	chosen    *pick
	exclude   pattern.List
	sparing   sync.Mutex   // guards spares
	spares    pattern.List // exclude once more: what it matches in a live tree is not deleted

	dirs    []level    // those above the entry at hand
	left    string     // the directory that was excluded last
	last    *rec.Entry // what was chosen last: further pieces of it come too
	out     []*rec.Entry
	entries uint64 // chosen
	lost    uint64 // files that have too few names to strip
}

// A level is a directory above the entry at hand.
type level struct {
	path   string
	entry  *rec.Entry // nil once it has gone to the sink, and if it never is to go
	chosen bool
}

// newChooser reads patterns and rules. Its errors are wrong command lines, and
// those of reading lists and the system's accounts.
func newChooser(env *tool.Env, m *mode, o *choice) (c *chooser, err error) {
	c = &chooser{env: env, mode: m, strip: o.strip}
	for _, text := range o.patterns {
		c.wishes = append(c.wishes, wish{text, "PATTERN", o.literal})
	}
	for _, text := range o.exclude {
		c.barred = append(c.barred, wish{text, "--exclude", false})
	}
	if err := c.build(); err != nil {
		return nil, tool.Usagef("%s", err)
	}
	listed, err := o.lists.read(env)
	if err != nil {
		return nil, err
	}
	if c.wishes = append(c.wishes, listed...); len(listed) > 0 {
		if err := c.build(); err != nil {
			return nil, err
		}
	}
	if !m.owns || o.numeric && len(o.mapUsers)+len(o.mapGroups) == 0 {
		return c, nil
	}
	accounts, err := tree.SystemAccounts()
	if err != nil {
		return nil, fmt.Errorf("read the users and groups of this system: %w", err)
	}
	c.owners, err = newOwners(env, o, accounts.Users, accounts.Groups)
	return c, err
}

// spare makes the rules of --exclude.
func (c *chooser) spare() error {
	c.exclude, c.spares = pattern.List{}, pattern.List{}
	for _, w := range c.barred {
		texts := append([]string{w.text}, spelled(w.text, c.roots, true)...)
		if w.literal {
			texts = append([]string{"/" + pattern.Escape(strings.TrimPrefix(w.text, "/"))}, spelled(w.text, c.roots, false)...)
		}
		for _, text := range texts {
			err := c.exclude.Add(text, "--exclude", false)
			if err == nil {
				err = c.spares.Add(text, "--exclude", false)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// build makes the rules of what was asked, for the snapshot's roots.
func (c *chooser) build() (err error) {
	if c.chosen, err = newPick(c.wishes, c.roots); err == nil {
		err = c.spare()
	}
	return err
}

// look takes each PATTERN that is spelled as a path in the snapshot for that path, though
// characters in it have a meaning of their own.
func (c *chooser) look(has func(path string) (bool, error)) error {
	found := false
	for _, list := range [][]wish{c.wishes, c.barred} {
		for i := range list {
			w := &list[i]
			path := strings.Trim(w.text, "/")
			if w.literal || !strings.ContainsAny(w.text, `*?[\`) || strings.HasPrefix(w.text, "!") || rec.CheckPath(path) != nil {
				continue
			}
			is, err := has(path)
			if err != nil {
				return err
			}
			if is {
				w.literal, found = true, true
				c.env.Notice("%s %s is a path in the snapshot, and is taken as that, not as a pattern", w.from, plain(w.text))
			}
		}
	}
	if !found {
		return nil
	}
	return c.build()
}

// picks reports whether only a part of the snapshot was asked for.
func (c *chooser) picks() bool { return len(c.wishes)+c.exclude.Len() > 0 }

// keeps reports whether a path of a live tree is one that --exclude leaves alone. Many
// goroutines may call it.
func (c *chooser) keeps(path string, dir bool) bool {
	c.sparing.Lock()
	defer c.sparing.Unlock()
	r := c.spares.Match(path, dir)
	return r != nil && !r.Negated
}

// chooser returns c, or nil if all is to come as it is.
func (c *chooser) chooser() walk.Chooser {
	if c.picks() || c.strip > 0 || c.owners != nil {
		return c
	}
	return nil
}

// begin takes the snapshot in: only now it is known which names its sources have.
func (c *chooser) begin(s *snap.Snapshot) error {
	if c.owners != nil {
		c.owners.begin(c.env, s)
	}
	c.roots = s.Roots
	return c.build()
}

// Choose implements walk.Chooser.
func (c *chooser) Choose(e *rec.Entry) ([]*rec.Entry, error) {
	c.out = c.out[:0]
	if e.Off > 0 {
		if c.last != nil && c.last.Path == e.Path {
			c.emit(e)
		}
		return c.out, nil
	}
	for n := len(c.dirs); n > 0 && !rec.Below(e.Path, c.dirs[n-1].path); n-- {
		c.dirs = c.dirs[:n-1]
	}
	chosen := c.picked(e)
	if !chosen {
		if e.Type == rec.Dir && !c.excluded(e.Path) {
			l := level{path: e.Path}
			if c.mode.parents {
				way := *e
				way.Way = true
				l.entry = &way
			}
			c.dirs = append(c.dirs, l)
		}
		return c.out, nil
	}
	if e.Type == rec.Dir {
		c.dirs = append(c.dirs, level{e.Path, nil, true})
	}
	if !c.usable(e) {
		return c.out, nil
	}
	if c.mode.parents {
		for i := range c.dirs {
			if d := &c.dirs[i]; d.entry != nil {
				c.emit(d.entry)
				d.entry = nil
			}
		}
	}
	c.entries++
	c.last = e
	c.emit(e)
	return c.out, nil
}

// picked decides about an entry, by its path and what was decided about the
// directory above it.
func (c *chooser) picked(e *rec.Entry) bool {
	if c.excluded(e.Path) {
		return false
	}
	dir := e.Type == rec.Dir
	if r := c.exclude.Match(e.Path, dir); r != nil && !r.Negated {
		if dir {
			c.left = e.Path
		}
		return false
	}
	if len(c.wishes) == 0 {
		return true
	}
	if r := c.chosen.match(e.Path, dir, c.twin); r != nil {
		return !r.Negated
	}
	return len(c.dirs) > 0 && c.dirs[len(c.dirs)-1].chosen
}

// excluded reports whether the path is below the directory that was excluded
// last, or that directory.
func (c *chooser) excluded(path string) bool { return c.left != "" && rec.Below(path, c.left) }

// twin tells of a path that a PATTERN is spelled as.
func (c *chooser) twin(path string) {
	c.env.Notice("%s is in the snapshot as it is spelled, and is taken with what the PATTERN matches: --literal takes it alone", rec.Quote(path))
}

// outside reports whether --exclude leaves out a directory or one above it.
func (c *chooser) outside(dir string) bool {
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		if r := c.exclude.Match(dir[:i], true); r != nil && !r.Negated {
			return true
		}
	}
	return false
}

// onPath decides as picked does, about the path of something that is no directory
// and may have gone by long ago.
func (c *chooser) onPath(path string) bool {
	if r := c.exclude.Match(path, false); c.outside(rec.Parent(path)) || r != nil && !r.Negated {
		return false
	}
	dir := false
	for ; path != ""; path = rec.Parent(path) {
		if r := c.chosen.rules.Match(path, dir); r != nil {
			return !r.Negated
		}
		dir = true
	}
	return len(c.wishes) == 0
}

// usable reports whether an entry that was chosen can be had: of a hard link the
// first name is needed, which has the content, and a path needs more names than
// are stripped. It says so if not.
func (c *chooser) usable(e *rec.Entry) bool {
	if c.short(e.Path) {
		if e.Type != rec.Dir {
			c.lost++
		}
		return false
	}
	if e.Type != rec.HardLink || c.mode.meta {
		return true
	}
	if !c.onPath(e.Leader) || c.short(e.Leader) {
		c.env.Warn("%s: left out: it is a hard link to %s, which has the content and was not chosen: choose that too, or read with --from", rec.Quote(e.Path), rec.Quote(e.Leader))
		return false
	}
	return true
}

// short reports whether nothing is left of a path.
func (c *chooser) short(path string) bool { return c.strip > 0 && strings.Count(path, "/") < c.strip }

// cut takes the names off the front of a path that has more of them.
func (c *chooser) cut(path string) string {
	for range c.strip {
		_, path, _ = strings.Cut(path, "/")
	}
	return path
}

// emit gives an entry to the sink as it is to be.
func (c *chooser) emit(e *rec.Entry) {
	if c.short(e.Path) {
		return
	}
	if c.strip > 0 {
		cut := *e
		cut.Path = c.cut(e.Path)
		if e.Type == rec.HardLink {
			cut.Leader = c.cut(e.Leader)
		}
		e = &cut
	}
	if c.owners != nil {
		e = c.owners.entry(e)
	}
	c.out = append(c.out, e)
}

// Reaches implements walk.Chooser.
func (c *chooser) Reaches(first page.Key, next *page.Key) bool {
	if next != nil && next.Path == first.Path { // a file alone
		return c.onPath(first.Path) && !c.short(first.Path)
	}
	if next != nil && c.outside(common(first.Path, next.Path)) {
		return false
	}
	return len(c.wishes) == 0 || c.chosen.reaches(first, next)
}

// common returns the innermost directory that two paths are below.
func common(a, b string) string {
	dir := ""
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			dir = a[:i]
		}
	}
	return dir
}

// end says at the end of a walk what was not found, and what was left out.
func (c *chooser) end() {
	if c.picks() {
		c.env.Log.Debug(fmt.Sprintf("%d entries were chosen", c.entries))
	}
	c.chosen.end(c.env)
	if c.lost > 0 {
		c.env.Notice("files left out, since their paths have no more than the %d names to strip: %d", c.strip, c.lost)
	}
	if c.owners != nil && !c.powerless {
		c.owners.tell(c.env)
	}
}
