package lib_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is secret by itself. A type that holds one of these is secret too.
var secretTypes = []string{
	"preserve/lib/key.Secret", "preserve/lib/key.Key", "preserve/lib/key.values",
	"crypto/ed25519.PrivateKey", "crypto/hpke.PrivateKey",
}

// Calls whose result is a secret's bytes.
var secretBytes = []string{
	"(preserve/lib/key.Secret).Bytes", "(*preserve/lib/key.Key).field", "(*preserve/lib/key.Key).body",
	"preserve/lib/key.expand", "preserve/lib/key.NewPhrase", "preserve/lib/key.normal",
	"(preserve/lib/key.Cost).stretch", "(*preserve/lib/box.session).blobKey",
	"preserve/lib/tool.ReadSecret", "(*preserve/lib/tool.Terminal).AskSecret",
	"(crypto/ed25519.PrivateKey).Seed", "(crypto/hpke.PrivateKey).Bytes",
}

// Calls that print, quote or encode what they are given; all functions of a package
// that ends in a dot. Terminal.Show is none: a passphrase is shown on the terminal,
// once, and nowhere else.
var printing = []string{
	"fmt.", "log.", "log/slog.", "encoding/json.", "encoding/hex.", "encoding/base64.", "strconv.",
	"(*log.Logger).", "(*log/slog.Logger).", "(*encoding/json.Encoder).",
	"(*preserve/lib/tool.Env).Say", "(*preserve/lib/tool.Env).Warn", "(*preserve/lib/tool.Env).Notice",
	"preserve/lib/tool.Usagef", "preserve/lib/tool.Mask", "errors.New", "panic", "print", "println",
}

// Calls that compare in a time that depends on what they are given, or beside the
// one helper, key.Equal.
var comparing = []string{
	"bytes.Equal", "bytes.EqualFold", "bytes.Compare", "bytes.HasPrefix", "bytes.HasSuffix", "bytes.Contains",
	"slices.Equal", "slices.Compare", "slices.Contains", "slices.Index", "reflect.DeepEqual", "strings.Compare",
	"strings.EqualFold", "cmp.Compare", "crypto/hmac.Equal", "crypto/subtle.",
}

// Where secrets are at home: there nothing is compared otherwise than by key.Equal.
var homes = []string{"preserve/lib/key", "preserve/lib/box"}

// Arrays of bytes that are no secrets, and may be compared.
var public = []string{"preserve/lib/id.ID", "preserve/lib/key.ID"}

// A secrecy is the search of one package for misuses.
type secrecy struct {
	fset  *token.FileSet
	info  *types.Info
	home  bool
	taint map[types.Object]bool // variables with a secret's bytes
	found []string
}

func (s *secrecy) report(n ast.Node, format string, args ...any) {
	p := s.fset.Position(n.Pos())
	s.found = append(s.found, fmt.Sprintf("%s:%d: ", p.Filename, p.Line)+fmt.Sprintf(format, args...))
}

// isSecret reports whether a value of type t is or holds a secret.
func isSecret(t types.Type) bool { return holds(t, map[types.Type]bool{}) }

