package inode

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/treetest"
)

// bothWays runs a test with openat2 and without.
func bothWays(t *testing.T, fn func(t *testing.T)) {
	t.Run("openat2", fn)
	have := HaveOpenat2
	HaveOpenat2 = func() bool { return false }
	defer func() { HaveOpenat2 = have }()
	t.Run("stepwise", fn)
}

func TestCutPath(t *testing.T) {
	long := strings.Repeat("n", 255)
	path := strings.Repeat(long+"/", 50) + "end"
	bothWays(t, func(t *testing.T) {
		var names []string
		for rest := path; rest != ""; {
			var step string
			step, rest = CutPath(rest)
			if len(step) >= PathMax || step == "" {
				t.Fatalf("a step of %d bytes", len(step))
			}
			names = append(names, step)
		}
		if strings.Join(names, "/") != path {
			t.Fatal("the steps are not the path")
		}
	})
	if step, rest := CutPath(strings.Repeat("n", 5000) + "/x"); len(step) != 5000 || rest != "x" {
		t.Fatalf("%d %q", len(step), rest)
	}
}

// FuzzDirents gives the parser of directories what no kernel gives.
func FuzzDirents(f *testing.F) {
	fd, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	treetest.Must(f, err)
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(fd, buf)
	treetest.Must(f, err)
	unix.Close(fd)
	f.Add(buf[:n])
	f.Add(buf[:n-5])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Names
		l.parse(b)
		for i := range l.List {
			if n := l.Name(i); n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") || l.text[l.List[i].at+len(n)] != 0 {
				t.Fatalf("%q", n)
			}
		}
	})
}

// FuzzXAttrNames splits lists that no kernel gives.
func FuzzXAttrNames(f *testing.F) {
	f.Add([]byte("user.a\x00user.b\x00"))
	f.Add([]byte("\x00\x00x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range splitNames(b) {
			if n == "" || strings.Contains(n, "\x00") {
				t.Fatalf("%q", n)
			}
		}
	})
}

func TestViewsOfAccessLists(t *testing.T) {
	for _, c := range []struct{ names, want []string }{
		{nil, nil},
		{[]string{"system.posix_acl_access", "trusted.SGI_ACL_FILE", "user.a"}, []string{"system.posix_acl_access", "user.a"}},
		{[]string{"system.posix_acl_default", "trusted.SGI_ACL_DEFAULT"}, []string{"system.posix_acl_default"}},
		{[]string{"trusted.SGI_ACL_DEFAULT", "trusted.SGI_ACL_FILE"}, []string{"trusted.SGI_ACL_DEFAULT", "trusted.SGI_ACL_FILE"}},
	} {
		if got := withoutViews(slices.Clone(c.names)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.names, got)
		}
	}
}
