package rec

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/id"
)

func someID(b byte) id.ID { return id.ID(bytes.Repeat([]byte{b}, id.Size)) }

// streamOf encodes records and returns the bytes and the offset of each.
func streamOf(t testing.TB, rs ...Record) ([]byte, []int) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	var at []int
	for _, r := range rs {
		at = append(at, b.Len())
		if err := w.Write(r); err != nil {
			t.Fatalf("write %s: %v", r.name(), err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), at
}

func fileEntry() *Entry {
	return &Entry{Path: "a/\xff\n", Type: File, Mode: 0o4755, UID: 4294967294, GID: 7, MTime: Time{-5, 999999999},
		Size: 10, Links: 2, Flags: 0x10, XAttrs: []XAttr{{"security.x", []byte{}}, {"user.y", []byte{0}}},
		Extents: []Extent{{N: 0, Off: 3, Len: 4}, {Hole: true, Len: 5}, {ID: someID(3), Len: 1}}, CTime: Time{1, 2}, BTime: Time{3, 4}, Ino: 9, Dev: 1,
		X: []XField{{"x-a", []byte{0xc0}}, {"x-b", []byte{0x93, 1, 2, 3}}}}
}

func samples() map[Kind][]Record {
	blob := &Blob{ID: someID(1), Kind: KindPage, SID: someID(2), Refs: bytes.Repeat([]byte{5}, 64), Data: []byte("sealed"), Sig: nil}
	blob.CRC = blob.Sum()
	snap := &Blob{ID: someID(4), Kind: KindSnapshot, SID: someID(2), Refs: bytes.Repeat([]byte{1}, 32), Data: []byte("x"), Sig: make([]byte, SigSize)}
	snap.CRC = snap.Sum()
	names := []Name{{0, "root"}, {1000, "\xfe"}}
	end := &End{Status: 3, Entries: 2, Bytes: 3, Warnings: 1, Warned: []string{"a: b"}, Users: names, Groups: nil}
	return map[Kind][]Record{
		Tree: {&Head{Kind: Tree, Host: "h", User: "u", Time: Time{1, 2}, Roots: []Root{{"/", "a"}}, Follow: true},
			&Entry{Path: "a", Type: Dir, Mode: 0o755}, fileEntry(), &Tick{1, 2}, &Note{"pv-scan", "hm"}, &Names{Users: names}, end},
		Content: {&Head{Kind: Content, Host: "h", User: "u", Roots: nil, Chunker: &Chunker{"gear1", 1, 2, 3}, Base: []id.ID{someID(8)}},
			&Chunk{N: 0, Data: []byte("hello")}, &Entry{Path: "a", Type: File, Size: 5, Extents: []Extent{{N: 0, Len: 5}}}, &Cut{}, &Cut{Keep: 7}, end},
		Sealed: {&Head{Kind: Sealed, Order: Loose, Meta: true, Nonce: make([]byte, NonceSize)}, &Session{make([]byte, SessionSize)}, blob, snap,
			&Stored{someID(4), Time{9, 9}, "nas"}, &Missing{someID(6)}, &Checkpoint{someID(4)}, &Toc{[]byte{1, 2}}, end},
	}
}

func readAll(r *Reader) (got []Record, err error) {
	for {
		v, err := r.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, v)
	}
}

// clean drops what belongs to memory, not to the record, and lets nil and empty
// be the same.
func clean(v Record) string {
	switch v := v.(type) {
	case *Chunk:
		v.buf = nil
	case *Blob:
		v.buf = nil
	}
	return strings.NewReplacer("[]uint8(nil)", "[]uint8{}").Replace(reflectString(v))
}

func reflectString(v Record) string {
	b, _ := streamBytes(v)
	return v.name() + ":" + string(b)
}

func streamBytes(v Record) ([]byte, error) {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.Write(v); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Flush()
}

func TestRoundTrip(t *testing.T) {
	for kind, rs := range samples() {
		b, _ := streamOf(t, rs...)
		for name, src := range map[string]io.Reader{"whole": bytes.NewReader(b), "bytewise": iotest.OneByteReader(bytes.NewReader(b)), "data+err": iotest.DataErrReader(bytes.NewReader(b))} {
			r := NewReader(src, kind)
			r.Strict()
			got, err := readAll(r)
			if err != nil || len(got) != len(rs) {
				t.Fatalf("%s %s: %d of %d records, %v", kind, name, len(got), len(rs), err)
			}
			for i := range rs {
				if clean(got[i]) != clean(rs[i]) {
					t.Errorf("%s %s: record %d\n got %+v\nwant %+v", kind, name, i, got[i], rs[i])
				}
			}
		}
	}
	e := fileEntry()
	b, _ := streamOf(t, &Head{Kind: Tree}, e, &End{})
	got, err := readAll(NewReader(bytes.NewReader(b), Tree))
	if err != nil || !reflect.DeepEqual(got[1], e) {
		t.Fatalf("entry: %v\n got %+v\nwant %+v", err, got[1], e)
	}
}

