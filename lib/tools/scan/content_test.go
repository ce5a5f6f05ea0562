package scan

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/tool"
)

// contents runs pv-scan over stdin and puts its stream together again.
func contents(t *testing.T, stdin io.Reader, words ...string) (entries map[string]*rec.Entry, data map[string]string, stderr string, status int) {
	t.Helper()
	var out, e bytes.Buffer
	env := tool.NewEnv("pv-scan", words, stdin, &out, &e)
	if status = env.Status(Run(env)); status == 0 || status == 3 {
		entries, data = sealtest.Uncut(t, out.Bytes())
	}
	return entries, data, e.String(), status
}

// What is read from stdin is a file, whatever its length.
func TestStdin(t *testing.T) {
	for _, n := range []int{1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 4 << 20, 4<<20 + 1, 9<<20 + 7} {
		want := strings.Repeat("0123456789abcdef+", n/17+1)[:n]
		for how, in := range map[string]io.Reader{"whole": strings.NewReader(want), "in halves": iotest.HalfReader(strings.NewReader(want))} {
			entries, data, stderr, status := contents(t, in, "--stdin", "/a/b/name")
			if status != 0 || stderr != "" {
				t.Fatalf("%s, %d bytes: %d %s", how, n, status, stderr)
			}
			if f := entries["a/b/name"]; data["a/b/name"] != want || f.Size != uint64(n) || f.Mode != 0o600 || f.MTime.Sec == 0 {
				t.Errorf("%s, %d bytes: %d of %+v", how, n, len(data["a/b/name"]), f)
			}
			if len(entries) != 3 || entries["a/b"].Type != rec.Dir {
				t.Errorf("entries %v", entries)
			}
		}
	}
}

// A stdin that fails, or that nothing comes from, and a command that fails, end
// the stream with a fail record.
func TestStdinFails(t *testing.T) {
	for _, c := range []struct {
		in     io.Reader
		words  []string
		status int
		want   string
	}{
		{strings.NewReader(""), []string{"--stdin", "f"}, 1, "stdin is empty"},
		{io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errors.New("disk gone"))), []string{"--stdin", "f"}, 1, "read f: disk gone"},
		{nil, []string{"--stdin", "f", "--", "sh", "-c", "echo half; exit 4"}, 1, "sh failed, and what it wrote is not stored: exit status 4"},
		{nil, []string{"--stdin", "f", "/does/not/exist"}, 1, "start /does/not/exist: "},
		{nil, []string{"--stdin", "f", "--", "true"}, 0, ""},
		{nil, []string{"--stdin", "a/../b"}, 2, "not a path"},
		{nil, []string{"--stdin", "/"}, 2, "a file needs a name"},
		{nil, []string{"--stdin", "", "."}, 2, "a file needs a name"},
		{nil, []string{"--stdin", "f", "-C", "/"}, 2, "-C does not go with --stdin"},
		{nil, []string{"--stdin", "f", "--exclude", "x"}, 2, "--exclude does not go with --stdin"},
	} {
		entries, _, stderr, status := contents(t, c.in, c.words...)
		if status != c.status || !strings.Contains(stderr, c.want) || status == 0 && entries["f"] == nil {
			t.Errorf("%q: %d %s", c.words, status, stderr)
		}
	}
}

// The output of a command is a file.
func TestCommand(t *testing.T) {
	_, data, stderr, status := contents(t, nil, "--stdin", "f", "--", "sh", "-c", "echo out; echo err >&2")
	if status != 0 || data["f"] != "out\n" || stderr != "err\n" {
		t.Errorf("%d %q %q", status, data["f"], stderr)
	}
}
