package unpack

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"preserve/lib/rec"
	"preserve/lib/visible"
)

// object appends an entry as a JSON object, in the keys and the order of
// docs/format/streams.md, with the names of its owners.
func (l *lister) object(b []byte, e *rec.Entry) []byte {
	b = jsonText(append(b, `{"path":`...), e.Path)
	b = append(append(append(b, `,"type":"`...), e.Type.String()...), '"')
	if e.Type == rec.HardLink {
		return append(textField(b, "leader", e.Leader), '}')
	}
	b = numberField(b, "mode", uint64(e.Mode))
	b = numberField(b, "uid", uint64(e.UID))
	b = numberField(b, "gid", uint64(e.GID))
	if name, ok := l.rawUsers[e.UID]; ok {
		b = textField(b, "user", name)
	}
	if name, ok := l.rawGroups[e.GID]; ok {
		b = textField(b, "group", name)
	}
	b = append(b, `,"mtime":[`...)
	b = append(strconv.AppendInt(b, e.MTime.Sec, 10), ',')
	b = append(strconv.AppendUint(b, uint64(e.MTime.Nsec), 10), ']')
	switch e.Type {
	case rec.File:
		b = numberField(b, "size", e.Size)
	case rec.Symlink:
		b = textField(b, "target", e.Target)
	case rec.Char, rec.Block:
		b = append(strconv.AppendUint(append(b, `,"rdev":[`...), uint64(e.Major), 10), ',')
		b = append(strconv.AppendUint(b, uint64(e.Minor), 10), ']')
	}
	if e.Links > 1 {
		b = numberField(b, "links", uint64(e.Links))
	}
	if e.Flags != 0 {
		b = numberField(b, "flags", uint64(e.Flags))
	}
	for i, x := range e.XAttrs {
		if i == 0 {
			b = append(b, `,"xattrs":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(jsonText(append(b, '['), x.Name), ',')
		b = append(jsonText(b, string(x.Value)), ']')
	}
	if len(e.XAttrs) > 0 {
		b = append(b, ']')
	}
	if e.Err != "" {
		b = textField(b, "err", e.Err)
	}
	if e.Inconsistent {
		b = append(b, `,"inconsistent":true`...)
	}
	if e.Way {
		b = append(b, `,"way":true`...)
	}
	if e.Skipped {
		b = append(b, `,"skipped":true`...)
	}
	if e.Unread {
		b = append(b, `,"unread":true`...)
	}
	return append(b, '}')
}

// field appends a comma and the key of a field.
func field(b []byte, name string) []byte {
	return append(append(append(b, `,"`...), name...), `":`...)
}

func numberField(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(field(b, name), n, 10)
}

func textField(b []byte, name, s string) []byte { return jsonText(field(b, name), s) }

// jsonText appends bytes as pv-json does: text that is UTF-8 as a string, without
// what could play tricks on a terminal, and all else as {"b64":…}.
func jsonText(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		b = append(b, `{"b64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(s))
		return append(b, `"}`...)
	}
	b = append(b, '"')
	from := 0
	for i, r := range s {
		if visible.Rune(r) && r != '"' && r != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + utf8.RuneLen(r)
		switch r {
		case '"', '\\':
			b = append(b, '\\', byte(r))
		case '\n':
			b = append(b, `\n`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = escaped(b, r)
		}
	}
	return append(append(b, s[from:]...), '"')
}

// escaped appends a character as JSON's strings escape it.
func escaped(b []byte, r rune) []byte {
	for _, u := range utf16.AppendRune(nil, r) {
		b = fmt.Appendf(b, `\u%04x`, u)
	}
	return b
}

// jsonLine returns a value as a line of JSON, in which all that does not show is escaped.
// Strings in it that are not UTF-8 lose what is not: see text.
func jsonLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	line := make([]byte, 0, b.Len())
	for _, r := range b.String() { // only strings have anything but ASCII
		if r == '\n' || visible.Rune(r) {
			line = utf8.AppendRune(line, r)
		} else {
			line = escaped(line, r)
		}
	}
	return line, nil
}
