package scan

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// contents runs pv-scan over stdin and puts its stream together again. It checks
// what docs/format/streams.md asks of an uncut stream.
func contents(t *testing.T, stdin io.Reader, words ...string) (entries map[string]*rec.Entry, data map[string]string, stderr string, status int) {
	t.Helper()
	var out, e bytes.Buffer
	env := tool.NewEnv("pv-scan", words, stdin, &out, &e)
	status = env.Status(Run(env))
	entries, data = map[string]*rec.Entry{}, map[string]string{}
	var chunks [][]byte
	since, inPage := 0, 0
	in := rec.NewReader(&out, rec.Content)
	for status == 0 || status == 3 {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Head:
			if v.Chunker != nil {
				t.Error("it names a chunker")
			}
		case *rec.Chunk:
			if v.N != uint64(len(chunks)) || len(v.Data) > uncutChunk {
				t.Fatalf("chunk %d with %d bytes as number %d", v.N, len(v.Data), len(chunks))
			}
			since += len(v.Data)
			chunks = append(chunks, bytes.Clone(v.Data))
		case *rec.Entry:
			if err := v.CheckContent(); err != nil {
				t.Fatal(err)
			}
			if entries[v.Path] == nil {
				entries[v.Path] = v
			}
			entries[v.Path].Size = v.Size
			for _, x := range v.Extents {
				if x.Hole {
					data[v.Path] += string(make([]byte, x.Len))
				} else {
					data[v.Path] += string(chunks[x.N][x.Off : x.Off+x.Len])
				}
			}
			inPage++
		case *rec.Cut:
			if since > uncutPage+uncutChunk || inPage > uncutEntries || inPage == 0 {
				t.Errorf("%d bytes and %d entries between two cuts", since, inPage)
			}
			chunks, since, inPage = nil, 0, 0
		case *rec.End:
			if inPage > 0 || len(chunks) > 0 {
				t.Error("something behind the last cut")
			}
		}
	}
	return entries, data, e.String(), status
}

// What is read from stdin is a file, whatever its length.
func TestStdin(t *testing.T) {
	for _, n := range []int{1, uncutChunk - 1, uncutChunk, uncutChunk + 1, uncutPage, uncutPage + 1, 9<<20 + 7} {
		want := strings.Repeat("0123456789abcdef+", n/17+1)[:n]
		for how, in := range map[string]io.Reader{"whole": strings.NewReader(want), "in halves": iotest.HalfReader(strings.NewReader(want))} {
			entries, data, stderr, status := contents(t, in, "--stdin", "/a/b/name")
			if status != 0 || stderr != "" {
				t.Fatalf("%s, %d bytes: %d %s", how, n, status, stderr)
			}
			if f := entries["a/b/name"]; data["a/b/name"] != want || f.Size != uint64(n) || f.Mode != 0o600 || f.MTime.Sec == 0 {
				t.Errorf("%s, %d bytes: %d of %+v", how, n, len(data["a/b/name"]), f)
			}
			if len(entries) != 3 || entries["a/b"].Type != rec.Dir {
				t.Errorf("entries %v", entries)
			}
		}
	}
}

// A stdin that fails, or that nothing comes from, and a command that fails, end
// the stream with a fail record.
func TestStdinFails(t *testing.T) {
	for _, c := range []struct {
		in     io.Reader
		words  []string
		status int
		want   string
	}{
		{strings.NewReader(""), []string{"--stdin", "f"}, 1, "stdin is empty"},
		{io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errors.New("disk gone"))), []string{"--stdin", "f"}, 1, "read f: disk gone"},
		{nil, []string{"--stdin", "f", "--", "sh", "-c", "echo half; exit 4"}, 1, "sh failed, and what it wrote is not stored: exit status 4"},
		{nil, []string{"--stdin", "f", "/does/not/exist"}, 1, "start /does/not/exist: "},
		{nil, []string{"--stdin", "f", "--", "true"}, 0, ""},
		{nil, []string{"--stdin", "a/../b"}, 2, "not a path"},
		{nil, []string{"--stdin", "/"}, 2, "a file needs a name"},
		{nil, []string{"--stdin", "", "."}, 2, "a file needs a name"},
		{nil, []string{"--stdin", "f", "--from-tar"}, 2, "exclude each other"},
		{nil, []string{"--from-tar", "f"}, 2, "takes no"},
		{nil, []string{"--stdin", "f", "-C", "/"}, 2, "-C does not go with --stdin"},
		{nil, []string{"--from-tar", "--exclude", "x"}, 2, "--exclude does not go with --stdin or --from-tar"},
		{strings.NewReader("hello"), []string{"--from-tar"}, 1, "read tar archive: "},
	} {
		entries, _, stderr, status := contents(t, c.in, c.words...)
		if status != c.status || !strings.Contains(stderr, c.want) || status == 0 && entries["f"] == nil {
			t.Errorf("%q: %d %s", c.words, status, stderr)
		}
	}
}

// The output of a command is a file.
func TestCommand(t *testing.T) {
	_, data, stderr, status := contents(t, nil, "--stdin", "f", "--", "sh", "-c", "echo out; echo err >&2")
	if status != 0 || data["f"] != "out\n" || stderr != "err\n" {
		t.Errorf("%d %q %q", status, data["f"], stderr)
	}
}

// An archive with more files than a page has entries, and one larger than it.
func TestFromTar(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	want := map[string]string{}
	put := func(name, content string) {
		want[name] = content
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Uname: "eve", Uid: 7, Size: int64(len(content))}); err != nil {
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
	entries, data, stderr, status := contents(t, &b, "--from-tar")
	if status != 3 || !strings.Contains(stderr, "pv-scan: ../out: left out: ") {
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
