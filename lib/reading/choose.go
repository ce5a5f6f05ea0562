package reading

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"

	"preserve/lib/content"
	"preserve/lib/inode"
	"preserve/lib/page"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// A Mode is what a tool, or one of its modes, makes of a choice.
type Mode struct {
	Flag    string // of pv-unpack, for messages; empty: it has none
	Meta    bool   // metadata is all it needs
	Picks   bool   // a part of the snapshot can be chosen
	Parents bool   // the directories above what is chosen come with it
	Strips  bool   // names can be stripped off the front of paths
	Owns    bool   // owners are those of this system
}

// A Choice is what the user said of what is to be had, and whose it is to be.
type Choice struct {
	Patterns  []string // the words on the command line
	Literal   bool     // they are paths
	Lists     Lists    // of further paths
	Exclude   []string
	Strip     int
	Numeric   bool
	MapUsers  []string
	MapGroups []string
}

// Flags adds the flags that choose.
func (c *Choice) Flags(fs *flag.FlagSet) {
	fs.Func("exclude", "", appends(&c.Exclude))
	fs.BoolVar(&c.Literal, "literal", false, "")
	fs.Func("files-from", "", func(file string) error {
		if file == "-" && c.Stdin() {
			return errors.New("stdin can be read once")
		}
		c.Lists.files = append(c.Lists.files, file)
		return nil
	})
	fs.BoolVar(&c.Lists.nul, "from0", false, "")
}

// StripFlag adds the flag that shortens paths.
func (c *Choice) StripFlag(fs *flag.FlagSet) { fs.IntVar(&c.Strip, "strip-components", 0, "") }

// OwnerFlags adds the flags that say whose files are to be.
func (c *Choice) OwnerFlags(fs *flag.FlagSet) {
	fs.BoolVar(&c.Numeric, "numeric-ids", false, "")
	fs.Func("map-user", "", appends(&c.MapUsers))
	fs.Func("map-group", "", appends(&c.MapGroups))
}

func appends(list *[]string) func(string) error {
	return func(s string) error { *list = append(*list, s); return nil }
}

// Stdin reports whether a list of paths comes on stdin.
func (c *Choice) Stdin() bool { return slices.Contains(c.Lists.files, "-") }

// Check refuses what does not go with the mode.
func (c *Choice) Check(m *Mode) error {
	switch {
	case !m.Picks && len(c.Patterns) > 0:
		return tool.Usagef("unexpected argument %q", c.Patterns[0])
	case c.Literal && len(c.Patterns) == 0:
		return tool.Usagef("--literal says that PATTERNs are paths, and there is none")
	case !m.Picks && len(c.Exclude) > 0:
		return tool.Usagef("--exclude does not go with --%s", m.Flag)
	case !m.Picks && len(c.Lists.files) > 0:
		return tool.Usagef("--files-from does not go with --%s", m.Flag)
	case c.Lists.nul && len(c.Lists.files) == 0:
		return tool.Usagef("--from0 says how the paths of --files-from end, which is missing")
	case !m.Strips && c.Strip != 0:
		return tool.Usagef("--strip-components does not go with --%s", m.Flag)
	case c.Strip < 0:
		return tool.Usagef("--strip-components takes a number of names, not %d", c.Strip)
	case !m.Owns && (c.Numeric || len(c.MapUsers)+len(c.MapGroups) > 0):
		return tool.Usagef("--numeric-ids, --map-user and --map-group do not go with --%s, which shows owners as they are in the snapshot", m.Flag)
	}
	return nil
}

