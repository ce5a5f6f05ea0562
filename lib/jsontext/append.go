package jsontext

import (
	"encoding/base64"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"preserve/lib/visible"
)

// Append appends bytes to b: text that is UTF-8 as a string, all else as {"b64": …}.
func Append(b []byte, s string) []byte {
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
			b = AppendEscaped(b, r)
		}
	}
	return append(append(b, s[from:]...), '"')
}

// AppendEscaped appends a character as JSON's strings escape it.
func AppendEscaped(b []byte, r rune) []byte {
	for _, u := range utf16.AppendRune(nil, r) {
		b = fmt.Appendf(b, `\u%04x`, u)
	}
	return b
}