func holds(t types.Type, seen map[types.Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	seen[t] = true
	if n, ok := types.Unalias(t).(*types.Named); ok {
		if slices.Contains(secretTypes, types.TypeString(n, nil)) {
			return true
		}
		if p := n.Obj().Pkg(); p == nil || !strings.HasPrefix(p.Path(), "preserve/") {
			return false
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		return holds(u.Elem(), seen)
	case *types.Slice:
		return holds(u.Elem(), seen)
	case *types.Array:
		return holds(u.Elem(), seen)
	case *types.Chan:
		return holds(u.Elem(), seen)
	case *types.Map:
		return holds(u.Key(), seen) || holds(u.Elem(), seen)
	case *types.Struct:
		for f := range u.Fields() {
			if holds(f.Type(), seen) {
				return true
			}
		}
	}
	return false
}

// callee names what a call calls: "fmt.Sprintf", "(*T).Method".
func (s *secrecy) callee(c *ast.CallExpr) string {
	fun := ast.Unparen(c.Fun)
	if i, ok := fun.(*ast.IndexExpr); ok {
		fun = i.X
	}
	var o types.Object
	switch f := fun.(type) {
	case *ast.Ident:
		o = s.info.Uses[f]
	case *ast.SelectorExpr:
		o = s.info.Uses[f.Sel]
	}
	switch o := o.(type) {
	case *types.Func:
		return o.Origin().FullName()
	case *types.Builtin:
		return o.Name()
	}
	return ""
}

func listed(name string, list []string) bool {
	return name != "" && slices.ContainsFunc(list, func(l string) bool {
		return l == name || strings.HasSuffix(l, ".") && strings.HasPrefix(name, l)
	})
}

// secret reports whether an expression's value is or holds a secret, or its bytes.
func (s *secrecy) secret(e ast.Expr) bool {
	e = ast.Unparen(e)
	if isSecret(s.info.TypeOf(e)) {
		return true
	}
	switch e := e.(type) {
	case *ast.Ident:
		return s.taint[s.info.ObjectOf(e)]
	case *ast.SliceExpr:
		return s.secret(e.X)
	case *ast.IndexExpr:
		return s.secret(e.X)
	case *ast.StarExpr:
		return s.secret(e.X)
	case *ast.UnaryExpr:
		return s.secret(e.X)
	case *ast.SelectorExpr:
		// The fields of values are all secrets; those of other types say for themselves.
		return types.TypeString(s.info.TypeOf(e.X), nil) == "*preserve/lib/key.values" && e.Sel.Name == "fields"
	case *ast.CallExpr:
		switch name := s.callee(e); {
		case listed(name, secretBytes):
			return true
		case name == "append", name == "bytes.Clone", name == "slices.Clone", name == "bytes.TrimSpace", name == "slices.Concat":
			return slices.ContainsFunc(e.Args, s.secret)
		case s.info.Types[e.Fun].IsType(): // a conversion
			return s.secret(e.Args[0])
		}
	}
	return false
}

// spread marks the variables that get a secret's bytes, in one pass; it reports
// whether there was a new one.
func (s *secrecy) spread(files []*ast.File) (more bool) {
	mark := func(to ast.Expr, from ast.Expr) {
		id, ok := to.(*ast.Ident)
		if !ok || id.Name == "_" || !s.secret(from) {
			return
		}
		o := s.info.ObjectOf(id)
		if o != nil && !s.taint[o] && byteLike(o.Type()) {
			s.taint[o], more = true, true
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					from := n.Rhs[0]
					if len(n.Rhs) == len(n.Lhs) {
						from = n.Rhs[i]
					}
					mark(to, from)
				}
			case *ast.ValueSpec:
				for i, to := range n.Names {
					if len(n.Values) > 0 {
						mark(to, n.Values[min(i, len(n.Values)-1)])
					}
				}
			case *ast.RangeStmt:
				if n.Value != nil {
					mark(n.Value, n.X)
				}
			}
			return true
		})
	}
	return more
}

// byteLike reports whether a variable can hold bytes: not an error or a number that
// came with them.
func byteLike(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Slice, *types.Array, *types.Pointer:
		return true
	case *types.Basic:
		return u.Info()&types.IsString != 0
	}
	return false
}

func (s *secrecy) look(files []*ast.File) {
	for s.spread(files) {
	}
	for _, f := range files {
		helper := map[ast.Node]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if o := s.info.Defs[n.Name]; o != nil && o.(*types.Func).FullName() == "preserve/lib/key.Equal" {
					helper[n.Body] = true
				}
			case *ast.BlockStmt:
				return !helper[n]
			case *ast.BinaryExpr:
				s.compared(n)
			case *ast.SwitchStmt:
				if n.Tag != nil && s.secret(n.Tag) {
					s.report(n, "a switch compares a secret")
				}
			case *ast.CallExpr:
				s.called(n)
			}
			return true
		})
	}
}

func (s *secrecy) compared(n *ast.BinaryExpr) {
	switch n.Op {
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
	default:
		return
	}
	for _, e := range []ast.Expr{n.X, n.Y} {
		if s.info.Types[e].IsNil() || s.info.Types[e].Value != nil {
			return // whether there is one; a word of the format
		}
	}
	for _, e := range []ast.Expr{n.X, n.Y} {
		t := s.info.TypeOf(e)
		a, isArray := t.Underlying().(*types.Array)
		switch {
		case s.secret(e):
			s.report(n, "%s compares a secret", n.Op)
		case s.home && isArray && types.Identical(a.Elem(), types.Typ[types.Byte]) && !slices.Contains(public, types.TypeString(types.Unalias(t), nil)):
			s.report(n, "%s compares bytes where secrets are at home", n.Op)
		default:
			continue
		}
		return
	}
}

