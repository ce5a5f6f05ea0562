// Package lib_test holds the house's rules about who imports whom.
package lib_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Modules of others. Each is used by as few packages as can be.
const (
	msgpack  = "github.com/vmihailenco/msgpack/v5"
	compress = "github.com/klauspost/compress"
	crypto   = "golang.org/x/crypto"
	sys      = "golang.org/x/sys"
	scripts  = "github.com/rogpeppe/go-internal"
	globs    = "github.com/bmatcuk/doublestar/v4"
)

// allowed is what each package may import of ours (without "preserve/lib/") and
// of others, in order of floors: a package imports lower floors only. What a
// package does not import it need not be allowed. A new package needs a line.
var allowed = []struct {
	floor int
	pkg   string
	of    []string
}{
	// Nouns: one thing each.
	{0, "confine", []string{sys}},
	{0, "id", nil},
	{0, "wire", []string{msgpack}},
	{0, "par", nil},
	{0, "durable", []string{sys}},
	{0, "cdc", nil},
	{0, "bounds", nil},
	{0, "spool", []string{sys}},
	{0, "acl", nil},
	{0, "visible", nil},
	{0, "vectors", nil}, // tests only
	{1, "keep", []string{"id"}},
	{1, "pattern", []string{globs, "visible"}},
	{1, "tool", []string{"confine", "visible", sys}},
	{2, "remote", []string{"tool", sys}},
	{1, "rec", []string{"id", "visible", "wire"}},
	{1, "key", []string{"durable", crypto, sys}},
	{1, "ids", []string{"id", "spool"}},
	{2, "pack", []string{"id", "rec", "wire"}},
	{2, "inode", []string{"acl", "rec", sys}},
	{3, "source", []string{"inode", "rec", sys}},
	{4, "scan", []string{"inode", "rec", "source", sys}},
	{3, "target", []string{"acl", "inode", "rec", sys}},
	{2, "treetest", []string{"rec", sys}}, // tests only
	{2, "tarball", []string{"acl", "rec", "spool", "wire"}},
	{2, "jsontext", []string{"rec", "visible", "wire"}},
	{2, "box", []string{"id", "key", compress, crypto, sys}},
	{2, "page", []string{"id", "rec", "wire"}},
	{2, "cache", []string{"durable", "id", "ids", "key", "rec", "wire", sys}},
	{2, "snap", []string{"id", "rec", "wire"}},
	{1, "objects", []string{"durable", sys}},
	{2, "objects/objectstest", []string{"objects"}}, // tests only
	{3, "store", []string{"id", "objects", "pack", "rec", "visible", "wire", sys}},
	{3, "content", []string{"id", "page", "par", "rec", "snap", "spool"}},
	{4, "walk", []string{"box", "content", "id", "page", "par", "rec", "snap"}},
	{4, "reading", []string{"acl", "content", "id", "inode", "page", "pattern", "rec", "snap", "tool", "visible"}},
	{5, "unseal", []string{"box", "content", "id", "key", "reading", "rec", "remote", "snap", "tool", "walk"}},
	{4, "sealtest", []string{"box", "key", "page", "rec", "snap", "wire"}}, // tests only
	{4, "job", []string{"durable", "id", "remote", "tool", sys}},
	{4, "check", []string{"id", "pack", "rec", "store", sys}},
	{4, "store/storetest", []string{"id", "pack", "rec", "store"}}, // tests only

	// Verbs: the tools. Only they combine nouns, and none imports another.
	{6, "tools/scan", []string{"content", "inode", "pattern", "rec", "scan", "source", "tool"}},
	{6, "tools/chunk", []string{"bounds", "cache", "cdc", "confine", "id", "ids", "inode", "key", "par", "pattern", "rec", "source", "spool", "tool"}},
	{6, "tools/seal", []string{"confine", "bounds", "box", "cache", "id", "ids", "key", "page", "par", "rec", "snap", "tool", "wire"}},
	{6, "tools/put", []string{"confine", "id", "rec", "remote", "store", "tool"}},
	{6, "tools/get", []string{"confine", "id", "ids", "rec", "remote", "store", "tool"}},
	{6, "tools/open", []string{"box", "confine", "content", "id", "jsontext", "key", "page", "reading", "rec", "snap", "spool", "tool", "unseal", "visible", "walk"}},
	{6, "tools/unpack", []string{"confine", "content", "id", "inode", "page", "pattern", "reading", "rec", "snap", "spool", "target", "tool", "unseal"}},
	{6, "tools/ls", []string{"confine", "content", "id", "jsontext", "page", "reading", "rec", "snap", "tool"}},
	{6, "tools/diff", []string{"confine", "content", "inode", "page", "reading", "rec", "scan", "source", "tool"}},
	{6, "tools/join", []string{"confine", "content", "id", "page", "reading", "rec", "snap", "tool"}},
	{6, "tools/tar", []string{"confine", "content", "id", "reading", "rec", "snap", "tarball", "tool"}},
	{6, "tools/key", []string{"key", "tool", sys}},
	{6, "tools/json", []string{"confine", "jsontext", "rec", "tool", "wire"}},
	{6, "tools/tee", []string{"rec", "tool"}},
	{6, "tools/job", []string{"job", "remote", "tool"}},
	{6, "tools/keep", []string{"confine", "id", "keep", "tool"}},
	{6, "tools/gc", []string{"confine", "id", "ids", "remote", "store", "tool"}},
	{6, "tools/check", []string{"check", "confine", "id", "remote", "store", "tool"}},
	{6, "tools/serve", []string{"tool", sys}},
}

