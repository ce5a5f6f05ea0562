package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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

// An auditor compares what the documents promise with what is in the tree.
type auditor struct {
	tree   fs.FS
	files  map[string]*ast.File
	faults []string
}

func (a *auditor) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

var (
	// A requirement or an attack begins a line, or a row of a table, with its number.
	promised = regexp.MustCompile(`(?m)^(?:\*\*|\| )([CA])([0-9]+)(?:\.\*\*| \|)`)
	// A row of audit.md: number, and cells.
	row = regexp.MustCompile(`(?m)^\| ([CA][0-9]+) \|(.*)\|$`)
	// `file.go:Func`, `file.go:Type.Method`, each perhaps with the "name" of a case; or
	// the name of a script.
	place  = regexp.MustCompile("`([^` :]+\\.go):([A-Za-z0-9_.]+)`(?: \"([^\"]+)\")?")
	script = regexp.MustCompile("`([a-z0-9_]+\\.txtar)`")
	// Whatever else in it looks like one of ours.
	anyFile = regexp.MustCompile("`((?:lib|docs|testdata|scripts|test|cmd)/[^` :*…]+)`")
)

// numbers returns the numbers of a kind that a document gives away: from 1 on, each
// once, in any order.
func (a *auditor) numbers(doc, text, kind string) (all []string) {
	for _, m := range promised.FindAllStringSubmatch(text, -1) {
		if m[1] != kind {
			continue
		}
		if slices.Contains(all, kind+m[2]) {
			a.fault("%s: %s%s twice", doc, kind, m[2])
		}
		all = append(all, kind+m[2])
	}
	for n := range max(1, len(all)) {
		if want := kind + strconv.Itoa(n+1); !slices.Contains(all, want) {
			a.fault("%s: no %s", doc, want)
		}
	}
	return all
}

func (a *auditor) read(name string) string {
	b, err := fs.ReadFile(a.tree, name)
	if err != nil {
		a.fault("%v", err)
	}
	return string(b)
}

// has reports whether a file declares a function or method, or a type.
func (a *auditor) has(file, name string) bool {
	f, known := a.files[file]
	if !known {
		b, err := fs.ReadFile(a.tree, file)
		if err == nil {
			f, err = parser.ParseFile(token.NewFileSet(), file, b, 0)
		}
		if err != nil {
			a.fault("%v", err)
		}
		a.files[file] = f
	}
	if f == nil {
		return true // told
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if funcName(d) == name {
				return true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if t, ok := s.(*ast.TypeSpec); ok && t.Name.Name == name {
					return true
				}
				if v, ok := s.(*ast.ValueSpec); ok && slices.ContainsFunc(v.Names, func(i *ast.Ident) bool { return i.Name == name }) {
					return true
				}
			}
		}
	}
	return false
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if i, ok := t.(*ast.Ident); ok {
		return i.Name + "." + d.Name.Name
	}
	return ""
}

// places checks that what a text names exists, and returns how many places in code and
// how many tests it names.
func (a *auditor) places(what, text string) (code, tests int) {
	for _, m := range place.FindAllStringSubmatch(text, -1) {
		file, name, named := m[1], m[2], m[3]
		if !a.has(file, name) {
			a.fault("%s: %s has no %s", what, file, name)
		}
		if named != "" && !strings.Contains(a.read(file), strconv.Quote(named)) {
			a.fault("%s: %s has no case %q", what, file, named)
		}
		switch {
		case !strings.HasSuffix(file, "_test.go"):
			code++
		case strings.HasPrefix(name, "Test"), strings.HasPrefix(name, "Fuzz"):
			tests++
		default:
			a.fault("%s: %s is no test", what, name)
		}
	}
	for _, m := range script.FindAllStringSubmatch(text, -1) {
		if _, err := fs.Stat(a.tree, path.Join("testdata/scripts", m[1])); err != nil {
			a.fault("%s: no script %s", what, m[1])
		}
		tests++
	}
	return code, tests
}

