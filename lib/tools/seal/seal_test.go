package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

var keyDir string

func TestMain(m *testing.M) {
	var err error
	if keyDir, err = os.MkdirTemp("", "seal"); err != nil {
		panic(err)
	}
	master, err := key.FromMaster([32]byte{1})
	if err != nil {
		panic(err)
	}
	for _, kind := range []key.Kind{key.Write, key.Read, key.Cut} {
		k, err := master.Derive(kind, map[bool]string{true: "tester"}[kind == key.Write])
		if err != nil {
			panic(err)
		}
		if err := k.Save(filepath.Join(keyDir, kind.String())); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	_ = os.RemoveAll(keyDir) // what is left in /tmp harms nobody
	os.Exit(status)
}

func streamOf(t *testing.T, rs ...rec.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, r := range rs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func seal(in []byte, args ...string) (out []byte, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-seal", args, bytes.NewReader(in), &o, &e)
	status = env.Status(Run(env))
	return o.Bytes(), e.String(), status
}

func writeKey() []string { return []string{"-k", filepath.Join(keyDir, "write")} }

func dir(p string) *rec.Entry {
	return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o755, CTime: rec.Time{Sec: 5}, Ino: 7, Dev: 8}
}

func file(p string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: p, Type: rec.File, Extents: ext, CTime: rec.Time{Sec: 5}, Ino: 7}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

func x(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

func chunk(n uint64, s string) *rec.Chunk { return &rec.Chunk{N: n, Data: []byte(s)} }

func head() *rec.Head {
	return &rec.Head{Kind: rec.Content, Host: "h", User: "u", Time: rec.Time{Sec: 9}, Roots: []rec.Root{{Dir: "/srv", Path: "a"}, {Dir: "/", Path: ""}}, Chunker: &rec.Chunker{Name: "c"}}
}

// opened is what a reader finds in a sealed stream of order up, once it is put
// in order down as a repository would.
type opened struct {
	t     *testing.T
	blobs map[id.ID]*rec.Blob
	order []id.ID
	sess  *rec.Session
	snap  *rec.Blob
	end   *rec.End
}

func open(t *testing.T, stream []byte) *opened { t.Helper(); return openOn(t, stream, false) }

// openOn is open for a stream that may rest on what is stored.
func openOn(t *testing.T, stream []byte, stored bool) *opened {
	t.Helper()
	o := &opened{t: t, blobs: map[id.ID]*rec.Blob{}}
	in := rec.NewReader(bytes.NewReader(stream), rec.Sealed)
	in.Strict()
	for {
		v, err := in.Next()
		if err == io.EOF {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Session:
			o.sess = v
		case *rec.Blob:
			if o.blobs[v.ID] != nil {
				t.Fatalf("blob %s is sent twice", v.ID)
			}
			for i := range v.NRefs() {
				if o.blobs[v.Ref(i)] == nil && !stored {
					t.Fatalf("blob %s of kind %d comes before its reference %d", v.ID, v.Kind, i)
				}
			}
			if v.CRC != v.Sum() {
				t.Fatalf("blob %s: wrong CRC", v.ID)
			}
			o.blobs[v.ID] = v
			o.order = append(o.order, v.ID)
			if v.Kind == rec.KindSnapshot {
				o.snap = v
			}
		case *rec.End:
			o.end = v
		}
	}
}

func (o *opened) down(w *rec.Writer, i id.ID) {
	b := o.blobs[i]
	c := *b
	if err := w.Write(&c); err != nil {
		o.t.Fatal(err)
	}
	for n := range b.NRefs() {
		o.down(w, b.Ref(n))
	}
}

// A counter is a Sink that counts entries.
type counter struct {
	walk.Sink // what is not expected to be called
	entries   int
}

func (c *counter) Snapshot(id.ID, *snap.Snapshot) error { return nil }

func (c *counter) End(*rec.End) error { return nil }

func (c *counter) Page(p *walk.Page) error {
	for _, e := range p.Entries {
		if e.CTime != (rec.Time{}) || e.Ino != 0 || e.Dev != 0 {
			return errors.New("what only streams carry was stored")
		}
	}
	c.entries += len(p.Entries)
	return nil
}

func TestSealed(t *testing.T) {
	content := streamOf(t, head(), chunk(0, "hello"), chunk(1, "world"), chunk(2, "hello"),
		dir("a"), file("a/1", x(0, 0, 5)), file("a/2", x(1, 0, 2), x(1, 2, 3)), file("a/3", x(2, 0, 5)), &rec.Cut{},
		chunk(0, "world"), file("b", x(0, 0, 5)), &rec.Cut{}, &rec.Names{Users: []rec.Name{{ID: 1, Name: "one"}}},
		&rec.End{Status: 3, Entries: 99, Warnings: 1, Warned: []string{"secret name"}, Groups: []rec.Name{{ID: 2, Name: "two"}}})
	out, stderr, status := seal(content, append(writeKey(), "--label", "job", "--tag", "t1", "--tag", "t2")...)
	if status != 0 || stderr != "" {
		t.Fatal(status, stderr)
	}
	o := open(t, out)
	kinds := map[uint8]int{}
	for _, b := range o.blobs {
		kinds[b.Kind]++
	}
	if kinds[0] != 2 || kinds[1] != 2 || kinds[2] != 1 || kinds[9] != 1 {
		t.Fatalf("blobs of each kind: %v", kinds)
	}
	for _, word := range []string{"hello", "world", "secret", "one", "job", "a/1", "srv"} {
		if bytes.Contains(out, []byte(word)) {
			t.Errorf("%q stands in the sealed stream", word)
		}
	}
	if o.end.Status != 3 || o.end.Entries != uint64(len(o.blobs)) || len(o.end.Warned) != 0 {
		t.Errorf("end %+v", o.end)
	}
	k, _, err := key.Load(filepath.Join(keyDir, "read"))
	if err != nil {
		t.Fatal(err)
	}
	opener, err := box.NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener.AddSession(o.sess.Data); err != nil {
		t.Fatal(err)
	}
	sn, err := walk.OpenSnapshot(opener, o.snap)
	if err != nil {
		t.Fatal(err)
	}
	if sn.Label != "job" || len(sn.Tags) != 2 || sn.Entries != 5 || sn.Bytes != 20 || sn.WriterName != "tester" || sn.Warned[0] != "secret name" ||
		sn.Users[0].Name != "one" || sn.Groups[0].Name != "two" || fmt.Sprint(sn.Sources()) != "[/ /srv/a]" || sn.Host != "h" || sn.Chunker.Name != "c" {
		t.Errorf("snapshot %+v", sn)
	}
}

func TestRefused(t *testing.T) {
	many := []rec.Record{head()}
	for i := range bounds.MaxEntries + 1 {
		many = append(many, dir(fmt.Sprintf("d%05d", i)))
	}
	for name, c := range map[string]struct {
		recs []rec.Record
		want string
	}{
		"no entries":         {[]rec.Record{head(), &rec.End{}}, "nothing to back up"},
		"no cut":             {[]rec.Record{head(), dir("a"), &rec.End{}}, "behind the last cut"},
		"empty cut":          {[]rec.Record{head(), &rec.Cut{}, &rec.End{}}, "a cut without entries"},
		"chunk number":       {[]rec.Record{head(), chunk(1, "x")}, "where chunk 0 belongs"},
		"chunk not yet":      {[]rec.Record{head(), file("a", x(0, 0, 1))}, "names chunk 0"},
		"chunk before a cut": {[]rec.Record{head(), chunk(0, "x"), file("a", x(0, 0, 1)), &rec.Cut{}, file("b", x(0, 0, 1))}, "names chunk 0"},
		"beyond its chunk":   {[]rec.Record{head(), chunk(0, "hello"), file("a", x(0, 2, 4))}, "ends at byte 6"},
		"id without a base":  {[]rec.Record{head(), file("a", rec.Extent{ID: id.ID{1}, Len: 1})}, "rests on no snapshot"},
		"order":              {[]rec.Record{head(), dir("b"), dir("a")}, "not in path order"},
		"no parent":          {[]rec.Record{head(), dir("a/b")}, "no directory a"},
		"wrong sum":          {[]rec.Record{head(), chunk(0, "x"), &rec.Entry{Path: "a", Type: rec.File, Size: 2, Extents: []rec.Extent{x(0, 0, 1)}}}, "do not add up"},
		"too many":           {many, "without a cut"},
		"piece missing":      {[]rec.Record{head(), chunk(0, "x"), &rec.Entry{Path: "a", Type: rec.File, Size: 2, More: true, Extents: []rec.Extent{x(0, 0, 1)}}, &rec.Cut{}, &rec.End{}}, "next piece is absent"},
		"tree stream":        {[]rec.Record{&rec.Head{Kind: rec.Tree}, &rec.End{}}, "pv-chunk"},
	} {
		out, stderr, status := seal(streamOf(t, c.recs...), writeKey()...)
		if status != 1 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d, %q, want %q", name, status, stderr, c.want)
		}
		if in := rec.NewReader(bytes.NewReader(out), rec.Sealed); ended(in) {
			t.Errorf("%s: the sealed stream has an end", name)
		}
	}
}

func ended(in *rec.Reader) bool {
	for {
		v, err := in.Next()
		if err != nil {
			return err == io.EOF
		}
		if _, ok := v.(*rec.End); ok {
			return true
		}
	}
}

// The stage behind may belong to somebody else: it must not learn a file name
// from an error.
func TestFailNamesNoFile(t *testing.T) {
	out, _, _ := seal(streamOf(t, head(), dir("confidential/b")), writeKey()...)
	if bytes.Contains(out, []byte("confidential")) {
		t.Error("a file name stands in the sealed stream")
	}
	out, stderr, status := seal(streamOf(t, head(), &rec.Fail{Tool: "pv-chunk", Text: "confidential: broken"}), writeKey()...)
	if bytes.Contains(out, []byte("confidential")) || stderr != "" || status != 1 {
		t.Errorf("a failure passed on: %d %q", status, stderr)
	}
}

// TestAlteredInMemory: a bit flips between the naming of a blob and its sealing.
func TestAlteredInMemory(t *testing.T) {
	k, _, err := key.Load(filepath.Join(keyDir, "write"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := box.NewSealer(k, box.Default)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []uint8{rec.KindData, rec.KindPage, rec.KindSnapshot} {
		s := &sealer{box: b}
		var refs []byte
		if kind != rec.KindData {
			refs = make([]byte, id.Size)
		}
		plain := []byte(strings.Repeat("what is to be kept ", 50))
		sum, i := box.SumOf(refs, plain), b.Name(kind, refs, plain)
		r, err := s.blob(nil, sum, kind, i, refs, plain)
		if err != nil || r.CRC != r.Sum() || (kind == rec.KindSnapshot) != (r.Sig != nil) {
			t.Errorf("kind %d: %v, %+v", kind, err, r)
		}
		plain[70] ^= 8
		_, err = s.blob(nil, sum, kind, i, refs, plain)
		var hint *tool.Hint
		if !errors.Is(err, box.ErrAltered) || !errors.As(err, &hint) || !strings.Contains(err.Error(), i.String()) {
			t.Errorf("kind %d: a bit has flipped, and the blob is sent: %v", kind, err)
		}
	}
}

// TestTicksTellNothingOfFiles: between the records of a content stream stand ticks that say
// much of the files. What goes on to the store says how many sealed bytes were sent, and nothing else.
func TestTicksTellNothingOfFiles(t *testing.T) {
	stdin, feed := io.Pipe()
	result, stdout := io.Pipe()
	env := tool.NewEnv("pv-seal", writeKey(), stdin, stdout, io.Discard)
	done := make(chan error, 1)
	go func() {
		err := Run(env)
		stdin.CloseWithError(errors.New("pv-seal has ended")) // always nil
		stdout.CloseWithError(err)
		done <- err
	}()
	in := rec.NewReader(result, rec.Sealed)
	sent, blobs := uint64(0), uint64(0)
	sums := map[uint64]bool{0: true} // what a tick may say, which may be made before the last blobs
	// until reads on to the next tick, or to the end, and checks both.
	until := func() uint64 {
		for {
			v, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch v := v.(type) {
			case *rec.Blob:
				blobs++
				sent += uint64(len(v.Data))
				sums[sent] = true
			case *rec.Tick:
				if v.Files != 0 || !sums[v.Bytes] {
					t.Fatalf("a tick says %d files, %d bytes; sealed were %v", v.Files, v.Bytes, sums)
				}
				return v.Bytes
			case *rec.End:
				if v.Entries != blobs || v.Bytes != sent {
					t.Errorf("the end says %+v of %d blobs, %d bytes", v, blobs, sent)
				}
				return 0
			}
		}
	}
	out := rec.NewWriter(feed)
	write := func(rs ...rec.Record) {
		for _, r := range rs {
			if err := out.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	tick := &rec.Tick{Files: 71, Bytes: 1 << 40}
	write(head(), chunk(0, strings.Repeat("compressible ", 5000)), file("a", x(0, 0, 60000)), &rec.Cut{}, tick)
	for until() == 0 { // until the chunk has come through
		write(tick)
	}
	write(chunk(0, "short"), file("b", x(0, 0, 5)), file("c", x(0, 0, 5)), tick)
	until()
	write(&rec.Cut{}, &rec.End{Entries: 3})
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	until()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestKeysThatCannotSeal(t *testing.T) {
	for _, k := range []string{"read", "cut"} {
		_, stderr, status := seal(streamOf(t, head(), dir("a"), &rec.Cut{}, &rec.End{}), "-k", filepath.Join(keyDir, k))
		if status != 1 || !strings.Contains(stderr, k+" key") {
			t.Errorf("%s: %d %q", k, status, stderr)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"-k"}, {"-k", "x", "y"}, {"-k", "x", "--compression", "huge"}, {"-k", "x", "--label", "a\nb"}, {"--nonsense"}} {
		if out, stderr, status := seal(nil, args...); status != 2 || len(out) != 0 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, %q", args, status, stderr)
		}
	}
}

// An index page stands above the pages of a large tree, and a page that comes
// again is sent once.
func TestLargeTree(t *testing.T) {
	rs := []rec.Record{head()}
	for i := range 3000 {
		rs = append(rs, dir(fmt.Sprintf("d%05d", i)), &rec.Cut{})
	}
	out, stderr, status := seal(streamOf(t, append(rs, &rec.End{})...), writeKey()...)
	if status != 0 {
		t.Fatal(stderr)
	}
	o := open(t, out)
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	if err := errors.Join(w.Write(&rec.Head{Kind: rec.Sealed, Order: rec.Down}), w.Write(o.sess)); err != nil {
		t.Fatal(err)
	}
	o.down(w, o.snap.ID)
	if err := w.Write(&rec.End{}); err != nil {
		t.Fatal(err)
	}
	k, _, err := key.Load(filepath.Join(keyDir, "read"))
	if err != nil {
		t.Fatal(err)
	}
	opener, err := box.NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	n := counter{}
	if err := walk.Run(rec.NewReader(&b, rec.Sealed), opener, walk.Options{Want: o.snap.ID}, &n); err != nil || n.entries != 3000 {
		t.Fatal(err, n.entries)
	}
}

// What was not cut under a key is not sealed: it would share nothing with other
// backups.
func TestUncut(t *testing.T) {
	h := head()
	h.Chunker = nil
	_, stderr, status := seal(streamOf(t, h, dir("a"), &rec.Cut{}, &rec.End{}), writeKey()...)
	if status != 1 || !strings.Contains(stderr, "an uncut content stream") || !strings.Contains(stderr, "put pv-chunk -k KEY before pv-seal") {
		t.Errorf("%d %s", status, stderr)
	}
}
