package scan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// bothWays runs a test with openat2 and without.
func bothWays(t *testing.T, fn func(t *testing.T)) {
	t.Run("openat2", fn)
	have := inode.HaveOpenat2
	inode.HaveOpenat2 = func() bool { return false }
	defer func() { inode.HaveOpenat2 = have }()
	t.Run("stepwise", fn)
}

func TestSame(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "f"), "one")
	roots := []rec.Root{{Dir: dir}}
	e := treetest.Find(walk(t, roots, false), "f")
	s, err := source.OpenRoots(roots)
	treetest.Must(t, err)
	defer s.Close()
	same := func() error {
		f, err := s.Open("f")
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Same(e)
	}
	treetest.Must(t, same())
	p := filepath.Join(dir, "f")
	treetest.Must(t, os.Rename(p, p+"old"))
	treetest.Write(t, p, "two")
	if err := same(); !errors.Is(err, inode.ErrReplaced) || !strings.Contains(err.Error(), "another file") {
		t.Errorf("replaced by a file: %v", err)
	}
	e.Ino, e.Dev = 0, 0
	treetest.Must(t, same())
	treetest.Must(t, os.Remove(p))
	treetest.Must(t, unix.Mkfifo(p, 0o600))
	if err := same(); !errors.Is(err, inode.ErrReplaced) || !strings.Contains(err.Error(), "a fifo where") {
		t.Errorf("replaced by a fifo: %v", err)
	}
	treetest.Must(t, os.Remove(p))
	treetest.Must(t, os.Symlink("fold", p))
	if err := same(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("replaced by a link: %v", err)
	}
}

// TestAttributes reads what was set on things of every type.
func TestAttributes(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.Tmp(t)
	treetest.OddTree(t, dir)
	treetest.SpecialTree(t, dir)
	bothWays(t, func(t *testing.T) {
		s, err := source.OpenRoots([]rec.Root{{Dir: dir}})
		treetest.Must(t, err)
		defer s.Close()
		for path, want := range map[string]string{
			"special/file":   "security.capability security.s system.posix_acl_access trusted.t",
			"special/dir":    "security.s system.posix_acl_access system.posix_acl_default trusted.t",
			"special/link":   "security.s trusted.t",
			"special/fifo":   "security.s trusted.t",
			"special/socket": "security.s trusted.t",
			"special/null":   "trusted.dev",
			"alink":          "user.big user.z",
			"names/a":        "",
		} {
			e := treetest.Find(walk(t, []rec.Root{{Dir: dir}}, false), path)
			a, err := s.Attributes(path, e.Type)
			xs := a.XAttrs
			treetest.Must(t, err)
			var names []string
			for _, x := range xs {
				names = append(names, x.Name)
			}
			if got := strings.Join(names, " "); got != want || !slices.IsSorted(names) {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		if a, err := s.Attributes("special/immutable", rec.File); err != nil || a.Flags != inode.FlagImmutable|inode.FlagNoDump {
			t.Errorf("flags %s: %v", inode.FlagNames(a.Flags), err)
		}
		if a, err := s.Attributes("special/frozen", rec.Dir); err != nil || a.Flags != inode.FlagImmutable|inode.FlagNoAtime {
			t.Errorf("flags %s: %v", inode.FlagNames(a.Flags), err)
		}
	})
}

// TestLargeAttribute reads values and lists that do not fit at the first try.
func TestLargeAttribute(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "preserve")
	if err != nil {
		t.Skip("needs a file system in memory, which takes large attributes")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := filepath.Join(dir, "f")
	treetest.Write(t, p, "")
	if err := unix.Setxattr(p, "trusted.large", []byte(strings.Repeat("v", 60000)), 0); err != nil {
		t.Skip("needs trusted attributes: ", err)
	}
	for i := range 200 {
		treetest.Must(t, unix.Setxattr(p, fmt.Sprintf("trusted.%0200d", i), []byte("v"), 0))
	}
	s, err := source.OpenRoots([]rec.Root{{Dir: dir}})
	treetest.Must(t, err)
	defer s.Close()
	a, err := s.Attributes("f", rec.File)
	xs := a.XAttrs
	if err != nil || len(xs) != 201 || len(xs[200].Value) != 60000 {
		t.Fatalf("%d attributes: %v", len(xs), err)
	}
	for i := range 20 {
		treetest.Must(t, unix.Setxattr(p, fmt.Sprintf("trusted.more%d", i), []byte(strings.Repeat("v", 60000)), 0))
	}
	if _, err := s.Attributes("f", rec.File); !errors.Is(err, inode.ErrAttributes) {
		t.Fatalf("over the limit: %v", err)
	}
	var r treetest.Told
	e := treetest.Find(walkTo(t, []rec.Root{{Dir: dir}}, true, &r), "f")
	if e.Err != "" || len(e.Omitted) != 1 || e.Omitted[0] != rec.AnyXAttr || len(r.Warnings) != 1 {
		t.Fatalf("%q %q %q", e.Err, e.Omitted, r.Warnings)
	}
}
