package pattern

import (
	"bytes"
	"fmt"
	"io"
)

// AddFile adds the patterns of a file, a line each, as .gitignore files have
// them: empty lines and those that begin with "#" count for nothing, and neither
// do blanks at a line's end, unless a "\" stands before the blank, nor a carriage
// return there. For a name that begins with "#" or "!" write "\#" or "\!". Rules
// are from "FROM:LINE". The error is one of Add, one of reading, or ErrLimit; the
// patterns before it have been added.
func (l *List) AddFile(r io.Reader, from string, fold bool) error {
	text, err := io.ReadAll(io.LimitReader(r, MaxList+1))
	if err != nil {
		return err
	}
	if len(text) > MaxList {
		return fmt.Errorf("%s: %w: more than %d bytes", from, ErrLimit, MaxList)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
	number := 0
	for line := range bytes.Lines(text) {
		number++
		pattern := trim(line)
		if len(pattern) == 0 || pattern[0] == '#' {
			continue
		}
		if err := l.Add(string(pattern), fmt.Sprintf("%s:%d", from, number), fold); err != nil {
			return err
		}
	}
	return nil
}

// trim cuts off a line's end: newline, carriage return, and blanks that no "\"
// keeps.
func trim(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	end := len(line)
	for end > 0 && line[end-1] == ' ' {
		end--
	}
	if end == len(line) {
		return line
	}
	slashes := 0
	for slashes < end && line[end-1-slashes] == '\\' {
		slashes++
	}
	return line[:end+slashes%2] // with the blank that is kept
}
