package lib_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/messages.txt anew")

const messageFile = "../testdata/messages.txt"

// speaking are the functions and methods whose first argument is a message or a part of one.
var speaking = map[string]string{
	"New": "error", "Errorf": "error", "Usagef": "usage", "Say": "say", "Warn": "warn", "Notice": "notice",
}

// messages is the texts of one file, with what they are.
func messages(f *ast.File) (all []string) {
	add := func(kind string, e ast.Expr) {
		if text, ok := literal(e); ok && text != "" && text != "%s" && text != "%v" {
			all = append(all, fmt.Sprintf("%-6s %q", kind, text))
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := ""
			switch fn := n.Fun.(type) {
			case *ast.Ident:
				name = fn.Name
			case *ast.SelectorExpr:
				name = fn.Sel.Name
				if x, is := fn.X.(*ast.Ident); name == "New" && (!is || x.Name != "errors") {
					name = ""
				}
			}
			if kind := speaking[name]; kind != "" && len(n.Args) > 0 {
				add(kind, n.Args[0])
			}
		case *ast.CompositeLit:
			name := ""
			switch t := n.Type.(type) {
			case *ast.Ident:
				name = t.Name
			case *ast.SelectorExpr:
				name = t.Sel.Name
			}
			for i, e := range n.Elts {
				pair, named := e.(*ast.KeyValueExpr)
				switch {
				case name == "Hint" && named && fmt.Sprint(pair.Key) == "Text":
					add("hint", pair.Value)
				case name == "Hint" && !named && i == 1:
					add("hint", e)
				case name == "UsageError" && named:
					add("usage", pair.Value)
				case name == "UsageError":
					add("usage", e)
				}
			}
		}
		return true
	})
	return all
}

// literal is the value of a text that is written out, in one piece or several.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, xok := literal(e.X)
		y, yok := literal(e.Y)
		switch {
		case xok && yok:
			return x + y, true
		case xok:
			return x + "…", true
		case yok:
			return "…" + y, true
		}
	case *ast.CallExpr: // fmt.Sprintf(…)
		if fn, is := e.Fun.(*ast.SelectorExpr); is && fn.Sel.Name == "Sprintf" && len(e.Args) > 0 {
			return literal(e.Args[0])
		}
	case *ast.ParenExpr:
		return literal(e.X)
	}
	return "", false
}

// All messages stand in one file, so that whoever changes one, or adds one, sees it beside the
// others, and so does whoever reviews the change.
func TestMessages(t *testing.T) {
	texts := map[string][]string{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		pkg := "lib/" + filepath.ToSlash(filepath.Dir(file))
		texts[pkg] = append(texts[pkg], messages(f)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# All messages, by package: go test ./lib -run TestMessages -update writes this file.\n")
	for _, pkg := range slices.Sorted(maps.Keys(texts)) {
		if list := texts[pkg]; len(list) > 0 {
			slices.Sort(list)
			b.WriteString("\n" + pkg + "\n  " + strings.Join(slices.Compact(list), "\n  ") + "\n")
		}
	}
	if *update {
		if err := os.WriteFile(messageFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(messageFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) == b.String() {
		return
	}
	old, now := strings.Split(string(have), "\n"), strings.Split(b.String(), "\n")
	for _, line := range now {
		if !slices.Contains(old, line) {
			t.Errorf("new: %s", strings.TrimSpace(line))
		}
	}
	for _, line := range old {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", strings.TrimSpace(line))
		}
	}
	t.Errorf("%s is not what the code says: if the code is right, run go test ./lib -run TestMessages -update", messageFile)
}

// What is no message is not taken for one, and each way to say something is found.
func TestMessagesAreFound(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
func f() {
	_ = errors.New("one")
	_ = bytes.New("not this")
	_ = fmt.Errorf("two %w" + " and", err)
	env.Warn("three")
	env.Say("four " + name)
	_ = tool.Usagef("five")
	_ = &tool.Hint{Err: err, Text: "six"}
	_ = &tool.Hint{err, "seven"}
	_ = &UsageError{"eight"}
	env.Notice("%s", text)
	log.Debug("not this either")
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := `error  "one" error  "two %w and" hint   "seven" hint   "six" say    "four …" usage  "eight" usage  "five" warn   "three"`
	got := messages(f)
	slices.Sort(got)
	if strings.Join(got, " ") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, " "), want)
	}
}
