package reading

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"preserve/lib/page"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// chooserOf makes a chooser that leaves owners alone.
func chooserOf(t *testing.T, m Mode, o Choice) (*Chooser, *bytes.Buffer) {
	t.Helper()
	m.Picks, m.Strips, m.Owns = true, true, false
	var msgs bytes.Buffer
	c, err := NewChooser(tool.NewEnv("pv-unpack", nil, nil, nil, &msgs), &m, &o)
	if err != nil {
		t.Fatal(err)
	}
	return c, &msgs
}

// run gives a chooser all entries, and writes down what comes out.
func (c *Chooser) run(t *testing.T, es []*rec.Entry) string {
	t.Helper()
	var got []string
	for _, e := range es {
		before := *e
		out, err := c.Choose(e)
		if err != nil {
			t.Fatal(err)
		}
		if before.Path != e.Path || before.Leader != e.Leader {
			t.Fatalf("%s was changed", before.Path)
		}
		for _, o := range out {
			text := name(o)
			if o.Leader != "" {
				text += "=" + o.Leader
			}
			got = append(got, text)
		}
	}
	return strings.Join(got, " ")
}

// name is a record's key as one word.
func name(e *rec.Entry) string {
	switch {
	case e.Path == "":
		return "."
	case e.Off > 0:
		return fmt.Sprintf("%s@%d", e.Path, e.Off)
	}
	return e.Path
}

func someTree() []*rec.Entry {
	first := file("home/me/first")
	first.Links = 2
	huge := file("home/me/huge")
	huge.More = true
	return []*rec.Entry{dir(""), dir("etc"), file("etc/conf"), dir("home"), dir("home/me"), file("home/me/a.jpg"), first,
		huge, {Path: "home/me/huge", Type: rec.File, Off: 9}, dir("home/me/src"), dir("home/me/src/deep"), file("home/me/src/deep/x.o"),
		{Path: "home/me/src/link", Type: rec.HardLink, Leader: "home/me/first"}, file("home/me/x.o"), dir("home/you"), file("home/you/a.jpg"), file("top")}
}