// bare packages never reach these, not even through others: whoever runs them
// need not be trusted with a key.
var bare = []string{"tools/put", "tools/get", "tools/tee", "tools/serve", "tools/job", "tools/keep", "tools/gc", "tools/check", "tools/ls", "tools/diff", "tools/join", "tools/tar", "tools/json", "tools/scan"}
var secret = []string{"key", "box"}

// TestBareToolsDropKeys: a tool that needs no key has none, though pv-key hold hands it to all that it starts: it drops
// it before anything else. pv-job hands it on.
func TestBareToolsDropKeys(t *testing.T) {
	for _, pkg := range bare {
		files, err := filepath.Glob(filepath.FromSlash(pkg) + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(pkg, files, err)
		}
		first := ""
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, body, is := strings.Cut(string(text), "\nfunc Run(env *tool.Env) ")
			if _, body, _ = strings.Cut(body, "{\n"); is {
				first, _, _ = strings.Cut(body, "\n")
			}
		}
		if drops := strings.TrimSpace(first) == "env.DropKey()"; drops == (pkg == "tools/job") {
			t.Errorf("%s begins with %q", pkg, strings.TrimSpace(first))
		}
	}
}

// imports returns what the .go files of each package import, tests apart.
func imports(t *testing.T) (code, tests map[string][]string) {
	t.Helper()
	code, tests = map[string][]string{}, map[string][]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		into := code
		if strings.HasSuffix(file, "_test.go") {
			into = tests
		}
		into[pkg] = append(into[pkg], "")
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			into[pkg] = append(into[pkg], name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return code, tests
}

// Nothing above objects opens a file of a repository by itself.
func TestRepositoriesAreObjects(t *testing.T) {
	code, _ := imports(t)
	for _, pkg := range []string{"lib/store", "lib/check"} {
		if len(code[pkg]) == 0 {
			t.Errorf("%s was not found", pkg)
		}
		for _, dep := range code[pkg] {
			if dep == "os" || dep == "path/filepath" {
				t.Errorf("%s imports %s: a repository need not be a directory", pkg, dep)
			}
		}
	}
}

// standard reports whether a path is of the standard library.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return p == "" || first != "preserve" && !strings.Contains(first, ".")
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func verb(p string) bool { return under(p, "preserve/lib/tools") || under(p, "preserve/cmd") }

func TestImportOrder(t *testing.T) {
	code, tests := imports(t)
	if len(code) < len(allowed) {
		t.Fatalf("only %d packages were found", len(code))
	}
	floor := map[string]int{}
	of := map[string][]string{}
	for _, a := range allowed {
		floor[a.pkg], of[a.pkg] = a.floor, a.of
		for _, dep := range a.of {
			if strings.Contains(dep, ".") {
				continue
			}
			if f, known := floor[dep]; !known || f >= a.floor {
				t.Errorf("the table itself: %s, on floor %d, may not be allowed %s", a.pkg, a.floor, dep)
			}
		}
		if len(code["lib/"+a.pkg]) == 0 {
			t.Errorf("the table has a line for %s, which does not exist", a.pkg)
		}
	}
	for pkg, list := range code {
		name, isLib := strings.CutPrefix(pkg, "lib/")
		may, known := of[name]
		switch {
		case under(pkg, "cmd"):
			own := strings.TrimPrefix(path.Base(pkg), "pv-")
			may = []string{"tool", "tools/" + own}
		case pkg == "test/bench", pkg == "test/randomness", pkg == "test/systest": // they run the programs, and import none of ours
			may = []string{sys}
		case !isLib || !known:
			t.Errorf("%s has no line in the table of allowed imports", pkg)
			continue
		}
		for _, p := range list {
			ours, isOurs := strings.CutPrefix(p, "preserve/lib/")
			ok := slices.ContainsFunc(may, func(m string) bool {
				if isOurs {
					return m == ours
				}
				return strings.Contains(m, ".") && under(p, m)
			})
			if !standard(p) && !ok {
				t.Errorf("%s may not import %s", pkg, p)
			}
		}
	}
	for pkg, list := range tests {
		for _, p := range list {
			switch {
			case pkg == "test": // the test binary that holds every tool
			case verb(p) && !verb("preserve/"+pkg):
				t.Errorf("a test of the noun %s may not import the verb %s", pkg, p)
			case under(p, scripts):
				t.Errorf("a test of %s may not import %s", pkg, p)
			}
		}
	}
}

func TestStoresNeverReachKeys(t *testing.T) {
	code, _ := imports(t)
	for _, tool := range bare {
		reached := map[string]bool{}
		next := []string{"lib/" + tool, "cmd/pv-" + path.Base(tool)}
		for len(next) > 0 {
			pkg := next[0]
			next = next[1:]
			if reached[pkg] {
				continue
			}
			if len(code[pkg]) == 0 {
				t.Fatalf("%s does not exist", pkg)
			}
			reached[pkg] = true
			for _, p := range code[pkg] {
				if ours, ok := strings.CutPrefix(p, "preserve/"); ok {
					next = append(next, ours)
				}
			}
		}
		for _, s := range secret {
			if reached["lib/"+s] {
				t.Errorf("%s reaches %s through %v", tool, s, slices.Sorted(maps.Keys(reached)))
			}
		}
	}
}

// Every tool is nine lines over lib/, has its manual page, and is the only place
// where a process ends.
func TestCommands(t *testing.T) {
	mains, err := filepath.Glob("../cmd/*/*.go")
	if err != nil || len(mains) == 0 {
		t.Fatal(mains, err)
	}
	for _, file := range mains {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := path.Base(filepath.Dir(file))
		if n := strings.Count(string(b), "\n"); n > 9 {
			t.Errorf("%s: %d lines", file, n)
		}
		if !strings.Contains(string(b), "// Command "+name+" is described in docs/man/"+name+".md.\n") {
			t.Errorf("%s does not name its manual page", file)
		}
		if _, err := os.Stat("../docs/man/" + name + ".md"); err != nil {
			t.Error(err)
		}
	}
}

func TestOneExit(t *testing.T) {
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		b, err := os.ReadFile(file)
		if strings.Contains(string(b), "os.Exit(") && filepath.ToSlash(file) != "tool/tool.go" {
			t.Errorf("%s: only tool.Main ends the process", file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
