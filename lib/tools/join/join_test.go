package join

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/tool"
)

// joined joins content streams of these records, and writes down what comes out.
func joined(t *testing.T, streams ...[]rec.Record) (got, stderr string, status int) {
	t.Helper()
	var words []string
	dir := t.TempDir()
	for i, rs := range streams {
		word := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(word, sealtest.Content(t, rs...), 0o600); err != nil {
			t.Fatal(err)
		}
		words = append(words, word)
	}
	var out, msgs bytes.Buffer
	env := tool.NewEnv("pv-join", words, nil, &out, &msgs)
	status = env.Status(Run(env))
	var log []string
	for in := rec.NewReader(&out, rec.Content); status != 1; {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Entry:
			text := v.Path
			if v.More {
				text += "+"
			}
			if v.Way {
				text += " way"
			}
			log = append(log, text)
		case *rec.Missing:
			log = append(log, "missing "+v.ID.Short())
		case *rec.End:
			log = append(log, fmt.Sprint(len(v.Users), " users ", v.Warnings))
		}
	}
	return strings.Join(log, ", "), msgs.String(), status
}

func TestJoin(t *testing.T) {
	way := func(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o700, Way: true} }
	file := func(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.File} }
	other := sealtest.Dir("d")
	other.Mode = 0o711
	half := &rec.Entry{Path: "d/f", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{sealtest.X(0, 0, 1)}}
	lost := id.ID{7}
	eve, adam := &rec.Names{Users: []rec.Name{{ID: 5, Name: "eve"}}}, &rec.Names{Users: []rec.Name{{ID: 5, Name: "adam"}, {ID: 6, Name: "eve"}}}
	for name, c := range map[string]struct {
		streams [][]rec.Record
		want    string
		msg     string
	}{
		"in order":            {[][]rec.Record{{file("a"), file("c")}, {file("b"), file("d")}}, "a, b, c, d, 0 users 0", ""},
		"ways":                {[][]rec.Record{{way("d"), file("d/1")}, {sealtest.Dir("d"), file("d/2")}, {way("d"), file("d/0")}}, "d, d/0, d/1, d/2, 0 users 0", ""},
		"only ways":           {[][]rec.Record{{way("d"), file("d/1")}, {way("d"), file("d/2")}}, "d way, d/1, d/2, 0 users 0", ""},
		"the same directory":  {[][]rec.Record{{sealtest.Dir("d")}, {sealtest.Dir("d"), file("d/2")}}, "d, d/2, 0 users 0", ""},
		"another directory":   {[][]rec.Record{{sealtest.Dir("d")}, {other}}, "", "d: it is in another stream, too"},
		"a file twice":        {[][]rec.Record{{file("a")}, {file("a")}}, "", "a: it is in another stream, too"},
		"below a file":        {[][]rec.Record{{file("a")}, {way("a"), file("a/b")}}, "", "a: it is in another stream, too"},
		"names":               {[][]rec.Record{{eve, file("a")}, {file("b"), eve}}, "a, b, 1 users 0", ""},
		"other names":         {[][]rec.Record{{eve, file("a")}, {file("b"), adam}}, "", "user 5 is adam here and eve in a stream before it"},
		"entries are missing": {[][]rec.Record{{file("a"), &rec.Missing{ID: lost}, file("x")}, {file("b")}, {&rec.Missing{ID: lost}, file("c")}}, "a, missing 070000000000, b, missing 070000000000, c, x, 0 users 0", ""},
		"half a file":         {[][]rec.Record{{sealtest.Dir("d"), &rec.Chunk{Data: []byte("x")}, half, &rec.Cut{}, &rec.Missing{ID: lost}, file("d/g")}, {file("e")}}, "d, d/f+, missing 070000000000, d/g, e, 0 users 0", ""},
		"nothing":             {[][]rec.Record{{}, {}}, "0 users 0", ""},
	} {
		got, stderr, status := joined(t, c.streams...)
		if got != c.want || !strings.Contains(stderr, c.msg) || (status == 1) != (c.msg != "") {
			t.Errorf("%s: status %d, %q, want %q\n%s", name, status, got, c.want, stderr)
		}
	}
}
