package preserve_test

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
	anyFile = regexp.MustCompile("`((?:lib|docs|testdata|scripts|systest|cmd)/[^` :*…]+)`")
)

// numbers returns the numbers of a kind that a document gives away, which must go up
// by one.
func (a *auditor) numbers(doc, text, kind string) (all []string) {
	for _, m := range promised.FindAllStringSubmatch(text, -1) {
		if m[1] != kind {
			continue
		}
		all = append(all, m[1]+m[2])
		if m[2] != strconv.Itoa(len(all)) {
			a.fault("%s: %s%s comes where %s%d belongs", doc, kind, m[2], kind, len(all))
		}
	}
	if len(all) == 0 {
		a.fault("%s: no %s1", doc, kind)
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
	for _, fault := range audit(os.DirFS(".")) {
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
		"a number left out":       {"docs/format/crypto.md", "**C2.**", "**C3.**", "C3 comes where C2 belongs"},
		"none at all":             {"docs/format/crypto.md", "**", "", "no C1"},
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

// secretCode are the packages that handle secrets, and what they must not use: all
// comparisons go through key.Equal, all randomness comes from crypto/rand.
var secretCode = []string{"lib/key", "lib/box", "lib/tools/key", "lib/tools/seal"}

func TestSecretsAreComparedAndDrawnWell(t *testing.T) {
	found := 0
	for _, dir := range append(slices.Clone(secretCode), "lib/pack", "lib/store") {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range names {
			file := path.Join(dir, d.Name())
			if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found++
			for _, fault := range careless(file, b, slices.Contains(secretCode, dir)) {
				t.Error(fault)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d files were looked at", found)
	}
	bad := "package x\nimport (\n\"math/rand/v2\"\n\"bytes\"\n)\nvar a = bytes.Equal(nil, nil)\nvar b = bytes.HasPrefix(nil, nil)\n"
	if got := careless("x.go", []byte(bad), true); len(got) != 2 {
		t.Errorf("this test finds nothing: %q", got)
	}
}

// careless returns what a file uses that it must not.
func careless(name string, src []byte, secrets bool) (faults []string) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, 0)
	if err != nil {
		return []string{err.Error()}
	}
	for _, i := range f.Imports {
		if strings.HasPrefix(i.Path.Value, `"math/rand`) {
			faults = append(faults, fmt.Sprintf("%s: imports %s", name, i.Path.Value))
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && secrets {
			x, _ := s.X.(*ast.Ident)
			if x != nil && (x.Name == "bytes" || x.Name == "slices" || x.Name == "hmac" || x.Name == "reflect") &&
				slices.Contains([]string{"Equal", "Compare", "EqualFunc", "DeepEqual"}, s.Sel.Name) {
				faults = append(faults, fmt.Sprintf("%s: %s.%s", set.Position(s.Pos()), x.Name, s.Sel.Name))
			}
		}
		return true
	})
	return faults
}
