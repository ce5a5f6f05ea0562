package job

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/tool"
)

var fullID = strings.Repeat("12", 32)

// bare lets no variable of whoever runs the test decide anything.
func bare(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"PV_REPO", "PV_KEY", "PV_HELD", "PV_HOST", "PV_EXISTING", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("TMPDIR", dir)
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	return dir
}

func runJob(args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-job", args, strings.NewReader(""), &o, &e)
	status = env.Status(Run(env))
	env.Cleanup()
	return status, o.String(), e.String()
}

// told reads the file of arguments of a stage.
func told(t *testing.T, run, stage string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(run, stage))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// A wrong command line is 2, one line, and leaves nothing behind.
func TestWrongCommandLines(t *testing.T) {
	dir := bare(t)
	for _, line := range []string{
		"", "begin", "begin nothing", "next", "next a b c", "end", "end a b", "end a interrupted b", "next run x", "next run 256", "next run -1",
		"begin backup", "begin backup -r repo", "begin backup src", "begin backup -r repo src", "begin backup -k key src", "begin backup -r repo -k key --nope src",
		"begin backup -r ssh:// -k key src", "begin restore", "begin restore -r repo -k key latest", "begin restore -r repo latest out",
		"begin restore -k key latest out", "begin restore -r a -r b -k key latest out",
		"begin list -r repo -k key --json -0 latest", "begin list -r repo -k key -0", "begin list -r repo -k key --exclude x", "begin list -r repo -k key --files-from x", "begin list -k key",
		"begin verify -r repo -k key", "begin verify -r repo -k key --all a", "begin copy", "begin copy a", "begin copy -r a b c",
		"begin first-backup", "begin first-backup a b", "begin recover", "begin recover repo", "begin recover repo dir id more",
	} {
		status, out, errs := runJob(strings.Fields(line)...)
		if status != 2 || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d %q %q", line, status, out, errs)
		}
	}
	for _, empty := range [][]string{{"begin", "recover", "repo", "dir", ""}, {"begin", "restore", "-r", "repo", "-k", "key", "", "out"},
		{"begin", "list", "-r", "repo", "-k", "key", ""}, {"begin", "verify", "-r", "repo", "-k", "key", ""}} {
		if status, _, errs := runJob(empty...); status != 2 || !strings.Contains(errs, "the snapshot is empty") {
			t.Errorf("%q: %d %q", empty, status, errs)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// The help is that of the script.
func TestHelp(t *testing.T) {
	bare(t)
	for name := range verbs {
		status, out, errs := runJob("begin", name, "-h")
		if status != 0 || !strings.HasPrefix(out, "usage: pv-"+name+" ") || errs != "" {
			t.Errorf("%s: %d %q %q", name, status, out, errs)
		}
	}
	if status, out, _ := runJob("-h"); status != 0 || !strings.HasPrefix(out, "usage: pv-job begin ") {
		t.Errorf("%d %q", status, out)
	}
}

func TestPass(t *testing.T) {
	env := tool.NewEnv("pv-x", []string{"-x", "--tag", "a", "word", "--from0", "--tag=b c", "-C", "d"}, nil, io.Discard, io.Discard)
	a := newArguments(env)
	var first, second []string
	a.pass(&first, "tag=", "x", "never=")
	a.pass(&second, "from0", "C=")
	words, err := env.Parse(a.fs, "usage: x\n")
	if err != nil || !slices.Equal(words, []string{"word"}) {
		t.Fatal(words, err)
	}
	if !slices.Equal(first, []string{"-x=true", "--tag=a", "--tag=b c"}) || !slices.Equal(second, []string{"--from0=true", "-C=d"}) {
		t.Fatalf("%q %q", first, second)
	}
	if !a.given["x"] || !a.given["tag"] || a.given["never"] {
		t.Fatal(a.given)
	}
}

// The variables stand in for options that are not given.
func TestVariables(t *testing.T) {
	bare(t)
	t.Setenv("PV_REPO", "from-variable")
	t.Setenv("PV_KEY", "key-of-variable")
	for _, c := range []struct {
		args  []string
		repos []string
		key   string
	}{
		{nil, []string{"from-variable"}, "key-of-variable"},
		{[]string{"-r", "a"}, []string{"a"}, "key-of-variable"},
		{[]string{"-r", "a", "-r", "b", "-k", "k"}, []string{"a", "b"}, "k"},
	} {
		a := newArguments(tool.NewEnv("pv-x", c.args, nil, io.Discard, io.Discard))
		a.common()
		if _, err := a.parse("usage: x\n"); err != nil || !slices.Equal(a.repos, c.repos) || a.key != c.key {
			t.Errorf("%q: %v %q %q", c.args, err, a.repos, a.key)
		}
	}
}

// A key that can be read only once is held; another one is not, and what cannot be opened is
// named by whoever opens it.
func TestHold(t *testing.T) {
	dir := bare(t)
	file, fifo, toFifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600), os.Symlink(fifo, toFifo)); err != nil {
		t.Fatal(err)
	}
	for key, hold := range map[string]bool{
		"": false, file: false, dir: false, filepath.Join(dir, "none"): false,
		fifo: true, toFifo: true, "/dev/null": true, "/proc/self/status": true,
	} {
		a := newArguments(tool.NewEnv("pv-x", nil, nil, io.Discard, io.Discard))
		a.key = key
		err := a.hold()
		var held *holdError
		if errors.As(err, &held) != hold || hold && held.key != key {
			t.Errorf("%q: %v", key, err)
		}
	}
	// pv-job says so to the script, and does nothing.
	status, out, errs := runJob("begin", "backup", "-r", "repo", "-k", fifo, "src")
	if status != 0 || out != "hold "+fifo+"\n" || errs != "" {
		t.Errorf("%d %q %q", status, out, errs)
	}
	// Once it is held the variable names it, whatever the command line says.
	t.Setenv("PV_HELD", "yes")
	t.Setenv("PV_KEY", file)
	a := newArguments(tool.NewEnv("pv-x", []string{"-k", fifo}, nil, io.Discard, io.Discard))
	a.common()
	if _, err := a.parse("usage: x\n"); err != nil || a.key != file {
		t.Errorf("%v %q", err, a.key)
	}
}

