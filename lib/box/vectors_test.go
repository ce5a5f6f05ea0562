package box

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var record = flag.Bool("record", false, "write the vectors anew: only for a new version of the format")

const vectorDir = "../../testdata/vectors/crypto"

const vectorHelp = `#
# A case is a block of lines "name = value"; blank lines divide cases; "#" begins
# a comment. A value is text in double quotes, else hex; it goes on in lines that
# begin with a space.
`

// A vector is one case of a vector file: its values by name.
type vector map[string][]byte

// readVectors returns the cases of a vector file, in order. A file without cases
// is an error.
func readVectors(t testing.TB, name string) (cases []vector) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "\n ", "")
	for _, block := range strings.Split(text, "\n\n") {
		v := vector{}
		for _, line := range strings.Split(block, "\n") {
			if line == "" || line[0] == '#' {
				continue
			}
			name, value, _ := strings.Cut(line, " = ")
			b, err := hex.DecodeString(value)
			if strings.HasPrefix(value, `"`) {
				var s string
				s, err = strconv.Unquote(value)
				b = []byte(s)
			}
			if err != nil || v[name] != nil {
				t.Fatalf("%s: line %q: %v", name, line, err)
			}
			v[name] = append([]byte{}, b...)
		}
		if len(v) > 0 {
			cases = append(cases, v)
		}
	}
	if len(cases) == 0 {
		t.Fatalf("%s: no vectors", name)
	}
	return cases
}

// A vectorWriter makes a vector file.
type vectorWriter struct{ bytes.Buffer }

func (w *vectorWriter) text(name, value string) { fmt.Fprintf(w, "%s = %q\n", name, value) }

func (w *vectorWriter) hex(name string, value []byte) {
	if len(value) == 0 {
		w.text(name, "")
		return
	}
	s := hex.EncodeToString(value)
	fmt.Fprintf(w, "%s = ", name)
	for len(s) > 96 {
		fmt.Fprintf(w, "%s\n ", s[:96])
		s = s[96:]
	}
	fmt.Fprintf(w, "%s\n", s)
}

func (w *vectorWriter) save(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(vectorDir, name), w.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
