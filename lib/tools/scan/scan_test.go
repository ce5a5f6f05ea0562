package scan

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// scanned is what one run did.
type scanned struct {
	failed bool // the stream ends with a fail record
	status int
	raw    []byte
	stderr string
	head   *rec.Head
	paths  []string
	es     map[string]*rec.Entry
	notes  []*rec.Note
	users  []rec.Name
	end    *rec.End
}

func run(t *testing.T, args ...string) *scanned {
	t.Helper()
	var out, msgs bytes.Buffer
	env := tool.NewEnv("pv-scan", args, strings.NewReader(""), &out, &msgs)
	s := &scanned{status: env.Status(Run(env)), raw: bytes.Clone(out.Bytes()), stderr: msgs.String(), es: map[string]*rec.Entry{}}
	if out.Len() == 0 {
		return s
	}
	r := rec.NewReader(&out, rec.Tree)
	r.Strict()
	for {
		v, err := r.Next()
		if err == io.EOF {
			return s
		}
		var fail *rec.FailError
		if errors.As(err, &fail) {
			s.failed = true
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Head:
			s.head = v
		case *rec.Entry:
			s.paths = append(s.paths, v.Path)
			s.es[v.Path] = v
		case *rec.Note:
			s.notes = append(s.notes, v)
		case *rec.Names:
			s.users = append(s.users, v.Users...)
		case *rec.End:
			s.end = v
			s.users = append(s.users, v.Users...)
		}
	}
}

func tmp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStream(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a/b"), "12345")
	write(t, filepath.Join(dir, "a-b"), "1")
	write(t, filepath.Join(dir, "c/d"), "")
	if err := os.Link(filepath.Join(dir, "a-b"), filepath.Join(dir, "a/c")); err != nil {
		t.Fatal(err)
	}
	s := run(t, "-C", dir, "a", "a-b", "c/d")
	if s.status != 0 || s.stderr != "" {
		t.Fatalf("status %d, %s", s.status, s.stderr)
	}
	if want := []string{"a", "a/b", "a/c", "a-b", "c", "c/d"}; !slices.Equal(s.paths, want) {
		t.Errorf("%q", s.paths)
	}
	host, _ := os.Hostname()
	if s.head.Host != host || s.head.User == "" || s.head.Time.Sec == 0 ||
		!slices.Equal(s.head.Roots, []rec.Root{{Dir: dir, Path: "a"}, {Dir: dir, Path: "a-b"}, {Dir: dir, Path: "c/d"}}) {
		t.Errorf("%+v", s.head)
	}
	if e := s.end; e.Status != 0 || e.Entries != 6 || e.Bytes != 6 || e.Warnings != 0 {
		t.Errorf("%+v", e)
	}
	if e := s.es["a/b"]; e.Size != 5 || e.Type != rec.File || e.Ino == 0 || (e.CTime == rec.Time{}) {
		t.Errorf("%+v", e)
	}
	// The same tree gives the same bytes, but for the time in the head.
	again := run(t, "-C", dir, "c/d", "a-b", "a", "a/b", "./a/")
	strip := func(s *scanned) []byte { return s.raw[bytes.Index(s.raw, []byte("entry")):] }
	if !bytes.Equal(strip(s), strip(again)) {
		t.Error("a second scan differs")
	}
}

func TestRootItself(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "f"), "")
	if s := run(t, "-C", dir, "."); s.status != 0 || !slices.Equal(s.paths, []string{"", "f"}) {
		t.Fatalf("%d %q %s", s.status, s.paths, s.stderr)
	}
	want := strings.TrimPrefix(filepath.Join(dir, "f"), "/")
	if s := run(t, filepath.Join(dir, "f")); s.status != 0 || s.paths[len(s.paths)-1] != want || len(s.paths) != 1+strings.Count(want, "/") {
		t.Fatalf("%d %q %s", s.status, s.paths, s.stderr)
	}
}