// A job is known by where its sources lie, however they are spelled.
func TestSources(t *testing.T) {
	cwd := bare(t)
	for _, c := range []struct {
		dir   string
		paths []string
		lists []string
		want  []string
	}{
		{"", []string{"/home", "/home/", "/home/./x/..", "src", "./src/"}, nil, []string{"/home", "/home", "/home", cwd + "/src", cwd + "/src"}},
		{"/snap/1", []string{"home", "./etc/", "/abs", "."}, nil, []string{"-C: home", "-C: etc", "/abs", "-C: ."}},
		{"", nil, []string{"list", "/l", "-"}, []string{"--files-from " + cwd + "/list", "--files-from /l", "--files-from -"}},
	} {
		got, err := sources(c.dir, c.paths, c.lists)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q %q: %q %v", c.dir, c.paths, got, err)
		}
	}
}

// What each stage of a backup is told.
func TestBackup(t *testing.T) {
	dir := bare(t)
	if err := os.WriteFile("key", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := runJob("begin", "backup", "-q", "-r", "repo", "-k", "key", "--cache", "job", "--label", "l", "--tag", "a", "--tag=b", "--exclude", "*.o", "-x",
		"--settle", "0", "--checkpoint", "5m", "--existing=false", "--host", "h", "-C", dir, "src", "--", "-odd")
	run := strings.TrimSuffix(out, "\n")
	if status != 0 || errs != "" || filepath.Dir(run) != filepath.Join(dir, "job") {
		t.Fatalf("%d %q %q", status, out, errs)
	}
	if status, out, errs := runJob("next", run); status != 0 || out != "store\n" || errs != "" {
		t.Fatalf("%d %q %q", status, out, errs)
	}
	for stage, want := range map[string][]string{
		"scan":  {"-q", "--exclude=*.o", "-x=true", "-C=" + dir, "--host=h", "--", "src", "-odd"},
		"chunk": {"-q", "-k", "key", "--settle=0"},
		"seal":  {"-q", "-k", "key", "--tag=a", "--tag=b", "--checkpoint=5m", "--label=l", "--cache=" + filepath.Join(dir, "job"), "--id-file=" + filepath.Join(run, "sealed")},
		"put":   {"-q", "repo", "--checkpoint=5m"},
	} {
		if got := told(t, run, stage); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", stage, got, want)
		}
	}
	// The pass has left nothing: there is no further one, and the run has failed.
	if status, out, _ := runJob("next", run, "1"); status != 1 || out != "" {
		t.Errorf("%d %q", status, out)
	}
	if status, out, _ := runJob("end", run); status != 1 || out != "" {
		t.Errorf("%d %q", status, out)
	}
	if _, err := os.Stat(run); err == nil {
		t.Error("the run stays")
	}
	if status, _, errs := runJob("next", run); status != 1 || !strings.HasPrefix(errs, "pv-job: ") {
		t.Errorf("%d %q", status, errs)
	}
}