func TestChoose(t *testing.T) {
	restore, list := Mode{Parents: true}, Mode{Meta: true}
	for name, c := range map[string]struct {
		m    Mode
		o    Choice
		want string
		msg  string
	}{
		"a file":            {restore, Choice{Patterns: []string{"etc/conf"}}, `. etc etc/conf`, ""},
		"with a slash":      {restore, Choice{Patterns: []string{"/etc/conf"}}, `. etc etc/conf`, ""},
		"no parents":        {list, Choice{Patterns: []string{"/etc/conf"}}, `etc/conf`, ""},
		"a name":            {list, Choice{Patterns: []string{"a.jpg"}}, `home/me/a.jpg home/you/a.jpg`, ""},
		"a folder":          {list, Choice{Patterns: []string{"src"}}, `home/me/src home/me/src/deep home/me/src/deep/x.o home/me/src/link=home/me/first`, ""},
		"wild":              {restore, Choice{Patterns: []string{"home/**/*.o"}}, `. home home/me home/me/src home/me/src/deep home/me/src/deep/x.o home/me/x.o`, ""},
		"pieces":            {list, Choice{Patterns: []string{"huge"}}, `home/me/huge home/me/huge@9`, ""},
		"two":               {list, Choice{Patterns: []string{"top", "/etc"}}, `etc etc/conf top`, ""},
		"taken back":        {list, Choice{Patterns: []string{"/home/me", "!*.o", "!src", "x.o"}}, `home/me home/me/a.jpg home/me/first home/me/huge home/me/huge@9 home/me/src/deep/x.o home/me/x.o`, ""},
		"only excluded":     {list, Choice{Exclude: []string{"/home", "top"}}, `. etc etc/conf`, ""},
		"exclude wins":      {list, Choice{Patterns: []string{"/home/me/src"}, Exclude: []string{"*.o"}}, `home/me/src home/me/src/deep home/me/src/link=home/me/first`, ""},
		"below an excluded": {list, Choice{Patterns: []string{"x.o"}, Exclude: []string{"deep", "!x.o"}}, `home/me/x.o`, ""},
		"exclude takes":     {list, Choice{Patterns: []string{"x.o"}, Exclude: []string{"x.*", "!x.o"}}, `home/me/src/deep/x.o home/me/x.o`, ""},
		"nothing":           {list, Choice{Patterns: []string{"/etc", "/home/me/nothing", "*.png"}}, `etc etc/conf`, "nothing in the snapshot matches /home/me/nothing\npv-unpack: nothing in the snapshot matches *.png\n"},
		"excluded match":    {list, Choice{Patterns: []string{"conf"}, Exclude: []string{"/etc"}}, ``, "nothing in the snapshot matches conf"},
		"matched twice":     {list, Choice{Patterns: []string{"conf", "etc/conf", "c*"}}, `etc/conf`, ""},
		"a file as folder":  {list, Choice{Patterns: []string{"top/"}}, ``, "nothing in the snapshot matches top/"},
		"link alone":        {restore, Choice{Patterns: []string{"link", "top"}}, `. top`, "home/me/src/link: left out: it is a hard link to home/me/first, which"},
		"link excluded":     {restore, Choice{Patterns: []string{"link", "top"}, Exclude: []string{"first"}}, `. top`, "home/me/src/link: left out"},
		"link, listed":      {list, Choice{Patterns: []string{"link"}}, `home/me/src/link=home/me/first`, ""},
		"link and first":    {list, Choice{Patterns: []string{"link", "first"}}, `home/me/first home/me/src/link=home/me/first`, ""},
		"strip":             {restore, Choice{Strip: 2}, `a.jpg first huge huge@9 src src/deep src/deep/x.o src/link=first x.o a.jpg`, ""},
		"strip, chosen":     {restore, Choice{Strip: 2, Patterns: []string{"/home/me/src/deep", "top"}}, `src src/deep src/deep/x.o`, ""},
		"strip, link":       {restore, Choice{Strip: 3, Patterns: []string{"/home/me"}}, `deep deep/x.o`, "home/me/src/link: left out"},
	} {
		ch, msgs := chooserOf(t, c.m, c.o)
		got := ch.run(t, someTree())
		ch.End()
		if got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
		if s := msgs.String(); c.msg == "" && strings.Contains(s, "pv-unpack") && c.o.Strip == 0 || !strings.Contains(s, c.msg) {
			t.Errorf("%s: said %q, not %q", name, s, c.msg)
		}
		if warned := ch.env.Warned(); warned != (c.msg != "") {
			t.Errorf("%s: status 3 is %v", name, warned)
		}
	}
	ch, msgs := chooserOf(t, restore, Choice{Strip: 2})
	ch.run(t, someTree())
	ch.End()
	if !strings.Contains(msgs.String(), "names to strip: 2\n") {
		t.Error(msgs.String())
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, o := range []Choice{{Patterns: []string{"!x"}}, {Patterns: []string{""}}, {Patterns: []string{"a/../b"}}, {Exclude: []string{"[a"}}, {Patterns: []string{"a", "[a"}}} {
		env := tool.NewEnv("pv-unpack", nil, nil, nil, &bytes.Buffer{})
		if _, err := NewChooser(env, &Mode{Picks: true}, &o); err == nil || env.Status(err) != 2 {
			t.Errorf("%v: %v", o, err)
		}
	}
}

// slow says what is chosen of a path as the manual page does: what --exclude
// matches goes with all below it; else the last PATTERN decides that matches the
// path, or the nearest directory above it that one matches.
func slow(o Choice, path string, isDir func(string) bool) bool {
	chosen := len(o.Patterns) == 0
	names := strings.Split(path, "/")
	for n := 1; n <= len(names); n++ {
		p := strings.Join(names[:n], "/")
		last := func(patterns []string) (hit, negated bool) {
			for _, text := range patterns {
				var l pattern.List
				if l.Add(text, "", false) == nil && l.Match(p, isDir(p)) != nil {
					hit, negated = true, strings.HasPrefix(text, "!")
				}
			}
			return hit, negated
		}
		if hit, negated := last(o.Exclude); hit && !negated {
			return false
		}
		if hit, negated := last(o.Patterns); hit {
			chosen = !negated
		}
	}
	return chosen
}

// Random trees and patterns: what is chosen is what the slow way chooses, and
// passing over the pages that are not reached changes nothing.
func TestChooseAgainstSlow(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	words := []string{"a", "b", "c", "a.o", "ab"}
	texts := []string{"a", "b", "/a", "/a/b", "a/b", "a/**", "**/a.o", "*.o", "a*/", "c/", "/b/a/c", "/c/*", "a/b/c/a.o", "/ab", "!a", "!/a/b", "!*.o"}
	some := func(from []string, n int) (list []string) {
		for range n {
			list = append(list, from[r.IntN(len(from))])
		}
		return list
	}
	passed, chosen := 0, 0
	for round := range 3000 {
		es := randomTree(r, words)
		isDir := map[string]bool{}
		for _, e := range es {
			isDir[e.Path] = e.Type == rec.Dir
		}
		o := Choice{Patterns: some(texts, r.IntN(4)), Exclude: some(texts, r.IntN(3))}
		if len(o.Patterns) > 0 {
			o.Patterns[0] = strings.TrimPrefix(o.Patterns[0], "!")
		}
		m := Mode{Parents: round%2 == 0}
		all, allMsgs := chooserOf(t, m, o)
		want := map[string]bool{}
		for _, e := range es {
			if e.Path != "" && e.Type != rec.HardLink && slow(o, e.Path, func(p string) bool { return isDir[p] }) {
				want[e.Path] = true
				for p := e.Path; m.Parents && p != ""; {
					p = rec.Parent(p)
					want[p] = true
				}
			}
		}
		got := all.run(t, es)
		all.End()
		for _, e := range es {
			if have := slices.Contains(strings.Fields(got), name(e)); e.Path != "" && have != want[e.Path] {
				t.Fatalf("%+v: %s is chosen: %v\n%s", o, e.Path, have, got)
			}
		}
		chosen += len(want)
		for _, e := range es { // of a file alone the answer is exact
			end := page.Key{Path: e.Path, Off: 1 << 40}
			if e.Type == rec.File && all.Reaches(page.Key{Path: e.Path}, &end) != want[e.Path] {
				t.Fatalf("%+v: %s is reached: %v", o, e.Path, !want[e.Path])
			}
		}
		// The same in pages, of which some are not looked at.
		some, someMsgs := chooserOf(t, m, o)
		var parts []string
		for from := 0; from < len(es); {
			to := min(len(es), from+1+r.IntN(4))
			var next *page.Key
			if to < len(es) {
				k := page.KeyOf(es[to])
				next = &k
			}
			if some.Reaches(page.KeyOf(es[from]), next) {
				if s := some.run(t, es[from:to]); s != "" {
					parts = append(parts, s)
				}
			} else {
				passed++
			}
			from = to
		}
		some.End()
		if again := strings.Join(parts, " "); again != got || someMsgs.String() != allMsgs.String() {
			t.Fatalf("%+v:\n%s\nby pages:\n%s\n%s%s", o, got, again, allMsgs, someMsgs)
		}
	}
	if passed < 1000 || chosen < 1000 {
		t.Errorf("only %d pages were passed over, %d entries chosen: this tests little", passed, chosen)
	}
}

// randomTree is entries in path order, some files in two pieces.
func randomTree(r *rand.Rand, words []string) (es []*rec.Entry) {
	types := map[string]rec.Type{"": rec.Dir}
	for range 25 {
		path := ""
		for range 1 + r.IntN(4) {
			if types[path] != rec.Dir {
				break
			}
			path = strings.TrimPrefix(fmt.Sprint(path, "/", words[r.IntN(len(words))]), "/")
			if types[path] == rec.None {
				types[path] = []rec.Type{rec.Dir, rec.Dir, rec.File}[r.IntN(3)]
			}
		}
	}
	for path, typ := range types {
		es = append(es, &rec.Entry{Path: path, Type: typ})
		if typ == rec.File && r.IntN(4) == 0 {
			es[len(es)-1].More = true
			es = append(es, &rec.Entry{Path: path, Type: typ, Off: 7})
		}
	}
	slices.SortFunc(es, func(a, b *rec.Entry) int { return page.KeyOf(a).Compare(page.KeyOf(b)) })
	return es
}
