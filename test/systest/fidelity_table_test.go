//go:build system

package systest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	fidelityPage = "../../docs/fidelity.md"
	tableBegins  = "<!-- made by make fidelity: begin -->\n"
	tableEnds    = "<!-- made by make fidelity: end -->\n"
)

// checkTable compares the table in the documentation with what this run gave, or
// writes it anew.
func checkTable(t *testing.T, cells []*cell, verdicts map[string][]string) {
	t.Helper()
	names, _, theirs, err := readOthers()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(fidelityPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegins)
	old, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", fidelityPage)
	}
	table := markdown(cells, verdicts, names, theirs)
	switch {
	case table == old:
	case *fidelityWrite:
		if err := os.WriteFile(fidelityPage, []byte(before+tableBegins+table+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not say what this run gave; if that is right, go test -tags system ./test/systest -run TestFidelity -fidelity.write\n%s", fidelityPage, difference(old, table))
	}
}

// markdown is the table: cells of one row of which all is alike share a line.
func markdown(cells []*cell, verdicts map[string][]string, names []string, theirs map[string][]string) string {
	type line struct {
		row      string
		types    []string
		verdicts []string
	}
	var lines []*line
	for _, c := range cells {
		v := slices.Concat(verdicts[c.name], theirs[c.name])
		for len(v) < len(routes)+len(names) {
			v = append(v, "?") // a cell that is newer than the others' results
		}
		i := slices.IndexFunc(lines, func(l *line) bool { return l.row == c.row && slices.Equal(l.verdicts, v) })
		if i < 0 {
			lines, i = append(lines, &line{c.row, nil, v}), len(lines)
		}
		lines[i].types = append(lines[i].types, c.typ)
	}
	var b strings.Builder
	b.WriteString("| what | of a |")
	for _, r := range routes {
		if r.from == r.to {
			b.WriteString(" " + r.from + " |")
		} else {
			b.WriteString(" " + r.from + " → " + r.to + " |")
		}
	}
	for _, n := range names {
		b.WriteString(" " + n + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(routes)+len(names)) + "\n")
	for _, l := range lines {
		types := strings.Join(l.types, ", ")
		if len(l.types) == len(allTypes) {
			types = "all types"
		}
		b.WriteString("| " + l.row + " | " + types + " |")
		for _, v := range l.verdicts {
			if v == lost {
				v = "**lost**"
			}
			b.WriteString(" " + v + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
