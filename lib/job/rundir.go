package job

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/tool"
)

// runPrefix begins the name of a run's directory.
const runPrefix = "run-"

// lockFD is the descriptor that the scripts open on a run's lock file, and keep open.
const lockFD = 9

// young is how long a run's directory may be without a lock: the script takes it right
// after pv-job begin has printed the name.
const young = time.Minute

// newRun makes the directory of a run in parent, or if that is empty, or cannot be used,
// in the directory of temporaries.
func newRun(env *tool.Env, parent string) (*Run, error) {
	var dir string
	err := errors.New("none")
	if parent != "" {
		dir, err = os.MkdirTemp(parent, runPrefix)
	}
	if err == nil {
		r := &Run{env: env, dir: dir}
		if err = r.takeRoom(); err == nil {
			return r, nil
		}
		_ = os.RemoveAll(dir)
	}
	tmp := os.TempDir()
	if dir, err = os.MkdirTemp(tmp, "preserve."+runPrefix); err == nil {
		r := &Run{env: env, dir: dir}
		if err = r.takeRoom(); err == nil {
			return r, nil
		}
		_ = os.RemoveAll(dir)
	}
	return nil, &tool.Hint{Err: fmt.Errorf("make a private directory in %s: %w", tmp, err), Text: "make room there, or set TMPDIR"}
}

// takeRoom makes the files whose room must be there later.
func (r *Run) takeRoom() error {
	if err := os.WriteFile(r.path(lockName), nil, 0o600); err != nil {
		return err
	}
	if err := clearRoom(r.path(stateName), stateRoom); err != nil {
		return err
	}
	return clearRoom(r.path(reportName), reportRoom)
}

// clearRoom fills a file with zeros, without giving back its room.
func clearRoom(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, size), 0)
	if err == nil {
		err = f.Truncate(size)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// maxReport bounds what is read of a report: whoever has a repository may print as much as he
// likes.
const maxReport = 64 << 20

// readRoom reads what is in such a file before the zeros, at most so many bytes.
func readRoom(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if at := bytes.IndexByte(b, 0); at >= 0 {
		b = b[:at]
	}
	return b, err
}

// writeRoom replaces what is in such a file.
func writeRoom(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(b[:len(b):len(b)], make([]byte, max(1, stateRoom-len(b)))...), 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// hold locks the run by the script's own open file, which its stages share: so the run is
// somebody's as long as one of them lives. A script that keeps none open goes on without.
func (r *Run) hold() {
	var own, ours unix.Stat_t
	if unix.Fstat(lockFD, &own) != nil || unix.Stat(r.path(lockName), &ours) != nil || own.Ino != ours.Ino || own.Dev != ours.Dev {
		return
	}
	if unix.Flock(lockFD, unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.WriteFile(r.path(heldName), nil, 0o600) // without it the run is swept a little later
	}
}

// sweep removes the directories of runs that nobody works on any more from parent, and
// reports whether there were any: they were killed.
func sweep(parent, prefix string) (killed bool) {
	dirs, err := filepath.Glob(filepath.Join(escape(parent), prefix+"*"))
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if time.Since(st.ModTime()) < young {
				continue // it is being made
			}
		case err != nil:
			continue
		default:
			err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			began, serr := lock.Stat()
			_ = lock.Close()
			if err != nil || serr != nil || time.Since(began.ModTime()) < young && !held(dir) {
				continue
			}
		}
		if os.RemoveAll(dir) == nil {
			killed = true
		}
	}
	return killed
}

// heldName marks a run whose lock was taken once.
const heldName = "held"

func held(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, heldName))
	return err == nil
}

// escape makes a directory's name mean itself in a pattern of filepath.Glob.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// arguments writes the file of arguments of a stage: one after the other, each with a NUL after it.
func (r *Run) arguments(stage string, args ...string) error {
	var b bytes.Buffer
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return tool.Usagef("an argument holds a NUL")
		}
		b.WriteString(a)
		b.WriteByte(0)
	}
	if err := os.WriteFile(r.path(stage), b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the arguments of pv-%s: %w", stage, err)
	}
	return nil
}

// slurp keeps what is on stdin for the stage that reads it, in each pass, and returns the
// file's name.
func (r *Run) slurp() (string, error) {
	f, err := os.OpenFile(r.path(inputName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r.env.Stdin)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("keep the list on stdin: %w", err)
	}
	return f.Name(), nil
}
