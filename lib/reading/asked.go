package reading

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/page"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/visible"
)

// A wish is a PATTERN as the user gave it, or a line of a list.
type wish struct {
	text, from string
	literal    bool // it is a path
}

// A pick is the rules of all wishes.
type pick struct {
	rules pattern.List
	// main is, of each further rule for a wish, the first one: the wish may be spelled as
	// a path is, as lists quote it, or begin with the name of a source.
	main  map[*pattern.Rule]*pattern.Rule
	twins map[*pattern.Rule]bool // of these, paths that are spelled as a PATTERN is, and were not told

	unseen   map[*pattern.Rule]bool   // first rules of which no match was seen
	exact    map[string]*pattern.Rule // by path: first rules of literal wishes
	globs    []glob                   // other first rules
	everyone bool                     // some rule can match anywhere

	tops map[string]bool // paths that rules begin with
	ways []string        // these and the directories above, in order
}

// A glob is all rules of a PATTERN, by themselves.
type glob struct {
	rule  *pattern.Rule
	alone pattern.List
}

// newPick makes the rules of wishes, for a snapshot with these roots.
func newPick(wishes []wish, roots []rec.Root) (*pick, error) {
	p := &pick{main: map[*pattern.Rule]*pattern.Rule{}, twins: map[*pattern.Rule]bool{}, unseen: map[*pattern.Rule]bool{},
		exact: map[string]*pattern.Rule{}, tops: map[string]bool{}}
	for _, w := range wishes {
		add := p.pattern
		if w.literal {
			add = p.path
		}
		if err := add(w, roots); err != nil {
			return nil, err
		}
	}
	for _, r := range p.rules.Rules() {
		if r.Negated {
			continue
		}
		top := r.Prefix()
		p.everyone = p.everyone || top == ""
		for p.tops[top] = true; ; top = rec.Parent(top) {
			p.ways = append(p.ways, top)
			if top == "" {
				break
			}
		}
	}
	slices.SortFunc(p.ways, rec.ComparePaths)
	p.ways = slices.Compact(p.ways)
	return p, nil
}

// last returns the rule that was added last.
func (p *pick) last() *pattern.Rule { return p.rules.Rules()[p.rules.Len()-1] }

// path adds the rule of a path.
func (p *pick) path(w wish, roots []rec.Root) error {
	text := w.text
	for strings.HasPrefix(text, "./") {
		text = strings.TrimLeft(text[2:], "/")
	}
	clean := strings.Trim(text, "/")
	if _, twice := p.exact[clean]; twice {
		return nil
	}
	var err error
	if clean == "" || clean == "." {
		err = p.rules.Add("/*", w.from, false) // all that is in the tree
	} else {
		err = p.rules.AddLiteral(text, w.from)
	}
	if err != nil {
		return err
	}
	r := p.last()
	p.unseen[r], p.exact[clean] = true, r
	for _, stored := range spelled(text, roots, false) {
		if err := p.rules.Add(stored, w.from, false); err != nil {
			return err
		}
		p.main[p.last()] = r
	}
	return nil
}

