package pattern

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// words are what random patterns and names are made of.
var (
	words = []string{"a", "b", "c", "ab", "A", "x.o", "\xff", "é", "{a,b}", "{", " ", "#", "!", "-", "]", "^", "1", "_",
		"*", "*", "*", "?", "**", "***", "/", "/", "/", "/**/", "**/", "/**", "[ab]", "[!a]", "[^b-c]", "[a-c1]", "[]x]",
		"[[:alpha:]]", "[![:digit:]_]", "[[:punct:]]", "[\xc3\xff]", "[\\]a-]", "\\*", "\\a", "\\\\", "\\ ", "[", "[b-a]", "[[:no:]]", "\\"}
	bits = []string{"a", "b", "c", "ab", "ba", "A", "x.o", "\xff", "é", "{a,b}", " ", "#", "!a", "-", "]", "^", "1", "_", "*", "\\", "[", "a b", "abc"}
)

// odd patterns are treated by some versions of git against its own manual, which
// says that "**" beside other bytes is as good as "*": what it does then depends
// on the literal bytes in front, which it compares apart.
func odd(text string) bool {
	if !strings.Contains(strings.TrimSuffix(text, "/"), "/") {
		return false
	}
	for i := 0; i < len(text); {
		at := strings.Index(text[i:], "**")
		if at < 0 {
			return false
		}
		at += i
		end := at
		for end < len(text) && text[end] == '*' {
			end++
		}
		front := at == 0 || text[at-1] == '/' || at == 1 && text[0] == '!'
		if !front && (end == len(text) || text[end] == '/' || strings.HasPrefix(text[end:], "\\")) {
			return true
		}
		i = end
	}
	return false
}

// A tree on disk in which git looks, and its paths.
func gitTree(t *testing.T, r *rand.Rand) (dir string, paths map[string]bool) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("PV_NO_SKIP") == "1" {
			t.Fatal("git is not installed")
		}
		t.Skip("git is not installed: nothing was compared with it")
	}
	dir = t.TempDir()
	paths = map[string]bool{}
	name := func() string { return bits[r.IntN(len(bits))] }
	for range 150 {
		path := name()
		for range r.IntN(4) {
			path += "/" + name()
		}
		isDir := r.IntN(4) == 0
		full := filepath.Join(dir, path)
		if os.MkdirAll(filepath.Dir(full), 0o755) != nil {
			continue // there is a file in the way
		}
		if isDir {
			_ = os.Mkdir(full, 0o755)
		} else if _, err := os.Lstat(full); err != nil {
			if err := os.WriteFile(full, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); rel != "." {
			paths[rel] = d.IsDir()
		}
		return err
	})
	if err != nil || len(paths) < 100 {
		t.Fatal(len(paths), err)
	}
	git(t, dir, nil, "init", "-q", ".")
	return dir, paths
}

func git(t *testing.T, dir string, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_DIR="+filepath.Join(dir, ".git"), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if e, ok := err.(*exec.ExitError); err != nil && !(ok && e.ExitCode() == 1 && stderr.Len() == 0) { // 1: nothing is ignored
		t.Fatal(args, err, stderr.String())
	}
	return out
}

// decide is what git does with a path: the first directory above it that a rule
// leaves out decides.
func decide(l *List, paths map[string]bool, path string) *Rule {
	for i := range path {
		if path[i] == '/' {
			if r := l.Match(path[:i], true); r != nil && !r.Negated {
				return r
			}
		}
	}
	return l.Match(path, paths[path])
}

func TestAgainstGit(t *testing.T) {
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("PV_SEED"), 10, 64); err == nil {
		seed = s
	}
	r := rand.New(rand.NewPCG(seed, 2))
	dir, paths := gitTree(t, r)
	var names []string
	var stdin bytes.Buffer
	for p := range paths {
		names = append(names, p)
		stdin.WriteString(p + "\x00")
	}
	var patterns, matches, refused, skipped int
	for range 300 {
		fold := r.IntN(4) == 0
		l := &List{}
		var file bytes.Buffer
		for line := 1; line <= 12; line++ {
			text := ""
			if r.IntN(5) == 0 {
				text = "!"
			}
			for range 1 + r.IntN(5) {
				text += words[r.IntN(len(words))]
			}
			// With icase, git does not fold what is in brackets.
			if odd(text) || fold && strings.ContainsAny(text, "[") {
				text = "nothing"
				skipped++
			}
			file.WriteString(text + "\n")
			// A line at a time: those that are no patterns must match nothing.
			if err := l.AddFile(strings.NewReader(strings.Repeat("\n", line-1)+text+"\n"), "F", fold); err != nil {
				refused++
			}
			patterns++
		}
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		out := git(t, dir, stdin.Bytes(), "-c", fmt.Sprintf("core.ignorecase=%v", fold), "check-ignore", "-v", "-n", "-z", "--no-index", "--stdin")
		fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if len(fields) != 4*len(names) {
			t.Fatalf("%d fields for %d paths", len(fields), len(names))
		}
		for ; len(fields) > 0; fields = fields[4:] {
			line, text, path := fields[1], fields[2], fields[3]
			rule := decide(l, paths, path)
			got := ""
			if rule != nil {
				got = strings.TrimPrefix(rule.From, "F:")
				matches++
			}
			if got != line {
				t.Errorf("%q (directory: %v, fold: %v): %v, and git has line %q, %q", path, paths[path], fold, rule, line, text)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, patterns:\n%s", seed, file.String())
		}
	}
	if matches < 1000 {
		t.Errorf("only %d matches: this compares nothing", matches)
	}
	t.Logf("%d patterns on %d paths, %d decided, %d refused, %d left out as odd", patterns, len(paths), matches, refused, skipped)
}
