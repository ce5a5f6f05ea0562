// Package pattern matches paths against patterns in the syntax of .gitignore
// files (gitignore(5)), over bytes: a name need not be UTF-8.
//
//	*.o          a name that ends in .o, at any depth
//	cache/       a directory of that name, at any depth
//	/home/me/x   that very path: a "/" in front or in the middle means that the
//	             pattern begins at the top of the tree
//	a/**/b       b at any depth below a; **/b is b anywhere, a/** all below a
//	!keep.o      takes back what a pattern before it matched
//
// "*" and "?" never match a "/", and neither does a class like [a-z], [!a-z] or
// [[:digit:]]; "?" and a class stand for one byte, as in git. A "\" makes the byte
// behind it stand for itself. Braces mean nothing.
//
// The engine is github.com/bmatcuk/doublestar, whose own syntax differs: it knows
// braces, no classes with names, and characters in place of bytes. So a pattern
// is read here, and written anew for it byte by byte (set.go).
//
// Where git takes a pattern that can never match, a class that is not closed for
// example, here is an error: who leaves out less or more than he thinks should
// hear of it. What a match means, and what it does to all that is below a
// directory, is the caller's business.
package pattern

import (
	"errors"
	"fmt"
	"strings"

	"preserve/lib/visible"
)

// Limits, checked before memory is taken.
const (
	// MaxText is the length of a pattern in bytes.
	MaxText = 64 << 10
	// MaxRules is how many patterns a list takes.
	MaxRules = 100_000
	// MaxList is the length of all patterns of a list together.
	MaxList = 16 << 20
)

// Errors of this package; match them with errors.Is.
var (
	// ErrPattern says that a text is no pattern, or one that can match nothing.
	ErrPattern = errors.New("not a pattern that can match")
	// ErrLimit says that a list is full.
	ErrLimit = errors.New("too many patterns")
)

// A Rule is one pattern of a list.
type Rule struct {
	Text    string // as it was given
	From    string // where it was given: "--exclude", "FILE:12"
	Negated bool   // it began with "!"
	DirOnly bool   // it ended with "/": it matches directories only

	fold   bool
	whole  bool   // it matches the whole path, not only its last name
	kind   kind   // how text is to be compared
	text   string // a literal, or a pattern of doublestar; folded if fold
	prefix string
}

// kind is how a rule compares.
type kind uint8

const (
	literal kind = iota // the same bytes
	suffix              // these bytes at the end
	glob                // a pattern of doublestar, over widened bytes
)

// Prefix returns the literal directories that a rule begins with: every match is
// that path or below it. It is empty if a match can be anywhere.
func (r *Rule) Prefix() string { return r.prefix }

// String returns the rule and where it is from, for a message.
func (r *Rule) String() string { return r.From + " " + quote(r.Text) }

// quote puts a pattern between quotes as it is, if it can be printed: a "\" twice
// would be another pattern.
func quote(text string) string {
	if visible.Text(text) == text {
		return `"` + text + `"`
	}
	return visible.Quote(text)
}

// A List is patterns in order. The zero value is an empty list. Match may be
// called from several goroutines at once, Add and AddFile from one while nobody
// matches.
type List struct {
	rules []*Rule
	size  int
	names table // of literal rules, by name
	paths table // of literal rules, by whole path
	// The same for those that fold case.
	foldNames, foldPaths table
	rest                 []int // of rules: all others
	folds                bool  // some of the rest fold case
}

// A table finds literal rules: for each literal the last one that matches what
// is no directory, and the last one that matches a directory, each as its index
// in the list plus one.
type table map[string][2]int

func (t *table) add(r *Rule, index int) {
	if *t == nil {
		*t = table{}
	}
	at := (*t)[r.text]
	if at[1] = index + 1; !r.DirOnly {
		at[0] = index + 1
	}
	(*t)[r.text] = at
}

// Len returns how many patterns the list has.
func (l *List) Len() int { return len(l.rules) }

// Rules returns the patterns in order. They belong to the list.
func (l *List) Rules() []*Rule { return l.rules }

// Add adds one pattern, with "!" in front to negate it; from says where it was
// given, for messages. With fold it does not tell upper from lower case. Blanks
// and "#" are as good as other bytes: only files have comments. The error is
// ErrPattern or ErrLimit and says what is wrong.
func (l *List) Add(text, from string, fold bool) error { return l.add(text, text, from, fold) }

// AddNegated is Add of "!" and the text, which stays the rule's text without it: for
// a flag that means that.
func (l *List) AddNegated(text, from string, fold bool) error {
	return l.add("!"+text, text, from, fold)
}

// AddLiteral adds a rule that matches just one path, as it is spelled; a "/" behind it
// restricts it to directories.
func (l *List) AddLiteral(path, from string) error {
	return l.add("/"+Escape(strings.TrimPrefix(path, "/")), path, from, false)
}

// Escape writes a name or path as a pattern in which no character is special.
func Escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `!`, `\!`).Replace(path)
}

func (l *List) add(pattern, text, from string, fold bool) error {
	r, err := parse(pattern, fold)
	if err == nil && (len(l.rules) == MaxRules || l.size+len(text) > MaxList) {
		err = fmt.Errorf("%w: more than %d, or than %d bytes together", ErrLimit, MaxRules, MaxList)
	}
	if err != nil {
		if len(text) > 100 {
			text = text[:100] + "…"
		}
		return fmt.Errorf("%s: %s: %w", from, quote(text), err)
	}
	r.Text, r.From = text, from
	l.size += len(text)
	index := len(l.rules)
	l.rules = append(l.rules, r)
	switch {
	case r.kind != literal:
		l.rest = append(l.rest, index)
		l.folds = l.folds || fold
	case r.whole && fold:
		l.foldPaths.add(r, index)
	case r.whole:
		l.paths.add(r, index)
	case fold:
		l.foldNames.add(r, index)
	default:
		l.names.add(r, index)
	}
	return nil
}

// Match returns the last rule that matches this very path, or nil: a rule that
// matches a directory above it is not asked for. Paths are stored paths, without
// "/" in front; the empty path, the tree itself, is matched by none. dir says
// that the path is a directory.
func (l *List) Match(path string, dir bool) *Rule {
	if path == "" || len(l.rules) == 0 {
		return nil
	}
	d := 0
	if dir {
		d = 1
	}
	name := base(path)
	best := max(l.names[name][d], l.paths[path][d])
	var folded string
	if l.folds || len(l.foldNames) > 0 || len(l.foldPaths) > 0 {
		folded = fold(path)
		best = max(best, l.foldNames[base(folded)][d], l.foldPaths[folded][d])
	}
	var wide, wideFolded string // as doublestar reads them
	for i := len(l.rest) - 1; i >= 0 && l.rest[i] >= best; i-- {
		r := l.rules[l.rest[i]]
		if r.DirOnly && !dir {
			continue
		}
		plain, widened := path, &wide
		if r.fold {
			plain, widened = folded, &wideFolded
		}
		if r.kind == suffix {
			if strings.HasSuffix(base(plain), r.text) {
				return r
			}
			continue
		}
		if *widened == "" {
			*widened = widen(plain)
		}
		if r.matches(*widened) {
			return r
		}
	}
	if best == 0 {
		return nil
	}
	return l.rules[best-1]
}

// base returns the last name of a path.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
