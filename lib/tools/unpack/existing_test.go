package unpack

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/wire"
)

var past = rec.Time{Sec: 1_400_000_000, Nsec: 5}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(past.Sec, int64(past.Nsec))
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func old(p string, ext ...rec.Extent) *rec.Entry {
	e := file(p, ext...)
	e.MTime = past
	return e
}

// A blob that is missing costs nothing if the file that it belongs to is there
// already; of one that is to be replaced the old content stays.
func TestMissingDataOfWhatIsThere(t *testing.T) {
	s := sealtest.New(t, rec.Down)
	d1, d2 := s.Blob(0, []byte("same")), s.Blob(0, []byte("other"))
	p := s.Page([]*rec.Entry{dir(""), old("kept", x(0, 0, 4)), old("lost", x(1, 0, 5))}, d1, d2)
	s.Put(s.Snapshot(p, snap.Snapshot{Entries: 3, Bytes: 9}), p, &rec.Missing{ID: d1.ID}, &rec.Missing{ID: d2.ID})
	to := t.TempDir()
	put(t, filepath.Join(to, "kept"), "same")
	put(t, filepath.Join(to, "lost"), "precious")
	_, stderr, status := run(s.Bytes(), "-q", "-k", sealtest.KeyFile("read"), "--overwrite", "changed", "--delete", to)
	if status != 3 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "not restored: lost\n") {
		t.Errorf("status %d\n%s", status, stderr)
	}
	if a, b := contentOf(t, filepath.Join(to, "kept")), contentOf(t, filepath.Join(to, "lost")); a != "same" || b != "precious" {
		t.Errorf("%q, %q", a, b)
	}
}

// When a page is lost nobody knows what belongs where: nothing is deleted from
// then on. Nor in a directory that could not be read when it was backed up.
func TestNothingIsDeletedAfterALoss(t *testing.T) {
	for _, lose := range []bool{false, true} {
		s := sealtest.New(t, rec.Down)
		d := s.Blob(0, []byte("x"))
		unread := dir("u")
		unread.Err = "permission denied"
		p1, p2, p3 := s.Page([]*rec.Entry{dir(""), dir("a"), file("a/1", x(0, 0, 1))}, d), s.Page([]*rec.Entry{dir("b"), file("b/1", x(0, 0, 1))}, d), s.Page([]*rec.Entry{file("b/2", x(0, 0, 1)), dir("c"), unread}, d)
		w := wire.NewWriter()
		page.EncodeIndex(w, []page.Key{{Path: ""}, {Path: "b"}, {Path: "b/2"}})
		root := s.Blob(2, w.Bytes(), p1, p2, p3)
		s.Put(s.Snapshot(root, snap.Snapshot{Entries: 8, Bytes: 3}), root, p1, d)
		if lose {
			s.Put(&rec.Missing{ID: p2.ID}, p3, d)
		} else {
			s.Put(p2, d, p3, d)
		}
		to := t.TempDir()
		for _, n := range []string{"a/1", "a/extra", "b/1", "b/extra", "c/extra", "u/extra", "extra"} {
			put(t, filepath.Join(to, n), "old")
		}
		_, stderr, status := run(s.Bytes(), "-k", sealtest.KeyFile("read"), "--overwrite", "changed", "--delete", to)
		want := " /a /a/1 /b /b/1 /b/2 /c /u /u/extra"
		if lose {
			want = " /a /a/1 /a/extra /b /b/1 /b/2 /b/extra /c /c/extra /extra /u /u/extra"
		}
		if got := listed(t, to); status != 3 || got != want || strings.Contains(stderr, "nothing more is deleted") != lose || !strings.Contains(stderr, "u: nothing in it is deleted") {
			t.Errorf("lost %v: status %d, %s\n%s", lose, status, got, stderr)
		}
	}
}

