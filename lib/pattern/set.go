package pattern

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// A set is the bytes that a "?" or a class matches.
type set struct {
	has [256]bool
	not bool // all others are meant; close ends that
}

func (s *set) add(lo, hi byte) {
	for c := int(lo); c <= int(hi); c++ {
		s.has[c] = true
	}
}

// anyByte is the set of a "?", closed.
var anyByte = func() set {
	s := set{not: true}
	s.close(false)
	return s
}()

// classes are the classes with names: pairs of first and last byte. They hold
// ASCII only, as in git.
var classes = map[string]string{
	"alnum":  "09AZaz",
	"alpha":  "AZaz",
	"blank":  "  \t\t",
	"cntrl":  "\x00\x1f\x7f\x7f",
	"digit":  "09",
	"graph":  "!~",
	"lower":  "az",
	"print":  " ~",
	"punct":  "!/:@[`{~",
	"space":  "\t\r  ",
	"upper":  "AZ",
	"xdigit": "09AFaf",
}

// readSet reads a class from behind its "[" and returns how many bytes it has,
// its "]" included.
func readSet(text string) (*set, int, error) {
	open := bad(`a "[" is not closed by a "]"; for a name with a "[" write "\["`)
	s := &set{}
	i := 0
	if i < len(text) && (text[i] == '!' || text[i] == '^') {
		s.not = true
		i++
	}
	first := i
	var before byte // that a range can begin with, or 0
	for ; i < len(text) && (text[i] != ']' || i == first); i++ {
		c := text[i]
		switch {
		case c == '\\':
			if i++; i == len(text) {
				return nil, 0, open
			}
			c = text[i]
		case c == '-' && before != 0 && i+1 < len(text) && text[i+1] != ']':
			i++
			if text[i] == '\\' {
				i++
			}
			if i == len(text) {
				return nil, 0, open
			}
			s.add(before, text[i])
			before = 0
			continue
		case c == '[' && strings.HasPrefix(text[i:], "[:"):
			name, _, closed := strings.Cut(text[i+2:], "]")
			if !closed {
				return nil, 0, open
			}
			name, whole := strings.CutSuffix(name, ":")
			if !whole {
				break
			}
			pairs, known := classes[name]
			if !known {
				return nil, 0, bad("there is no class [:%s:]", name)
			}
			for p := 0; p < len(pairs); p += 2 {
				s.add(pairs[p], pairs[p+1])
			}
			i += len(name) + len("[:") + len(":]") - 1
			before = 0
			continue
		}
		s.add(c, c)
		before = c
	}
	if i >= len(text) {
		return nil, 0, open
	}
	return s, i + 1, nil
}

// close makes a set what names are compared with, which are in lower case if
// folds. It reports whether any byte is left.
func (s *set) close(folds bool) bool {
	if folds {
		for c := 'A'; c <= 'Z'; c++ {
			s.has[c-'A'+'a'] = s.has[c-'A'+'a'] || s.has[c]
			s.has[c] = false
		}
	}
	some := false
	for c := range s.has {
		s.has[c] = s.has[c] != s.not && c != 0 && c != '/'
		some = some || s.has[c]
	}
	s.not = false
	return some
}

// write writes a segment as doublestar reads it.
func (s segment) write(b *strings.Builder) {
	for _, p := range s {
		switch {
		case p.run > 0:
			b.WriteByte('*')
		case p.set != nil:
			p.set.write(b)
		default:
			for i := range len(p.lit) {
				writeByte(b, p.lit[i])
			}
		}
	}
}

func (s *set) write(b *strings.Builder) {
	if *s == anyByte {
		b.WriteByte('?')
		return
	}
	b.WriteByte('[')
	for lo := 0; lo < len(s.has); lo++ {
		if !s.has[lo] {
			continue
		}
		hi := lo
		for hi+1 < len(s.has) && s.has[hi+1] {
			hi++
		}
		writeByte(b, byte(lo))
		if hi > lo {
			b.WriteByte('-')
			writeByte(b, byte(hi))
		}
		lo = hi
	}
	b.WriteByte(']')
}

// writeByte writes a byte that stands for itself, as a character of its own.
func writeByte(b *strings.Builder, c byte) {
	if c < utf8.RuneSelf && (unicode.IsPunct(rune(c)) || unicode.IsSymbol(rune(c))) {
		b.WriteByte('\\')
	}
	b.WriteRune(rune(c))
}

// widen makes each byte a character of its own, since doublestar compares
// characters, and takes all bytes that are none for the same.
func widen(s string) string {
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			continue
		}
		var b strings.Builder
		b.Grow(len(s) + len(s)/2)
		for i := range len(s) {
			b.WriteRune(rune(s[i]))
		}
		return b.String()
	}
	return s
}

// matches asks doublestar, for a path that is widened.
func (r *Rule) matches(wide string) bool {
	if !r.whole {
		wide = base(wide)
	}
	return doublestar.MatchUnvalidated(r.text, wide)
}

// fold turns upper case into lower case. Bytes that are no UTF-8 stay as they
// are.
func fold(s string) string {
	at := 0
	for at < len(s) && s[at] < utf8.RuneSelf && (s[at] < 'A' || 'Z' < s[at]) {
		at++
	}
	if at == len(s) {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:at]...)
	for at < len(s) {
		c, n := utf8.DecodeRuneInString(s[at:])
		if c == utf8.RuneError {
			b = append(b, s[at:at+n]...)
		} else {
			b = utf8.AppendRune(b, unicode.ToLower(c))
		}
		at += n
	}
	return string(b)
}
