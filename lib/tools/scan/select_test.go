package scan

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "17": 17, "1k": 1024, "3K": 3072, "2M": 2 << 20, "5g": 5 << 30, "1T": 1 << 40,
		"16777215T": 16777215 << 40, "18446744073709551615": math.MaxUint64,
	} {
		if n, err := parseSize(text); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "+1", "1.5K", "1KB", "1P", "16777216T", "18446744073709551616", "1 K"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}

// The order on the command line decides between flags of all kinds.
func TestOrder(t *testing.T) {
	dir := tmp(t)
	for _, f := range []string{"a.x", "A.X", "b.x", "c"} {
		write(t, filepath.Join(dir, f), "")
	}
	write(t, filepath.Join(dir, "..", "rules"), "!b.x\n")
	rules := filepath.Join(dir, "..", "rules")
	for _, c := range []struct {
		args string
		want string
	}{
		{"--exclude *.x", "A.X c"},
		{"--exclude *.x --exclude-from RULES", "A.X b.x c"},
		{"--exclude-from RULES --exclude *.x", "A.X c"},
		{"--iexclude *.x --include a.x", "a.x c"},
		{"--iexclude *.x --iinclude a.x", "A.X a.x c"},
		{"--iexclude *.x --iinclude a.x --exclude a.x", "A.X c"},
		{"--exclude * --iexclude-from RULES --include c", "b.x c"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "RULES", rules))
		s := run(t, append(args, "-C", dir, ".")...)
		if got := strings.Join(s.paths[1:], " "); got != c.want || s.status != 0 || s.stderr != "" {
			t.Errorf("%s: %s, status %d, %s", c.args, got, s.status, s.stderr)
		}
	}
}

// A path that is not UTF-8 is left out by its bytes, listed by them, and asked
// about by them.
func TestBytes(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "d/\xff\xfe"), "")
	write(t, filepath.Join(dir, "d/\xff\xfd"), "")
	if s := run(t, "--exclude", "\xff\xfe", "-C", dir, "d"); !slices.Equal(s.paths, []string{"d", "d/\xff\xfd"}) {
		t.Errorf("%q", s.paths)
	}
	write(t, filepath.Join(dir, "list"), "d/\xff\xfe\n")
	if s := run(t, "-C", dir, "--files-from", filepath.Join(dir, "list")); !slices.Equal(s.paths, []string{"d", "d/\xff\xfe"}) {
		t.Errorf("%q", s.paths)
	}
	status, out, _ := answer("--exclude", "\xff\xfe", "-C", dir, "--why", "d/\xff\xfe", "d")
	if want := `"d/\xff\xfe": left out, by --exclude "\xff\xfe"` + "\n"; status != 3 || out != want {
		t.Errorf("status %d, %s", status, out)
	}
}

// answer is a run that writes no stream.
func answer(args ...string) (status int, out, stderr string) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-scan", args, strings.NewReader(""), &o, &e)
	status = env.Status(Run(env))
	return status, o.String(), e.String()
}

// What --why says of each path of a tree is what a scan does.
func TestWhyIsTrue(t *testing.T) {
	dir := tmp(t)
	var all []string
	for _, f := range []string{"a/b/c", "a/b/x.o", "a/v/d", "cache/CACHEDIR.TAG", "cache/e", "k/.no/f", "k/g", "large", "n/.no", "n/h/i", "j.o"} {
		write(t, filepath.Join(dir, f), "")
	}
	write(t, filepath.Join(dir, "cache/CACHEDIR.TAG"), signature)
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 2000))
	if err := os.Symlink("a/b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		all = append(all, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"-C", dir, "--exclude", "*.o", "--exclude", "v/", "--include", "j.o", "--exclude-caches",
		"--exclude-if-present", ".no", "--exclude-larger-than", "1K"}
	for _, roots := range [][]string{{"."}, {"a", "cache", "k", "large", "n/h", "link", "j.o"}} {
		s := run(t, append(slices.Clone(flags), roots...)...)
		out := 0
		for _, path := range all {
			status, text, stderr := answer(append(append(slices.Clone(flags), "--why", path), roots...)...)
			in := slices.Contains(s.paths, strings.TrimPrefix(path, "."))
			if len(roots) > 1 && path == "." {
				in = true // a directory above the roots
			}
			if (status == 0) != in || status != 0 && status != 3 || stderr != "" || strings.Count(text, "\n") != 1 {
				t.Errorf("%s is in the stream: %v; status %d, %s%s", path, in, status, text, stderr)
			}
			if !in {
				out++
			}
		}
		if out < 7 {
			t.Errorf("only %d of %d paths are left out", out, len(all))
		}
	}
}

