package test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/source"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/scripts. Each script finds the tools, the shell
// scripts and the helpers of helpers_test.go on PATH. Beyond what testscript has:
//
//	keys [vectors]  makes master.key, write.key, list.key, read.key, cut.key, and
//	                notes that there is a copy, of which scripts would remind;
//	                with vectors from the master key of docs/format/crypto.md
//	[root]          this is root, who may make devices and change owners
//	[xattr]         files can have user attributes here
//	[changetimes]   the file system here keeps change times of its own
//	[landlock]      tools can confine themselves here (package confine)
//	[msgpack]       $PYTHON is a Python with the module msgpack
//
// With PV_NO_SKIP=1 a script that cannot run here fails.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	scripts, err := filepath.Glob("../scripts/pv-*")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, from := range scripts {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		// Their own directory has no ../bin: they take the tools from PATH.
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(from)), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testdata, err := filepath.Abs("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	python := pythonWithMsgpack()
	testscript.RunT(noSkip{testscriptT{t}}, testscript.Params{
		Dir:                 "../testdata/scripts",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "SCRIPTS="+bin, "TESTDATA="+testdata, "PYTHON="+python, "LC_ALL=C", "TZ=UTC", "TMPDIR="+filepath.Join(e.WorkDir, ".tmp"),
				// What the scripts remember lies below the home.
				"HOME="+filepath.Join(e.WorkDir, ".home"), "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=", "XDG_DATA_HOME=")
			for i, v := range e.Vars {
				if p, ok := strings.CutPrefix(v, "PATH="); ok {
					e.Vars[i] = "PATH=" + bin + ":" + p
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"keys": makeKeys},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "xattr":
				return hasXAttrs(bin), nil
			case "changetimes":
				return keepsChangeTimes(bin)
			case "landlock":
				return exec.Command("landlock").Run() == nil, nil
			case "msgpack":
				return python != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

func makeKeys(ts *testscript.TestScript, neg bool, args []string) {
	m, err := key.New()
	if len(args) == 1 && args[0] == "vectors" {
		var master [key.SecretSize]byte
		for i := range master {
			master[i] = byte(i)
		}
		m, err = key.FromMaster(master)
	} else if neg || len(args) > 0 {
		ts.Fatalf("usage: keys [vectors]")
	}
	ts.Check(err)
	ts.Check(m.Save(ts.MkAbs("master.key")))
	noted := filepath.Join(ts.Getenv("HOME"), ".config", "preserve", "recovery-noted")
	ts.Check(os.MkdirAll(filepath.Dir(noted), 0o700))
	ts.Check(os.WriteFile(noted, []byte(m.ID().String()+"\n"), 0o600))
	for kind, name := range map[key.Kind]string{key.Write: "laptop", key.List: "", key.Read: "", key.Cut: ""} {
		k, err := m.Derive(kind, name)
		ts.Check(err)
		ts.Check(k.Save(ts.MkAbs(kind.String() + ".key")))
	}
}

// keepsChangeTimes reports whether files below dir are trusted to be unchanged.
func keepsChangeTimes(dir string) (bool, error) {
	src, err := source.OpenRoots([]rec.Root{{Dir: dir}})
	if err != nil {
		return false, err
	}
	defer src.Close()
	return src.FileSystem(&rec.Entry{Type: rec.Dir}).ChangeTimes, nil
}

func pythonWithMsgpack() string {
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import msgpack").Run() == nil {
			return p
		}
	}
	return ""
}

// testscriptT is a *testing.T as testscript wants it.
type testscriptT struct{ *testing.T }

func (t testscriptT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(noSkip{testscriptT{t}}) })
}

func (t testscriptT) Verbose() bool { return testing.Verbose() }

// noSkip fails where a test would be skipped, if PV_NO_SKIP says so.
type noSkip struct{ testscriptT }

func (t noSkip) Skip(args ...any) {
	t.Helper()
	if os.Getenv("PV_NO_SKIP") == "1" {
		t.Fatal("no test may be skipped here: " + strings.TrimSpace(fmt.Sprint(args...)))
	}
	t.T.Skip(args...)
}

// Every script begins with a comment that says what it shows.
func TestScriptsSayWhatTheyShow(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../testdata/scripts", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".txtar") {
			return err
		}
		found++
		b, err := os.ReadFile(file)
		if err == nil && !strings.HasPrefix(string(b), "# ") {
			t.Errorf("%s does not begin with a comment", file)
		}
		return err
	})
	if err != nil || found < 30 {
		t.Fatalf("%d scripts, %v", found, err)
	}
}
