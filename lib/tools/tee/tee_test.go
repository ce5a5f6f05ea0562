package tee

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// stream returns a content stream with so many bytes in it.
func stream(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	records := []rec.Record{&rec.Head{Kind: rec.Content}}
	for n := 0; size > 0; n++ {
		data := make([]byte, min(size, 1<<20))
		size -= len(data)
		records = append(records, &rec.Chunk{N: uint64(n), Data: data})
	}
	for _, r := range append(records, &rec.Cut{}, &rec.End{}) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close("test", nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// run runs pv-tee. Its stderr is a file, as the commands share it.
func run(t *testing.T, in []byte, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	said, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	var out bytes.Buffer
	env := tool.NewEnv("pv-tee", args, bytes.NewReader(in), &out, said)
	status = env.Status(Run(env))
	text, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	return status, out.String(), string(text)
}

func TestEveryByteComesToEach(t *testing.T) {
	t.Parallel()
	in := stream(t, 3*queueBytes) // more than a queue and all pipes hold
	dir := t.TempDir()
	var args []string
	for _, name := range []string{"a", "b", "c"} {
		args = append(args, "cat >"+filepath.Join(dir, name))
	}
	status, stdout, stderr := run(t, in, args...)
	if status != 0 || stdout != "1 exit 0\n2 exit 0\n3 exit 0\n" || stderr != "" {
		t.Fatalf("%d\n%s%s", status, stdout, stderr)
	}
	for _, name := range []string{"a", "b", "c"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(in), err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	in := stream(t, 2*queueBytes)
	const all = "cat >/dev/null; "
	for _, c := range []struct {
		in     []byte
		cmds   []string
		status int
		stdout string
		stderr string
	}{
		{in, []string{all + "echo hello"}, 0, "1 hello\n1 exit 0\n", ""},
		{in, []string{all + "echo 1; printf 2"}, 0, "1 1\n1 2\n1 exit 0\n", ""},
		{in, []string{all + "exit 3"}, 3, "1 exit 3\n", ""},
		{in, []string{all + "exit 3", all}, 3, "1 exit 3\n2 exit 0\n", ""},
		{in, []string{all + "exit 1", all}, 3, "1 exit 1\n2 exit 0\n", "command 1, "},
		{in, []string{all + "exit 2"}, 1, "1 exit 2\n", "exit status 2"},
		{in, []string{all + "kill -9 $$", all}, 3, "1 exit 1\n2 exit 0\n", "killed"},
		{in, []string{"true", all}, 3, "1 exit 1\n2 exit 0\n", "before it had read everything"},
		{in, []string{"true", "true"}, 1, "1 exit 1\n2 exit 1\n", "command 2"},
		{in, []string{"--stall", "300ms", "sleep 100", all}, 3, "1 exit 1\n2 exit 0\n", "has taken nothing for 300ms"},
		{in, []string{"--stall", "300ms", all + "sleep 100", all}, 3, "1 exit 1\n2 exit 0\n", "has not ended for 300ms"},
		{in[:len(in)-1], []string{all}, 1, "1 exit 0\n", "input ended without its end record"},
		{[]byte("hello"), []string{all}, 1, "1 exit 0\n", "pv-tee: "},
		{nil, []string{all}, 1, "1 exit 0\n", "pv-tee: "},
		{in, nil, 2, "", "no command"},
		{in, []string{""}, 2, "", "empty command"},
		{in, []string{"--stall", "0s", "cat"}, 2, "", "--stall"},
	} {
		status, stdout, stderr := run(t, c.in, c.cmds...)
		if status != c.status || stdout != c.stdout || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%q: status %d, want %d; stdout %q, want %q; stderr %q", c.cmds, status, c.status, stdout, c.stdout, stderr)
		}
	}
}

// A stage before that failed has said why: nothing is said again.
func TestFailedStream(t *testing.T) {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	if err := w.Write(&rec.Head{Kind: rec.Content}); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&rec.Fail{Tool: "pv-chunk", Text: "no"}); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := run(t, b.Bytes(), "cat >/dev/null"); status != 1 || stdout != "1 exit 0\n" || stderr != "" {
		t.Errorf("%d, %q, %q", status, stdout, stderr)
	}
}

// What a command leaves behind, with its stdout, is not waited for.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := "cat >/dev/null; echo hello; setsid sleep 1000 & echo $! >" + filepath.Join(dir, "pid")
	status, stdout, stderr := run(t, stream(t, 1000), "--stall", "1m", cmd)
	if status != 0 || stdout != "1 hello\n1 exit 0\n" || stderr != "" {
		t.Errorf("%d, %q, %q", status, stdout, stderr)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("it had ended: %v", err)
	}
}
