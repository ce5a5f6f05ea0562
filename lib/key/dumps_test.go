package key

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever loads a key has neither core dumps nor others in its memory from then on.
func TestLoadSecludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	if err := all(t)[Cut].Save(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(path); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("dumpable is %d, %v", dumpable, err)
	}
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("cores of %d bytes, %v", limit.Cur, err)
	}
}