// audit returns what is wrong with docs/audit.md.
func audit(tree fs.FS) []string {
	a := &auditor{tree: tree, files: map[string]*ast.File{}}
	crypto, threats, text := a.read("docs/format/crypto.md"), a.read("docs/threat-model.md"), a.read("docs/audit.md")
	musts, attacks := a.numbers("crypto.md", crypto, "C"), a.numbers("threat-model.md", threats, "A")
	seen := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		n, cells := m[1], m[2]
		if seen[n] {
			a.fault("audit.md: %s twice", n)
		}
		seen[n] = true
		if !slices.Contains(musts, n) && !slices.Contains(attacks, n) {
			a.fault("audit.md: %s is promised nowhere", n)
		}
		code, tests := a.places("audit.md: "+n, cells)
		if tests == 0 || code == 0 && n[0] == 'C' {
			a.fault("audit.md: %s has %d places in code and %d tests", n, code, tests)
		}
	}
	for _, n := range slices.Concat(musts, attacks) {
		if !seen[n] {
			a.fault("audit.md: no row for %s", n)
		}
	}
	// An attack dies at a requirement.
	for _, m := range regexp.MustCompile(`(?m)^\| (A[0-9]+) \|.*\| ([^|]*) \|$`).FindAllStringSubmatch(threats, -1) {
		stops := regexp.MustCompile(`C[0-9]+`).FindAllString(m[2], -1)
		if len(stops) == 0 {
			a.fault("threat-model.md: %s dies nowhere", m[1])
		}
		for _, c := range stops {
			if !slices.Contains(musts, c) {
				a.fault("threat-model.md: %s dies at %s, which crypto.md has not", m[1], c)
			}
		}
	}
	a.places("audit.md", row.ReplaceAllString(text, ""))
	for _, m := range anyFile.FindAllStringSubmatch(text, -1) {
		if _, err := fs.Stat(tree, path.Clean(m[1])); err != nil {
			a.fault("audit.md: %s does not exist", m[1])
		}
	}
	return a.faults
}

// Every requirement of crypto.md and every attack of threat-model.md has a row in
// audit.md, and what that names exists.
func TestAudit(t *testing.T) {
	for _, fault := range audit(os.DirFS("..")) {
		t.Error(fault)
	}
}