// A stream cut off anywhere is a failed stream.
func TestTruncatedEverywhere(t *testing.T) {
	for kind, rs := range samples() {
		b, _ := streamOf(t, rs...)
		for n := range len(b) {
			_, err := readAll(NewReader(bytes.NewReader(b[:n]), kind))
			want := ErrCut
			if n == 0 {
				want = ErrEmpty
			}
			if !errors.Is(err, want) {
				t.Fatalf("%s cut at %d of %d: %v, want %v", kind, n, len(b), err, want)
			}
		}
	}
}

func TestNotOurs(t *testing.T) {
	good, _ := streamOf(t, &Head{Kind: Tree}, &End{})
	for _, c := range []struct {
		name, in string
		want     error
		text     string
	}{
		{"banner", "Welcome to host\n" + string(good), ErrNotOurs, "Welcome to host"},
		{"binary", "\x7fELF\x00\x00\x00\x00" + string(good), ErrNotOurs, "7f 45"},
		{"version", strings.Replace(string(good), "preserve\x01", "preserve\x02", 1), ErrVersion, "version 2"},
		{"kind", strings.Replace(string(good), "\xa4tree", "\xa4tref", 1), ErrUnknown, ""},
		{"after", string(good) + "\xc0", ErrAfter, ""},
		{"two heads", string(good) + string(good), ErrAfter, ""},
	} {
		_, err := readAll(NewReader(strings.NewReader(c.in), Tree))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	_, err := readAll(NewReader(bytes.NewReader(good), Sealed))
	if !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "pv-chunk") {
		t.Errorf("kind: %v", err)
	}
}

func TestSeveralStreams(t *testing.T) {
	rs := samples()[Sealed]
	b, _ := streamOf(t, rs...)
	r := NewReader(bytes.NewReader(append(bytes.Clone(b), b...)), Sealed)
	r.Several()
	got, err := readAll(r)
	if err != nil || len(got) != 2*len(rs) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	r = NewReader(bytes.NewReader(append(bytes.Clone(b), b[:len(b)-1]...)), Sealed)
	r.Several()
	if _, err := readAll(r); !errors.Is(err, ErrCut) {
		t.Fatal(err)
	}
}

func TestFailIsAnError(t *testing.T) {
	b, _ := streamOf(t, &Head{Kind: Tree}, &Fail{"pv-scan", "no"})
	_, err := readAll(NewReader(bytes.NewReader(b), Tree))
	var f *FailError
	if !errors.As(err, &f) || f.Tool != "pv-scan" || f.Text != "no" {
		t.Fatal(err)
	}
}

func TestNoTickBehindTheEnd(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range []Record{&Head{Kind: Tree}, &End{}, &Tick{1, 2}} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(NewReader(&b, Tree)); err != nil {
		t.Fatal(err)
	}
}

