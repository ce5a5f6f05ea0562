package unpack

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/wire"
)

// lossy is a snapshot of which data is missing: of b and its further name c; of e
// nothing is.
func lossy(t *testing.T) *stream {
	s := newStream(t, rec.Down)
	d1, d2 := s.blob(0, []byte("hello")), s.blob(0, []byte("lost"))
	b := file("b", x(0, 0, 5), x(1, 0, 4))
	b.Links = 2
	p := s.page([]*rec.Entry{file("a", x(0, 0, 2)), b, {Path: "c", Type: rec.HardLink, Leader: "b"}, {Path: "d", Type: rec.Socket, Mode: 0o600}, file("e", x(0, 0, 5))}, d1, d2)
	return s.put(s.snapshot(p, snap.Snapshot{Entries: 5, Bytes: 16, Users: []rec.Name{{ID: 0, Name: "root"}}, Roots: []rec.Root{{Dir: "/", Path: "srv"}}}), p, d1, &rec.Missing{ID: d2.ID})
}

// large is a snapshot of a file that is too large to be held until all of it is
// there, and of which a blob in the middle is missing.
func large(t *testing.T) *stream {
	s := newStream(t, rec.Down)
	const n = wholeFiles/(8<<20) + 1
	e := file("a")
	var blobs []*rec.Blob
	for i := range n {
		blobs = append(blobs, s.blob(0, bytes.Repeat([]byte{byte(i)}, 8<<20)))
		e.Extents = append(e.Extents, x(uint64(i), 0, 8<<20))
		e.Size += 8 << 20
	}
	p := s.page([]*rec.Entry{e}, blobs...)
	s.put(s.snapshot(p, snap.Snapshot{Entries: 1, Bytes: e.Size}), p)
	for i, b := range blobs {
		if i == 2 {
			s.put(&rec.Missing{ID: b.ID})
		} else {
			s.put(b)
		}
	}
	return s
}

func TestCatLossy(t *testing.T) {
	out, stderr, status := lossy(t).run("-q", "-k", keyFile("read"), "--cat", "a", "b", "c", "e")
	if out != "hehello" || status != 3 || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, ": b: left out: data blob ") || !strings.Contains(stderr, ": c: left out: it is a hard link to b") {
		t.Errorf("status %d, %q\n%s", status, out, stderr)
	}
	out, stderr, status = large(t).run("-q", "-k", keyFile("read"), "--cat", "a")
	if len(out) != 16<<20 || status != 1 || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "hint: leave the file out with --exclude") {
		t.Errorf("status %d, %d bytes\n%s", status, len(out), stderr)
	}
}

func TestTarLossy(t *testing.T) {
	out, stderr, status := lossy(t).run("-q", "-k", keyFile("read"), "--tar")
	var names []string
	r := tar.NewReader(strings.NewReader(out))
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
	if !slices.Equal(names, []string{"a root he", "e root hello"}) || status != 3 || strings.Count(stderr, "\n") != 3 {
		t.Errorf("status %d, %q\n%s", status, names, stderr)
	}
	out, stderr, status = large(t).run("-q", "-k", keyFile("read"), "--tar")
	r = tar.NewReader(strings.NewReader(out))
	_, err := r.Next()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if status != 1 || err != io.ErrUnexpectedEOF {
		t.Errorf("status %d, the archive ends with %v\n%s", status, err, stderr)
	}
}

// A file of several pieces has no map of its holes; one that turned out shorter
// is filled up, and named.
func TestTarPieces(t *testing.T) {
	s := newStream(t, rec.Down)
	d := s.blob(0, []byte("data"))
	a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 12, More: true, Extents: []rec.Extent{x(0, 0, 4), {Hole: true, Len: 2}}}
	b := &rec.Entry{Path: "h", Type: rec.File, Size: 10, Off: 6, Inconsistent: true, Extents: []rec.Extent{x(0, 0, 4)}}
	p1, p2 := s.page([]*rec.Entry{a}, d), s.page([]*rec.Entry{b}, d)
	w := wire.NewWriter()
	page.EncodeIndex(w, []page.Key{{Path: "h"}, {Path: "h", Off: 6}})
	root := s.blob(2, w.Bytes(), p1, p2)
	s.put(s.snapshot(root, snap.Snapshot{Entries: 1, Bytes: 10}), root, p1, d, p2, d)
	out, stderr, status := s.run("-k", keyFile("read"), "--tar")
	r := tar.NewReader(strings.NewReader(out))
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil || h.Size != 12 || string(content) != "data\x00\x00data\x00\x00" || status != 3 {
		t.Errorf("status %d, %q, %v\n%s", status, content, err, stderr)
	}
	for _, want := range []string{"h: became shorter", "it ends with 2 zeros", "h: changed while it was backed up", "1 files have holes in the snapshot and none in the archive"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("nothing of %q in\n%s", want, stderr)
		}
	}
}

// A file that is inconsistent becomes several pieces in a content stream: the last one says so. A
// list shows it, and is complete: status 0. A verdict names it: status 3.
func TestStreamInconsistent(t *testing.T) {
	run := func(flag string) (string, string, int) {
		s := newStream(t, rec.Down)
		d := s.blob(0, make([]byte, 6<<20))
		e := file("h", x(0, 0, 6<<20))
		e.Inconsistent = true
		root := s.page([]*rec.Entry{e}, d)
		s.put(s.snapshot(root, snap.Snapshot{Entries: 1, Bytes: 6 << 20}), root, d)
		return s.run("-q", "-k", keyFile("read"), flag)
	}
	out, stderr, status := run("--stream")
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
	for flag, want := range map[string]int{"--list": 0, "--verify": 3} {
		if out, stderr, status := run(flag); status != want {
			t.Errorf("%s: status %d, want %d\n%s%s", flag, status, want, out, stderr)
		}
	}
}

