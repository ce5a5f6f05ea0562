package pattern

import (
	"fmt"
	"strings"
)

// A part is one thing in a pattern that matches bytes of a name.
type part struct {
	lit string // these bytes
	set *set   // one byte of these, if not nil
	run int    // so many "*" behind each other, if not 0
}

// A segment is the parts between two "/".
type segment []part

// is reports whether a segment is that literal name.
func (s segment) is(name string) bool { return len(s) == 1 && s[0].lit == name }

// deep reports whether a segment is "**".
func (s segment) deep() bool { return len(s) == 1 && s[0].run > 1 }

// literal reports whether a segment matches one name only.
func (s segment) literal() bool { return len(s) == 1 && s[0].lit != "" }

// parse reads a pattern with its "!", and its "/" in front and behind.
func parse(text string, folds bool) (*Rule, error) {
	switch {
	case len(text) > MaxText:
		return nil, fmt.Errorf("%w: %d bytes, where %d are the limit", ErrPattern, len(text), MaxText)
	case strings.IndexByte(text, 0) >= 0:
		return nil, bad("no name has a NUL")
	}
	r := &Rule{fold: folds}
	body, negated := strings.CutPrefix(text, "!")
	r.Negated = negated
	if b, ok := strings.CutSuffix(body, "/"); ok {
		body, r.DirOnly = b, true
	}
	r.whole = strings.Contains(body, "/")
	body = strings.TrimPrefix(body, "/")
	if body == "" {
		return nil, bad("there is no name in it")
	}
	segments, err := split(body)
	if err != nil {
		return nil, err
	}
	for _, s := range segments {
		switch {
		case len(s) == 0:
			return nil, bad(`there is no name between two "/"`)
		case s.is("."), s.is(".."):
			return nil, bad("no stored path has a part %q: a pattern begins at the top of the tree, as in /home/me/tmp, or matches names at any depth", s[0].lit)
		}
		for i, p := range s {
			if folds {
				s[i].lit = fold(p.lit)
			}
			if p.set != nil && p.set != &anyByte && !p.set.close(folds) {
				return nil, bad(`there is no byte in a "[…]" of it that a name could have`)
			}
		}
	}
	r.build(segments)
	return r, nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrPattern}, args...)...)
}

// split reads the parts of a pattern's body, in segments.
func split(body string) ([]segment, error) {
	segments := []segment{nil}
	var lit []byte // what is read of a literal
	add := func(p part) {
		s := &segments[len(segments)-1]
		if len(lit) > 0 {
			*s = append(*s, part{lit: string(lit)})
			lit = lit[:0]
		}
		n := len(*s)
		switch {
		case p.run > 0 && n > 0 && (*s)[n-1].run > 0:
			(*s)[n-1].run += p.run
		case p.run > 0 || p.set != nil:
			*s = append(*s, p)
		}
	}
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c == '\\' {
			if i++; i == len(body) {
				return nil, bad(`nothing is behind the "\" at its end`)
			}
			if c = body[i]; c != '/' {
				lit = append(lit, c)
				continue
			}
		}
		switch c {
		case '/':
			add(part{})
			segments = append(segments, nil)
		case '*':
			add(part{run: 1})
		case '?':
			add(part{set: &anyByte})
		case '[':
			set, n, err := readSet(body[i+1:])
			if err != nil {
				return nil, err
			}
			add(part{set: set})
			i += n
		default:
			lit = append(lit, c)
		}
	}
	add(part{})
	return segments, nil
}

// build decides how a rule compares, and writes what it compares with.
func (r *Rule) build(segments []segment) {
	for r.whole && len(segments) > 1 && segments[0].deep() && segments[1].deep() {
		segments = segments[1:]
	}
	if r.whole && len(segments) == 2 && segments[0].deep() { // **/x is x at any depth
		segments, r.whole = segments[1:], false
	}
	literals := 0
	for literals < len(segments) && segments[literals].literal() {
		literals++
	}
	names := make([]string, literals)
	for i := range names {
		names[i] = segments[i][0].lit
	}
	if r.whole && !r.fold {
		r.prefix = strings.Join(names, "/")
	}
	if literals == len(segments) {
		r.kind, r.text = literal, strings.Join(names, "/")
		return
	}
	if s := segments[0]; !r.whole && len(s) == 2 && s[0].run > 0 && s[1].lit != "" {
		r.kind, r.text = suffix, s[1].lit
		return
	}
	r.kind = glob
	var b strings.Builder
	for i, s := range segments {
		if i > 0 {
			b.WriteByte('/')
		}
		switch {
		case !r.whole || !s.deep():
			s.write(&b)
		case i < len(segments)-1:
			b.WriteString("**")
		default: // all that is below, but not the directory itself
			b.WriteString("**/*")
		}
	}
	r.text = b.String()
}
