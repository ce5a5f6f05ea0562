package chunk

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/cdc"
	"preserve/lib/inode"
	"preserve/lib/key"
	pages "preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/source"
	"preserve/lib/tool"
)

type silent struct{}

func (silent) Warn(string, error)     {}
func (silent) Vanished(string)        {}
func (silent) Skipped(string, string) {}

func keyFile(t testing.TB, kind string) string {
	t.Helper()
	master, err := key.FromMaster([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	k := master
	if kind == "list" {
		if k, err = master.Derive(key.List, ""); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(keyDir, kind)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	if err := k.Save(file); err != nil {
		t.Fatal(err)
	}
	return file
}

var keyDir string

func TestMain(m *testing.M) {
	var err error
	if keyDir, err = os.MkdirTemp("", "chunk"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(keyDir) // what is left in /tmp harms nobody
	os.Exit(status)
}

// scanned is the tree stream of a directory; edit may change what it says.
func scanned(t testing.TB, dir string, edit func(*rec.Entry)) []byte {
	t.Helper()
	return scannedAt(t, dir, rec.Time{}, edit)
}

// scannedAt is scanned of a scan that began at some time.
func scannedAt(t testing.TB, dir string, began rec.Time, edit func(*rec.Entry)) []byte {
	t.Helper()
	roots, err := source.Resolve(dir, []string{"."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	put := func(r rec.Record) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	put(&rec.Head{Kind: rec.Tree, Roots: roots, Time: began})
	err = scan.Walk(roots, scan.Options{Report: silent{}}, func(e *rec.Entry) error {
		if edit != nil {
			edit(e)
		}
		put(e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	put(&rec.End{Users: []rec.Name{{ID: 0, Name: "root"}}, Status: 3, Warnings: 1, Warned: []string{"of the scan"}})
	return b.Bytes()
}

// parsed is what a content stream says of each path, put together again.
type parsed struct {
	entries map[string]*rec.Entry // the last record of each
	data    map[string][]byte
	pages   int
	pieces  map[string]int
	end     *rec.End
}

func parse(t *testing.T, stream []byte) *parsed {
	t.Helper()
	c := &parsed{entries: map[string]*rec.Entry{}, data: map[string][]byte{}, pieces: map[string]int{}}
	var chunks [][]byte // that can be named
	var check pages.Checker
	inPage, refs := 0, map[uint64]bool{}
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	for {
		v, err := in.Next()
		if err == io.EOF {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Chunk:
			if v.N != uint64(len(chunks)) {
				t.Fatalf("chunk %d comes as number %d", len(chunks), v.N)
			}
			chunks = append(chunks, bytes.Clone(v.Data))
			v.Free()
		case *rec.Entry:
			if err := check.Next(v); err != nil {
				t.Fatal(err)
			}
			if inPage++; inPage > bounds.MaxEntries || len(chunks) > rec.MaxRefs {
				t.Fatalf("a page of %d entries, and %d chunks", inPage, len(chunks))
			}
			for _, x := range v.Extents {
				if !x.Hole {
					refs[x.N] = true
				}
			}
			if len(refs) > bounds.MaxRefs {
				t.Fatalf("a page of %d chunks", len(refs))
			}
			c.entries[v.Path] = v
			c.pieces[v.Path]++
			for _, x := range v.Extents {
				if x.Hole {
					c.data[v.Path] = append(c.data[v.Path], make([]byte, x.Len)...)
				} else {
					c.data[v.Path] = append(c.data[v.Path], chunks[x.N][x.Off:x.Off+x.Len]...)
				}
			}
		case *rec.Cut:
			c.pages++
			if v.Keep > uint64(len(chunks)) || inPage == 0 {
				t.Fatalf("a cut of %d entries keeps %d of %d chunks", inPage, v.Keep, len(chunks))
			}
			chunks, inPage = chunks[len(chunks)-int(v.Keep):], 0
			clear(refs)
		case *rec.End:
			c.end = v
			if inPage != 0 || len(chunks) != 0 {
				t.Fatal("entries or chunks behind the last cut")
			}
		}
	}
}

// chunked runs pv-chunk over a tree stream.
func chunked(t *testing.T, stream []byte) (*parsed, []byte, string, int) {
	t.Helper()
	var out, stderr bytes.Buffer
	env := tool.NewEnv("pv-chunk", []string{"--settle", "0", "-k", keyFile(t, "master")}, bytes.NewReader(stream), &out, &stderr)
	status := env.Status(Run(env))
	if status == 1 || status == 2 {
		return nil, out.Bytes(), stderr.String(), status
	}
	return parse(t, out.Bytes()), out.Bytes(), stderr.String(), status
}

func write(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // it never fails
	return b
}

// Every content comes through, whatever its size and wherever its holes.
func TestContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string][]byte{}
	put := func(name string, b []byte) { want[name] = b; write(t, filepath.Join(dir, name), b) }
	for i, n := range []int{0, 1, 63, 64, 65, 4096, bounds.SmallFile - 1, bounds.SmallFile, bounds.SmallFile + 1, 3 << 20, 9<<20 + 1} {
		put(fmt.Sprintf("sizes/%d", n), random(byte(i), n))
	}
	for i := range 1500 {
		put(fmt.Sprintf("many/%02d/%d", i%37, i), random(byte(i), i*7%5000))
	}
	for name, segs := range map[string][][2]int64{
		"holes/all":     {},
		"holes/front":   {{1 << 20, 5}},
		"holes/back":    {{0, 5}},
		"holes/middle":  {{0, 4096}, {1 << 20, 300 << 10}},
		"holes/islands": {{8192, 10}, {64 << 10, 4096}, {200 << 10, 1}},
		"holes/many":    nil,
	} {
		size := int64(2 << 20)
		if name == "holes/islands" {
			size = 250 << 10
		}
		if segs == nil {
			for i := range int64(200) {
				segs = append(segs, [2]int64{i * 8192, 4096})
			}
		}
		b := make([]byte, size)
		file := filepath.Join(dir, name)
		write(t, file, nil)
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, s := range segs {
			copy(b[s[0]:], random(byte(s[0]), int(s[1])))
			if _, err := f.WriteAt(b[s[0]:s[0]+s[1]], s[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		want[name] = b
	}
	c, first, stderr, status := chunked(t, scanned(t, dir, nil))
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	for name, b := range want {
		if !bytes.Equal(c.data[name], b) || c.entries[name].Size != uint64(len(b)) {
			t.Errorf("%s: %d bytes, not the %d that were written", name, len(c.data[name]), len(b))
		}
	}
	if x := c.entries["holes/all"].Extents; len(x) != 1 || !x[0].Hole {
		t.Errorf("a file of holes has extents %v", x)
	}
	if c.pages < 3 {
		t.Errorf("%d pages for %d entries", c.pages, len(c.entries))
	}
	if _, again, _, _ := chunked(t, scanned(t, dir, nil)); !bytes.Equal(first, again) {
		t.Error("the same tree gives another stream")
	}
}

// Small files of different owners never share a chunk.
func TestOwnersApart(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), random(byte(i), 100))
	}
	c, _, _, _ := chunked(t, scanned(t, dir, func(e *rec.Entry) {
		if e.Type == rec.File {
			e.UID = uint32(len(e.Path)*10) + uint32(e.Path[0]%9)
		}
	}))
	owner := map[uint64]uint32{}
	for _, e := range c.entries {
		for _, x := range e.Extents {
			if uid, ok := owner[x.N]; ok && uid != e.UID {
				t.Fatalf("chunk %d holds files of %d and %d", x.N, uid, e.UID)
			}
			owner[x.N] = e.UID
		}
	}
}

// A huge file becomes several records, each at the end of a page.
func TestPieces(t *testing.T) {
	dir := t.TempDir()
	b := random(3, 6<<20)
	write(t, filepath.Join(dir, "huge"), b)
	var out, stderr bytes.Buffer
	env := tool.NewEnv("pv-chunk", nil, nil, &out, &stderr)
	w := rec.NewWriter(&out)
	master, err := key.FromMaster([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := master.Cut()
	rules, err := keyed(cut, cdc.Params{Min: 256, Avg: 1024, Max: 4096}, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := source.Resolve(dir, []string{"."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenRoots(roots)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r := &reader{src: src}
	a := newAssembler(env, r, w, rules)
	if err := w.Write(&rec.Head{Kind: rec.Content}); err != nil {
		t.Fatal(err)
	}
	f, _ := r.prepare(&rec.Entry{Path: "huge", Type: rec.File, Mode: 0o600})
	if err := a.take(f); err != nil {
		t.Fatal(err)
	}
	if err := a.finish(&rec.End{}); err != nil {
		t.Fatal(err)
	}
	c := parse(t, out.Bytes())
	if !bytes.Equal(c.data["huge"], b) || c.pieces["huge"] < 4 || c.pages != c.pieces["huge"] {
		t.Fatalf("%d bytes in %d pieces, %d pages", len(c.data["huge"]), c.pieces["huge"], c.pages)
	}
}

// What happens to files between scan and read, each with its verdict.
func TestAfterTheScan(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"stays", "vanishes", "fifo", "link", "replaced", "z-lead", "grows"} {
		write(t, filepath.Join(dir, n), []byte("old "+n))
	}
	in := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"z-lead2", "z-lead3"} {
		if err := os.Link(in("z-lead"), in(n)); err != nil {
			t.Fatal(err)
		}
	}
	stream := scanned(t, dir, nil)
	for _, n := range []string{"vanishes", "fifo", "link", "replaced", "z-lead"} {
		if err := os.Remove(in(n)); err != nil {
			t.Fatal(err)
		}
	}
	mkfifo(t, in("fifo"))
	if err := os.Symlink("/etc/passwd", in("link")); err != nil {
		t.Fatal(err)
	}
	write(t, in("replaced"), []byte("another file"))
	write(t, in("grows"), []byte("old grows and more"))
	c, _, stderr, status := chunked(t, stream)
	if status != 3 || c.end.Status != 3 || c.end.Warnings != 3 || c.end.Warned[0] != "of the scan" {
		t.Errorf("status %d, end %+v", status, c.end)
	}
	for name, want := range map[string]string{"stays": "old stays", "replaced": "another file", "grows": "old grows and more", "z-lead2": "old z-lead"} {
		if string(c.data[name]) != want {
			t.Errorf("%s: %q, want %q", name, c.data[name], want)
		}
	}
	for _, n := range []string{"fifo", "link"} {
		if e := c.entries[n]; e.Err == "" || len(e.Extents) > 0 || !strings.Contains(stderr, n+": open") {
			t.Errorf("%s: %+v\n%s", n, e, stderr)
		}
	}
	if c.entries["vanishes"] != nil || c.entries["z-lead"] != nil {
		t.Error("what has vanished is stored")
	}
	if e := c.entries["z-lead2"]; e == nil || e.Type != rec.File || e.Links != 3 {
		t.Errorf("the next name does not lead: %+v", e)
	}
	if e := c.entries["z-lead3"]; e == nil || e.Leader != "z-lead2" {
		t.Errorf("the last name does not follow: %+v", e)
	}
}

func TestCompare(t *testing.T) {
	at := func(size uint64, m, c int64) inode.Stat {
		return inode.Stat{Size: size, MTime: rec.Time{Sec: m}, CTime: rec.Time{Sec: c}, Mode: 0o600, Links: 1}
	}
	mode, links := at(10, 1, 2), at(10, 1, 2)
	mode.Mode, links.Links = 0o644, 0
	for name, c := range map[string]struct {
		after inode.Stat
		n     int64
		want  verdict
	}{
		"same":      {at(10, 1, 1), 10, same},
		"chmod":     {mode, 10, touched}, // and perhaps written, and its mtime set back
		"unlinked":  {links, 10, touched},
		"set back":  {at(10, 1, 2), 10, changed}, // written, and its mtime set back
		"grown":     {at(12, 2, 2), 10, grown},
		"written":   {at(10, 2, 2), 10, changed},
		"shorter":   {at(9, 2, 2), 10, changed},
		"cut short": {at(10, 1, 1), 7, changed},
	} {
		if got := compare(at(10, 1, 1), c.after, c.n); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A large file that grew is what it was when its ends still are.
func TestGrownOrRewritten(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	b := random(1, 3<<20)
	write(t, file, b)
	roots, err := source.Resolve(dir, []string{"."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenRoots(roots)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o, err := src.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	w := &flow{}
	same := func() bool { return stand(o, w.marks) }
	w.samples(b[:1<<20], []rec.Extent{{Len: 1 << 20}}, 1<<20)
	w.samples(b[1<<20:], []rec.Extent{{Len: 2 << 20}}, 3<<20)
	write(t, file, append(bytes.Clone(b), 'x'))
	if !same() {
		t.Error("only grown, and called changed")
	}
	write(t, file, random(2, 4<<20))
	if same() {
		t.Error("written anew, and called grown")
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("a"))
	good := scanned(t, dir, nil)
	for n := 0; n < len(good); n += 3 {
		_, out, stderr, status := chunked(t, good[:n])
		if status != 1 || strings.Count(stderr, "\n") != 1 {
			t.Fatalf("cut at %d: status %d, %q", n, status, stderr)
		}
		in := rec.NewReader(bytes.NewReader(out), rec.Content)
		for err := error(nil); err != io.EOF; {
			var v rec.Record
			if v, err = in.Next(); err == nil {
				if _, ok := v.(*rec.End); ok {
					t.Fatalf("cut at %d: an end was written", n)
				}
			} else if _, ok := err.(*rec.FailError); ok {
				break
			}
		}
	}
	var out, stderr bytes.Buffer
	env := tool.NewEnv("pv-chunk", []string{"-k", keyFile(t, "list")}, bytes.NewReader(good), &out, &stderr)
	if status := env.Status(Run(env)); status != 1 || !strings.Contains(stderr.String(), "list key cannot cut") {
		t.Errorf("list key: %d %s", status, &stderr)
	}
}
