package job

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
	"preserve/lib/tool"
)

// unused is after which time without a run a job's directory goes.
const unused = 90 * 24 * time.Hour

// Marks of a directory of caches, as pv-seal makes them: pv-scan never descends into it, nor do
// programs that follow https://bford.info/cachedir/.
const (
	markerName = "CACHEDIR.PRESERVE"
	tagName    = "CACHEDIR.TAG"
	tag        = "Signature: 8a477f597d28d172789f06886806bc55\n# Caches of Preserve backups. They may be deleted whenever no backup runs.\n"
)

// cacheRoot is below which directory jobs are remembered; empty if nobody says.
func cacheRoot() string {
	first := func(list string) string { dir, _, _ := strings.Cut(list, ":"); return dir }
	switch {
	case os.Getenv("PV_CACHE") != "":
		return os.Getenv("PV_CACHE")
	case os.Getenv("XDG_CACHE_HOME") != "":
		return filepath.Join(os.Getenv("XDG_CACHE_HOME"), "preserve")
	case os.Getenv("CACHE_DIRECTORY") != "": // systemd.exec(5), of a system unit
		return filepath.Join(first(os.Getenv("CACHE_DIRECTORY")), "preserve")
	case os.Getenv("HOME") != "":
		return filepath.Join(os.Getenv("HOME"), ".cache", "preserve")
	case os.Getenv("STATE_DIRECTORY") != "":
		return filepath.Join(first(os.Getenv("STATE_DIRECTORY")), "preserve")
	}
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
		return filepath.Join(u.HomeDir, ".cache", "preserve")
	}
	return ""
}

// jobName is the name of a job's directory: it says nothing of what the job is.
func jobName(label string, sources []string) string {
	h := sha256.New()
	for _, s := range append([]string{label}, sources...) {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// openJob makes the directory of a job, if it is not there. dir is the user's choice, or
// empty. Where there can be none it says so, and returns "".
func openJob(env *tool.Env, dir, label string, sources []string) (string, error) {
	chosen := dir != ""
	if !chosen {
		root := cacheRoot()
		if root == "" {
			env.Notice("no HOME and no XDG_CACHE_HOME: nothing is remembered for the next run (--cache DIR would)")
			return "", nil
		}
		dir = filepath.Join(root, jobName(label, sources))
		defer sweepJobs(root, dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	err = makeJob(dir)
	if errors.Is(err, errForeign) {
		return "", fmt.Errorf("%s: %w: choose a directory for the cache alone", dir, err)
	}
	if err != nil {
		env.Notice("%s cannot be used: %v: nothing is remembered for the next run", dir, err)
		return "", nil
	}
	return dir, nil
}

var errForeign = errors.New("not empty and not a cache")

// makeJob makes a directory that is marked as a cache. It has its marks before it has its
// name, so that another run never sees it half made; one that is there without them gets them if
// nothing else is in it.
func makeJob(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, markerName))
	switch {
	case err == nil:
		return writable(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return newJob(dir)
	}
	if err != nil {
		return err
	}
	for _, d := range list {
		n := d.Name()
		if n != tagName && n != lockName && n != remindedName && !strings.HasPrefix(n, memoryName) && !strings.HasPrefix(n, runPrefix) && !strings.HasPrefix(n, durable.TempPrefix) {
			return errForeign
		}
	}
	return mark(dir)
}

func newJob(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, durable.TempPrefix)
	if err != nil {
		return err
	}
	if err := mark(tmp); err != nil {
		_ = os.RemoveAll(tmp)
		return err
	}
	err = durable.Publish(tmp, dir)
	if err != nil {
		_ = os.RemoveAll(tmp)
	}
	if errors.Is(err, fs.ErrExist) {
		return makeJob(dir) // another run was faster
	}
	if err != nil { // a file system that does not rename without replacing
		if err = os.Mkdir(dir, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			return mark(dir)
		}
	}
	return err
}

func mark(dir string) error {
	for _, f := range []struct{ name, text string }{{tagName, tag}, {markerName, ""}} {
		err := durable.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// sweepJobs removes the directories of jobs that have not run for a long time.
func sweepJobs(root, but string) {
	list, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, d := range list {
		dir := filepath.Join(root, d.Name())
		if len(d.Name()) != 32 || strings.Trim(d.Name(), "0123456789abcdef") != "" || dir == but || !d.IsDir() {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, markerName)); err != nil {
			continue
		}
		used, err := os.Lstat(dir)
		if st, merr := os.Lstat(memoryPath(dir)); err == nil && merr == nil && st.ModTime().After(used.ModTime()) {
			used = st
		}
		if err == nil && time.Since(used.ModTime()) > unused {
			_ = os.RemoveAll(dir) // else it goes with another run
		}
	}
}
