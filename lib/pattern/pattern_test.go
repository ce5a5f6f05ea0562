package pattern

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func list(t *testing.T, fold bool, texts ...string) *List {
	t.Helper()
	l := &List{}
	for i, text := range texts {
		if err := l.Add(text, fmt.Sprint("rule ", i), fold); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no string // paths, with a "/" at the end of a directory's
	}{
		{"*.o", "a.o x/y/b.o .o d.o/", "a.oo a.o/x"},
		{"name", "name a/name name/", "names name/x xname"},
		{"cache/", "cache/ a/b/cache/", "cache a/cache"},
		{"/home/me/tmp", "home/me/tmp home/me/tmp/", "x/home/me/tmp home/me/tmp/x tmp"},
		{"home/me/tmp", "home/me/tmp", "x/home/me/tmp"},
		{"/top", "top top/", "a/top"},
		{"/*", "a b/", "a/b"},
		{"/**", "a a/b a/b/c/", ""},
		{"**", "a a/b", ""},
		{"**/", "a/ a/b/", "a a/b"},
		{"a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb x/a/b"},
		{"**/b", "b x/b x/y/b", "xb b/x"},
		{"**/**/b", "b x/b x/y/b", "xb b/x"},
		{"**/x/b", "x/b a/x/b", "b a/x/c"},
		{"a/**", "a/b a/b/c a/b/", "a a/ ab x/a/b"},
		{"a/**/", "a/b/ a/b/c/", "a/ a/b"},
		{"a/***/b", "a/b a/x/y/b", "ab"},
		{"x**y", "xy xay a/xby", "x/y x/a/y"},
		{"a/x*", "a/x a/xyz", "a/x/y x"},
		{"?", "a \xff a/b", "ab é"},
		{"??", "ab é", "a abc"},
		{"a?b", "axb", "a/b ab"},
		{"[a-cx]", "a b c x", "d -"},
		{"[!a-c]", "d - \xff", "a b ab"},
		{"[^a]b", "cb", "ab"},
		{"a[!x]b", "ayb", "a/b axb"},
		{"a[/-0]b", "a0b", "a/b"}, // the "/" in it makes it begin at the top
		{"[]a]", "] a", "b"},
		{"[!]a]", "b", "] a"},
		{"[a-]", "a -", "b"},
		{"[\\]\\\\]", "] \\", "a"},
		{"[\\a-\\c]", "b", "\\"},
		{"[[:digit:]x-z]", "0 9 y", "a : ["},
		{"[![:alnum:]]", "- \xc3", "a 0"},
		{"[[:upper:]]*", "Ab", "ab"},
		{"[[:x]", "[ : x", "y"},
		{"\\*", "*", "a"},
		{"\\!a", "!a", "a"},
		{"\\#", "#", "\\#"},
		{"#a", "#a", "a"},
		{"a\\b", "ab", "a\\b"},
		{"a\\/b", "a/b", "ab"},
		{"{a,b}", "{a,b}", "a b"},
		{"{a}*", "{a}x", "ax"},
		{"^$.|+()", "^$.|+()", "x"},
		{"a ", "a\x20", "a"},
		{"\xff*", "\xff \xff\xfe", "\xfe \xc3\xbf"},
		{"*\xfe", "\xff\xfe", "\xff\xff"},
		{"caf\xc3\xa9", "café", "cafè"},
		{"*é?", "aéb", "aé"},
		{"[\xff]", "\xff", "\xfe ÿ"},
	} {
		l := list(t, false, c.pattern)
		check := func(paths string, want bool) {
			for _, p := range strings.FieldsFunc(paths, func(c rune) bool { return c == ' ' }) {
				path, dir := strings.CutSuffix(p, "/")
				if got := l.Match(path, dir) != nil; got != want {
					t.Errorf("%q matches %q: %v", c.pattern, p, got)
				}
			}
		}
		if c.pattern == "a " {
			if l.Match("a ", false) == nil {
				t.Error("a blank at the end is lost")
			}
			continue
		}
		check(c.yes, true)
		check(c.no, false)
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{"Name", "nAME", "names"},
		{"/A/b", "a/B", "b"},
		{"*.JPG", "x.jpg", "x.jpeg"},
		{"A*[X-Z]?.c", "AqqY1.C", "a"},
		{"[!A]", "b", "a"},
		{"[[:upper:]]", "a", "1"},
		{"ÉTÉ*", "été 2025", "ete"},
		{"\xff\xc9", "\xff\xc9", "\xff\xe9"}, // no text: no letters
	} {
		l := list(t, true, c.pattern)
		if l.Match(c.yes, false) == nil || l.Match(c.no, false) != nil {
			t.Errorf("%q: %v, %v", c.pattern, l.Match(c.yes, false), l.Match(c.no, false))
		}
		if l.Rules()[0].Prefix() != "" {
			t.Errorf("%q has a prefix: a directory can be written in another case", c.pattern)
		}
	}
}

