package open

import (
	archive "archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/tools/diff"
	"preserve/lib/tools/ls"
	"preserve/lib/tools/tar"
	"preserve/lib/tools/unpack"
)

// lossy is a snapshot of which data is missing: of b and its further name c; of e
// nothing is.
func lossy(t *testing.T) *sealtest.Stream {
	s := sealtest.New(t, rec.Down)
	d1, d2 := s.Blob(0, []byte("hello")), s.Blob(0, []byte("lost"))
	b := file("b", x(0, 0, 5), x(1, 0, 4))
	b.Links = 2
	p := s.Page([]*rec.Entry{file("a", x(0, 0, 2)), b, {Path: "c", Type: rec.HardLink, Leader: "b"}, {Path: "d", Type: rec.Socket, Mode: 0o600}, file("e", x(0, 0, 5))}, d1, d2)
	return s.Put(s.Snapshot(p, snap.Snapshot{Entries: 5, Bytes: 16, Users: []rec.Name{{ID: 0, Name: "root"}}, Roots: []rec.Root{{Dir: "/", Path: "srv"}}}), p, d1, &rec.Missing{ID: d2.ID})
}

// large is a snapshot of a file that is too large to be held until all of it is
// there, and of which a blob in the middle is missing.
func large(t *testing.T) *sealtest.Stream {
	s := sealtest.New(t, rec.Down)
	const n = reading.Whole/(8<<20) + 1
	e := file("a")
	var blobs []*rec.Blob
	for i := range n {
		blobs = append(blobs, s.Blob(0, bytes.Repeat([]byte{byte(i)}, 8<<20)))
		e.Extents = append(e.Extents, x(uint64(i), 0, 8<<20))
		e.Size += 8 << 20
	}
	p := s.Page([]*rec.Entry{e}, blobs...)
	s.Put(s.Snapshot(p, snap.Snapshot{Entries: 1, Bytes: e.Size}), p)
	for i, b := range blobs {
		if i == 2 {
			s.Put(&rec.Missing{ID: b.ID})
		} else {
			s.Put(b)
		}
	}
	return s
}

func TestCatLossy(t *testing.T) {
	out, stderr, status := runTool("pv-unpack", unpack.Run, lossy(t).Bytes(), "-q", "-k", sealtest.KeyFile("read"), "--cat", "a", "b", "c", "e")
	if out != "hehello" || status != 3 || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, ": b: left out: data blob ") || !strings.Contains(stderr, ": c: left out: it is a hard link to b") {
		t.Errorf("status %d, %q\n%s", status, out, stderr)
	}
	out, stderr, status = runTool("pv-unpack", unpack.Run, large(t).Bytes(), "-q", "-k", sealtest.KeyFile("read"), "--cat", "a")
	if len(out) != 16<<20 || status != 1 || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "hint: leave the file out with --exclude") {
		t.Errorf("status %d, %d bytes\n%s", status, len(out), stderr)
	}
}

func TestTarLossy(t *testing.T) {
	out, stderr, status := pipe(lossy(t).Bytes(), []string{"-q", "-k", sealtest.KeyFile("read")}, tar.Run, "-q", "-c")
	var names []string
	r := archive.NewReader(strings.NewReader(out))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name+" "+h.Uname+" "+string(content))
	}
	if !slices.Equal(names, []string{"a root he", "e root hello"}) || status != 3 || strings.Count(stderr, "\n") != 4 {
		t.Errorf("status %d, %q\n%s", status, names, stderr)
	}
	out, stderr, status = pipe(large(t).Bytes(), []string{"-q", "-k", sealtest.KeyFile("read")}, tar.Run, "-q", "-c")
	r = archive.NewReader(strings.NewReader(out))
	_, err := r.Next()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if status != 1 || err != io.ErrUnexpectedEOF {
		t.Errorf("status %d, the archive ends with %v\n%s", status, err, stderr)
	}
}

// A file that is inconsistent becomes several pieces in a content stream: the last one says so. A
// list shows it, and is complete: status 0. A verdict names it: status 3.
func TestStreamInconsistent(t *testing.T) {
	stream := func() []byte {
		s := sealtest.New(t, rec.Down)
		d1, d2 := s.Blob(0, make([]byte, 6<<20)), s.Blob(0, make([]byte, 3<<20))
		e := file("h", x(0, 0, 6<<20), x(1, 0, 3<<20))
		e.Inconsistent = true
		root := s.Page([]*rec.Entry{e}, d1, d2)
		return s.Put(s.Snapshot(root, snap.Snapshot{Entries: 1, Bytes: 9 << 20}), root, d1, d2).Bytes()
	}
	out, stderr, status := run(stream(), "-q", "-k", sealtest.KeyFile("read"))
	in := rec.NewReader(strings.NewReader(out), rec.Content)
	var pieces []bool
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := v.(*rec.Entry); ok {
			pieces = append(pieces, e.Inconsistent)
		}
	}
	if !slices.Equal(pieces, []bool{false, true}) || status != 0 {
		t.Errorf("status %d, %v\n%s", status, pieces, stderr)
	}
	for flag, want := range map[string]int{"--meta": 0, "--check": 3} {
		if out, stderr, status := run(stream(), "-q", "-k", sealtest.KeyFile("read"), flag); status != want {
			t.Errorf("%s: status %d, want %d\n%s%s", flag, status, want, out, stderr)
		}
	}
}

