package json

import (
	"bufio"
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

func someID(b byte) id.ID { return id.ID(bytes.Repeat([]byte{b}, id.Size)) }

func free(fill func(*wire.Writer)) []byte {
	w := wire.NewWriter()
	fill(w)
	return w.Bytes()
}

// samples are streams of every kind with every record and odd values.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	hard := "\x00\x1f\x7f\u0085\u2028\u202e\"\\/\n\té😀"
	x := []rec.XField{
		{Key: "x-" + hard, Raw: free(func(w *wire.Writer) { w.Str(hard) })},
		{Key: "x-a", Raw: free(func(w *wire.Writer) {
			w.Array(14)
			w.Nil()
			w.Bool(true)
			w.Bool(false)
			w.Bin([]byte("text"))
			w.Bin(nil)
			w.Str("\xed\xa0\x80") // half of a surrogate pair
			w.Uint(1 << 53)
			w.Uint(1<<64 - 1)
			w.Int(-1 << 63)
			w.Int(-1<<53 - 1)
			w.Raw([]byte{0xcb, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a}) // 0.1
			w.Raw([]byte{0xca, 0x3d, 0xcc, 0xcc, 0xcd})                         // 0.1 in 32 bits
			w.Raw([]byte{0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1})                   // a NaN with a payload
			w.Raw([]byte{0xca, 0xff, 0x80, 0, 0})                               // -Inf
		})},
		{Key: "x-b", Raw: free(func(w *wire.Writer) { // {"b64": "…"} as a real map
			w.Map(1)
			w.Str("b64")
			w.Str("aGFsbG8=")
		})},
		{Key: "x-c", Raw: free(func(w *wire.Writer) { // tags among other keys
			w.Map(2)
			w.Str("int")
			w.Uint(5)
			w.Str("map")
			w.Map(0)
		})},
		{Key: "x-d", Raw: free(func(w *wire.Writer) { // keys that are no strings, and a key twice
			w.Map(3)
			w.Uint(1)
			w.Str("one")
			w.Bin([]byte{0xff})
			w.Nil()
			w.Uint(1)
			w.Array(0)
		})},
		{Key: "x-e", Raw: free(func(w *wire.Writer) {
			for range wire.MaxDepth - 2 {
				w.Map(1)
				w.Str("map")
			}
			w.Nil()
		})},
	}
	file := &rec.Entry{Path: "a/\xff\n", Type: rec.File, Mode: 0o4755, UID: 4294967294, GID: 7, MTime: rec.Time{Sec: -1 << 62, Nsec: 999999999},
		Size: 1<<63 - 1, Links: 2, Flags: 0x10, XAttrs: []rec.XAttr{{Name: "security.x", Value: []byte{}}, {Name: "user.y", Value: []byte{0, 0xff}}},
		Extents: []rec.Extent{{N: 0, Off: 3, Len: 4}, {Hole: true, Len: 5}, {ID: someID(0xff), Len: 1}, {ID: someID('a'), Len: 1}},
		CTime:   rec.Time{Sec: 1, Nsec: 2}, BTime: rec.Time{Sec: 3, Nsec: 4}, Ino: 1<<64 - 1, Dev: 1<<53 + 1, X: x}
	snap := &rec.Blob{ID: someID(4), Kind: rec.KindSnapshot, SID: someID(2), Refs: bytes.Repeat([]byte{0xf1}, 32), Data: []byte("text"), Sig: make([]byte, rec.SigSize)}
	snap.CRC = snap.Sum()
	data := &rec.Blob{ID: someID(1), SID: someID(2), Data: []byte{0xff}}
	data.CRC = data.Sum()
	names := []rec.Name{{ID: 0, Name: "root"}, {ID: 1000, Name: "\xfe"}}
	end := &rec.End{Status: 3, Entries: 2, Bytes: 1 << 60, Warnings: 1, Warned: []string{"a: " + hard}, Users: names, Groups: names[:1]}
	all := map[string][]rec.Record{
		"tree": {&rec.Head{Kind: rec.Tree, Host: hard, User: "u", Time: rec.Time{Sec: 1, Nsec: 2}, Roots: []rec.Root{{Dir: "/\xfe", Path: "a"}}},
			&rec.Entry{Path: "", Type: rec.Dir, Mode: 0o755}, &rec.Entry{Path: "a", Type: rec.Dir, Err: "permission denied"}, file,
			&rec.Entry{Path: "b", Type: rec.Symlink, Target: "../\xff"}, &rec.Entry{Path: "c", Type: rec.HardLink, Leader: "a/\xff\n"},
			&rec.Entry{Path: "d", Type: rec.Char, Major: 1, Minor: 1 << 20}, &rec.Tick{Files: 1, Bytes: 1<<64 - 1}, &rec.Note{Tool: "pv-scan", Text: hard}, &rec.Names{Users: names}, end},
		"content": {&rec.Head{Kind: rec.Content, Host: "h", User: "u", Chunker: &rec.Chunker{Name: "gear1", Min: 1, Avg: 2, Max: 3}, Base: []id.ID{someID(8), someID(0xf8)}},
			&rec.Chunk{N: 0, Data: []byte("hello")}, &rec.Chunk{N: 1, Data: []byte{0xff, 0}}, file, &rec.Entry{Path: "x", Type: rec.File, Off: 5, More: true, Size: 9}, &rec.Cut{}, end},
		"sealed": {&rec.Head{Kind: rec.Sealed, Order: rec.Loose, Meta: true, Nonce: []byte("0123456789abcdef")}, &rec.Session{Data: make([]byte, rec.SessionSize)}, data, snap,
			&rec.Stored{ID: someID(4), Received: rec.Time{Sec: 9, Nsec: 9}, As: "nas"}, &rec.Missing{ID: someID(6)}, &rec.Toc{Rows: []byte{1, 2}}, end},
	}
	out := map[string][]byte{}
	for name, rs := range all {
		var b bytes.Buffer
		w := rec.NewWriter(&b)
		for _, v := range rs {
			if err := w.Write(v); err != nil {
				t.Fatal(err)
			}
		}
		out[name] = b.Bytes()
	}
	return out
}

