package tool

import (
	"fmt"
	"strings"
	"testing"
)

// What happens to many files alike is one line; what happens to one names it as usual. The exit status is 3 as
// soon as it happens.
func TestTally(t *testing.T) {
	e, _, stderr := env()
	ty := e.NewTally("files")
	if ty.Tell(nil); e.Warned() || stderr.Len() > 0 {
		t.Fatalf("an empty tally says %q", stderr)
	}
	for i := range 812 {
		ty.Add(fmt.Sprintf("src/%d", (i+400)%812), "set extended attribute trusted.x: operation not permitted")
	}
	ty.Add("src/a", "set mode: operation not permitted")
	if !e.Warned() || stderr.Len() > 0 {
		t.Fatalf("before the end: warned %v, %q", e.Warned(), stderr)
	}
	var also []string
	ty.Tell(func(line string) { also = append(also, line) })
	want := "pv-x: set extended attribute trusted.x: operation not permitted (812 files; first: src/0)\n" +
		"pv-x: src/a: set mode: operation not permitted\n"
	if stderr.String() != want || strings.Join(also, "\n")+"\n" != strings.ReplaceAll(want, "pv-x: ", "") {
		t.Errorf("%q, also %q", stderr, also)
	}
	stderr.Reset()
	if ty.Tell(nil); stderr.Len() > 0 {
		t.Errorf("told twice: %q", stderr)
	}
}

// A tally's memory is bounded: texts beyond it are told at once.
func TestTallyOfManyTexts(t *testing.T) {
	e, _, stderr := env()
	ty := e.NewTally("files")
	for i := range maxTallied + 2 {
		ty.Add("a", fmt.Sprint("text ", i))
	}
	if n := strings.Count(stderr.String(), "\n"); n != 2 {
		t.Errorf("%d lines at once", n)
	}
	if ty.Tell(nil); strings.Count(stderr.String(), "\n") != maxTallied+2 {
		t.Errorf("in all: %q", stderr)
	}
}

// Notices change no exit status, and -q silences them.
func TestTallyOfNotices(t *testing.T) {
	for _, arg := range []string{"-q", "--"} {
		e, _, stderr := env(arg)
		if _, err := e.Parse(e.Flags(), ""); err != nil {
			t.Fatal(err)
		}
		ty := e.NewNotices("links")
		ty.Add("a", "what")
		ty.Add("b", "what")
		ty.Tell(nil)
		want := map[string]string{"-q": "", "--": "pv-x: what (2 links; first: a)\n"}[arg]
		if e.Warned() || stderr.String() != want {
			t.Errorf("%s: warned %v, %q", arg, e.Warned(), stderr)
		}
	}
}

// With -v each name is told.
func TestTallyNamesAll(t *testing.T) {
	e, _, stderr := env("-v")
	if _, err := e.Parse(e.Flags(), ""); err != nil {
		t.Fatal(err)
	}
	ty := e.NewTally("files")
	ty.Add("a", "what")
	ty.Add("b", "what")
	if got := stderr.String(); got != "pv-x: a: what\npv-x: b: what\n" {
		t.Errorf("%q", got)
	}
}