// pattern adds the rules of a PATTERN.
func (p *pick) pattern(w wish, roots []rec.Root) error {
	text := w.text
	if strings.HasPrefix(text, "!") && p.rules.Len() == 0 {
		return fmt.Errorf(`PATTERN %s takes back what one before it brings, and there is none: use --exclude, or \! where a name begins so`, plain(text))
	}
	if err := p.rules.Add(text, w.from, false); err != nil {
		return fmt.Errorf("%w (--literal takes it as a path)", err)
	}
	r := p.last()
	further := spelled(text, roots, true)
	if !strings.HasPrefix(text, "!") && strings.ContainsAny(text, `*?[\`) {
		further = append(further, pattern.Escape(text))
	}
	// Lists put a name that does not show in quotes.
	if name, err := strconv.Unquote(text); err == nil && text[0] == '"' && name != "" && pattern.Escape(text) != name {
		further = append(further, "/"+pattern.Escape(strings.TrimPrefix(name, "/")))
		further = append(further, spelled(name, roots, false)...)
	}
	alone := pattern.List{}
	for _, text := range append([]string{text}, further...) {
		if r.Negated {
			break
		}
		if err := alone.Add(text, w.from, false); err != nil {
			return err
		}
	}
	for _, other := range further {
		if err := p.rules.Add(other, w.from, false); err != nil {
			return err
		}
		p.main[p.last()] = r
		if other == pattern.Escape(text) {
			p.twins[p.last()] = true
		}
	}
	if !r.Negated {
		p.unseen[r] = true
		p.globs = append(p.globs, glob{r, alone})
	}
	return nil
}

// spelled returns the patterns that a text comes to, which begins with the name of a source
// as lists show it: the source's path is stored without the directory that it was found
// from. A literal text has no wildcards.
func spelled(text string, roots []rec.Root, wild bool) (patterns []string) {
	body, negated := text, ""
	if wild {
		if b, is := strings.CutPrefix(text, "!"); is {
			body, negated = b, "!"
		}
	}
	for _, r := range roots {
		shown := path.Join(r.Dir, r.Path)
		if shown == "/"+r.Path || shown == "/" {
			continue // stored as it is shown
		}
		rest, is := below(body, shown)
		if !is && wild {
			rest, is = below(body, pattern.Escape(shown))
		}
		if !is {
			continue
		}
		if !wild {
			rest = pattern.Escape(rest)
		}
		stored := ""
		if r.Path != "" {
			stored = "/" + pattern.Escape(r.Path)
		}
		if stored += rest; strings.Trim(stored, "/") == "" {
			stored = "/*"
		}
		if !slices.Contains(patterns, negated+stored) {
			patterns = append(patterns, negated+stored)
		}
	}
	return patterns
}

// below returns what is behind a directory's name in a path at or below it.
func below(text, dir string) (rest string, is bool) {
	rest, is = strings.CutPrefix(text, dir)
	return rest, is && (rest == "" || rest[0] == '/')
}

// match returns the last rule that matches a path, and remembers that its wish brings
// something, and those before it that match the same path.
func (p *pick) match(path string, dir bool, tell func(twin string)) *pattern.Rule {
	r := p.rules.Match(path, dir)
	if r == nil || r.Negated {
		return r
	}
	if p.twins[r] {
		delete(p.twins, r)
		tell(path)
	}
	if first := p.main[r]; first != nil {
		delete(p.unseen, first)
	}
	delete(p.unseen, r)
	if len(p.unseen) == 0 {
		return r
	}
	if e := p.exact[path]; e != nil && (dir || !e.DirOnly) {
		delete(p.unseen, e)
	}
	for i := range p.globs {
		if g := &p.globs[i]; p.unseen[g.rule] && g.alone.Match(path, dir) != nil {
			delete(p.unseen, g.rule)
		}
	}
	return r
}

// reaches reports whether a rule's path, one below it, or a directory above it can be at or
// behind first and before next.
func (p *pick) reaches(first page.Key, next *page.Key) bool {
	if p.everyone {
		return true
	}
	for dir := first.Path; ; dir = rec.Parent(dir) {
		if p.tops[dir] {
			return true
		}
		if dir == "" {
			break
		}
	}
	// The paths and the directories above them lie in order, and whatever is below a path
	// behind it.
	at, _ := slices.BinarySearchFunc(p.ways, first.Path, rec.ComparePaths)
	return at < len(p.ways) && (next == nil || (page.Key{Path: p.ways[at]}).Compare(*next) < 0)
}

// end warns of wishes that nothing in the snapshot matches.
func (p *pick) end(env *tool.Env) {
	const most = 100
	told := 0
	for _, r := range p.rules.Rules() {
		if !p.unseen[r] {
			continue
		}
		if told++; told > most {
			continue
		}
		hint := ""
		i := strings.Index(r.Text, "/")
		switch {
		case p.exact[strings.Trim(r.Text, "/")] == r:
		case strings.ContainsAny(r.Text, `[\`), i >= 0 && strings.ContainsAny(r.Text, "*?") && !strings.HasPrefix(r.Text, "**"):
			hint = `: *, ?, [ and \ are special in it: put a \ before each that is part of a name, or use --literal`
		case i > 0 && i < len(r.Text)-1:
			hint = `: with a "/" in it, it begins at the top; begin it with **/ for any depth`
		}
		env.Warn("nothing in the snapshot matches %s%s", plain(r.Text), hint)
	}
	if told > most {
		env.Warn("nothing in the snapshot matches %d more", told-most)
	}
}

// plain shows a PATTERN as it is if it can be shown: a "\" twice would be another one.
func plain(text string) string {
	if text != "" && visible.Text(text) == text {
		return text
	}
	return visible.Quote(text)
}

// Lists are files that name paths to be had.
type Lists struct {
	files []string // "-" is stdin
	nul   bool
}

// read returns the paths of all lists as wishes.
func (l *Lists) read(env *tool.Env) (wishes []wish, err error) {
	for _, file := range l.files {
		in, from := env.Stdin, "--files-from: stdin"
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return nil, fmt.Errorf("--files-from: %w", err)
			}
			defer f.Close()
			in, from = f, "--files-from: "+rec.Quote(file)
		}
		if wishes, err = l.paths(in, from, wishes); err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
	}
	if len(l.files) > 0 && len(wishes) == 0 {
		return nil, errors.New("--files-from: the lists name no path: nothing is chosen")
	}
	return wishes, nil
}

func (l *Lists) paths(in io.Reader, from string, wishes []wish) ([]wish, error) {
	end := byte('\n')
	if l.nul {
		end = 0
	}
	b := bufio.NewReaderSize(in, rec.MaxPath+1)
	for {
		line, err := b.ReadSlice(end)
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("a path of more than %d bytes: are its paths separated by NUL (--from0), or by newline?", rec.MaxPath)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if path := bytes.TrimSuffix(line, []byte{end}); len(path) > 0 {
			switch {
			case bytes.IndexByte(path, 0) >= 0:
				return nil, errors.New("there is a NUL in a path: say --from0 if NULs are between paths")
			case len(wishes) == pattern.MaxRules:
				return nil, fmt.Errorf("more than %d paths: name directories", pattern.MaxRules)
			}
			wishes = append(wishes, wish{string(path), from, true})
		}
		if err == io.EOF {
			return wishes, nil
		}
	}
}