// Of paths one below another, as -x keeps them, any may take a path; what leads
// through a link is named as it is stored.
func TestWhyOfSeveral(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a/b/c/f"), "")
	if err := os.Symlink("a/b", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	roots := []rec.Root{{Dir: dir, Path: "a"}, {Dir: dir, Path: "a/b"}, {Dir: dir, Path: "a/x"}}
	s := &scanner{env: tool.NewEnv("pv-scan", nil, nil, io.Discard, io.Discard), selection: &selection{shut: map[string]bool{}, counts: map[cause]uint64{}, caches: true}}
	write(t, filepath.Join(dir, "a/CACHEDIR.TAG"), signature) // ends the way from a, and not that from a/b
	for path, want := range map[string]string{
		"a/b/c/f":        "true: nothing leaves it out",
		"l/c/f":          "true, as a/b/c/f: nothing leaves it out",
		"l/none":         "false",
		"a/CACHEDIR.TAG": "true: nothing leaves it out",
	} {
		text, in := s.because(dir, path, roots)
		if got := fmt.Sprint(in) + text; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	status, out, _ := answer("-C", dir, "--why", "l/c/f", "a")
	if status != 0 || out != "l/c/f: taken, as a/b/c/f: nothing leaves it out\n" {
		t.Errorf("%d %s", status, out)
	}
}

// A scanner of which nothing is left says so.
func TestNothingLeft(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a/b/f"), "")
	write(t, filepath.Join(dir, "a/b/g"), "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--exclude", "*", "."}, "pv-scan: nothing is left of .: all that is in it is left out, by --exclude \"*\"\n"},
		{[]string{"--exclude", "/a/b/*", "a/b"}, "pv-scan: nothing is left of a/b: all that is in it is left out, by --exclude \"/a/b/*\"\n"},
		{[]string{"--exclude", "f", "."}, ""},
		{[]string{"--exclude", "g", "a/b/f", "a/b/g"}, "pv-scan: a/b/g: left out, by --exclude \"g\"\n"},
		{[]string{"-q", "--exclude", "*", "."}, ""},
	} {
		s := run(t, append([]string{"-C", dir}, c.args...)...)
		if s.status != 0 || s.stderr != c.want {
			t.Errorf("%q: %d %s", c.args, s.status, s.stderr)
		}
	}
	file := filepath.Join(dir, "a/b/f")
	if status, _, stderr := answer("-C", file, "."); status != 1 || !strings.Contains(stderr, "directory "+file+": ") {
		t.Errorf("%d %s", status, stderr)
	}
}

// Paths that were given and are left out are named, but not all of many.
func TestGiven(t *testing.T) {
	dir := tmp(t)
	args := []string{"-C", dir, "--exclude", "*.o", "a"}
	write(t, filepath.Join(dir, "a"), "")
	for i := range maxGiven + 5 {
		args = append(args, fmt.Sprintf("%d.o", i))
		write(t, filepath.Join(dir, args[len(args)-1]), "")
	}
	s := run(t, args...)
	if s.status != 0 || strings.Count(s.stderr, "\n") != maxGiven+1 || !strings.Contains(s.stderr, "left out, too: 5 more") {
		t.Errorf("status %d, %s", s.status, s.stderr)
	}
}

// What is left out counts where it is said.
func TestTell(t *testing.T) {
	dir := tmp(t)
	for i := range 25 {
		write(t, filepath.Join(dir, fmt.Sprintf("d/%d", i)), "")
	}
	write(t, filepath.Join(dir, "d/kept"), "")
	args := []string{"-v", "-C", dir}
	for i := range 25 {
		args = append(args, "--exclude", fmt.Sprint(i))
	}
	s := run(t, append(args, "d")...)
	if strings.Count(s.stderr, "\n") != 22 || !strings.Contains(s.stderr, "left out: 25 names") || !strings.Contains(s.stderr, "by 5 more rules") {
		t.Error(s.stderr)
	}
	if s := run(t, "-v", "-C", dir, "--exclude", "none", "d"); s.stderr != "" {
		t.Error(s.stderr)
	}
}

func TestCover(t *testing.T) {
	few := []rec.Root{{Dir: "/d", Path: "a"}, {Dir: "/d", Path: "b/c"}}
	var many []rec.Root
	for i := range 2000 {
		many = append(many, rec.Root{Dir: "/d", Path: fmt.Sprintf("sub/%030d", i)})
	}
	mixed := append(slices.Clone(many), rec.Root{Dir: "/", Path: "z/y"})
	var wide []rec.Root
	for i := range 2000 {
		wide = append(wide, rec.Root{Dir: "/d", Path: fmt.Sprintf("%030d", i)})
	}
	wide = append(wide, rec.Root{Dir: "/", Path: "z"})
	for _, c := range []struct {
		roots  []rec.Root
		listed bool
		want   []rec.Root
	}{
		{few, false, few},
		{few, true, []rec.Root{{Dir: "/d"}}},
		{many, false, []rec.Root{{Dir: "/d"}}},
		{mixed, true, []rec.Root{{Dir: "/d", Path: "sub"}, {Dir: "/", Path: "z"}}},
		{wide, true, nil},
	} {
		got, err := cover(c.roots, c.listed)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%d roots: %v, %v", len(c.roots), got, err)
		}
		for _, r := range c.roots {
			if err == nil && !slices.ContainsFunc(got, func(up rec.Root) bool { return up.Dir == r.Dir && rec.Below(r.Path, up.Path) }) {
				t.Errorf("%v is not covered", r)
			}
		}
	}
}

// endless is a list without an end.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.text[e.at%len(e.text)]
		e.at++
	}
	return len(p), nil
}

func TestListLimits(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a"), "")
	for _, c := range []struct{ text, want string }{
		{strings.Repeat("x", 1000), "a path of more than"},
		{"a\x00b\n", "say --from0"},
	} {
		var out, msgs bytes.Buffer
		env := tool.NewEnv("pv-scan", []string{"-C", dir, "--files-from", "-"}, &endless{text: c.text}, &out, &msgs)
		if status := env.Status(Run(env)); status != 1 || !strings.Contains(msgs.String(), c.want) {
			t.Errorf("status %d, %s", status, &msgs)
		}
	}
	s := &scanner{env: tool.NewEnv("pv-scan", nil, &endless{text: "a\n"}, io.Discard, io.Discard), listed: maxListed - 3}
	r, err := source.NewResolver(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.list(r, "-", false); err == nil || !strings.Contains(err.Error(), "more than 500000 paths") {
		t.Error(err)
	}
	s.listed, s.listedSize = 0, maxListedSize
	if err := s.list(r, "-", false); err == nil || s.listed != 1 {
		t.Error(s.listed, err)
	}
}
