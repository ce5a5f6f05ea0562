package test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const formats = "docs/format"

var (
	// A requirement begins a line with its name and whom it binds.
	requirement = regexp.MustCompile(`(?m)^\*\*([A-Z])([0-9]+)([^*]*)\.\*\*`)
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// page.md, "Section"; page.md ("Section"); also behind a link's target.
	sectionOf = regexp.MustCompile(`([a-z]+)\.md(?:\))?,? \(?"([^"\n]+)"`)
	linkTo    = regexp.MustCompile(`\]\(([^)#: ]+\.md)(?:#([^)]*))?\)`)
)

// formatFaults returns what is wrong with the pages of docs/format: requirements whose names do
// not run from 1, stand on the wrong page or say not whom they bind, pages that the first one
// does not list, and references to sections and pages that are not there.
func formatFaults(tree fs.FS) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	pages := map[string]string{}
	names, err := fs.Glob(tree, formats+"/*.md")
	if err != nil || len(names) == 0 {
		fault("no pages: %v", err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			fault("%v", err)
		}
		pages[path.Base(name)] = string(b)
	}
	first := pages["README.md"]
	for name, text := range pages {
		if name != "README.md" && !strings.Contains(first, "["+name+"]("+name+")") {
			fault("README.md does not list %s", name)
		}
		letter := ""
		if m := regexp.MustCompile(`\(` + regexp.QuoteMeta(name) + `\) \|.*\| ([A-Z]) \|`).FindStringSubmatch(first); m != nil {
			letter = m[1]
		}
		var numbers []int
		for _, m := range requirement.FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[2]) // digits
			numbers = append(numbers, n)
			if m[1] != letter {
				fault("%s: %s%s, where README.md gives the page the letter %q", name, m[1], m[2], letter)
			}
			if who := strings.TrimSpace(m[3]); letter != "C" && !slices.Contains([]string{"reader", "writer", "store", "all"}, who) {
				fault("%s: %s%s binds %q", name, m[1], m[2], who)
			}
		}
		slices.Sort(numbers)
		for i, n := range numbers {
			if n != i+1 {
				fault("%s: %s%d is absent, or comes twice", name, letter, i+1)
				break
			}
		}
		for _, m := range sectionOf.FindAllStringSubmatch(text, -1) {
			other, known := pages[m[1]+".md"]
			if !known {
				continue // a page elsewhere
			}
			if !slices.ContainsFunc(heading.FindAllStringSubmatch(other, -1), func(h []string) bool { return strings.HasPrefix(h[1], m[2]) }) {
				fault("%s: %s.md has no section %q", name, m[1], m[2])
			}
		}
		for _, m := range linkTo.FindAllStringSubmatch(text, -1) {
			if _, err := fs.Stat(tree, path.Join(formats, m[1])); err != nil {
				fault("%s: link to %s: %v", name, m[1], err)
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// The pages of docs/format fit together.
func TestFormatPages(t *testing.T) {
	for _, f := range formatFaults(os.DirFS("..")) {
		t.Error(f)
	}
}

// TestFormatPages can fail.
func TestFormatPagesFinds(t *testing.T) {
	whole := func() fstest.MapFS {
		return fstest.MapFS{
			formats + "/README.md": {Data: []byte("# First\n\n| 1 | [a.md](a.md) | says | A |\n| | [b.md](b.md) | says | B |\n")},
			formats + "/a.md":      {Data: []byte("# A\n\n## Words\n\n**A1 reader.** x\n\n**A2 all.** See [b.md](b.md), \"More\".\n")},
			formats + "/b.md":      {Data: []byte("# B\n\n## More of it\n\n**B1 store.** a.md (\"Words\")\n")},
		}
	}
	if faults := formatFaults(whole()); len(faults) > 0 {
		t.Fatal(faults)
	}
	for name, c := range map[string]struct{ file, from, to, want string }{
		"a number left out": {"a.md", "A2 all", "A3 all", "A2 is absent"},
		"a number twice":    {"a.md", "A2 all", "A1 all", "A2 is absent"},
		"another letter":    {"a.md", "A2 all", "B2 all", `gives the page the letter "A"`},
		"binds nobody":      {"b.md", "B1 store", "B1", `B1 binds ""`},
		"no such section":   {"b.md", "Words", "Verbs", `a.md has no section "Verbs"`},
		"a section renamed": {"b.md", "More of it", "Less", `b.md has no section "More"`},
		"a page not listed": {"README.md", "[b.md](b.md)", "b", "does not list b.md"},
		"no such page":      {"a.md", "(b.md)", "(c.md)", "link to c.md"},
	} {
		tree := whole()
		file := tree[formats+"/"+c.file]
		file.Data = []byte(strings.Replace(string(file.Data), c.from, c.to, 1))
		if faults := strings.Join(formatFaults(tree), "\n"); !strings.Contains(faults, c.want) {
			t.Errorf("%s: found %q, want %q", name, faults, c.want)
		}
	}
}