// The last rule that matches decides, of whichever sort it is.
func TestLast(t *testing.T) {
	l := list(t, false, "*", "!keep", "keep/", "a/keep", "!*.c", "x?.c", "/b/x1.c", "!x1.c")
	if err := l.Add("README", "--iexclude", true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		dir  bool
		want int
	}{
		{"other", false, 0}, {"keep", false, 1}, {"keep", true, 2}, {"a/keep", false, 3}, {"a/keep", true, 3},
		{"q.c", false, 4}, {"x2.c", false, 5}, {"b/x1.c", false, 7}, {"d/x1.c", true, 7}, {"ReadMe", true, 8},
	} {
		if r := l.Match(c.path, c.dir); r != l.Rules()[c.want] {
			t.Errorf("%s: %v, not %v", c.path, r, l.Rules()[c.want])
		}
	}
	if l.Match("", true) != nil || (&List{}).Match("a", false) != nil {
		t.Error("the tree itself was matched, or an empty list matches")
	}
	if err := l.AddNegated("q.c", "--include", false); err != nil {
		t.Fatal(err)
	}
	if r := l.Match("q.c", false); r == nil || !r.Negated || r.String() != `--include "q.c"` {
		t.Error(r)
	}
	if r := l.Rules()[8]; r.String() != `--iexclude "README"` || r.Negated || l.Len() != 10 {
		t.Error(r)
	}
}

func TestPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"/a/b": "a/b", "a/b/*.c": "a/b", "!/a/b/": "a/b", "a/**": "a", "a/**/b": "a", "/a*": "", "name": "",
		"**/a/b": "", "/a": "a", "a\\*b/c": "a*b/c", "/a/[b]/c": "a",
	} {
		if got := list(t, false, text).Rules()[0].Prefix(); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestNoPattern(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "no name in it",
		"!":                            "no name in it",
		"/":                            "no name in it",
		"!/":                           "no name in it",
		"a//b":                         "no name between",
		"//a":                          "no name between",
		"a//":                          "no name between",
		"./a":                          `has a part "."`,
		"a/../b":                       `has a part ".."`,
		"a\\":                          "nothing is behind",
		"a\\/":                         "nothing is behind",
		"[a":                           "not closed",
		"[]":                           "not closed",
		"[!]":                          "not closed",
		"[a\\":                         "not closed",
		"[a-\\":                        "not closed",
		"[[:alpha:":                    "not closed",
		"[[:vowel:]]":                  "no class [:vowel:]",
		"a[/]b":                        "no byte",
		"a\x00b":                       "NUL",
		strings.Repeat("a", MaxText+1): "the limit",
	} {
		err := (&List{}).Add(text, "--exclude", false)
		if !errors.Is(err, ErrPattern) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--exclude: ") || len(err.Error()) > 400 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestFile(t *testing.T) {
	l := &List{}
	text := "\xef\xbb\xbf# a comment\na\n\n  \n!b\r\nc  \nd\\ \ne\\  \nf\\\\ \n\\#g\n\xff\n /h"
	if err := l.AddFile(strings.NewReader(text), "FILE", false); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range l.Rules() {
		got = append(got, r.From[len("FILE:"):]+r.Text)
	}
	want := []string{"2a", "5!b", "6c", "7d\\ ", "8e\\ ", "9f\\\\", "10\\#g", "11\xff", "12 /h"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	err := (&List{}).AddFile(strings.NewReader("a\n[b\n"), "FILE", false)
	if !errors.Is(err, ErrPattern) || !strings.HasPrefix(err.Error(), "FILE:2: ") {
		t.Error(err)
	}
}

func TestLimit(t *testing.T) {
	if err := (&List{}).AddFile(strings.NewReader(strings.Repeat("# none\n", MaxList/7+1)), "FILE", false); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	l := &List{}
	long := strings.Repeat("x", MaxText)
	for range MaxList / MaxText {
		if err := l.Add(long, "f", false); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Add("x", "f", false); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	l = &List{}
	for range MaxRules {
		if err := l.Add("x*", "f", false); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Add("x", "f", false); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}

// FuzzAdd looks for texts that make the parser or the engine panic, and for
// rules that match what their prefix excludes.
func FuzzAdd(f *testing.F) {
	for _, p := range []string{"a", "!/a/**/[!b]*\\?/", "[[:alpha:]-z]", "{a,b}", "\xff[\xfe-\xff]", "**/**", "[]-a]", "a\\", "*a*b*c", "a/**/", "[a-\\]"} {
		f.Add(p, "a/xb/cé", false)
		f.Add(p, "\xff\xfe", true)
	}
	f.Fuzz(func(t *testing.T, text, path string, fold bool) {
		l := &List{}
		if err := l.Add(text, "fuzz", fold); err != nil {
			if !errors.Is(err, ErrPattern) {
				t.Fatal(err)
			}
			return
		}
		r := l.Match(path, true)
		if r == nil {
			return
		}
		if p := r.Prefix(); p != "" && path != p && !strings.HasPrefix(path, p+"/") {
			t.Errorf("%q matches %q, and has the prefix %q", text, path, p)
		}
		if !r.DirOnly && l.Match(path, false) != r {
			t.Errorf("%q matches the directory %q only", text, path)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	l := &List{}
	for _, p := range []string{"*.o", "*.tmp", "node_modules/", "/home/*/.cache", "a/**/b", "[Tt]humbs.db", "!keep.o"} {
		if err := l.Add(p, "b", false); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 10000 {
		if err := l.Add(fmt.Sprintf("/some/list/of/paths/%d", i), "b", false); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		l.Match("home/somebody/projects/preserve/lib/pattern/pattern_test.go", false)
	}
}
