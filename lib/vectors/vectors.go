// Package vectors reads and writes the files in testdata/vectors. Only tests import it.
//
// A file has a comment, then cases divided by blank lines. A line of a case is "name = value": text in
// double quotes, else hex, which goes on in lines that begin with a space. Lines that begin with
// "record" are for the eye: text in the notation of package rec's test.
package vectors

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Dir is where the files are, from a package two levels below the module's root.
const Dir = "../../testdata/vectors/"

// Form ends the comment of a file.
const Form = `#
# A case is a block of lines "name = value"; blank lines divide cases; "#" begins
# a comment. A value is text in double quotes, else hex; it goes on in lines that
# begin with a space.
`

// A Case is one vector: its values by name.
type Case map[string][]byte

// Text is a value that is text; empty if there is none.
func (c Case) Text(name string) string { return string(c[name]) }

// Records is the lines for the eye.
func (c Case) Records() []string {
	if c["record"] == nil {
		return nil
	}
	return strings.Split(string(c["record"]), "\n")
}

// Read returns the cases of a file below Dir, in order. A file without cases, and a name that
// stands twice in one, is a failure.
func Read(t testing.TB, file string) []Case {
	t.Helper()
	data, err := os.ReadFile(Dir + file)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := parse(string(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return cases
}

func parse(text string) (cases []Case, err error) {
	for _, block := range strings.Split(strings.ReplaceAll(text, "\n ", " "), "\n\n") {
		c := Case{}
		for _, line := range strings.Split(block, "\n") {
			if line == "" || line[0] == '#' {
				continue
			}
			if err := c.set(line); err != nil {
				return nil, fmt.Errorf("line %q: %w", line, err)
			}
		}
		if len(c) > 0 {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no vectors")
	}
	return cases, nil
}

func (c Case) set(line string) (err error) {
	name, value, is := strings.Cut(line, " =")
	value = strings.TrimSpace(value)
	var b []byte
	switch old := c[name]; {
	case !is:
		return fmt.Errorf("not name = value")
	case name == "record" && old != nil:
		b = append(append(old, '\n'), value...)
	case name == "record":
		b = []byte(value)
	case old != nil:
		return fmt.Errorf("%s a second time", name)
	case strings.HasPrefix(value, `"`):
		var s string
		s, err = strconv.Unquote(value)
		b = []byte(s)
	default:
		b, err = hex.DecodeString(strings.ReplaceAll(value, " ", ""))
	}
	c[name] = append([]byte{}, b...) // never nil
	return err
}

// A Writer makes a file of vectors. The comment, with Form, is written to it first.
type Writer struct{ bytes.Buffer }

// Text adds a line whose value is text.
func (w *Writer) Text(name, value string) { fmt.Fprintf(w, "%s = %q\n", name, value) }

// Hex adds a line whose value is bytes.
func (w *Writer) Hex(name string, value []byte) {
	if len(value) == 0 {
		w.Text(name, "")
		return
	}
	fmt.Fprintf(w, "%s =", name)
	for len(value) > 0 {
		n := min(len(value), 48)
		fmt.Fprintf(w, " %x\n", value[:n])
		value = value[n:]
	}
}

// Save writes a file below Dir.
func (w *Writer) Save(t testing.TB, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(Dir+file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Dir+file, w.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Compare compares the file below Dir with what was written, which it saves first if update is
// set.
func (w *Writer) Compare(t testing.TB, file string, update bool) {
	t.Helper()
	if update {
		w.Save(t, file)
	}
	have, err := os.ReadFile(Dir + file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, w.Bytes()) {
		t.Fatalf("%s is not what the code writes (go test -update, if it is the code that is right)", file)
	}
}

// Fields is a case to be written: its lines in order.
type Fields []Field

// A Field is one line. The value is text, or bytes if it is a []byte.
type Field struct {
	Name  string
	Value any
}

// Render makes a file: a comment, lines without "#", and cases.
func Render(comment string, cases []Fields) *Writer {
	w := &Writer{}
	for line := range strings.Lines(comment) {
		w.WriteString("# " + line)
	}
	w.WriteString(Form)
	for _, c := range cases {
		w.WriteString("\n")
		for _, f := range c {
			switch v := f.Value.(type) {
			case string:
				w.Text(f.Name, v)
			case []byte:
				w.Hex(f.Name, v)
			default:
				panic(fmt.Sprintf("%s: a value of type %T", f.Name, v))
			}
		}
	}
	return w
}
