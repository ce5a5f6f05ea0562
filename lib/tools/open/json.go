package open

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"preserve/lib/jsontext"
	"preserve/lib/rec"
	"preserve/lib/visible"
)

// What RFC 3339 can write.
var (
	firstTime = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
)

// stamp writes a time for programs. One that has no form there, as only somebody who writes programs
// puts it into a snapshot, becomes the nearest that has one: who reads the list is not to end at it.
func stamp(t rec.Time) string {
	at := t.Std()
	switch {
	case at.Before(firstTime):
		at = firstTime
	case at.After(lastTime):
		at = lastTime
	}
	return at.UTC().Format(time.RFC3339Nano)
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
			line = jsontext.AppendEscaped(line, r)
		}
	}
	return line, nil
}