func run(t testing.TB, in io.Reader, args ...string) (stdout []byte, stderr string, status int) {
	t.Helper()
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-json", args, in, &o, &e)
	status = env.Status(Run(env))
	return o.Bytes(), e.String(), status
}

func TestRoundTrip(t *testing.T) {
	for name, want := range samples(t) {
		text, msg, status := run(t, bytes.NewReader(want))
		if status != 0 {
			t.Fatalf("%s: %d %s", name, status, msg)
		}
		for _, line := range strings.SplitAfter(string(text), "\n") {
			if line != "" && (!stdjson.Valid([]byte(line)) || !strings.HasPrefix(line, `{"t":"`)) {
				t.Errorf("%s: %s", name, line)
			}
		}
		got, msg, status := run(t, iotest.HalfReader(bytes.NewReader(text)), "-r")
		if status != 0 || !bytes.Equal(got, want) {
			t.Errorf("%s: %d %s\n got %x\nwant %x\n%s", name, status, msg, got, want, text)
		}
	}
}

// A program between that sorts keys and spaces differently changes nothing.
func TestSortedKeys(t *testing.T) {
	for name, want := range samples(t) {
		text, _, _ := run(t, bytes.NewReader(want))
		var sorted bytes.Buffer
		for line := range strings.Lines(string(text)) {
			d := stdjson.NewDecoder(strings.NewReader(line))
			d.UseNumber()
			var v map[string]any
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			// Marshal sorts the keys of maps; the keys of real maps in "x-"
			// values happen to be sorted.
			b, err := stdjson.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			sorted.WriteString(" " + strings.ReplaceAll(string(b), `,"`, " ,\r\t \"") + "\n\n")
		}
		got, msg, status := run(t, &sorted, "-r")
		if status != 0 || !bytes.Equal(got, want) {
			t.Errorf("%s: %d %s\n got %x\nwant %x", name, status, msg, got, want)
		}
	}
}

func TestSeveralStreams(t *testing.T) {
	one := samples(t)["sealed"]
	two := append(bytes.Clone(one), one...)
	text, msg, status := run(t, bytes.NewReader(two))
	if status != 0 {
		t.Fatal(msg)
	}
	if got, msg, status := run(t, bytes.NewReader(text), "-r"); status != 0 || !bytes.Equal(got, two) {
		t.Fatalf("%d %s", status, msg)
	}
}

// Whatever is cut off is a failure in both directions, and told once.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for name, whole := range samples(t) {
		text, _, _ := run(t, bytes.NewReader(whole))
		for n := 0; n < len(whole); n += 1 + n/300 {
			got, msg, status := run(t, bytes.NewReader(whole[:n]))
			lines := bytes.SplitAfter(got, []byte("\n"))
			last := lines[len(lines)-2]
			if status != 1 || strings.Count(msg, "\n") != 1 || !bytes.HasPrefix(last, []byte(`{"t":"fail","tool":"pv-json"`)) {
				t.Fatalf("%s cut at %d: %d %s%s", name, n, status, msg, got)
			}
			if !bytes.HasPrefix(text, got[:len(got)-len(last)]) {
				t.Fatalf("%s cut at %d: other records: %s", name, n, got)
			}
			back, msg, status := run(t, bytes.NewReader(got), "-r")
			if status != 1 || msg != "" || bytes.Contains(back, []byte("\xa3end")) {
				t.Fatalf("%s cut at %d, back: %d %s %x", name, n, status, msg, back)
			}
		}
		for n := 0; n < len(text)-1; n += 1 + n/300 { // without the last newline it is whole
			back, msg, status := run(t, bytes.NewReader(text[:n]), "-r")
			if status != 1 || strings.Count(msg, "\n") != 1 || !strings.Contains(msg, "the stage before died") || bytes.Contains(back, []byte("\xa3end")) {
				t.Fatalf("%s text cut at %d: %d %s", name, n, status, msg)
			}
		}
	}
}

