package acl

import (
	"fmt"
	"strconv"
	"strings"
)

// String is the word for the tag in a list's text; two tags share each of
// "user" and "group". It is empty for what is no tag.
func (t Tag) String() string {
	switch t {
	case UserObj, User:
		return "user"
	case GroupObj, Group:
		return "group"
	case Mask:
		return "mask"
	case Other:
		return "other"
	}
	return ""
}

// Text returns the long text form on one line, as it stands in the PAX records
// SCHILY.acl.access and SCHILY.acl.default:
//
//	user::rwx,user:eve:r--:1000,user:1001:rw-,group::r-x,mask::rwx,other::---
//
// name gives the name of a User's or a Group's id, or "" if it has none. A name
// is followed by the id in a fourth field; without one the id stands in its place.
// In names, bytes that would end a field are written as \ooo, as acl(5) does.
func (a ACL) Text(name func(t Tag, id uint32) string) string {
	var b strings.Builder
	for i, e := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(e.Tag.String())
		b.WriteByte(':')
		known := ""
		if e.named() {
			if known = name(e.Tag, e.ID); isNumber(known) {
				known = "" // it would be taken for an id
			}
			if known != "" {
				escape(&b, known)
			} else {
				b.WriteString(strconv.FormatUint(uint64(e.ID), 10))
			}
		}
		b.WriteByte(':')
		for bit, c := range []byte("rwx") {
			if e.Perm&(4>>bit) == 0 {
				c = '-'
			}
			b.WriteByte(c)
		}
		if known != "" {
			b.WriteByte(':')
			b.WriteString(strconv.FormatUint(uint64(e.ID), 10))
		}
	}
	return b.String()
}

// escape writes a name so that it is one field.
func escape(b *strings.Builder, name string) {
	for _, c := range []byte(name) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`:,#\`, c) >= 0 {
			fmt.Fprintf(b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// A Resolver returns the id of a user or a group that a text names. If the text
// gives an id beside the name, id is that and known is true. It returns false for
// a name that it has no id for.
type Resolver func(t Tag, name string, id uint32, known bool) (uint32, bool)

// Parse reads the text form, long or short (u::rw-), entries separated by commas
// or newlines and in any order, with or without ids behind the permissions, with
// comments as getfacl writes them, with or without "default:" before each entry.
// resolve is asked for every name that is no number. The error is ErrACL. An
// empty text is an empty list.
func Parse(text string, resolve Resolver) (ACL, error) {
	var a ACL
	seen := map[Entry]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for word := range strings.SplitSeq(line, ",") {
			word = strings.Trim(word, " \t\r")
			if word == "" {
				continue
			}
			e, err := parseEntry(word, resolve)
			if err != nil {
				return nil, fmt.Errorf("%w: entry %q: %w", ErrACL, word, err)
			}
			if key := (Entry{Tag: e.Tag, ID: e.ID}); seen[key] {
				return nil, fmt.Errorf("%w: entry %q: given twice", ErrACL, word)
			} else {
				seen[key] = true
			}
			a = append(a, e)
		}
	}
	a.sort()
	return a, nil
}

// The tags of an entry without and with a name.
var tags = map[string][2]Tag{
	"user": {UserObj, User}, "u": {UserObj, User}, "group": {GroupObj, Group}, "g": {GroupObj, Group},
	"mask": {Mask, 0}, "m": {Mask, 0}, "other": {Other, 0}, "o": {Other, 0},
}

func parseEntry(word string, resolve Resolver) (e Entry, err error) {
	f := strings.Split(word, ":")
	if f[0] == "default" || f[0] == "d" {
		f = f[1:]
	}
	if len(f) == 2 && tags[f[0]][1] == 0 { // mask:rwx
		f = []string{f[0], "", f[1]}
	}
	if len(f) != 3 && len(f) != 4 {
		return e, fmt.Errorf("%d fields", len(f))
	}
	pair, ok := tags[f[0]]
	if e = (Entry{Tag: pair[0], ID: Undefined}); f[1] != "" {
		e.Tag = pair[1]
	}
	if !ok || e.Tag == 0 {
		return e, fmt.Errorf("not of a user, a group, mask or other")
	}
	if f[2] == "" {
		return e, fmt.Errorf("no permissions")
	}
	for _, c := range []byte(f[2]) {
		i := strings.IndexByte("-xwr", c)
		if i < 0 {
			return e, fmt.Errorf("permissions %q", f[2])
		}
		if i > 0 {
			e.Perm |= 1 << (i - 1)
		}
	}
	if f[1] == "" {
		return e, nil
	}
	var beside uint32
	if len(f) == 4 {
		if beside, err = parseID(f[3]); err != nil {
			return e, err
		}
	}
	if isNumber(f[1]) {
		e.ID, err = parseID(f[1])
		return e, err
	}
	name, err := unescape(f[1])
	if err != nil {
		return e, err
	}
	if e.ID, ok = resolve(e.Tag, name, beside, len(f) == 4); !ok {
		return e, fmt.Errorf("no %s of that name is known", f[0])
	}
	return e, nil
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("id %q", s)
	}
	return uint32(n), nil
}

// unescape is the inverse of escape.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+4 > len(s) {
			return "", fmt.Errorf("name %q", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("name %q", s)
		}
		b.WriteByte(byte(c))
		i += 3
	}
	return b.String(), nil
}
