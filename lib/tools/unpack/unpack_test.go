package unpack

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

func TestMain(m *testing.M) { os.Exit(sealtest.Main(m)) }

func run(in []byte, args ...string) (stdout, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-unpack", args, bytes.NewReader(in), &o, &e)
	status = env.Status(Run(env))
	env.Cleanup()
	return o.String(), e.String(), status
}

var dir, file, x = sealtest.Dir, sealtest.File, sealtest.X

func listed(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		names = append(names, strings.TrimPrefix(p, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// A file whose data is missing in the repository is named and left out; all
// others come back.
func TestMissingDataLeavesFileOut(t *testing.T) {
	s := sealtest.New(t, rec.Down)
	d1, d2 := s.Blob(0, []byte("onetwo")), s.Blob(0, []byte("three"))
	lead := file("c", x(1, 0, 5))
	lead.Links = 2
	p := s.Page([]*rec.Entry{dir("a"), file("a/1", x(0, 0, 3)), file("b", x(0, 3, 3)), lead, {Path: "d", Type: rec.HardLink, Leader: "c"}}, d1, d2)
	s.Put(s.Snapshot(p, snap.Snapshot{Entries: 5, Bytes: 11}), p, d1, &rec.Missing{ID: d2.ID})
	to := filepath.Join(t.TempDir(), "to")
	_, stderr, status := run(s.Bytes(), "-k", sealtest.KeyFile("read"), to)
	if status != 3 || !strings.Contains(stderr, "not restored: c\n") || !strings.Contains(stderr, ": d: create hard link to c") {
		t.Errorf("status %d\n%s", status, stderr)
	}
	if got := listed(t, to); got != " /a /a/1 /b" {
		t.Errorf("restored %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(to, "b")); err != nil || string(b) != "two" {
		t.Errorf("b holds %q, %v", b, err)
	}
}

// What the destination cannot hold is named, with all that is below it; the rest
// comes back.
func TestDestinationCannotHold(t *testing.T) {
	s := sealtest.New(t, rec.Down)
	d := s.Blob(0, []byte("hello"))
	long := strings.Repeat("n", 300)
	p := s.Page([]*rec.Entry{dir("a"), dir("a/" + long), file("a/"+long+"/f", x(0, 0, 5)), file("b", x(0, 0, 5)), file(strings.Repeat("z", 300), x(0, 0, 5))}, d)
	s.Put(s.Snapshot(p, snap.Snapshot{Entries: 5, Bytes: 15}), p, d)
	to := filepath.Join(t.TempDir(), "to")
	_, stderr, status := run(s.Bytes(), "-q", "-k", sealtest.KeyFile("read"), to)
	if status != 3 || listed(t, to) != " /a /b" || strings.Count(stderr, "\n") != 3 {
		t.Errorf("status %d, restored %q\n%s", status, listed(t, to), stderr)
	}
}

// A huge file in several pieces, and one that lost its second page.
func TestPieces(t *testing.T) {
	for _, lose := range []bool{false, true} {
		s := sealtest.New(t, rec.Down)
		d1, d2 := s.Blob(0, []byte("first")), s.Blob(0, []byte("second"))
		a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 99, More: true, Extents: []rec.Extent{x(0, 0, 5), {Hole: true, Len: 5}}}
		b := &rec.Entry{Path: "h", Type: rec.File, Size: 99, Off: 10, More: true, Extents: []rec.Extent{x(0, 0, 6)}}
		c := &rec.Entry{Path: "h", Type: rec.File, Size: 21, Off: 16, Extents: []rec.Extent{x(0, 0, 5)}}
		p1, p2, p3 := s.Page([]*rec.Entry{a}, d1), s.Page([]*rec.Entry{b}, d2), s.Page([]*rec.Entry{c, file("i", x(0, 0, 1))}, d1)
		w := wire.NewWriter()
		page.EncodeIndex(w, []page.Key{{Path: "h"}, {Path: "h", Off: 10}, {Path: "h", Off: 16}})
		root := s.Blob(2, w.Bytes(), p1, p2, p3)
		s.Put(s.Snapshot(root, snap.Snapshot{Entries: 2, Bytes: 22}), root, p1, d1)
		if lose {
			s.Put(&rec.Missing{ID: p2.ID})
		} else {
			s.Put(p2, d2)
		}
		s.Put(p3, d1)
		to := filepath.Join(t.TempDir(), "to")
		_, stderr, status := run(s.Bytes(), "-k", sealtest.KeyFile("read"), to)
		got, _ := os.ReadFile(filepath.Join(to, "h")) // absent is empty
		if !lose && (status != 0 || string(got) != "first\x00\x00\x00\x00\x00secondfirst") {
			t.Errorf("status %d, %q\n%s", status, got, stderr)
		}
		if lose && (status != 3 || listed(t, to) != " /i" || !strings.Contains(stderr, "h: a part of it is lost")) {
			t.Errorf("lost: status %d, %s\n%s", status, listed(t, to), stderr)
		}
	}
}

// Nothing is made for a stream that is not believed.
func TestNothingIsMadeForABadStream(t *testing.T) {
	good := func() *sealtest.Stream {
		s := sealtest.New(t, rec.Down)
		p := s.Page([]*rec.Entry{dir("a")})
		return s.Put(s.Snapshot(p, snap.Snapshot{Entries: 1}), p)
	}
	to := filepath.Join(t.TempDir(), "to")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"other snapshot": {[]string{"-k", sealtest.KeyFile("read"), "--snapshot", id.ID{1}.String(), to}, "asked for"},
		"list key":       {[]string{"-k", sealtest.KeyFile("list"), to}, "list key cannot open"},
		"cut key":        {[]string{"-k", sealtest.KeyFile("cut"), to}, "cut key"},
	} {
		if _, stderr, status := run(good().Bytes(), c.args...); status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, %s", name, status, stderr)
		}
		if _, err := os.Lstat(to); err == nil {
			t.Errorf("%s: the directory was made", name)
		}
	}
	s := good()
	s.Put(&rec.End{})
	if _, stderr, status := run(s.Out.Bytes()[:s.Out.Len()-3], "-k", sealtest.KeyFile("read"), to); status != 1 || !strings.Contains(stderr, "without its end record") {
		t.Errorf("cut off: status %d, %s", status, stderr)
	}
}