func TestFailPasses(t *testing.T) {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, v := range []rec.Record{&rec.Head{Kind: rec.Tree}, &rec.Fail{Tool: "pv-scan", Text: "no"}} {
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	want := bytes.Clone(b.Bytes())
	text, msg, status := run(t, &b)
	if status != 1 || msg != "" || !strings.HasSuffix(string(text), `{"t":"fail","tool":"pv-scan","text":"no"}`+"\n") {
		t.Fatalf("%d %s %s", status, msg, text)
	}
	if got, msg, status := run(t, bytes.NewReader(text), "-r"); status != 1 || msg != "" || !bytes.Equal(got, want) {
		t.Fatalf("%d %s %x", status, msg, got)
	}
}

func TestRefuses(t *testing.T) {
	head := `{"t":"head","preserve":1,"kind":"tree","host":"h","user":"u","time":[1,2],"roots":[]}` + "\n"
	end := `{"t":"end","status":0,"entries":0,"bytes":0,"warnings":0,"warned":[],"users":[],"groups":[]}` + "\n"
	dir := func(more string) string {
		return head + `{"t":"entry","path":"a","type":"dir","mode":0,"uid":0,"gid":0,"mtime":[0,0]` + more + "}\n" + end
	}
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "input is empty"},
		{"text", "Welcome\n", "line 1: not a record as JSON: byte 1: a line must be an object"},
		{"no head", end, "line 1: not a Preserve stream: it begins with a record of type \"end\" where the head belongs"},
		{"no head, but an entry", strings.TrimPrefix(dir(""), head), "line 1: not a Preserve stream: it begins with a record of type \"entry\""},
		{"no head behind an empty line", "\n" + end, "line 2: not a Preserve stream"},
		{"pretty", "{\n  \"t\": \"end\"\n}\n", "line 1: not a record as JSON: the object goes on in the next line"},
		{"two values", head + "{} {}\n", "line 2: not a record as JSON: byte 4: text behind the object"},
		{"comma", head + `{"t":"cut",}` + "\n", "line 2"},
		{"surrogate", dir(`,"x-a":"\ud800"`), "surrogate"},
		{"surrogate and text", dir(`,"x-a":"\ud800\u0041"`), "surrogate"},
		{"raw control", dir(",\"x-a\":\"\x01\""), "control character"},
		{"not UTF-8", dir(",\"x-a\":\"\xff\""), "not UTF-8"},
		{"base64", dir(`,"x-a":{"b64":"a"}`), "b64"},
		{"base64 with a bit too many", dir(`,"x-a":{"b64":"YR=="}`), "b64"},
		{"tag", dir(`,"x-a":{"int":5}`), `"int" needs a string`},
		{"int", dir(`,"x-a":{"int":"18446744073709551616"}`), "int"},
		{"float for int", dir(`,"flags":1.5`), "not an integer"},
		{"lost digits", dir(`,"ino":1e19`), "lost digits"},
		{"number", dir(`,"x-a":01`), "line 2"},
		{"key twice", dir(`,"mode":1`), "given twice"},
		{"unknown key", dir(`,"y-a":1`), "unknown"},
		{"words for bytes", dir(`,"err":{"b64":""}`), "wrong type"},
		{"dotdot", strings.Replace(dir(""), `"a"`, `"../a"`, 1), "not a path"},
		{"deep", dir(`,"x-a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), "too deeply"},
		{"behind the end", head + end + "1\n", "line 3"},
	} {
		_, msg, status := run(t, strings.NewReader(c.in), "-r")
		if status != 1 || !strings.Contains(msg, c.want) || strings.Count(msg, "\n") != 1 {
			t.Errorf("%s: %d %q, want %q", c.name, status, msg, c.want)
		}
	}
	ok := head + strings.TrimSuffix(dir(`,"flags":1e3,"ino":2.0`)[len(head):], end) + end
	if _, msg, status := run(t, strings.NewReader(ok), "-r"); status != 0 {
		t.Error(msg)
	}
}

func TestForeignWords(t *testing.T) {
	// A reason that is not UTF-8, which rec carries as it is, comes back.
	good := samples(t)["tree"]
	latin := bytes.Replace(good, []byte("permission denied"), []byte("permission deni\xe9d"), 1)
	text, msg, status := run(t, bytes.NewReader(latin))
	if status != 0 || !bytes.Contains(text, []byte(`"err":{"str":"`)) {
		t.Fatalf("%d %s", status, msg)
	}
	if got, msg, status := run(t, bytes.NewReader(text), "-r"); status != 0 || !bytes.Equal(got, latin) {
		t.Fatalf("%d %s", status, msg)
	}
	// A key that is not UTF-8 has no place in JSON, and is not changed in silence.
	key := bytes.Replace(good, []byte("\xa3x-a"), []byte("\xa3x-\xe9"), 1)
	_, msg, status = run(t, bytes.NewReader(key))
	if status != 1 || !strings.Contains(msg, `key "x-\xe9" is not UTF-8`) {
		t.Fatalf("%d %s", status, msg)
	}
}

// The largest records pass, also when every byte must be escaped.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	blob := &rec.Blob{ID: someID(1), SID: someID(2), Data: bytes.Repeat([]byte{0xff, 1}, rec.MaxSealed/2)}
	for _, v := range []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Loose}, blob, &rec.End{},
		&rec.Head{Kind: rec.Sealed, Order: rec.Loose}, &rec.Toc{Rows: make([]byte, rec.MaxSealed)}, &rec.End{}} {
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	pr, pw := io.Pipe()
	go func() {
		out := bufio.NewWriter(pw)
		err := toJSON("pv-json", bytes.NewReader(b.Bytes()), out)
		_ = pw.CloseWithError(errors.Join(err, out.Flush()))
	}()
	if got, msg, status := run(t, pr, "-r"); status != 0 || !bytes.Equal(got, b.Bytes()) {
		t.Fatalf("%d %s", status, msg)
	}
}

