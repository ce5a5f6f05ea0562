package chunk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/rec"
)

// lying returns, of a content stream, the chunk in which each file lies that was read and is small.
func lying(t *testing.T, stream []byte) map[string]string {
	t.Helper()
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	where := map[string]string{}
	var chunks []string
	for {
		r, err := in.Next()
		if err == io.EOF {
			return where
		}
		if err != nil {
			t.Fatal(err)
		}
		switch r := r.(type) {
		case *rec.Chunk:
			chunks = append(chunks, string(r.Data))
		case *rec.Entry:
			for _, x := range r.Extents {
				if !x.Hole && x.ID.IsZero() && isSmall(r) {
					where[r.Path] = chunks[x.N]
				}
			}
		case *rec.Cut:
			chunks = slices.Clone(chunks[len(chunks)-int(r.Keep):])
		}
	}
}

// read are the paths of files that were read, in order.
func read(where map[string]string) string {
	var paths []string
	for p := range where {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return strings.Join(paths, " ")
}

func TestNoGroup(t *testing.T) {
	dir := t.TempDir()
	content := map[string]string{}
	for _, name := range []string{"a", "keep/b", "keep/sub/c", "d", "e", "keeper"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		content[name] = fmt.Sprintf("the content of %s\n", name)
		write(t, file, []byte(content[name]))
	}
	v := newVault(t)
	run := func(base *snapshot, args ...string) (*snapshot, map[string]string) {
		t.Helper()
		if base != nil {
			args = append(args, v.on(base)...)
		}
		out, stderr, status := v.chunk(scannedAt(t, dir, start(), nil), args...)
		if status != 0 || stderr != "" {
			t.Fatal(status, stderr)
		}
		where := lying(t, out)
		return v.keep(out), where
	}
	apart := func(where map[string]string, paths ...string) {
		t.Helper()
		for p, chunk := range where {
			if alone := slices.Contains(paths, p); alone != (chunk == content[p]) {
				t.Errorf("%s, alone %v, lies in a chunk with %q", p, alone, chunk)
			}
		}
	}

	// By name, by directory, by path from the top, and by the path that the system has.
	for _, c := range []struct{ args, alone string }{
		{"", ""},
		{"--no-group d", "d"},
		{"--no-group keep/", "keep/b keep/sub/c"},
		{"--no-group keep", "keep/b keep/sub/c"},
		{"--no-group /keep/* --no-group !b", "keep/sub/c"},
		{"--no-group keep/* --no-group !sub", "keep/b"},
		{"--no-group " + dir + "/keep/sub", "keep/sub/c"},
		{"--no-group e --no-group a", "a e"},
	} {
		_, where := run(nil, strings.Fields(c.args)...)
		apart(where, strings.Fields(c.alone)...)
	}

	// A cache does not stand for a file that may lie with others, and for no more than these.
	first, _ := run(nil)
	second, where := run(first, "--no-group", "keep/")
	if apart(where, "keep/b", "keep/sub/c"); read(where) != "keep/b keep/sub/c" {
		t.Errorf("read again: %s", read(where))
	}
	third, where := run(second, "--no-group", "keep/")
	if third.root != second.root || len(where) > 0 {
		t.Errorf("nothing has changed, and read again: %s", read(where))
	}
	fourth, where := run(third, "--no-group", "keep/", "--no-group", "a")
	if apart(where, "a"); read(where) != "a" {
		t.Errorf("read again: %s", read(where))
	}
	// What is alone may stay so.
	if fifth, where := run(fourth); fifth.root != fourth.root || len(where) > 0 {
		t.Errorf("without patterns, read again: %s", read(where))
	}
	// A file that has changed is alone again.
	content["keep/b"] = "something else"
	write(t, filepath.Join(dir, "keep/b"), []byte(content["keep/b"]))
	_, where = run(fourth, "--no-group", "keep/")
	if apart(where, "keep/b"); read(where) != "keep/b" {
		t.Errorf("read again: %s", read(where))
	}
}

// TestNoGroupManyFiles: files that are alone, each in a blob of its own, are no reason to group
// the others of the page anew.
func TestNoGroupManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 60 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%03d", i)), random(byte(i), 300))
	}
	write(t, filepath.Join(dir, "other"), random(99, 300))
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil), "--no-group", "f*")
	s := v.run(scannedAt(t, dir, start(), nil), append(v.on(old), "--no-group", "f*")...)
	if old.worst() < 60 && len(old.pages) == 1 || s.read != 0 || s.root != old.root {
		t.Errorf("at most %d blobs in a page; of an unchanged tree %d bytes were read", old.worst(), s.read)
	}
	// When they need not be alone any more, they come together again.
	s = v.run(scannedAt(t, dir, start(), nil), v.on(old)...)
	if s.read != 61*300 || s.worst() > rottenBlobs {
		t.Errorf("%d bytes were read, and files lie in up to %d blobs", s.read, s.worst())
	}
}

// TestNoGroupIsNotRegrouped: when the small files of a page are grouped anew, what is alone is not
// read for that.
func TestNoGroupIsNotRegrouped(t *testing.T) {
	const size = 100_000
	dir := t.TempDir()
	edit := func(i, n int) { write(t, filepath.Join(dir, fmt.Sprintf("f%03d", i)), random(byte(n), 300+n)) }
	for i := range 60 {
		edit(i, 0)
	}
	write(t, filepath.Join(dir, "alone"), random(200, size))
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil), "--no-group", "alone")
	regrouped := false
	for n := range 40 {
		edit(n, n+1)
		old = v.run(scannedAt(t, dir, start(), nil), append(v.on(old), "--no-group", "alone")...)
		regrouped = regrouped || old.read > 2000
		if old.read >= size {
			t.Fatalf("edit %d: %d bytes are read", n, old.read)
		}
	}
	if !regrouped {
		t.Error("nothing was grouped anew")
	}
}

func TestNoGroupUsage(t *testing.T) {
	v := newVault(t)
	for _, args := range [][]string{{"--no-group", "[a"}, {"--no-group", "a", "--plain"}, {"--no-group"}} {
		if _, stderr, status := v.chunk(nil, args...); status != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: %d %q", args, status, stderr)
		}
	}
}
