package ls

import (
	"bufio"
	"bytes"
	"cmp"
	"strconv"
	"unicode/utf8"

	"preserve/lib/jsontext"
	"preserve/lib/rec"
)

// object appends an entry as a JSON object, in the keys and the order of
// docs/format/streams.md, with the names of its owners.
func (l *lister) object(b []byte, e *rec.Entry) []byte {
	b = jsontext.Append(append(b, `{"path":`...), e.Path)
	b = append(append(append(b, `,"type":"`...), e.Type.String()...), '"')
	if e.Type == rec.HardLink {
		return append(foreign(textField(b, "leader", e.Leader), e.X), '}')
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
		b = append(jsontext.Append(append(b, '['), x.Name), ',')
		b = append(jsontext.Append(b, string(x.Value)), ']')
	}
	if len(e.XAttrs) > 0 {
		b = append(b, ']')
	}
	for i, name := range e.Omitted {
		if i == 0 {
			b = append(b, `,"omitted":[`...)
		} else {
			b = append(b, ',')
		}
		b = jsontext.Append(b, name)
	}
	if len(e.Omitted) > 0 {
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
	return append(foreign(b, e.X), '}')
}

// foreign appends the keys of others, those that begin with "x-". A key that is not UTF-8 has no form
// in JSON, and is left out.
func foreign(b []byte, xs []rec.XField) []byte {
	for _, x := range xs {
		var value bytes.Buffer
		out := bufio.NewWriter(&value)
		err := jsontext.NewPrinter(out).Free(x.Raw)
		if err = cmp.Or(err, out.Flush()); err != nil || !utf8.ValidString(x.Key) {
			continue
		}
		b = append(append(jsontext.Append(append(b, ','), x.Key), ':'), value.Bytes()...)
	}
	return b
}

// field appends a comma and the key of a field.
func field(b []byte, name string) []byte {
	return append(append(append(b, `,"`...), name...), `":`...)
}

func numberField(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(field(b, name), n, 10)
}

func textField(b []byte, name, s string) []byte { return jsontext.Append(field(b, name), s) }
