package tree

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	notDir = unix.ENOTDIR
	loop   = unix.ELOOP
)

// Tests of what an ordinary user may not do run themselves again as one if they
// are run by root. The directory that they use passes from parent to child in
// the environment.
const userDirEnv = "PV_TEST_USER_DIR"

// userDir returns the directory of such a test, and whether this is the child.
func userDir(t *testing.T) (dir string, child bool) {
	t.Helper()
	if dir := os.Getenv(userDirEnv); dir != "" {
		return dir, true
	}
	return tmp(t), false
}

// asUser runs fn as the owner of dir, who has no privileges: dir is given away
// if need be.
func asUser(t *testing.T, dir string, fn func()) {
	t.Helper()
	if !isRoot() {
		if os.Geteuid() == 0 {
			t.Skip("needs root, or an ordinary user")
		}
		fn()
		return
	}
	const user = 12345
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o755))
	}
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		return os.Lchown(p, user, user)
	}))
	again(t, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}})
}

// asMapped runs fn as root of a user namespace with no other user in it.
func asMapped(t *testing.T, dir string, fn func()) {
	t.Helper()
	if os.Getenv(userDirEnv) != "" {
		fn()
		return
	}
	again(t, dir, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	})
}

// again runs the test in a process of its own.
func again(t *testing.T, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), userDirEnv+"="+dir, "TMPDIR="+dir)
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
