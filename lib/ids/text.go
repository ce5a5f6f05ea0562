package ids

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"preserve/lib/id"
)

// ErrText is returned by ReadText for a text that is not a whole list of ids.
var ErrText = errors.New("not a list of ids (a line of 64 hex digits each)")

// textMemory is what ReadText keeps in memory of a long list.
const textMemory = 16 << 20

var missing = []byte("missing ")

// ReadText reads a list as pv-get --ids writes it, or as pv-put
// names what is missing: lines of 64 hex digits, in any order, "missing " before
// them allowed. The empty text is the empty list. A line that is something else
// is ErrText, and so is a last line without its newline: it was cut off.
func ReadText(r io.Reader) (*List, error) {
	s := NewSorter(textMemory)
	l, err := readText(bufio.NewReaderSize(r, 64<<10), s)
	if err != nil {
		_ = s.Close() // nothing with a name is left
		return nil, err
	}
	return l, nil
}

func readText(r *bufio.Reader, s *Sorter) (*List, error) {
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return s.List()
		case err == io.EOF:
			return nil, fmt.Errorf("line %d: %w: it has no end: the list was cut off", n, ErrText)
		case err == bufio.ErrBufferFull:
			return nil, fmt.Errorf("line %d: %w: it is too long", n, ErrText)
		case err != nil:
			return nil, err
		}
		line = bytes.TrimPrefix(line[:len(line)-1], missing)
		var i id.ID
		if len(line) != 2*id.Size {
			return nil, fmt.Errorf("line %d: %w", n, ErrText)
		}
		if _, err := hex.Decode(i[:], line); err != nil || i.IsZero() {
			return nil, fmt.Errorf("line %d: %w", n, ErrText)
		}
		if err := s.Add(i); err != nil {
			return nil, err
		}
	}
}