// Several repositories get the same; --existing goes to each.
func TestBackupOfSeveral(t *testing.T) {
	bare(t)
	if err := errors.Join(os.WriteFile("key", nil, 0o600), os.Mkdir("a", 0o700), os.Mkdir("b", 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PV_REPO", "unused")
	_, out, errs := runJob("begin", "backup", "-r", "a", "-r", "b", "-k", "key", "--checkpoint", "1m", "src")
	run := strings.TrimSuffix(out, "\n")
	if status, out, _ := runJob("next", run); status != 0 || out != "several\n" {
		t.Fatalf("%d %q %q", status, out, errs)
	}
	if got := told(t, run, "put"); !slices.Equal(got, []string{"'pv-put' 'a' '--checkpoint=1m'", "'pv-put' 'b' '--checkpoint=1m'"}) {
		t.Errorf("%q", got)
	}
	if status, _, errs := runJob("end", run, "interrupted"); status != 1 || errs != "" {
		t.Errorf("%d %q", status, errs)
	}
}

// Whether the whole snapshot comes, or what is needed is asked for.
func TestWholeOrPart(t *testing.T) {
	bare(t)
	if err := os.WriteFile("key", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"restore ID out":                                       "whole",
		"restore ID out --numeric-ids --delete":                "whole",
		"restore ID out --overwrite always":                    "whole",
		"restore ID out pattern":                               "part",
		"restore ID out --exclude x":                           "part",
		"restore ID out --strip-components 1":                  "part",
		"restore ID out --dereference":                         "part",
		"restore ID out --hard-dereference":                    "part",
		"restore ID out --dry-run":                             "part",
		"restore ID out --overwrite changed":                   "part",
		"restore ID out --overwrite never":                     "part",
		"list":                                                 "list",
		"list --json":                                          "list",
		"list ID":                                              "whole",
		"list ID -0":                                           "whole",
		"list ID pattern":                                      "part",
		"list ID --exclude x":                                  "part",
		"verify ID":                                            "whole",
		"verify ID --bad-ids --allow-revoked":                  "whole",
		"restore " + strings.ToUpper(fullID[:63]) + "2 out":    "whole",
		"list --revoked refused ID":                            "whole",
		"restore ID out --map-user a:b --in-place --literal":   "whole",
		"restore ID out --keep-directory-symlink --from0":      "whole",
		"restore ID out --delete-excluded --overwrite=always":  "whole",
		"restore --overwrite=always --overwrite=changed ID o":  "part",
		"list ID --literal a[1] --from0 --exclude b -v --json": "part",
	} {
		words := strings.Fields(strings.ReplaceAll(line, "ID", fullID))
		words = slices.Concat([]string{"begin", words[0], "-r", "repo", "-k", "key"}, words[1:])
		status, out, errs := runJob(words...)
		run := strings.TrimSuffix(out, "\n")
		if status != 0 || errs != "" {
			t.Errorf("%s: %d %q", line, status, errs)
			continue
		}
		if _, out, _ := runJob("next", run); out != want+"\n" {
			t.Errorf("%s: %q, want %s", line, out, want)
		}
		if status, _, _ := runJob("end", run, "interrupted"); status != 1 {
			t.Errorf("%s: %d", line, status)
		}
	}
}

func TestHas(t *testing.T) {
	if list := []string{"--a=1", "--b"}; !has(list, "x", "--b") || has(list, "--a", "--c") || has(nil, "") {
		t.Fatal("wrong")
	}
}
