package unpack

import (
	"encoding/base64"
	"strconv"
	"unicode"
	"unicode/utf8"

	"preserve/lib/rec"
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
		if r >= 0x20 && r < 0x7f && r != '"' && r != '\\' || r > 0x9f && !unicode.Is(unicode.Bidi_Control, r) && r != 0x2028 && r != 0x2029 {
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
		default: // all of these are below 0x10000
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
