// Package visible shows a person text that others wrote: names of files, labels, hosts,
// what another machine says. Characters that do something on a terminal, change the
// order of text, or show nothing are written as escapes, so that two names that differ
// look different.
package visible

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// blank has the characters that show nothing although Unicode calls them printable.
var blank = []*unicode.RangeTable{unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}, // a Braille pattern without dots
		R32: []unicode.Range32{{Lo: 0x1d159, Hi: 0x1d159, Stride: 1}}}} // a note without a head

// Rune reports whether a character shows as itself. The space between words does; all
// other spaces, controls, format characters and fillers do not, nor does U+FFFD, which
// stands for what could not be read.
func Rune(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r < 0x7f
	}
	return unicode.IsPrint(r) && r != utf8.RuneError && !unicode.In(r, blank...)
}

// Text returns s with all that does not show escaped, as Go writes it in strings: \x1b,
// \n, \u202e, \U000e0001; a byte that is not UTF-8 as \xff. A backslash stays as it is:
// the result is for reading only.
func Text(s string) string {
	at := next(s, 0, false)
	if at < 0 {
		return s
	}
	return string(escape(make([]byte, 0, len(s)+16), s, at, false))
}

// Quote returns s as it is, if all of it shows, and else as Go writes strings: in
// double quotes, escaped. Also in quotes are the empty string, one that holds a quote or
// a backslash, and one with a space at an end.
func Quote(s string) string {
	at := next(s, 0, true)
	if at < 0 && s != "" && s[0] != ' ' && s[len(s)-1] != ' ' {
		return s
	}
	b := append(make([]byte, 0, len(s)+16), '"')
	return string(append(escape(b, s, at, true), '"'))
}

// next returns where the first character from an offset on stands that must be escaped;
// -1 if there is none.
func next(s string, from int, quoted bool) int {
	for i := from; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if !Rune(r) || quoted && (r == '"' || r == '\\') {
			return i
		}
		i += size
	}
	return -1
}

// escape appends s, in which at is what next has found.
func escape(b []byte, s string, at int, quoted bool) []byte {
	from := 0
	for at >= 0 {
		b = append(b, s[from:at]...)
		_, size := utf8.DecodeRuneInString(s[at:])
		word := strconv.QuoteToASCII(s[at : at+size])
		b = append(b, word[1:len(word)-1]...)
		from = at + size
		at = next(s, from, quoted)
	}
	return append(b, s[from:]...)
}