// TestAudit can fail.
func TestAuditFinds(t *testing.T) {
	whole := func() fstest.MapFS {
		m := fstest.MapFS{}
		for name, text := range map[string]string{
			"docs/format/crypto.md":          "# Keys\n\n**C1.** One.\n\n**C2.** Two, see C1.\n",
			"docs/threat-model.md":           "| A1 | somebody | tries | C2 |\n",
			"docs/audit.md":                  "| C1 | one | `lib/a.go:F` | `lib/a_test.go:TestF` \"a case\" |\n| C2 | two | `lib/a.go:T.M` `lib/a.go:T` | `s.txtar` |\n| A1 | `lib/a_test.go:TestF` |\n",
			"lib/a.go":                       "package a\ntype T int\nfunc F() {}\nfunc (t *T) M() {}\n",
			"lib/a_test.go":                  "package a\nfunc TestF() { _ = \"a case\" }\nfunc helper() {}\n",
			"testdata/scripts/s.txtar":       "# A script.\n",
			"testdata/scripts/another.txtar": "# Another.\n",
		} {
			m[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return m
	}
	if faults := audit(whole()); len(faults) > 0 {
		t.Fatal(faults)
	}
	for name, c := range map[string]struct{ file, from, to, want string }{
		"no row":                  {"docs/format/crypto.md", "Two, see C1.\n", "Two.\n\n**C3.** Three.\n", "no row for C3"},
		"a number left out":       {"docs/format/crypto.md", "**C2.**", "**C3.**", "crypto.md: no C2"},
		"a number twice":          {"docs/format/crypto.md", "**C2.**", "**C1.**", "crypto.md: C1 twice"},
		"none at all":             {"docs/format/crypto.md", "**", "", "crypto.md: no C1"},
		"an attack without a row": {"docs/threat-model.md", "| A1 |", "| A1 | x | y | C1 |\n| A2 |", "no row for A2"},
		"an attack that lives":    {"docs/threat-model.md", "| C2 |", "| nothing |", "A1 dies nowhere"},
		"dies at nothing":         {"docs/threat-model.md", "| C2 |", "| C7 |", "which crypto.md has not"},
		"a row for nothing":       {"docs/audit.md", "| C2 |", "| C4 |", "C4 is promised nowhere"},
		"a row twice":             {"docs/audit.md", "| C2 |", "| C1 |", "C1 twice"},
		"no code":                 {"docs/audit.md", "`lib/a.go:F`", "somewhere", "C1 has 0 places in code"},
		"no test":                 {"docs/audit.md", "`s.txtar`", "some script", "C2 has 2 places in code and 0 tests"},
		"no such file":            {"docs/audit.md", "`lib/a.go:F`", "`lib/b.go:F`", "lib/b.go"},
		"no such function":        {"docs/audit.md", "`lib/a.go:F`", "`lib/a.go:G`", "lib/a.go has no G"},
		"no such method":          {"docs/audit.md", "T.M", "T.N", "lib/a.go has no T.N"},
		"a function renamed":      {"lib/a.go", "func F()", "func G()", "lib/a.go has no F"},
		"a test renamed":          {"lib/a_test.go", "TestF", "TestG", "lib/a_test.go has no TestF"},
		"a case renamed":          {"lib/a_test.go", "a case", "another", `no case "a case"`},
		"a test that is none":     {"docs/audit.md", "TestF", "helper", "helper is no test"},
		"no such script":          {"docs/audit.md", "`s.txtar`", "`t.txtar`", "no script t.txtar"},
		"a file in the text":      {"docs/audit.md", "| A1 |", "See `lib/c`.\n\n| A1 |", "lib/c does not exist"},
		"a place in the text":     {"docs/audit.md", "| A1 |", "See `lib/a.go:Z`.\n\n| A1 |", "lib/a.go has no Z"},
	} {
		tree := whole()
		text := string(tree[c.file].Data)
		changed := strings.ReplaceAll(text, c.from, c.to)
		tree[c.file] = &fstest.MapFile{Data: []byte(changed)}
		faults := strings.Join(audit(tree), "\n")
		if !strings.Contains(faults, c.want) || changed == text {
			t.Errorf("%s: found %q, want %q", name, faults, c.want)
		}
	}
}

// No program has another source of randomness than the system's: math/rand may not be
// imported where anything is drawn that must be secret or must not come twice.
func TestRandomness(t *testing.T) {
	found := 0
	err := fs.WalkDir(os.DirFS(".."), "lib", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		b, err := os.ReadFile("../" + file)
		if err != nil {
			return err
		}
		found++
		if careless(b) && !strings.HasPrefix(file, "lib/store/storetest/") { // which is for tests
			t.Errorf("%s imports math/rand", file)
		}
		return nil
	})
	if err != nil || found < 100 {
		t.Errorf("%d files, %v", found, err)
	}
	for _, bad := range []string{"math/rand", "math/rand/v2"} {
		if !careless([]byte("package x\nimport (\n\t\"bytes\"\n\tr \"" + bad + "\"\n)\n")) {
			t.Errorf("this test does not find %s", bad)
		}
	}
}

func careless(src []byte) bool {
	f, err := parser.ParseFile(token.NewFileSet(), "", src, parser.ImportsOnly)
	return err != nil || slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
		return i.Path.Value == `"math/rand"` || strings.HasPrefix(i.Path.Value, `"math/rand/`)
	})
}
