package treetest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Tests of what an ordinary user may not do run themselves again as one if they
// are run by root. The directory that they use passes from parent to child in
// the environment.
const UserDirEnv = "PV_TEST_USER_DIR"

// UserDir returns the directory of such a test, and whether this is the child.
func UserDir(t *testing.T) (dir string, child bool) {
	t.Helper()
	if dir := os.Getenv(UserDirEnv); dir != "" {
		return dir, true
	}
	return Tmp(t), false
}

// AsUser runs fn as the owner of dir, who has no privileges: dir is given away
// if need be.
func AsUser(t *testing.T, dir string, fn func()) {
	t.Helper()
	if !IsRoot() {
		if os.Geteuid() == 0 {
			t.Skip("needs root, or an ordinary user")
		}
		fn()
		return
	}
	const user = 12345
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		Must(t, os.Chmod(p, 0o755))
	}
	Must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		Must(t, err)
		return os.Lchown(p, user, user)
	}))
	Again(t, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}})
}

// Again runs the test in a process of its own.
func Again(t *testing.T, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), UserDirEnv+"="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && attr.Cloneflags != 0 {
		t.Skip("needs user namespaces: ", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
