package key

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"preserve/lib/key"
	"preserve/lib/tool"
)

// run runs pv-key in the current directory.
func run(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	env := tool.NewEnv("pv-key", args, strings.NewReader(""), &out, &err)
	status = env.Status(Run(env))
	return status, out.String(), err.String()
}

func must(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := run(args...)
	if status != 0 {
		t.Fatalf("pv-key %s: exit status %d\n%s", strings.Join(args, " "), status, stderr)
	}
	return stdout, stderr
}

// begin changes to an empty directory with the master key "m" in it.
func begin(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	must(t, "new", "-o", "m")
}

func TestNewAndShow(t *testing.T) {
	begin(t)
	stdout, stderr := must(t, "show", "m")
	want := `^kind: master
key id: [0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}
name: master
writer: [0-9a-f]{64}
can: everything, .*
cannot: .*
$`
	if !regexp.MustCompile(want).MatchString(stdout) || stderr != "" {
		t.Errorf("show prints\n%s%s", stdout, stderr)
	}
	st, err := os.Stat("m")
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, stderr := must(t, "-q", "new", "-o", "m2"); stderr != "" {
		t.Errorf("-q says %q", stderr)
	}
}

func TestDerive(t *testing.T) {
	begin(t)
	masterShown, _ := must(t, "show", "m")
	id := regexp.MustCompile(`key id: .*\n`).FindString(masterShown)
	for kind, can := range map[string]string{
		"write": "can: make backups\ncannot: read backups, its own included\n",
		"list":  "can: list and compare backups, pick what to forget\ncannot: read contents, make backups\n",
		"read":  "can: restore and verify backups\ncannot: make backups\n",
		"cut":   "can: cut files into chunks (pv-chunk)\ncannot: read or make backups\n",
	} {
		args := []string{"derive", kind, "-k", "m", "-o", kind}
		if kind == "write" {
			args = append(args, "--writer", "laptop.example")
		}
		stdout, stderr := must(t, args...)
		if stdout != "" || !strings.Contains(stderr, "wrote "+kind+" key ") {
			t.Errorf("derive %s prints %q, %q", kind, stdout, stderr)
		}
		shown, _ := must(t, "show", kind)
		if !strings.HasPrefix(shown, "kind: "+kind+"\n"+id) || !strings.HasSuffix(shown, can) {
			t.Errorf("show %s prints\n%s", kind, shown)
		}
		if strings.Contains(shown, "name: laptop.example\n") != (kind == "write") {
			t.Errorf("show %s: name\n%s", kind, shown)
		}
	}
	must(t, "derive", "write", "-k", "m", "-o", "host")
	k, _, err := key.Load("host")
	if err != nil || !key.ValidWriter(k.Name()) {
		t.Errorf("named after the host: %v, %v", k, err)
	}
}

func TestFit(t *testing.T) {
	for host, want := range map[string]string{
		"laptop": "laptop", "Web-1.Example.ORG": "web-1.example.org", "büro": "b--ro", "": "", "...": "", "-a-": "a",
		strings.Repeat("x", 40): strings.Repeat("x", 32), strings.Repeat("x", 31) + ".example": strings.Repeat("x", 31),
	} {
		if got := fit(host); got != want {
			t.Errorf("%q becomes %q, want %q", host, got, want)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	begin(t)
	before, err := os.ReadFile("m")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"new", "-o", "m"}, {"derive", "cut", "-k", "m", "-o", "m"}} {
		status, _, stderr := run(args...)
		want := "pv-key: key file \"m\": exists, and a key file is never overwritten\npv-key: hint: choose another file"
		if status != 1 || !strings.HasPrefix(stderr, want) {
			t.Errorf("%q: status %d, %s", args, status, stderr)
		}
	}
	if after, _ := os.ReadFile("m"); !bytes.Equal(before, after) {
		t.Error("the key file has changed")
	}
}