// What a stream holds comes back from JSON as the same canonical bytes.
func FuzzRoundTrip(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var canonical bytes.Buffer
		w := rec.NewWriter(&canonical)
		_, err := each(bytes.NewReader(b), func(v rec.Record) error { return errors.Join(keys(v), w.Write(v)) })
		if err != nil {
			return
		}
		text, msg, status := run(t, bytes.NewReader(b))
		if status != 0 {
			t.Fatalf("a good stream is not shown: %s", msg)
		}
		got, msg, status := run(t, bytes.NewReader(text), "-r")
		again, _, _ := run(t, bytes.NewReader(got))
		if status != 0 || !bytes.Equal(again, text) {
			t.Fatalf("%d %s\n%s\n%s", status, msg, text, again)
		}
	})
}

// Any text is a stream or an error.
func FuzzLines(f *testing.F) {
	for _, b := range samples(f) {
		text, _, _ := run(f, bytes.NewReader(b))
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, status := run(t, bytes.NewReader(b), "-r")
		if status != 0 {
			return
		}
		if _, msg, status := run(t, bytes.NewReader(got)); status != 0 {
			t.Fatalf("%s\n%x", msg, got)
		}
	})
}

// A slow reader gives a part each time it is asked, and notes how much has come out by
// then.
type slow struct {
	parts [][]byte
	out   *bytes.Buffer
	had   []int
}

func (s *slow) Read(b []byte) (int, error) {
	s.had = append(s.had, s.out.Len())
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	return n, nil
}

// Whatever came in has gone out before more is asked for: an input that stalls holds
// nothing back.
func TestStallingInput(t *testing.T) {
	for name, stream := range samples(t) {
		text, msg, status := run(t, bytes.NewReader(stream))
		if status != 0 {
			t.Fatal(msg)
		}
		lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		through := func(parts [][]byte, args ...string) []int {
			var out, errs bytes.Buffer
			in := &slow{parts: parts, out: &out}
			env := tool.NewEnv("pv-json", args, in, &out, &errs)
			if status := env.Status(Run(env)); status != 0 {
				t.Fatal(name, errs.String())
			}
			return in.had
		}
		rising := func(had []int) {
			for n := 2; n <= len(lines)-1; n++ {
				if had[n] <= had[n-1] {
					t.Errorf("%s: %d bytes are out before part %d, and before the one behind it", name, had[n], n-1)
				}
			}
		}
		had := through(slices.Clone(lines), "-r")
		rising(had)
		var records [][]byte
		for n, at := range had[:len(lines)] {
			end := len(stream)
			if n+1 < len(lines) {
				end = had[n+1]
			}
			records = append(records, stream[at:end])
		}
		rising(through(records))
	}
}
