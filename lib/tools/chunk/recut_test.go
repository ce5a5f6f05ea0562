package chunk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// again runs pv-chunk with other words over a stream.
func again(stream []byte, words ...string) (out []byte, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-chunk", append(words, "--settle", "0"), bytes.NewReader(stream), &o, &e)
	status = env.Status(Run(env))
	return o.Bytes(), e.String(), status
}

// sparse makes a file with data at the given places.
func sparse(t *testing.T, file string, size int64, at ...int64) {
	t.Helper()
	write(t, file, nil)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for i, off := range at {
		if _, err := f.WriteAt(random(byte(i), 4096), off); err != nil {
			t.Fatal(err)
		}
	}
}

// A tree that was made an uncut stream, or was cut under another key, comes to
// the same stream as if it had been cut here at once.
func TestCutAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, n := range []int{0, 1, 4096, bounds.SmallFile - 1, bounds.SmallFile, bounds.SmallFile + 1, 1 << 20, 4<<20 + 1, 9 << 20} {
		write(t, filepath.Join(dir, "sizes", fmt.Sprint(n)), random(byte(i), n))
	}
	write(t, filepath.Join(dir, "zeros"), make([]byte, 8<<20)) // cut at the largest size
	for i := range 1500 {
		write(t, filepath.Join(dir, fmt.Sprintf("many/%02d/%d", i%37, i)), bytes.Repeat([]byte(fmt.Sprint(i, " ")), i%1000))
	}
	sparse(t, filepath.Join(dir, "holes/all"), 3<<20)
	sparse(t, filepath.Join(dir, "holes/small"), 200<<10, 8192, 64<<10)
	sparse(t, filepath.Join(dir, "holes/large"), 20<<20, 0, 4096, 5<<20, 19<<20)
	var many []int64
	for i := range int64(1500) { // more than an entry's worth
		many = append(many, i*8192)
	}
	sparse(t, filepath.Join(dir, "holes/many"), 13<<20, many...)
	if err := os.Link(filepath.Join(dir, "zeros"), filepath.Join(dir, "another")); err != nil {
		t.Fatal(err)
	}
	tree := scanned(t, dir, func(e *rec.Entry) {
		if strings.HasSuffix(e.Path, "0") {
			e.X = []rec.XField{{Key: "x-mine", Raw: []byte{1}}}
		}
		if e.Type == rec.File {
			e.UID = uint32(len(e.Path) % 3)
		}
	})
	key := keyFile(t, "master")
	want, stderr, status := again(tree, "-k", key)
	if status != 0 || stderr != "" {
		t.Fatalf("%d %s", status, stderr)
	}
	plain, stderr, status := again(tree, "--plain")
	if status != 0 || stderr != "" {
		t.Fatalf("%d %s", status, stderr)
	}
	most, since := 0, 0
	in := rec.NewReader(bytes.NewReader(plain), rec.Content)
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		switch v := v.(type) {
		case *rec.Head:
			if v.Chunker != nil {
				t.Error("an uncut stream names a chunker")
			}
		case *rec.Chunk:
			since += len(v.Data)
			if most = max(most, since); len(v.Data) > plainChunk {
				t.Errorf("a chunk of %d bytes", len(v.Data))
			}
		case *rec.Cut:
			since = 0
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if most > 12<<20 {
		t.Errorf("%d bytes between two cuts of an uncut stream", most)
	}
	for name, stream := range map[string][]byte{"plain": plain, "keyed": want, "in small pieces": split(t, plain, 30_000), "in other pieces": split(t, want, 100_000)} {
		got, stderr, status := again(stream, "-k", key, "--no-files")
		if status != 0 || stderr != "" {
			t.Fatalf("%s: %d %s", name, status, stderr)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: another stream of %d bytes, want %d", name, len(got), len(want))
		}
	}
	if got, _, _ := again(want, "--plain"); !bytes.Equal(got, plain) {
		t.Error("made uncut again, another stream")
	}
}

