package open

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/sealtest"
	"preserve/lib/tool"
)

func TestMain(m *testing.M) {
	if blobs := os.Getenv("PV_TEST_SERVE"); blobs != "" { // what --from runs
		if err := serve(blobs); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(sealtest.Main(m))
}

var dir, file, x = sealtest.Dir, sealtest.File, sealtest.X

func run(in []byte, args ...string) (stdout, stderr string, status int) {
	return runTool("pv-open", Run, in, args...)
}

func runTool(name string, command func(*tool.Env) error, in []byte, args ...string) (stdout, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv(name, args, bytes.NewReader(in), &o, &e)
	status = env.Status(command(env))
	env.Cleanup()
	return o.String(), e.String(), status
}

// pipe runs pv-open, and a tool behind it that gets its stream. Messages are those of both, the
// status is the tool's.
func pipe(in []byte, args []string, command func(*tool.Env) error, behind ...string) (stdout, stderr string, status int) {
	stream, said, _ := run(in, args...)
	stdout, stderr, status = runTool("pv-behind", command, []byte(stream), behind...)
	return stdout, said + stderr, status
}

// put writes a file, and the directories above it.
func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