func TestCloseTellsOnce(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_ = w.Write(&Head{Kind: Tree})
	told := &FailError{"pv-scan", "disk on fire"}
	if err := w.Close("pv-chunk", told); err != told {
		t.Fatal(err)
	}
	_, err := readAll(NewReader(&b, Tree))
	if err == nil || err.Error() != told.Error() {
		t.Fatalf("the stage behind sees %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(io.Discard)
	for name, v := range map[string]Record{
		"dotdot":      &Entry{Path: "a/../b", Type: Dir},
		"absolute":    &Entry{Path: "/a", Type: Dir},
		"nul":         &Entry{Path: "a\x00", Type: Dir},
		"root file":   &Entry{Path: "", Type: File},
		"no type":     &Entry{Path: "a"},
		"late leader": &Entry{Path: "a", Type: HardLink, Leader: "b"},
		"big mode":    &Entry{Path: "a", Type: Dir, Mode: 1 << 14},
		"dir content": &Entry{Path: "a", Type: Dir, Size: 4},
		"empty chunk": &Chunk{},
		"huge chunk":  &Chunk{Data: make([]byte, MaxChunk+1)},
		"head":        &Head{Kind: "x"},
		"long note":   &Head{Kind: Tree, Roots: []Root{{"/" + strings.Repeat("x", MaxSmall), ""}}},
	} {
		if err := w.Write(v); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestMergeNames(t *testing.T) {
	table := []Name{{2, "b"}, {5, "e"}}
	if got := MergeNames(slices.Clone(table), []Name{{1, "a"}, {2, "other"}, {9, "z"}}); !slices.Equal(got, []Name{{1, "a"}, {2, "b"}, {5, "e"}, {9, "z"}}) {
		t.Error(got)
	}
	if got := MergeNames(table, table[1:]); !slices.Equal(got, table) {
		t.Error(got)
	}
}

func TestSplitNames(t *testing.T) {
	var users []Name
	for n := range uint32(5000) {
		users = append(users, Name{n, strings.Repeat("u", 30)})
	}
	rs, u, g := SplitNames(users, users[:10])
	var all []Name
	for _, r := range rs {
		if _, err := streamBytes(r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Users...)
	}
	if all = append(all, u...); !reflect.DeepEqual(all, users) || len(rs) == 0 || len(g) != 0 && len(rs) > 0 && len(rs[0].Groups) != 0 {
		t.Fatalf("%d records, %d names", len(rs), len(all))
	}
	if _, err := streamBytes(&End{Users: u, Groups: g}); err != nil {
		t.Fatal(err)
	}
}

func TestComparePaths(t *testing.T) {
	in := []string{"", "a", "a/b", "a/b/c", "a/c", "a\x01", "a!", "a-b", "ab", "b"}
	for i := range in {
		for j := range in {
			got := ComparePaths(in[i], in[j])
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("ComparePaths(%q, %q) = %d", in[i], in[j], got)
			}
		}
	}
}

func TestQuoteMasks(t *testing.T) {
	for in, want := range map[string]string{"a b/é": "a b/é", "a\x1b[2J": `"a\x1b[2J"`, "\xff": `"\xff"`, "": `""`, "a\u202eb": `"a\u202eb"`} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

// What decodes encodes to the same bytes; what does not returns an error.
func FuzzStream(f *testing.F) {
	for _, rs := range samples() {
		b, _ := streamOf(f, rs...)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []Kind{Tree, Content, Sealed} {
			for _, strict := range []bool{false, true} {
				r := NewReader(bytes.NewReader(b), kind)
				if strict {
					r.Strict()
				}
				var out bytes.Buffer
				w := NewWriter(&out)
				for {
					v, err := r.Next()
					var fail *FailError
					if errors.As(err, &fail) {
						return
					}
					if err == io.EOF {
						_ = w.Flush()
						if strict && kind == Sealed && !bytes.Equal(out.Bytes(), b) {
							t.Fatalf("strictly read, written otherwise:\n%x\n%x", b, out.Bytes())
						}
						return
					}
					if err != nil {
						break
					}
					if err := w.Write(v); err != nil {
						t.Fatalf("%s read but not written: %v", v.name(), err)
					}
				}
			}
		}
	})
}

// A page's entries are canonical or refused.
func FuzzEntryAtRest(f *testing.F) {
	w := newWire()
	for _, e := range []*Entry{fileEntry(), {Path: "a", Type: Dir, Mode: 1}, {Path: "b", Type: HardLink, Leader: "a"}, {Path: "d", Type: Char, Major: 1, Minor: 300}, {Path: "s", Type: Symlink, Target: "/x"}} {
		for i := range e.Extents {
			e.Extents[i].ID = id.ID{}
		}
		w.Reset()
		e.Encode(w, AtRest)
		f.Add(bytes.Clone(w.Bytes()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCursor(b)
		e, err := DecodeEntry(c, AtRest)
		if err != nil || c.Finish() != nil {
			return
		}
		w := newWire()
		e.Encode(w, AtRest)
		if !bytes.Equal(w.Bytes(), b) {
			t.Fatalf("decoded, encoded otherwise:\n%x\n%x", b, w.Bytes())
		}
	})
}

// A filter that drops the head is told so, by the type of the record that comes first.
func TestStreamWithoutHead(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"\x8b\xa1t\xa5entry\xa4path\xc4\x01a", `a record of type "entry" where the head belongs`},
		{"\xde\x00\x10\xa1t\xa5entry\xa4path\xc4\x01a", `a record of type "entry" where the head belongs`},
		{"\x87\xa1t\xa3end\xa6status\x00", `a record of type "end" where the head belongs`},
		{"\x81\xa1t\xaacheckpoint\xa2id", `a record of type "checkpoint" where the head belongs`},
		{"\x82\xa1t\xa4head\xa4kind\xa4tree\x00\x00", "it begins with the "},
		{"\x82\xa1t\xbflong\x00\x00\x00\x00\x00\x00\x00\x00\x00", "it begins with the "},
		{"\x82\xa1t", "it begins with the "},
		{"\xde\x00", "it begins with the "},
		{"\x82\xa1t\xa4\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00", "it begins with the "},
	} {
		_, err := NewReader(strings.NewReader(c.in), Tree).Head()
		if !errors.Is(err, ErrNotOurs) && !errors.Is(err, ErrCut) || errors.Is(err, ErrNotOurs) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("% x: %v, want %q", c.in, err, c.want)
		}
	}
}

func TestRefusedIsAFailure(t *testing.T) {
	_, err := NewReader(bytes.NewReader(Refused("pv-seal")), Sealed).Head()
	var told *FailError
	if !errors.As(err, &told) || told.Tool != "pv-seal" {
		t.Error(err)
	}
}