func TestErrors(t *testing.T) {
	begin(t)
	must(t, "derive", "read", "-k", "m", "-o", "r")
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"", 2, "what to do?"},
		{"make -o x", 2, `"make": not new, derive, show, revoke, wrap`},
		{"new", 2, "-o is missing"},
		{"new x -o y", 2, "1 arguments where 0 are wanted"},
		{"new -o x -k m", 2, "-k does not belong here"},
		{"new -z", 2, "unknown option -z"},
		{"show", 2, "0 arguments where 1 are wanted"},
		{"show m -o x", 2, "-o does not belong here"},
		{"derive -k m -o x", 2, "0 arguments where 1 are wanted"},
		{"derive write -o x", 2, "-k is missing"},
		{"derive write -k m", 2, "-o is missing"},
		{"derive master -k m -o x", 2, `"master": not write, list, read or cut`},
		{"derive Read -k m -o x", 2, `"Read": not write, list, read or cut`},
		{"derive read -k m -o x --writer a", 2, "only a write key has a name"},
		{"derive write -k m -o x --writer A", 2, `-writer "A": not a writer's name`},
		{"derive write -k m -o x --writer master", 2, `-writer "master": not a writer's name`},
		{"derive read -k r -o x", 1, "only a master key derives others\npv-key: hint: give the file that pv-key new made"},
		{"derive read -k absent -o x", 1, `open key file "absent": no such file or directory`},
		{"derive read -k m -o no/x", 1, `write key file "no/x": no such file or directory`},
		{"show absent", 1, `open key file "absent": no such file or directory`},
	} {
		status, stdout, stderr := run(strings.Fields(c.args)...)
		if status != c.status || stdout != "" || !strings.HasPrefix(stderr, "pv-key: ") || !strings.Contains(stderr, c.want) {
			t.Errorf("pv-key %s: status %d, %q, want %d, %q", c.args, status, stderr, c.status, c.want)
		}
		if _, err := os.Lstat("x"); err == nil {
			t.Fatalf("pv-key %s: wrote a file", c.args)
		}
	}
	if status, stdout, stderr := run("-h"); status != 0 || !strings.HasPrefix(stdout, usage) || stderr != "" {
		t.Errorf("-h: status %d, %q, %q", status, stdout, stderr)
	}
}

// A key file that others can read is told, and used.
func TestOpenKeyFile(t *testing.T) {
	begin(t)
	if err := os.Chmod("m", 0o640); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := must(t, "show", "m")
	if stdout == "" || stderr != "pv-key: key file \"m\" is open to others (mode 0640): chmod 600 it\n" {
		t.Errorf("%q, %q", stdout, stderr)
	}
}

// Nothing that pv-key prints is part of what the file keeps secret.
func TestSecretsAreNotPrinted(t *testing.T) {
	begin(t)
	var printed strings.Builder
	for _, kind := range []string{"write", "list", "read", "cut"} {
		out, err := must(t, "-v", "derive", kind, "-k", "m", "-o", kind)
		printed.WriteString(out + err)
	}
	files, err := filepath.Glob("*")
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		out, err := must(t, "-v", "show", file)
		printed.WriteString(out + err)
	}
	for _, file := range files {
		k, _, err := key.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data[bytes.Index(data, []byte("-----BEGIN")):])) {
			if line = strings.TrimSpace(line); len(line) > 8 && !strings.HasPrefix(line, "-----") && strings.Contains(printed.String(), line) {
				t.Errorf("%v: a line of its file is printed", k)
			}
		}
		for _, get := range []func() (key.Secret, bool){k.IDMeta, k.IDData} {
			if s, ok := get(); ok && strings.Contains(printed.String(), hex.EncodeToString(s.Bytes())) {
				t.Errorf("%v: a secret is printed", k)
			}
		}
	}
}

// withSecret runs pv-key with a passphrase to be read from a file descriptor.
func withSecret(t *testing.T, stdin, secret string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(secret); err != nil {
		t.Fatal(err)
	}
	w.Close()
	// The command closes what it is given.
	fd, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	var out, said bytes.Buffer
	env := tool.NewEnv("pv-key", append(args, "--passphrase-fd", strconv.Itoa(fd)), strings.NewReader(stdin), &out, &said)
	return env.Status(Run(env)), out.String(), said.String()
}