func TestNothingWritten(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "a"), "")
	for _, c := range []struct {
		args   []string
		status int
		text   string
	}{
		{nil, 2, "no path given"},
		{[]string{"-z", "a"}, 2, "unknown option -z"},
		{[]string{"-C", dir, "missing"}, 1, "pv-scan: source missing: no such file or directory\n"},
		{[]string{"-C", filepath.Join(dir, "none"), "a"}, 1, "no such file or directory"},
		{[]string{"-C", dir, "/", "a"}, 2, "with -C"},
		{[]string{"--from0", "a"}, 2, "--files-from"},
		{[]string{"--exclude", "[", "a"}, 2, "not a pattern"},
		{[]string{"--exclude-larger-than", "1KB", "a"}, 2, "K, M, G or T"},
	} {
		s := run(t, c.args...)
		if s.status != c.status || !strings.Contains(s.stderr, c.text) || s.head != nil || s.failed != (c.status == 1) || strings.Count(s.stderr, "\n") != 1 {
			t.Errorf("%.60q: status %d, %d bytes, %s", c.args, s.status, len(s.raw), s.stderr)
		}
	}
}

func TestNotices(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "real/f"), "")
	write(t, filepath.Join(dir, "real/cache", inode.CacheMarker), "")
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := run(t, "-C", dir, "link/cache", "link/f", "real")
	if s.status != 0 || strings.Count(s.stderr, "\n") != 3 || !strings.Contains(s.stderr, "pv-scan: link/f: a parent of it is a symbolic link: stored as real/f\n") {
		t.Errorf("status %d: %s", s.status, s.stderr)
	}
	if len(s.notes) != 1 || !strings.Contains(s.notes[0].Text, "real/cache: ") || !strings.Contains(s.stderr, s.notes[0].Text) {
		t.Errorf("%+v", s.notes)
	}
	if !slices.Equal(s.paths, []string{"real", "real/cache", "real/f"}) {
		t.Errorf("%q", s.paths)
	}
	if s := run(t, "-q", "-C", dir, "link/cache", "link/f", "real"); s.stderr != "" {
		t.Errorf("-q: %s", s.stderr)
	}
}

func TestXAttrs(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "f"), "")
	if err := syscall.Setxattr(filepath.Join(dir, "f"), "user.x", []byte("v"), 0); err != nil {
		t.Skip("needs extended attributes: ", err)
	}
	if e := run(t, "-C", dir, "f").es["f"]; len(e.XAttrs) != 0 {
		t.Errorf("%+v", e)
	}
	if e := run(t, "--xattrs", "-C", dir, "f").es["f"]; len(e.XAttrs) != 1 || e.XAttrs[0].Name != "user.x" || string(e.XAttrs[0].Value) != "v" {
		t.Errorf("%+v", e)
	}
}

// TestWarning scans what cannot be scanned whole.
func TestWarning(t *testing.T) {
	dir := tmp(t)
	path := dir
	for range rec.MaxPath/250 + 1 { // beyond what a stream can carry
		path += "/" + strings.Repeat("n", 250)
	}
	fd, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { fd.Close() }()
	for range rec.MaxPath/250 + 1 {
		name := strings.Repeat("n", 250)
		if err := fd.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := fd.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		fd.Close()
		fd = next
	}
	s := run(t, "-C", dir, ".")
	if s.status != 3 || s.end.Status != 3 || s.end.Warnings != 1 || len(s.end.Warned) != 1 || !strings.Contains(s.stderr, "bytes long") {
		t.Fatalf("status %d, %+v, %.300s", s.status, s.end, s.stderr)
	}
}

func TestOwners(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "f"), "")
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "f"), 4294967294, 4294967294); err != nil {
			t.Fatal(err)
		}
	}
	s := run(t, "-C", dir, ".")
	var ids []uint32
	for _, n := range s.users {
		ids = append(ids, n.ID)
	}
	if uid := s.es[""].UID; !slices.Contains(ids, uid) {
		t.Errorf("no name for %d in %v", uid, s.users)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestReaderGone(t *testing.T) {
	var msgs bytes.Buffer
	env := tool.NewEnv("pv-scan", []string{"-C", tmp(t), "."}, strings.NewReader(""), closedPipe{}, &msgs)
	if err := Run(env); !errors.Is(err, syscall.EPIPE) || env.Status(err) != 1 || msgs.Len() > 0 {
		t.Fatalf("%v: %s", err, msgs.String())
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	env := tool.NewEnv("pv-scan", []string{"-h"}, strings.NewReader(""), &out, io.Discard)
	if status := env.Status(Run(env)); status != 0 || !strings.HasPrefix(out.String(), usage) {
		t.Fatalf("status %d: %s", status, out.String())
	}
}
