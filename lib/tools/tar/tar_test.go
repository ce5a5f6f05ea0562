package tar

import (
	archive "archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/tool"
)

// A file of several pieces has no map of its holes; one that turned out shorter
// is filled up, and named.
func TestTarPieces(t *testing.T) {
	stream := sealtest.Content(t,
		&rec.Chunk{N: 0, Data: []byte("data")},
		&rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 12, More: true, Extents: []rec.Extent{sealtest.X(0, 0, 4), {Hole: true, Len: 2}}},
		&rec.Cut{},
		&rec.Chunk{N: 0, Data: []byte("data")},
		&rec.Entry{Path: "h", Type: rec.File, Size: 10, Off: 6, Inconsistent: true, Extents: []rec.Extent{sealtest.X(0, 0, 4)}},
		&rec.Cut{})
	var out, msgs bytes.Buffer
	env := tool.NewEnv("pv-tar", []string{"-c"}, bytes.NewReader(stream), &out, &msgs)
	status := env.Status(Run(env))
	stderr := msgs.String()
	r := archive.NewReader(&out)
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

// An archive with more files than a page has entries, and one larger than it.
func TestFromTar(t *testing.T) {
	var b bytes.Buffer
	w := archive.NewWriter(&b)
	want := map[string]string{}
	put := func(name, content string) {
		want[name] = content
		if err := w.WriteHeader(&archive.Header{Name: name, Mode: 0o640, Uname: "eve", Uid: 7, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2500 {
		put(fmt.Sprint("d/", i), strings.Repeat("x", i%50))
	}
	put("big", strings.Repeat("big and long ", 1<<20))
	put("../out", "x")
	delete(want, "../out")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var out, msgs bytes.Buffer
	env := tool.NewEnv("pv-tar", []string{"-x"}, &b, &out, &msgs)
	status := env.Status(Run(env))
	stderr := msgs.String()
	entries, data := sealtest.Uncut(t, out.Bytes())
	if status != 3 || !strings.Contains(stderr, "pv-tar: ../out: left out: ") {
		t.Fatalf("%d %s", status, stderr)
	}
	for name, content := range want {
		if data[name] != content || entries[name].UID != 7 || entries[name].Mode != 0o640 {
			t.Fatalf("%s: %d bytes of %+v", name, len(data[name]), entries[name])
		}
	}
	if len(entries) != len(want)+1 { // and d
		t.Errorf("%d entries, want %d", len(entries), len(want)+1)
	}
}

// Of a stream that breaks off, wherever that is, comes an archive that no tar takes: not even an empty one.
func TestCutStream(t *testing.T) {
	stream := sealtest.Content(t, &rec.Entry{Path: "d", Type: rec.Dir, Mode: 0o700},
		&rec.Chunk{N: 0, Data: []byte("data")},
		&rec.Entry{Path: "d/f", Type: rec.File, Mode: 0o600, Size: 4, Extents: []rec.Extent{sealtest.X(0, 0, 4)}},
		&rec.Cut{})
	for n := range stream {
		var out, msgs bytes.Buffer
		env := tool.NewEnv("pv-tar", []string{"-c"}, bytes.NewReader(stream[:n]), &out, &msgs)
		if status := env.Status(Run(env)); status != 1 {
			t.Fatalf("%d bytes: status %d", n, status)
		}
		r := archive.NewReader(&out)
		_, err := r.Next()
		for err == nil {
			_, err = r.Next()
		}
		if err == io.EOF {
			t.Fatalf("%d bytes: the archive is taken: %s", n, msgs.String())
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		in     string
		status int
		want   string
	}{
		{nil, "", 2, "one of -c and -x is needed"},
		{[]string{"-c", "-x"}, "", 2, "one of -c and -x is needed"},
		{[]string{"-x", "f"}, "", 2, "unexpected argument"},
		{[]string{"-x", "--strip-components", "1"}, "", 2, "goes with -c"},
		{[]string{"-x"}, "hello", 1, "read tar archive: "},
		{[]string{"-c"}, "hello", 1, "it begins with the text"},
	} {
		var out, msgs bytes.Buffer
		env := tool.NewEnv("pv-tar", c.args, strings.NewReader(c.in), &out, &msgs)
		if status := env.Status(Run(env)); status != c.status || !strings.Contains(msgs.String(), c.want) {
			t.Errorf("%q: %d %s", c.args, status, msgs.String())
		}
	}
}