func TestWrapAndUnwrap(t *testing.T) {
	begin(t)
	must(t, "derive", "read", "-k", "m", "-o", "r")
	for _, name := range []string{"m", "r"} {
		status, wrapped, stderr := withSecret(t, "", "open sesame\n", "wrap", "-k", name, "--time", "1ms", "--memory", "1")
		if status != 0 || !strings.Contains(wrapped, "BEGIN PRESERVE WRAPPED KEY") || strings.Contains(wrapped+stderr, "sesame") {
			t.Fatalf("wrap: %d\n%s%s", status, wrapped, stderr)
		}
		if strings.Count(stderr, "only 11 characters") != 1 {
			t.Errorf("a short passphrase: %s", stderr)
		}
		status, _, stderr = withSecret(t, wrapped, " open  sesame", "unwrap", "-o", name+".again")
		if status != 0 {
			t.Fatalf("unwrap: %d\n%s", status, stderr)
		}
		a, _ := os.ReadFile(name)
		b, _ := os.ReadFile(name + ".again")
		if i := bytes.Index(a, []byte("-----BEGIN")); i < 0 || !bytes.HasSuffix(b, a[i:]) {
			t.Errorf("unwrapped:\n%s", b)
		}
		status, stdout, stderr := withSecret(t, wrapped, "open says me", "unwrap", "-o", "wrong")
		if _, err := os.Stat("wrong"); status != 1 || stdout != "" || !strings.Contains(stderr, "wrong passphrase") || err == nil {
			t.Errorf("wrong passphrase: %d, %q, %v", status, stderr, err)
		}
		status, _, stderr = withSecret(t, wrapped, "open sesame", "unwrap", "-o", name)
		if status != 1 || !strings.Contains(stderr, "exists") {
			t.Errorf("over a key file: %d, %q", status, stderr)
		}
	}
	for _, args := range []string{"wrap", "wrap -k m --time 0s", "wrap -k m --memory 0", "wrap -k m --memory 2049", "unwrap", "unwrap -k m -o x", "wrap -k m -o x"} {
		if status, _, _ := withSecret(t, "", "x", strings.Fields(args)...); status != 2 {
			t.Errorf("%s: %d", args, status)
		}
	}
	// The same from a file, which stays.
	if err := os.WriteFile("secret", []byte("open sesame, please\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrapped, _ := must(t, "wrap", "-q", "-k", "m", "--time", "1ms", "--memory", "1", "--passphrase-file", "secret")
	if status, _, stderr := withSecret(t, wrapped, "open sesame, please", "unwrap", "-o", "from-file"); status != 0 {
		t.Errorf("wrapped with a file: %d, %q", status, stderr)
	}
	if status, _, stderr := run("wrap", "-k", "m", "--passphrase-file", "none"); status != 1 || !strings.Contains(stderr, `passphrase file "none"`) {
		t.Errorf("a file that is not there: %d, %q", status, stderr)
	}
	if status, _, _ := withSecret(t, "", "x", "wrap", "-k", "m", "--passphrase-file", "secret"); status != 2 {
		t.Errorf("a file and a descriptor: %d", status)
	}
	if status, _, stderr := withSecret(t, "", "", "wrap", "-k", "m", "--time", "1ms", "--memory", "1"); status != 1 || !strings.Contains(stderr, "passphrase") {
		t.Errorf("no passphrase: %d, %q", status, stderr)
	}
}

// A machine that is slow, or busy while it is measured, makes no cheap guesses: never fewer
// than three passes over 1 GiB, unless the user asked for another time or memory.
func TestFewestPasses(t *testing.T) {
	if key.DefaultMemory != 1<<20 || key.LeastPasses != 3 || work != 3*time.Second {
		t.Errorf("%d KiB, %d passes, %v", key.DefaultMemory, key.LeastPasses, work)
	}
	usual := key.Cost{Memory: key.DefaultMemory, Threads: key.DefaultThreads}
	for _, c := range []struct {
		pass time.Duration
		said bool
		want uint32
	}{
		{time.Hour, false, 3},
		{time.Hour, true, 1},
		{2 * time.Second, false, 3},
		{2 * time.Second, true, 1},
		{time.Second, false, 3},
		{time.Second / 2, false, 6},
		{time.Second / 2, true, 6},
	} {
		want := usual
		want.Time = c.want
		if got := passes(usual, work, c.pass, c.said); got != want {
			t.Errorf("a pass of %v, asked for: %v: %+v, want %+v", c.pass, c.said, got, want)
		}
	}
}

func TestPaperAndBack(t *testing.T) {
	begin(t)
	page, _ := must(t, "paper", "-k", "m")
	status, _, stderr := withStdin(page, "from-paper", "-o", "again")
	if status != 0 {
		t.Fatal(stderr)
	}
	a, _ := os.ReadFile("m")
	b, _ := os.ReadFile("again")
	if !bytes.Equal(a, b) {
		t.Errorf("another key:\n%s%s", a, b)
	}
	at := strings.Index(page, "PV1  ") + 5
	wrong := page[:at] + "1" + page[at+1:] // a digit that there is not; for others see lib/key
	status, _, stderr = withStdin(wrong, "from-paper", "-o", "wrong")
	if status != 1 || !strings.Contains(stderr, "group 1,") {
		t.Errorf("a slip of the pen: %d, %q", status, stderr)
	}
	must(t, "derive", "read", "-k", "m", "-o", "r")
	if status, stdout, stderr := run("paper", "-k", "r"); status != 1 || stdout != "" || !strings.Contains(stderr, "master") {
		t.Errorf("a read key on paper: %d, %q", status, stderr)
	}
}

func withStdin(stdin string, args ...string) (status int, stdout, stderr string) {
	var out, said bytes.Buffer
	env := tool.NewEnv("pv-key", args, strings.NewReader(stdin), &out, &said)
	return env.Status(Run(env)), out.String(), said.String()
}