// A Chooser is the content.Chooser of all tools: it lets through what the user
// chose, with the parents that it needs, strips names off the front of paths,
// and gives everything the owners that it has here.
//
// A PATTERN brings what it matches and all that is below; of several that match
// the same path, the last decides. What --exclude matches is left out with all that
// is below it, whatever a PATTERN says.
type Chooser struct {
	env    *tool.Env
	mode   *Mode
	Strip  int     // names that are taken off the front of each path
	owners *owners // nil: they stay as they are
	// Powerless: owners could not be set, which is told once for all
	Powerless bool
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

// NewChooser reads patterns and rules. Its errors are wrong command lines, and
// those of reading lists and the system's accounts.
func NewChooser(env *tool.Env, m *Mode, o *Choice) (c *Chooser, err error) {
	c = &Chooser{env: env, mode: m, Strip: o.Strip}
	for _, text := range o.Patterns {
		c.wishes = append(c.wishes, wish{text, "PATTERN", o.Literal})
	}
	for _, text := range o.Exclude {
		c.barred = append(c.barred, wish{text, "--exclude", false})
	}
	if err := c.build(); err != nil {
		return nil, tool.Usagef("%s", err)
	}
	listed, err := o.Lists.read(env)
	if err != nil {
		return nil, err
	}
	if c.wishes = append(c.wishes, listed...); len(listed) > 0 {
		if err := c.build(); err != nil {
			return nil, err
		}
	}
	if !m.Owns || o.Numeric && len(o.MapUsers)+len(o.MapGroups) == 0 {
		return c, nil
	}
	accounts, err := inode.SystemAccounts()
	if err != nil {
		return nil, fmt.Errorf("read the users and groups of this system: %w", err)
	}
	c.owners, err = newOwners(env, o, accounts.Users, accounts.Groups)
	return c, err
}

// Excludes reports whether --exclude was given.
func (c *Chooser) Excludes() bool { return c.exclude.Len() > 0 }

// spare makes the rules of --exclude.
func (c *Chooser) spare() error {
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
func (c *Chooser) build() (err error) {
	if c.chosen, err = newPick(c.wishes, c.roots); err == nil {
		err = c.spare()
	}
	return err
}

// Look takes each PATTERN that is spelled as a path in the snapshot for that path, though
// characters in it have a meaning of their own.
func (c *Chooser) Look(has func(path string) (bool, error)) error {
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

// Picks reports whether only a part of the snapshot was asked for.
func (c *Chooser) Picks() bool { return len(c.wishes)+c.exclude.Len() > 0 }

// Keeps reports whether a path of a live tree is one that --exclude leaves alone. Many
// goroutines may call it.
func (c *Chooser) Keeps(path string, dir bool) bool {
	c.sparing.Lock()
	defer c.sparing.Unlock()
	r := c.spares.Match(path, dir)
	return r != nil && !r.Negated
}

// Active returns c, or nil if all is to come as it is.
func (c *Chooser) Active() content.Chooser {
	if c.Picks() || c.Strip > 0 || c.owners != nil {
		return c
	}
	return nil
}

// Begin takes the snapshot in: only now it is known which names its sources have.
func (c *Chooser) Begin(s *snap.Snapshot) error {
	if c.owners != nil {
		c.owners.begin(c.env, s)
	}
	c.roots = s.Roots
	return c.build()
}

// late takes names of owners that come when their files have gone by.
func (c *Chooser) late(users, groups []rec.Name) {
	if c.owners == nil {
		return
	}
	if n := c.owners.late(users, groups); n > 0 {
		c.env.Warn("owners of which the name came at the end of the stream, and that have another number here: %d: what is theirs keeps the number of the stream", n)
	}
}

// Choose implements content.Chooser.
func (c *Chooser) Choose(e *rec.Entry) ([]*rec.Entry, error) {
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
			if c.mode.Parents {
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
	if c.mode.Parents {
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
func (c *Chooser) picked(e *rec.Entry) bool {
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
func (c *Chooser) excluded(path string) bool { return c.left != "" && rec.Below(path, c.left) }

// twin tells of a path that a PATTERN is spelled as.
func (c *Chooser) twin(path string) {
	c.env.Notice("%s is in the snapshot as it is spelled, and is taken with what the PATTERN matches: --literal takes it alone", rec.Quote(path))
}

// outside reports whether --exclude leaves out a directory or one above it.
func (c *Chooser) outside(dir string) bool {
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

// OnPath decides as picked does, about the path of something that is no directory
// and may have gone by long ago.
func (c *Chooser) OnPath(path string) bool {
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
func (c *Chooser) usable(e *rec.Entry) bool {
	if c.short(e.Path) {
		if e.Type != rec.Dir {
			c.lost++
		}
		return false
	}
	if e.Type != rec.HardLink || c.mode.Meta {
		return true
	}
	if !c.OnPath(e.Leader) || c.short(e.Leader) {
		c.env.Warn("%s: left out: it is a hard link to %s, which has the content and was not chosen: choose that too, or read with --from", rec.Quote(e.Path), rec.Quote(e.Leader))
		return false
	}
	return true
}

// short reports whether nothing is left of a path.
func (c *Chooser) short(path string) bool { return c.Strip > 0 && strings.Count(path, "/") < c.Strip }

// cut takes the names off the front of a path that has more of them.
func (c *Chooser) cut(path string) string {
	for range c.Strip {
		_, path, _ = strings.Cut(path, "/")
	}
	return path
}

// emit gives an entry to the sink as it is to be.
func (c *Chooser) emit(e *rec.Entry) {
	if c.short(e.Path) {
		return
	}
	if c.Strip > 0 {
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

// Reaches implements content.Chooser.
func (c *Chooser) Reaches(first page.Key, next *page.Key) bool {
	if next != nil && next.Path == first.Path { // a file alone
		return c.OnPath(first.Path) && !c.short(first.Path)
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

// End says at the end of a walk what was not found, and what was left out.
func (c *Chooser) End() {
	if c.Picks() {
		c.env.Log.Debug(fmt.Sprintf("%d entries were chosen", c.entries))
	}
	c.chosen.end(c.env)
	if c.lost > 0 {
		c.env.Notice("files left out, since their paths have no more than the %d names to strip: %d", c.Strip, c.lost)
	}
	if c.owners != nil && !c.Powerless {
		c.owners.tell(c.env)
	}
}