func (s *secrecy) called(c *ast.CallExpr) {
	name := s.callee(c)
	secret := slices.ContainsFunc(c.Args, s.secret)
	switch {
	case listed(name, comparing) && (secret || s.home):
		s.report(c, "%s compares where key.Equal belongs", name)
	case listed(name, printing) && secret:
		s.report(c, "%s shows a secret", name)
	}
}

// exports returns an importer of everything that the module is built of.
func exports(t *testing.T, fset *token.FileSet) (types.Importer, []string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}\t{{.Dir}}\t{{.Imports}}", "./lib/...", "./cmd/...", "log", "encoding/base64", "reflect", "encoding/json")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	var users []string // packages of ours that handle keys: directories
	for line := range strings.Lines(string(out)) {
		w := strings.Split(strings.TrimSpace(line), "\t")
		files[w[0]] = w[1]
		imports := strings.Fields(strings.Trim(w[3], "[]"))
		if strings.HasPrefix(w[0], "preserve/") && (slices.Contains(homes, w[0]) || slices.ContainsFunc(homes, func(h string) bool { return slices.Contains(imports, h) })) {
			users = append(users, w[0])
		}
	}
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, errors.New("no export data of " + path)
		}
		return os.Open(files[path])
	}), users
}

// examine type-checks a package and returns its misuses of secrets.
func examine(t *testing.T, fset *token.FileSet, imp types.Importer, pkg string, files []*ast.File) (*types.Package, []string) {
	t.Helper()
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	p, err := (&types.Config{Importer: imp}).Check(pkg, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	s := &secrecy{fset: fset, info: info, home: slices.Contains(homes, pkg), taint: map[types.Object]bool{}}
	s.look(files)
	return p, s.found
}

// TestSecretsStaySecret reads the source of all packages that handle keys: no secret,
// nor what holds one, nor its bytes, is compared but by key.Equal, or printed; and no
// such type can be compared with ==.
func TestSecretsStaySecret(t *testing.T) {
	fset := token.NewFileSet()
	imp, users := exports(t, fset)
	if len(users) < 6 {
		t.Fatalf("only %q handle keys", users)
	}
	kept := 0
	for _, pkg := range users {
		names, err := filepath.Glob(filepath.Join("..", strings.TrimPrefix(pkg, "preserve/"), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var files []*ast.File
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		p, found := examine(t, fset, imp, pkg, files)
		for _, f := range found {
			t.Error(f)
		}
		for _, name := range p.Scope().Names() {
			o, ok := p.Scope().Lookup(name).(*types.TypeName)
			if !ok || !slices.Contains(homes, pkg) || !isSecret(o.Type()) {
				continue
			}
			kept++
			if types.Comparable(o.Type()) {
				t.Errorf("%s.%s holds a secret, and can be compared with ==", pkg, name)
			}
		}
	}
	if kept < 6 {
		t.Errorf("only %d types hold secrets", kept)
	}
}

// TestSecretsTestFinds plants misuses, and wants each of them found, and nothing else.
func TestSecretsTestFinds(t *testing.T) {
	fset := token.NewFileSet()
	imp, _ := exports(t, fset)
	const head = `package planted
import ("bytes"; "crypto/ed25519"; "encoding/hex"; "encoding/json"; "errors"; "fmt"; "log/slog"; "reflect"; "strings"; "preserve/lib/key"; "preserve/lib/tool")
var (_ = bytes.Equal; _ = hex.Dump; _ = json.Marshal; _ = errors.New; _ = fmt.Sprint; _ = slog.Info; _ = reflect.DeepEqual; _ = strings.Compare; _ = key.Equal; _ tool.Env; _ ed25519.PublicKey)
type holder struct { n int; k *key.Key }
var public [32]byte
func f(env *tool.Env, s, r key.Secret, k, l *key.Key, sk ed25519.PrivateKey, h holder, t *tool.Terminal, log *slog.Logger) any {
`
	for body, want := range map[string]string{
		`return k == l`: "== compares",
		`return k != l`: "!= compares",
		`return string(s.Bytes()) == string(r.Bytes())`:                                         "== compares",
		`b := s.Bytes(); c := b[:4]; return string(c) == string(public[:])`:                     "== compares",
		`return [32]byte(s.Bytes()) == public`:                                                  "== compares",
		`return s.Bytes()[0] == public[0]`:                                                      "== compares",
		`switch string(s.Bytes()) { case string(public[:]): }; return nil`:                      "a switch compares",
		`return bytes.Equal(s.Bytes(), public[:])`:                                              "bytes.Equal compares",
		`var b = append([]byte("x"), s.Bytes()...); return bytes.Equal(b, b)`:                   "bytes.Equal compares",
		`return bytes.HasPrefix(sk.Seed(), public[:])`:                                          "bytes.HasPrefix compares",
		`return reflect.DeepEqual(s, r)`:                                                        "reflect.DeepEqual compares",
		`return reflect.DeepEqual(h, h)`:                                                        "reflect.DeepEqual compares",
		`p, _ := tool.ReadSecret(3, 9); return bytes.Equal(p, public[:])`:                       "bytes.Equal compares",
		`p, _ := t.AskSecret("", nil); return strings.EqualFold(string(p), "x")`:                "strings.EqualFold compares",
		`return fmt.Sprintf("%v", s)`:                                                           "fmt.Sprintf shows",
		`return fmt.Errorf("%s", k)`:                                                            "fmt.Errorf shows",
		`return fmt.Sprintf("%x", s.Bytes())`:                                                   "fmt.Sprintf shows",
		`return fmt.Sprint(h, 1)`:                                                               "fmt.Sprint shows",
		`return fmt.Sprint([]*key.Key{k})`:                                                      "fmt.Sprint shows",
		`env.Say("%x", sk); return nil`:                                                         "Say shows",
		`env.Notice("%v", key.NewPhrase()); return nil`:                                         "Notice shows",
		`slog.Info("x", "key", k); return nil`:                                                  "log/slog.Info shows",
		`log.Debug("x", "key", s); return nil`:                                                  "Debug shows",
		`b, _ := json.Marshal(h); return b`:                                                     "json.Marshal shows",
		`b := s.Bytes(); for _, c := range [][]byte{b} { _ = c }; return hex.EncodeToString(b)`: "hex.EncodeToString shows",
		`panic(k)`: "panic shows",
		`return errors.New(string(key.NewPhrase()))`:                                     "errors.New shows",
		`var p []byte; p = s.Bytes(); q := bytes.Clone(p); return fmt.Sprint(string(q))`: "fmt.Sprint shows",
		// What is right.
		`return s.Equal(r) && key.Equal(s.Bytes(), r.Bytes())`:                                                        "",
		`if k == nil { return fmt.Errorf("a %s key %s: %s", k.Kind(), k.ID(), k.String()) }; return k.ID() == l.ID()`: "",
		`b := public[:]; return bytes.Equal(b, nil)`:                                                                  "",
		`pk, _ := k.WriterPublic(); return fmt.Sprintf("%x %d", []byte(pk), h.n)`:                                     "",
		`return t.Show("%s", key.NewPhrase())`:                                                                        "",
		`_, err := tool.ReadSecret(3, 9); return fmt.Sprint(err)`:                                                     "",
	} {
		file, err := parser.ParseFile(fset, "planted.go", head+body+"\n}\n", 0)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		_, found := examine(t, fset, imp, "preserve/lib/planted", []*ast.File{file})
		switch {
		case want == "" && len(found) > 0:
			t.Errorf("%s\n\tis right, but %q", body, found)
		case want != "" && (len(found) != 1 || !strings.Contains(found[0], want)):
			t.Errorf("%s\n\tgives %q, not %q", body, found, want)
		}
	}
	// Where secrets are at home nothing is compared otherwise, secret or not.
	for body, want := range map[string]string{
		`import "bytes"; func f(a, b []byte) bool { return bytes.Equal(a, b) }`:                             "bytes.Equal compares",
		`import "crypto/hmac"; func f(a, b []byte) bool { return hmac.Equal(a, b) }`:                        "hmac.Equal compares",
		`import "crypto/subtle"; func f(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }`: "ConstantTimeCompare compares",
		`func f(a, b [32]byte) bool { return a == b }`:                                                      "== compares bytes",
		`import "preserve/lib/id"; func f(a, b id.ID) bool { return a == b }`:                               "",
		`import "preserve/lib/key"; func f(a, b key.Secret) bool { return a.Equal(b) }`:                     "",
	} {
		file, err := parser.ParseFile(fset, "planted.go", "package box\n"+body, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := examine(t, fset, imp, "preserve/lib/box", []*ast.File{file}); (want == "") != (len(found) == 0) || want != "" && (len(found) != 1 || !strings.Contains(found[0], want)) {
			t.Errorf("%s\n\tgives %q, not %q", body, found, want)
		}
	}
}
