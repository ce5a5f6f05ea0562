package reading

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

func TestSpelled(t *testing.T) {
	roots := []rec.Root{{Dir: "/", Path: "home/me"}, {Dir: "/tmp/x", Path: "src"}, {Dir: "/srv/[a]", Path: ""}, {Dir: "/tmp", Path: "x/[s]"}}
	for _, c := range []struct {
		text string
		wild bool
		want string
	}{
		{"/home/me/a", true, ""}, // stored as it is shown
		{"/tmp/x/src/a.txt", true, "/src/a.txt"},
		{"/tmp/x/src", true, "/src"},
		{"/tmp/x/src/", true, "/src/"},
		{"/tmp/x/src/*.txt", true, "/src/*.txt"},
		{"!/tmp/x/src/*.txt", true, "!/src/*.txt"},
		{"/tmp/x/src/*.txt", false, `/src/\*.txt`},
		{"/tmp/x/srcs", true, ""},
		{"tmp/x/src", true, ""}, // lists show it with the slash
		{"/srv/[a]", true, "/*"},
		{"/srv/[a]/b", true, "/b"},
		{`/srv/\[a]/b`, true, "/b"},
		{`/tmp/x/[s]/y`, true, `/x/\[s]/y`},
		{`/tmp/x/[s]/y`, false, `/x/\[s]/y`},
	} {
		if got := strings.Join(spelled(c.text, roots, c.wild), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}

// TestManyPaths: a list of a hundred thousand paths costs a search for each entry and
// page, not a comparison with all of them.
func TestManyPaths(t *testing.T) {
	const n = 100_000
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "dir/%03d/%06d\n", i/1000, 2*i)
	}
	c, msgs := chooserOf(t, Mode{Parents: true}, Choice{})
	l := Lists{}
	var err error
	if c.wishes, err = l.paths(&text, "list", nil); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := c.build(); err != nil {
		t.Fatal(err)
	}
	chosen := 0
	for d := range n / 1000 {
		for _, e := range []*rec.Entry{{Path: fmt.Sprintf("dir/%03d", d), Type: rec.Dir}} {
			if _, err := c.Choose(e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 2000 {
			e := &rec.Entry{Path: fmt.Sprintf("dir/%03d/%06d", d, 2000*d+i), Type: rec.File}
			next := page.Key{Path: e.Path + "0"}
			reached := c.Reaches(page.KeyOf(e), &next)
			out, err := c.Choose(e)
			if err != nil {
				t.Fatal(err)
			}
			if has := slices.Contains(out, e); has != (i%2 == 0) || has && !reached {
				t.Fatalf("%s: chosen %v, reached %v", e.Path, has, reached)
			} else if has {
				chosen++
			}
		}
	}
	c.End()
	if chosen != n || msgs.Len() > 0 {
		t.Errorf("%d of %d: %s", chosen, n, msgs)
	}
	t.Logf("%v", time.Since(start).Round(time.Millisecond))
}

// Of very many paths that are not there some are named, and the rest are counted.
func TestManyAbsent(t *testing.T) {
	var out bytes.Buffer
	env := tool.NewEnv("pv-unpack", nil, nil, nil, &out)
	var wishes []wish
	for i := range 150 {
		wishes = append(wishes, wish{fmt.Sprintf("no/%03d", i), "list", true})
	}
	p, err := newPick(wishes, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.end(env)
	if n := strings.Count(out.String(), "\n"); n != 101 || !strings.HasSuffix(out.String(), "matches 50 more\n") || env.Status(nil) != 3 {
		t.Errorf("%d lines: %s", n, out.String())
	}
}

// A path that a later PATTERN matches too has been seen all the same.
func TestShadowedPath(t *testing.T) {
	p, err := newPick([]wish{{"a/b", "PATTERN", true}, {"d/", "PATTERN", true}, {"*", "PATTERN", false}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.match("a/b", false, nil)
	p.match("d", false, nil) // a file: not what was asked for
	var out bytes.Buffer
	p.end(tool.NewEnv("pv-unpack", nil, nil, nil, &out))
	if out.String() != "pv-unpack: nothing in the snapshot matches d/\n" {
		t.Error(out.String())
	}
}
