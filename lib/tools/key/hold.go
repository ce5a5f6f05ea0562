package key

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/key"
	"preserve/lib/tool"
)

// holders are the numbers that a held key may have, in the order of choice: a single
// digit, so that every shell can close it, and none that scripts use.
var holders = []int{8, 7}

// hold runs a command that finds the key in PV_KEY, as often as it and its children
// read it. The key is in memory only. With wrapped a key that opens without a passphrase is
// refused: whoever has a repository can put one of his own there, with snapshots of his own. It returns
// only if that fails.
func hold(env *tool.Env, path string, fd int, wrapped bool, argv []string) error {
	k, err := loadAny(env, path, fd, wrapped)
	if err != nil {
		return err
	}
	beside := &key.Revoked{}
	warnings, err := beside.LoadBeside(path)
	for _, w := range warnings {
		env.Say("%s", w)
	}
	if err != nil {
		return err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("run %q: %w", argv[0], errors.Unwrap(err))
	}
	f, err := k.Carrying(beside).Hold()
	if err != nil {
		return err
	}
	defer f.Close() // where the command is not run
	n, err := place(int(f.Fd()))
	if err != nil {
		return err
	}
	return fmt.Errorf("run %q: %w", argv[0], unix.Exec(program, argv, environment(os.Environ(), n)))
}

// place gives a descriptor one of the numbers that are for it, and lets commands
// inherit that.
func place(fd int) (int, error) {
	for _, n := range holders {
		if n == fd {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			return n, err
		}
		// One that is open for this program alone may go: it is about to end.
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if errors.Is(err, unix.EBADF) || err == nil && flags&unix.FD_CLOEXEC != 0 {
			return n, unix.Dup2(fd, n)
		}
	}
	return 0, fmt.Errorf("hold a key: the descriptors %v are all in use", holders)
}

// environment returns env with PV_KEY naming the descriptor n.
func environment(env []string, n int) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "PV_KEY=") {
			kept = append(kept, v)
		}
	}
	return append(kept, "PV_KEY=/proc/self/fd/"+strconv.Itoa(n))
}

// loadAny reads a key file, or opens a wrapped key with its passphrase.
func loadAny(env *tool.Env, path string, fd int, wrapped bool) (*key.Key, error) {
	data, warning, err := key.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := key.Parse(data)
	if wrapped && !errors.Is(err, key.ErrWrapped) {
		return nil, &tool.Hint{Err: fmt.Errorf("key file %q: %w", path, key.ErrNotWrapped),
			Text: "nothing vouches for a key in a repository but your passphrase"}
	}
	if errors.Is(err, key.ErrWrapped) {
		w, err := key.ParseWrapped(data)
		if err == nil {
			k, err = open(env, w, fd)
		}
		if err != nil {
			return nil, fmt.Errorf("open the wrapped key %q: %w", path, err)
		}
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("key file %q: %w", path, err)
	}
	if warning != "" {
		env.Say("%s", warning)
	}
	return k, nil
}