// A huge file in several records, holes among them, is made of an old one.
func TestPiecesOverwrite(t *testing.T) {
	const mib = 1 << 20
	noise := bytes.Repeat([]byte("0123456789abcde\n"), mib/16)
	for _, c := range []struct {
		name   string
		args   []string
		before string
		grown  bool
		same   bool
	}{
		{"changed", []string{"--overwrite", "changed"}, strings.Repeat("garbage ", mib), false, false},
		{"in place", []string{"--overwrite", "always", "--in-place"}, strings.Repeat("garbage ", mib), false, false},
		{"kept", []string{"--overwrite", "changed"}, strings.Repeat("same", mib), false, true},
		{"grown", []string{"--overwrite", "changed"}, strings.Repeat("same", mib), true, true},
	} {
		s := sealtest.New(t, rec.Down)
		d := s.Blob(0, noise)
		a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), MTime: past, Size: 4 * mib, More: true, Extents: []rec.Extent{{Hole: true, Len: mib}}}
		b := &rec.Entry{Path: "h", Type: rec.File, Size: 4 * mib, Off: mib, More: true, Extents: []rec.Extent{x(0, 0, mib)}}
		e := &rec.Entry{Path: "h", Type: rec.File, Size: 4 * mib, Off: 2 * mib, Extents: []rec.Extent{{Hole: true, Len: mib}, x(0, 0, mib)}}
		if c.grown {
			e.Size, e.Extents = 3*mib, e.Extents[:1]
		}
		p1, p2, p3 := s.Page([]*rec.Entry{a}), s.Page([]*rec.Entry{b}, d), s.Page([]*rec.Entry{e})
		if !c.grown {
			p3 = s.Page([]*rec.Entry{e}, d)
		}
		w := wire.NewWriter()
		page.EncodeIndex(w, []page.Key{{Path: "h"}, {Path: "h", Off: mib}, {Path: "h", Off: 2 * mib}})
		root := s.Blob(2, w.Bytes(), p1, p2, p3)
		s.Put(s.Snapshot(root, snap.Snapshot{Entries: 1, Bytes: e.Size}), root, p1, p2, d, p3)
		if !c.grown {
			s.Put(d)
		}
		to := t.TempDir()
		put(t, filepath.Join(to, "h"), c.before)
		_, stderr, status := run(s.Bytes(), append([]string{"-q", "-k", sealtest.KeyFile("read")}, append(c.args, to)...)...)
		want := strings.Repeat("\x00", mib) + string(noise) + strings.Repeat("\x00", mib) + string(noise)
		if c.same {
			want = c.before
		}
		if got := contentOf(t, filepath.Join(to, "h")); got != want || (status == 3) != c.grown || (stderr != "") != c.grown {
			t.Errorf("%s: status %d, %d bytes\n%s", c.name, status, len(got), stderr)
		}
	}
}

// Names that are taken off the front of paths may leave the same path twice.
func TestStripMeets(t *testing.T) {
	for _, args := range [][]string{nil, {"--overwrite", "always"}} {
		s := sealtest.New(t, rec.Down)
		d := s.Blob(0, []byte("onetwo"))
		p := s.Page([]*rec.Entry{dir("a"), dir("a/d"), file("a/d/x", x(0, 0, 3)), file("a/z", x(0, 0, 3)), dir("b"), dir("b/d"), file("b/d/w", x(0, 3, 3)), file("b/d/x", x(0, 3, 3)), file("b/y", x(0, 3, 3))}, d)
		s.Put(s.Snapshot(p, snap.Snapshot{Entries: 9, Bytes: 15}), p, d)
		to := filepath.Join(t.TempDir(), "to")
		_, stderr, status := run(s.Bytes(), append(args, "-q", "-k", sealtest.KeyFile("read"), "--strip-components", "1", to)...)
		if got := listed(t, to); status != 3 || got != " /d /d/w /d/x /y /z" || !strings.Contains(stderr, ": d/x: create file: given twice") {
			t.Errorf("status %d, %s\n%s", status, got, stderr)
		}
		if got := contentOf(t, filepath.Join(to, "d/x")); got != "one" {
			t.Errorf("%q", got)
		}
	}
}

func TestPlacingUsage(t *testing.T) {
	for _, args := range []string{"--overwrite sometimes x", "--overwrite always --delete-excluded x", "--keep-directory-symlink x", "--overwrite always --delete --strip-components 1 x", "--in-place x", "--overwrite never --in-place x", "--delete x", "--dry-run --cat x", "--overwrite changed --cat x"} {
		if _, stderr, status := run(nil, append([]string{"-k", sealtest.KeyFile("read")}, strings.Fields(args)...)...); status != 2 {
			t.Errorf("%s: status %d %s", args, status, stderr)
		}
	}
}