// A small file that is lost stays in a content stream by name, or it would look
// deleted; a large one that has begun ends the stream.
func TestStreamLossy(t *testing.T) {
	out, stderr, status := run(lossy(t).Bytes(), "-q", "-k", sealtest.KeyFile("read"))
	in := rec.NewReader(strings.NewReader(out), rec.Content)
	var got []string
	var end *rec.End
	var check page.Checker
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Entry:
			if err := check.Next(v); err != nil {
				t.Error(err)
			}
			got = append(got, v.Path+" "+v.Err)
		case *rec.End:
			end = v
		}
	}
	if len(got) != 5 || !strings.HasPrefix(got[1], "b lost: data blob ") || got[2] != "c " || got[4] != "e " {
		t.Errorf("%q", got)
	}
	if status != 3 || end.Status != 3 || end.Warnings != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, end %+v\n%s", status, end, stderr)
	}
	// Of a large one that has begun, the rest does not come, and a record says so: nobody makes
	// a file of it.
	out, stderr, status = run(large(t).Bytes(), "-q", "-k", sealtest.KeyFile("read"))
	in = rec.NewReader(strings.NewReader(out), rec.Content)
	var after []rec.Record
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v.(type) {
		case *rec.Missing:
			after = []rec.Record{v}
		case *rec.Entry, *rec.End:
			after = append(after, v)
		}
	}
	if status != 3 || len(after) != 2 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, %v\n%s", status, after, stderr)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, stderr, status := runTool("pv-unpack", unpack.Run, []byte(out), to); status != 3 || !strings.Contains(stderr, "not restored: a\n") {
		t.Errorf("status %d\n%s", status, stderr)
	}
	if _, err := os.Lstat(filepath.Join(to, "a")); err == nil {
		t.Error("half a file was made")
	}
}

// What cannot be had cannot be compared, and is no difference.
func TestCompareLossy(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "he", "b": "hellolost", "e": "hellx"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, status := pipe(lossy(t).Bytes(), []string{"-q", "-k", sealtest.KeyFile("read")}, diff.Run, "-q", "--numeric-ids", "-", dir)
	var lines []string
	for line := range strings.Lines(out) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); f[0] != "mtime" {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	if want := []string{"mode a 0644 0600", "missing c link", "missing d socket", "content e"}; !slices.Equal(lines, want) || status != 3 {
		t.Errorf("status %d, %q, want %q", status, lines, want)
	}
	if strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, ": b: was stored without content: lost") {
		t.Error(stderr)
	}
}

// Holes are compared with what a live file reads as there.
func TestCompareHoles(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 300_000)
	copy(content[100_000:], "data")
	run := func() string {
		s := sealtest.New(t, rec.Down)
		d := s.Blob(0, []byte("data"))
		e := file("f", rec.Extent{Hole: true, Len: 100_000}, x(0, 0, 4), rec.Extent{Hole: true, Len: 199_996})
		p := s.Page([]*rec.Entry{e}, d)
		s.Put(s.Snapshot(p, snap.Snapshot{Entries: 1, Bytes: 300_000}), p, d)
		if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		out, stderr, _ := pipe(s.Bytes(), []string{"-q", "-k", sealtest.KeyFile("read")}, diff.Run, "-q", "--numeric-ids", "-", dir)
		if stderr != "" {
			t.Error(stderr)
		}
		return out
	}
	if out := run(); strings.Contains(out, "content") || !strings.HasPrefix(out, "mtime\tf\t") {
		t.Errorf("%q", out)
	}
	for _, at := range []int{0, 99_999, 100_003, 299_999} {
		content[at]++
		if out := run(); !strings.HasSuffix(out, "\ncontent\tf\n") {
			t.Errorf("byte %d: %q", at, out)
		}
		content[at]--
	}
}

// Size and verdict of a file of several pieces are those of the last.
func TestListPieces(t *testing.T) {
	s := sealtest.New(t, rec.Down)
	a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 99, More: true, Extents: []rec.Extent{{Hole: true, Len: 10}}}
	b := &rec.Entry{Path: "h", Type: rec.File, Size: 15, Off: 10, Inconsistent: true, Extents: []rec.Extent{{Hole: true, Len: 5}}}
	p1, p2 := s.Page([]*rec.Entry{a}), s.Page([]*rec.Entry{b, file("i")})
	root := s.Index(2, []page.Key{{Path: "h"}, {Path: "h", Off: 10}}, p1, p2)
	s.Put(s.Snapshot(root, snap.Snapshot{Entries: 2, Bytes: 15}), root, p1, p2)
	out, stderr, _ := pipe(s.Bytes(), []string{"-k", sealtest.KeyFile("read"), "--meta"}, ls.Run, "--json")
	lines := strings.Split(out, "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"size":15,"inconsistent":true}`) {
		t.Errorf("%s%s", out, stderr)
	}
}

// Bad ids are printed for what is missing too, pages included.
func TestBadIDs(t *testing.T) {
	s := sealtest.New(t, rec.Down)
	d := s.Blob(0, []byte("hello"))
	p1, p2 := s.Page([]*rec.Entry{file("a", x(0, 0, 5))}, d), s.Page([]*rec.Entry{file("b")})
	root := s.Index(2, []page.Key{{Path: "a"}, {Path: "b"}}, p1, p2)
	bad := *d
	bad.Data = bytes.Clone(d.Data)
	bad.Data[20] ^= 1
	s.Put(s.Snapshot(root, snap.Snapshot{Entries: 2, Bytes: 5}), root, p1, &bad, &rec.Missing{ID: p2.ID})
	out, stderr, status := run(s.Bytes(), "-q", "-k", sealtest.KeyFile("read"), "--check", "--bad-ids")
	var want []string
	for _, i := range []id.ID{d.ID, p2.ID} {
		want = append(want, i.String())
	}
	got := strings.Fields(out)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || status != 3 || !strings.Contains(stderr, "is damaged: does not open") || !strings.Contains(stderr, "is missing in the repository; everything from b to the end is lost") {
		t.Errorf("status %d, %q\n%s", status, got, stderr)
	}
}
