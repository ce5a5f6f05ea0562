package chunk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// reads says which of the files of a snapshot came as chunks of its own run.
func reads(v *vault, stream []byte, words ...string) (s *snapshot, read []string) {
	v.t.Helper()
	out, stderr, status := v.chunk(stream, words...)
	if status == 1 || status == 2 {
		v.t.Fatalf("status %d: %s", status, stderr)
	}
	in := rec.NewReader(bytes.NewReader(out), rec.Content)
	for {
		r, err := in.Next()
		if err != nil {
			break
		}
		if e, ok := r.(*rec.Entry); ok && len(e.Extents) > 0 && !fromCache(e) {
			read = append(read, e.Path)
		}
	}
	s = v.keep(out)
	s.stderr, s.status = stderr, status
	return s, read
}

// tick returns when the clock that stamps files has gone on.
func tick(t testing.TB, dir string) {
	t.Helper()
	probe := filepath.Join(dir, "probe")
	var first, st unix.Stat_t
	for {
		write(t, probe, nil)
		if err := unix.Stat(probe, &st); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(probe); err != nil {
			t.Fatal(err)
		}
		if first.Ctim == (unix.Timespec{}) {
			first = st
		}
		if st.Ctim != first.Ctim {
			return
		}
	}
}

// What touched a file is told by the times that nobody can set.
func TestTouchedIsRead(t *testing.T) {
	dir := t.TempDir()
	in := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"stays", "rewritten", "chmod", "swapped", "linked", "xattr", "dir/in"} {
		write(t, in(n), []byte("old "+n))
	}
	write(t, in("other"), []byte("OLD swapped"))
	st, err := os.Stat(in("swapped"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(in("other"), st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	v := newVault(t)
	first := v.run(scannedAt(t, dir, start(), nil))
	tick(t, dir)

	// Same size, and the old time put back.
	if st, err = os.Stat(in("rewritten")); err != nil {
		t.Fatal(err)
	}
	write(t, in("rewritten"), []byte("new rewritten")[:len("old rewritten")])
	if err := os.Chtimes(in("rewritten"), st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(in("chmod"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Another file of the same size and time in its place.
	if err := os.Rename(in("other"), in("swapped")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(in("linked"), in("linked2")); err != nil {
		t.Fatal(err)
	}
	attrs := unix.Setxattr(in("xattr"), "user.of", []byte("the file"), 0)
	if attrs != nil && attrs != unix.ENOTSUP {
		t.Fatal(attrs)
	}
	stream := scannedAt(t, dir, start(), nil)
	s, read := reads(v, stream, v.on(first)...)
	want := "chmod linked rewritten swapped xattr"
	if attrs != nil {
		want = "chmod linked rewritten swapped"
	}
	if got := strings.Join(read, " "); got != want {
		t.Errorf("read: %s, want %s", got, want)
	}
	if string(s.data["swapped"]) != "OLD swapped" || string(s.data["rewritten"]) != "new rewritten" || s.entries["chmod"].Mode != 0o600 {
		t.Errorf("%q %q %o", s.data["swapped"], s.data["rewritten"], s.entries["chmod"].Mode)
	}
	if e := s.entries["linked2"]; e.Type != rec.HardLink || e.Leader != "linked" || s.entries["linked"].Links != 2 {
		t.Errorf("%+v, %+v", e, s.entries["linked"])
	}
	if e := s.entries["xattr"]; attrs == nil && (len(e.XAttrs) != 1 || string(e.XAttrs[0].Value) != "the file") {
		t.Errorf("%+v", e)
	}
	if s.entries["other"] != nil {
		t.Error("what is gone is stored")
	}
	// What is gone has left the cache: when it comes back it is read.
	if err := os.Rename(in("swapped"), in("other")); err != nil {
		t.Fatal(err)
	}
	s = v.run(scannedAt(t, dir, start(), nil), v.on(s)...)
	if err := os.Rename(in("other"), in("swapped")); err != nil {
		t.Fatal(err)
	}
	if _, read := reads(v, scannedAt(t, dir, start(), nil), append(v.on(s), "--ignore-ctime", "--ignore-inode")...); strings.Join(read, " ") != "swapped" {
		t.Errorf("read: %s", read)
	}
}

// The risks that options take are the user's.
func TestIgnored(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write(t, file, []byte("old"))
	v := newVault(t)
	first := v.run(scannedAt(t, dir, start(), nil))
	with := func(edit func(e *rec.Entry), words ...string) int {
		t.Helper()
		_, read := reads(v, scannedAt(t, dir, start(), edit), append(v.on(first), words...)...)
		return len(read)
	}
	ctime := func(e *rec.Entry) { e.CTime.Sec += 5 }
	inode := func(e *rec.Entry) { e.Ino++ }
	both := func(e *rec.Entry) { ctime(e); inode(e) }
	for i, c := range []struct {
		edit  func(*rec.Entry)
		words []string
		want  int
	}{
		{nil, nil, 0},
		{ctime, nil, 1}, {inode, nil, 1},
		{ctime, []string{"--ignore-ctime"}, 0}, {inode, []string{"--ignore-inode"}, 0},
		{both, []string{"--ignore-ctime"}, 1}, {both, []string{"--ignore-inode"}, 1},
		{both, []string{"--ignore-ctime", "--ignore-inode"}, 0},
		{nil, []string{"--margin", "2h"}, 1}, {nil, []string{"--margin", "0"}, 0},
	} {
		if got := with(c.edit, c.words...); got != c.want {
			t.Errorf("case %d: %d files read, want %d", i, got, c.want)
		}
	}
}

// A scan that began when the file had just changed vouches for nothing.
func TestMarginOfTheCache(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), []byte("x"))
	v := newVault(t)
	now := rec.TimeOf(time.Now().Add(time.Minute / 2))
	first := v.run(scannedAt(t, dir, now, nil))
	for words, want := range map[string]int{"": 1, "--margin 60": 1, "--margin 10s": 0, "--margin 0": 0} {
		_, read := reads(v, scannedAt(t, dir, start(), nil), append(v.on(first), strings.Fields(words)...)...)
		if len(read) != want {
			t.Errorf("%q: %d files read, want %d", words, len(read), want)
		}
	}
	// What was trusted then is trusted on: time goes by.
	second := v.run(scannedAt(t, dir, start(), nil), v.on(first)...)
	if _, read := reads(v, scannedAt(t, dir, start(), nil), v.on(second)...); len(read) != 0 {
		t.Error("read again and again")
	}
}

// Only the files that need a blob that is not there are read again.
func TestDistrust(t *testing.T) {
	dir := t.TempDir()
	want := map[string][]byte{}
	for i := range 3 {
		n := fmt.Sprintf("large%d", i)
		want[n] = random(byte(i), 3<<20)
		write(t, filepath.Join(dir, n), want[n])
	}
	for i := range 20 {
		n := fmt.Sprintf("small%02d", i)
		want[n] = random(byte(i), 100)
		write(t, filepath.Join(dir, n), want[n])
	}
	v := newVault(t)
	stream := scannedAt(t, dir, start(), nil)
	first := v.run(stream)
	list := filepath.Join(t.TempDir(), "missing")
	lost := func(path string) id.ID {
		for i, b := range v.blobs {
			if bytes.Contains(b, want[path][len(want[path])-50:]) {
				return i
			}
		}
		t.Fatal("no blob has", path)
		return id.ID{}
	}
	unread, read := reads(v, stream, v.on(first)...)
	if len(read) > 0 {
		t.Fatalf("read: %v", read)
	}
	write(t, list, []byte(lost("large1").String()+"\n"+id.ID{9}.String()+"\n"))
	s, read := reads(v, stream, append(v.on(unread), "--distrust", list)...)
	if strings.Join(read, " ") != "large1" || s.root != first.root {
		t.Errorf("read: %v", read)
	}
	s.holds(t, want)
	write(t, list, []byte(lost("small07").String()+"\n"))
	s, read = reads(v, stream, append(v.on(s), "--distrust", list)...)
	if len(read) != 20 || s.root != first.root {
		t.Errorf("read: %v", read)
	}
	s.holds(t, want)
	for name, text := range map[string]string{"of something else": "no ids\n", "missing": ""} {
		file := filepath.Join(t.TempDir(), "list")
		if text != "" {
			write(t, file, []byte(text))
		}
		if _, stderr, status := v.chunk(stream, append(v.on(first), "--distrust", file)...); status != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("a list %s: status %d, %s", name, status, stderr)
		}
	}
}