// split writes a content stream with every file in pieces of at most n bytes,
// each with chunks of its own and a cut behind it.
func split(t *testing.T, stream []byte, n uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	put := func(v rec.Record) {
		t.Helper()
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	var chunks [][]byte
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	for {
		v, err := in.Next()
		if err == io.EOF {
			return b.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Chunk:
			chunks = append(chunks, bytes.Clone(v.Data))
		case *rec.Cut:
			chunks = chunks[len(chunks)-int(v.Keep):]
		case *rec.Entry:
			last := v.More
			e := *v
			e.Extents, e.More = nil, true
			pos, k := v.Off, uint64(0)
			for _, x := range v.Extents {
				for x.Len > 0 {
					part := x
					part.Len = min(x.Len, n)
					if x.Hole {
						part.Len = x.Len
					} else {
						put(&rec.Chunk{N: k, Data: chunks[x.N][x.Off : x.Off+part.Len]})
						part.N, part.Off = k, 0
						k++
						x.Off += part.Len
					}
					x.Len -= part.Len
					e.Extents = append(e.Extents, part)
					if pos += part.Len; x.Len > 0 || &x != &v.Extents[len(v.Extents)-1] {
						if pos < v.Off+length(v) {
							put(&e)
							put(&rec.Cut{})
							e, k = rec.Entry{Path: v.Path, Type: v.Type, Size: v.Size, Off: pos, More: true}, 0
						}
					}
				}
			}
			e.More = last
			put(&e)
			put(&rec.Cut{})
		default:
			put(v)
		}
	}
}

func length(e *rec.Entry) uint64 {
	n, _ := e.ContentLen() // pv-chunk made it
	return n
}

// contentStream writes a content stream of the records given.
func contentStream(t testing.TB, rs ...rec.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, v := range append(append([]rec.Record{&rec.Head{Kind: rec.Content}}, rs...), &rec.End{}) {
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// What the pieces of a file say besides their content is kept: foreign keys,
// and that it changed while it was read.
func TestPiecesSay(t *testing.T) {
	x := func(key string) []rec.XField { return []rec.XField{{Key: key, Raw: []byte{1}}} }
	out, stderr, status := again(contentStream(t,
		&rec.Chunk{N: 0, Data: []byte("abc")},
		&rec.Entry{Path: "f", Type: rec.File, Size: 3, More: true, X: x("x-b"), Extents: []rec.Extent{{Len: 3}}},
		&rec.Cut{},
		&rec.Chunk{N: 0, Data: []byte("defgh")},
		&rec.Entry{Path: "f", Type: rec.File, Size: 7, Off: 3, Inconsistent: true, X: x("x-a"), Extents: []rec.Extent{{Hole: true, Len: 2}, {Off: 3, Len: 2}}},
		&rec.Entry{Path: "g", Type: rec.File, Err: "cannot be read", Size: 9},
	), "-k", keyFile(t, "master"))
	if status != 0 {
		t.Fatal(stderr)
	}
	c := parse(t, out)
	f := c.entries["f"]
	if string(c.data["f"]) != "abc\x00\x00gh" || !f.Inconsistent || f.Size != 7 || c.pieces["f"] != 1 || len(f.X) != 2 || f.X[0].Key != "x-a" {
		t.Errorf("%q of %+v", c.data["f"], f)
	}
	if g := c.entries["g"]; g.Err != "cannot be read" || g.Size != 9 {
		t.Errorf("%+v", g)
	}
}

// A file with more holes than an entry takes comes through, small or large.
func TestHostileHoles(t *testing.T) {
	for _, n := range []int{30000, 40000} { // of 8 bytes each: around the small file
		data := random(1, n*4)
		rs := []rec.Record{&rec.Chunk{Data: data}}
		var xs []rec.Extent
		for i := range n {
			xs = append(xs, rec.Extent{Hole: true, Len: 4}, rec.Extent{Off: uint64(4 * i), Len: 4})
			if len(xs) == 20000 || i == n-1 {
				rs = append(rs, &rec.Entry{Path: "f", Type: rec.File, Size: uint64(8 * n), Off: uint64(8 * (i + 1 - len(xs)/2)), More: i < n-1, Extents: xs})
				xs = nil
			}
		}
		out, stderr, status := again(contentStream(t, rs...), "-k", keyFile(t, "master"))
		if status != 0 {
			t.Fatal(stderr)
		}
		c := parse(t, out)
		got := c.data["f"]
		if len(got) != 8*n {
			t.Fatalf("%d bytes, want %d", len(got), 8*n)
		}
		for i := range n {
			if !bytes.Equal(got[8*i:8*i+8], append(make([]byte, 4), data[4*i:4*i+4]...)) {
				t.Fatalf("at %d: %x", 8*i, got[8*i:8*i+8])
			}
		}
	}
}

// Streams that lie end with an error that says where.
func TestBadContent(t *testing.T) {
	file := func(e rec.Entry) *rec.Entry { e.Path, e.Type = "f", rec.File; return &e }
	chunk := &rec.Chunk{Data: []byte("data")}
	many := make([]rec.Record, rec.MaxRefs+1)
	for i := range many {
		many[i] = &rec.Chunk{N: uint64(i), Data: []byte{1}}
	}
	for name, c := range map[string]struct {
		want string
		rs   []rec.Record
	}{
		"an id":                  {"names a blob of a repository", []rec.Record{file(rec.Entry{Size: 1, Extents: []rec.Extent{{ID: [32]byte{1}, Len: 1}}})}},
		"no such chunk":          {"names chunk 1, and only 1 can be named", []rec.Record{chunk, file(rec.Entry{Size: 1, Extents: []rec.Extent{{N: 1, Len: 1}}})}},
		"a chunk before a cut":   {"names chunk 0, and only 0 can be named", []rec.Record{chunk, file(rec.Entry{}), &rec.Cut{}, file(rec.Entry{Size: 1, Extents: []rec.Extent{{Len: 1}}})}},
		"a chunk let go":         {"names chunk 1, and only 1 can be named", []rec.Record{chunk, &rec.Chunk{N: 1, Data: []byte("more")}, file(rec.Entry{}), &rec.Cut{Keep: 1}, file(rec.Entry{Size: 1, Extents: []rec.Extent{{N: 1, Len: 1}}})}},
		"keeps too many":         {"keeps 2 chunks, and only 1 can be named", []rec.Record{chunk, file(rec.Entry{}), &rec.Cut{Keep: 2}}},
		"counts anew":            {"chunk 0 comes where chunk 1 belongs", []rec.Record{chunk, file(rec.Entry{}), &rec.Cut{Keep: 1}, chunk}},
		"behind its end":         {"ends at byte 5 of a chunk of 4", []rec.Record{chunk, file(rec.Entry{Size: 5, Extents: []rec.Extent{{Len: 5}}})}},
		"a chunk too far":        {"chunk 1 comes where chunk 0 belongs", []rec.Record{&rec.Chunk{N: 1, Data: []byte{1}}}},
		"too many chunks":        {"over its limit of 65535", many},
		"another size":           {"the extents do not add up", []rec.Record{chunk, file(rec.Entry{Size: 5, Extents: []rec.Extent{{Len: 4}}})}},
		"a piece alone":          {"a piece without the one before", []rec.Record{chunk, file(rec.Entry{Size: 5, Off: 1, Extents: []rec.Extent{{Len: 4}}})}},
		"a piece that is absent": {"its next piece is absent", []rec.Record{chunk, file(rec.Entry{Size: 5, More: true, Extents: []rec.Extent{{Len: 4}}})}},
		"a piece at its place":   {"the next piece of f at 4 belongs here", []rec.Record{chunk, file(rec.Entry{More: true, Extents: []rec.Extent{{Len: 4}}}), file(rec.Entry{Size: 9, Off: 5, Extents: []rec.Extent{{Len: 4}}})}},
		"another file between":   {"the next piece of f at 4 belongs here", []rec.Record{chunk, file(rec.Entry{More: true, Extents: []rec.Extent{{Len: 4}}}), &rec.Entry{Path: "g", Type: rec.Dir}}},
	} {
		out, stderr, status := again(contentStream(t, c.rs...), "-k", keyFile(t, "master"))
		if status != 1 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d %s", name, status, stderr)
		}
		if _, err := rec.NewReader(bytes.NewReader(out), rec.Content).Head(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A machine that is pulled from cannot have files of this one read.
func TestNoFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), []byte("of the puller"))
	for _, how := range []string{"-k" + keyFile(t, "master"), "--plain"} {
		words := strings.SplitAfterN(how, "-k", 2)
		if how == "--plain" {
			words = []string{how}
		}
		out, stderr, status := again(scanned(t, dir, nil), append(words, "--no-files")...)
		if status != 1 || !strings.Contains(stderr, "with --no-files only a content stream is taken") || bytes.Contains(out, []byte("of the puller")) {
			t.Errorf("%v: %d %s", words, status, stderr)
		}
	}
	if _, stderr, status := again(nil, "--plain", "-k", "x"); status != 2 {
		t.Errorf("%d %s", status, stderr)
	}
}

// Whatever comes as a content stream is cut, or refused; memory stays small.
func FuzzCutAgain(f *testing.F) {
	f.Add(contentStream(f, &rec.Chunk{Data: []byte("abc")},
		&rec.Entry{Path: "f", Type: rec.File, Size: 3, More: true, Extents: []rec.Extent{{Len: 3}}}, &rec.Cut{},
		&rec.Chunk{Data: []byte("defgh")},
		&rec.Entry{Path: "f", Type: rec.File, Size: 7, Off: 3, Extents: []rec.Extent{{Hole: true, Len: 2}, {Off: 3, Len: 2}}}))
	f.Add(contentStream(f, &rec.Chunk{Data: make([]byte, 300)}, &rec.Entry{Path: "d", Type: rec.Dir},
		&rec.Entry{Path: "d/f", Type: rec.File, Size: 1 << 40, Links: 2, Extents: []rec.Extent{{Len: 300}, {Hole: true, Len: 1<<40 - 300}}},
		&rec.Entry{Path: "d/l", Type: rec.HardLink, Leader: "d/f"}))
	f.Add(contentStream(f, &rec.Entry{Path: "f", Type: rec.File, Size: 1, Extents: []rec.Extent{{ID: [32]byte{1}, Len: 1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		var out bytes.Buffer
		env := tool.NewEnv("pv-chunk", nil, nil, io.Discard, io.Discard)
		w := rec.NewWriter(&out)
		err := (&work{env: env, in: bytes.NewReader(b), out: w, noFiles: true, old: &cacheOptions{}}).run()
		if w.Close("pv-chunk", err) == nil && err == nil {
			in := rec.NewReader(&out, rec.Content)
			for rerr := error(nil); rerr != io.EOF; {
				if _, rerr = in.Next(); rerr != nil && rerr != io.EOF {
					t.Fatalf("what came out cannot be read: %v", rerr)
				}
			}
		}
	})
}

// A record that says what is lost ends the run in the middle of a file, whose beginning cannot be
// taken back. Between files it is passed over: the end record counts it. In a tree stream names that are
// lost would look deleted.
func TestMissingInStreams(t *testing.T) {
	stream := func(kind rec.Kind, rs ...rec.Record) []byte {
		var b bytes.Buffer
		w := rec.NewWriter(&b)
		for _, r := range append(append([]rec.Record{&rec.Head{Kind: kind, Host: "h", User: "u"}}, rs...), &rec.End{}) {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		return b.Bytes()
	}
	half := &rec.Entry{Path: "a", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{{N: 0, Len: 1}}}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"of a file":       {stream(rec.Content, &rec.Chunk{Data: []byte("x")}, half, &rec.Cut{}, &rec.Missing{ID: id.ID{7}}), "entry a: its content is lost from byte 1 on"},
		"between files":   {stream(rec.Content, &rec.Entry{Path: "a", Type: rec.Dir}, &rec.Missing{ID: id.ID{7}}, &rec.Entry{Path: "b", Type: rec.Dir}), ""},
		"in a tree":       {stream(rec.Tree, &rec.Entry{Path: "a", Type: rec.Dir}, &rec.Missing{ID: id.ID{7}}), "entries are lost in this tree stream"},
		"behind its file": {stream(rec.Content, &rec.Chunk{Data: []byte("x")}, &rec.Entry{Path: "a", Type: rec.File, Size: 1, Extents: []rec.Extent{{N: 0, Len: 1}}}, &rec.Missing{ID: id.ID{7}}), ""},
	} {
		var out, msgs bytes.Buffer
		env := tool.NewEnv("pv-chunk", []string{"--plain"}, bytes.NewReader(c.in), &out, &msgs)
		err := Run(env)
		env.Status(err)
		if (err == nil) != (c.want == "") || !strings.Contains(msgs.String(), c.want) {
			t.Errorf("%s: %v, %s", name, err, msgs.String())
		}
	}
}