// A small file that is lost stays in a content stream by name, or it would look
// deleted; a large one that has begun ends the stream.
func TestStreamLossy(t *testing.T) {
	out, stderr, status := lossy(t).run("-q", "-k", keyFile("read"), "--stream")
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
	out, stderr, status = large(t).run("-q", "-k", keyFile("read"), "--stream")
	in = rec.NewReader(strings.NewReader(out), rec.Content)
	var err error
	for err == nil {
		_, err = in.Next()
	}
	if fail, ok := err.(*rec.FailError); !ok || fail.Tool != "pv-unpack" || status != 1 {
		t.Errorf("status %d, the stream ends with %v\n%s", status, err, stderr)
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
	out, stderr, status := lossy(t).run("-q", "-k", keyFile("read"), "--numeric-ids", "--compare", dir)
	var lines []string
	for line := range strings.Lines(out) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); f[0] != "mtime" {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	if want := []string{"mode a 0644 0600", "missing c link", "missing d socket", "content e"}; !slices.Equal(lines, want) || status != 3 {
		t.Errorf("status %d, %q, want %q", status, lines, want)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, ": b: its content cannot be compared") {
		t.Error(stderr)
	}
}

// Holes are compared with what a live file reads as there.
func TestCompareHoles(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 300_000)
	copy(content[100_000:], "data")
	run := func() string {
		s := newStream(t, rec.Down)
		d := s.blob(0, []byte("data"))
		e := file("f", rec.Extent{Hole: true, Len: 100_000}, x(0, 0, 4), rec.Extent{Hole: true, Len: 199_996})
		p := s.page([]*rec.Entry{e}, d)
		s.put(s.snapshot(p, snap.Snapshot{Entries: 1, Bytes: 300_000}), p, d)
		if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		out, stderr, _ := s.run("-q", "-k", keyFile("read"), "--numeric-ids", "--compare", dir)
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

// Roots tell how much of a live tree the snapshot speaks of.
func TestCover(t *testing.T) {
	c := cover{roots: []rec.Root{{Dir: "/", Path: "home/eve"}, {Dir: "/srv", Path: "data/x"}}}
	for path, want := range map[string][2]bool{
		"home": {false, true}, "home/eve": {true, false}, "home/eve/a": {true, false}, "home/bob": {}, "eve": {},
		"srv": {}, "data": {false, true}, "data/x": {true, false}, "x": {}, "etc": {}, "homes": {},
	} {
		if at, above := c.covers(path); at != want[0] || above != want[1] {
			t.Errorf("%s: at %v, above %v", path, at, above)
		}
	}
	c.all = true
	if at, _ := c.covers("anything"); !at {
		t.Error("not all is covered")
	}
}

// What is stripped off a root's path is part of its directory.
func TestStrippedRoots(t *testing.T) {
	for _, c := range []struct {
		root rec.Root
		n    int
		want rec.Root
	}{
		{rec.Root{Dir: "/", Path: "home/eve"}, 0, rec.Root{Dir: "/", Path: "home/eve"}},
		{rec.Root{Dir: "/", Path: "home/eve"}, 1, rec.Root{Dir: "/home", Path: "eve"}},
		{rec.Root{Dir: "/srv", Path: "a"}, 1, rec.Root{Dir: "/srv/a"}},
		{rec.Root{Dir: "/srv", Path: "a"}, 5, rec.Root{Dir: "/srv/a"}},
		{rec.Root{Dir: "/srv"}, 2, rec.Root{Dir: "/srv"}},
	} {
		if got := stripped([]rec.Root{c.root}, c.n); len(got) != 1 || got[0] != c.want {
			t.Errorf("%v, %d: %v, want %v", c.root, c.n, got, c.want)
		}
	}
}

// Size and verdict of a file of several pieces are those of the last.
func TestListPieces(t *testing.T) {
	s := newStream(t, rec.Down)
	a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 99, More: true, Extents: []rec.Extent{{Hole: true, Len: 10}}}
	b := &rec.Entry{Path: "h", Type: rec.File, Size: 15, Off: 10, Inconsistent: true, Extents: []rec.Extent{{Hole: true, Len: 5}}}
	p1, p2 := s.page([]*rec.Entry{a}), s.page([]*rec.Entry{b, file("i")})
	w := wire.NewWriter()
	page.EncodeIndex(w, []page.Key{{Path: "h"}, {Path: "h", Off: 10}})
	root := s.blob(2, w.Bytes(), p1, p2)
	s.put(s.snapshot(root, snap.Snapshot{Entries: 2, Bytes: 15}), root, p1, p2)
	out, stderr, _ := s.run("-k", keyFile("read"), "--list", "--json")
	lines := strings.Split(out, "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"size":15,"inconsistent":true}`) {
		t.Errorf("%s%s", out, stderr)
	}
}

// Bad ids are printed for what is missing too, pages included.
func TestBadIDs(t *testing.T) {
	s := newStream(t, rec.Down)
	d := s.blob(0, []byte("hello"))
	p1, p2 := s.page([]*rec.Entry{file("a", x(0, 0, 5))}, d), s.page([]*rec.Entry{file("b")})
	w := wire.NewWriter()
	page.EncodeIndex(w, []page.Key{{Path: "a"}, {Path: "b"}})
	root := s.blob(2, w.Bytes(), p1, p2)
	bad := *d
	bad.Data = bytes.Clone(d.Data)
	bad.Data[20] ^= 1
	s.put(s.snapshot(root, snap.Snapshot{Entries: 2, Bytes: 5}), root, p1, &bad, &rec.Missing{ID: p2.ID})
	out, stderr, status := s.run("-q", "-k", keyFile("read"), "--verify", "--bad-ids")
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
