package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/store/storetest"
)

// TestFifosAreNotWaitedFor puts a fifo in the place of each file of a repository,
// one at a time, and opens and reads all of it: something is said, nothing hangs.
func TestFifosAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(2, 3, 2, 1000)
	putTree(t, dir, tree)
	tried := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "ballast" || filepath.Base(filepath.Dir(path)) == "checkpoints" {
			return err // reading needs neither
		}
		tried++
		if err := os.Rename(path, path+".aside"); err != nil {
			return err
		}
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return err
		}
		if readsSilently(t, dir, tree) {
			t.Errorf("%s is a fifo, and nothing was said", path)
		}
		return os.Rename(path+".aside", path)
	})
	if err != nil || tried < 5 {
		t.Errorf("%d objects tried, %v", tried, err)
	}
	if !readsSilently(t, dir, tree) {
		t.Error("whole again, and something was said")
	}
}

// readsSilently reads a tree and reports whether all of it came and nothing was
// said.
func readsSilently(t *testing.T, dir string, tree *storetest.Tree) bool {
	t.Helper()
	l := &log{}
	r, err := Open(dir, l.options())
	if err != nil {
		return false
	}
	defer r.Close()
	order, err := walkAll(r, tree.Snapshot().ID, false)
	if err != nil || len(l.warns)+len(l.notes) > 0 {
		return false
	}
	for _, line := range order {
		if len(line) > 64 {
			return false
		}
	}
	return true
}
