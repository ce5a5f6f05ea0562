package open

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"preserve/lib/jsontext"
	"preserve/lib/visible"
)

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
