package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestLockIsNoLink: a lock that is a link leads to no file elsewhere.
func TestLockIsNoLink(t *testing.T) {
	dir, _, _ := small(t)
	lock, elsewhere := filepath.Join(dir, lockName), filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Remove(lock), os.Symlink(elsewhere, lock)); err != nil {
		t.Fatal(err)
	}
	if w, err := Create(dir, secret, job, begun, nil); err == nil {
		w.Abort()
		t.Error("the link was followed")
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made elsewhere:", err)
	}
}

// A stranger is the description of a file of another user.
type stranger struct {
	fs.FileInfo
	uid uint32
}

func (s stranger) Sys() any { return &unixStat{Uid: s.uid} }

// TestOwner: what belongs to another user than us and root is not believed.
func TestOwner(t *testing.T) {
	st, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	us := uint32(os.Geteuid())
	for uid, safe := range map[uint32]bool{0: true, us: true, us + 1: false, 1<<32 - 2: false} {
		if err := own("x", stranger{st, uid}); safe != (err == nil) || !safe && !errors.Is(err, ErrUnsafe) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
	if us != 0 {
		t.Skip("only root can give files to somebody else")
	}
	dir, _, _ := small(t)
	file := filepath.Join(dir, nth(60).String())
	for _, path := range []string{file, file + idsSuffix, dir} {
		if err := os.Chown(path, 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := Open(dir, nth(60), secret, job); !errors.Is(err, ErrUnsafe) {
			t.Error("the cache:", err)
		}
		if _, err := OpenIDs(dir, nth(60), secret, job.Key); !errors.Is(err, ErrUnsafe) {
			t.Error("the list:", err)
		}
	}
	refused()
	if _, err := Create(dir, secret, job, begun, nil); !errors.Is(err, ErrUnsafe) {
		t.Error("the directory:", err)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	refused() // for the files' sake
}
