package unpack

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

var (
	keyDir string
	master *key.Key
)

func TestMain(m *testing.M) {
	if blobs := os.Getenv("PV_TEST_SERVE"); blobs != "" { // what --from runs
		if err := serve(blobs); err != nil {
			panic(err)
		}
		return
	}
	var err error
	if keyDir, err = os.MkdirTemp("", "unpack"); err != nil {
		panic(err)
	}
	if master, err = key.FromMaster([32]byte{1}); err != nil {
		panic(err)
	}
	for _, kind := range []key.Kind{key.Read, key.List, key.Cut} {
		k, err := master.Derive(kind, "")
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

func keyFile(kind string) string { return filepath.Join(keyDir, kind) }

// A stream under construction.
type stream struct {
	t   *testing.T
	box *box.Sealer
	out bytes.Buffer
	w   *rec.Writer
}

func newStream(t *testing.T, order string) *stream {
	b, err := box.NewSealer(master, box.Fastest)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, box: b}
	s.w = rec.NewWriter(&s.out)
	s.put(&rec.Head{Kind: rec.Sealed, Order: order}, &rec.Session{Data: b.Session()})
	return s
}

func (s *stream) put(rs ...rec.Record) *stream {
	for _, r := range rs {
		if err := s.w.Write(r); err != nil {
			s.t.Fatal(err)
		}
	}
	return s
}

func (s *stream) blob(kind uint8, plain []byte, refs ...*rec.Blob) *rec.Blob {
	var r []byte
	for _, b := range refs {
		r = append(r, b.ID[:]...)
	}
	i := s.box.Name(kind, r, plain)
	data, err := s.box.Seal(nil, kind, i, r, plain)
	if err != nil {
		s.t.Fatal(err)
	}
	b := &rec.Blob{ID: i, Kind: kind, SID: s.box.SID(), Refs: r, Data: data}
	if kind == rec.KindSnapshot {
		b.Sig = s.box.Sign(i)
	}
	b.CRC = b.Sum()
	return b
}

func (s *stream) page(es []*rec.Entry, refs ...*rec.Blob) *rec.Blob {
	w := wire.NewWriter()
	page.Encode(w, es)
	return s.blob(rec.KindPage, w.Bytes(), refs...)
}

func (s *stream) snapshot(root *rec.Blob, sn snap.Snapshot) *rec.Blob {
	sn.WriterKey, sn.WriterName, sn.WriterCert = s.box.Writer()
	plain, err := sn.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.blob(rec.KindSnapshot, plain, root)
}

func (s *stream) run(args ...string) (stdout, stderr string, status int) {
	s.put(&rec.End{})
	return run(s.out.Bytes(), args...)
}

func run(in []byte, args ...string) (stdout, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-unpack", args, bytes.NewReader(in), &o, &e)
	status = env.Status(Run(env))
	env.Cleanup()
	return o.String(), e.String(), status
}

func dir(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o755} }

func file(p string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: p, Type: rec.File, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Extents: ext}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

func x(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

func listed(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		names = append(names, strings.TrimPrefix(p, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// A file whose data is missing in the repository is named and left out; all
// others come back.
func TestMissingDataLeavesFileOut(t *testing.T) {
	s := newStream(t, rec.Down)
	d1, d2 := s.blob(0, []byte("onetwo")), s.blob(0, []byte("three"))
	lead := file("c", x(1, 0, 5))
	lead.Links = 2
	p := s.page([]*rec.Entry{dir("a"), file("a/1", x(0, 0, 3)), file("b", x(0, 3, 3)), lead, {Path: "d", Type: rec.HardLink, Leader: "c"}}, d1, d2)
	s.put(s.snapshot(p, snap.Snapshot{Entries: 5, Bytes: 11}), p, d1, &rec.Missing{ID: d2.ID})
	to := filepath.Join(t.TempDir(), "to")
	_, stderr, status := s.run("-k", keyFile("read"), to)
	if status != 3 || !strings.Contains(stderr, "not restored: c\n") || !strings.Contains(stderr, ": d: create hard link to c") {
		t.Errorf("status %d\n%s", status, stderr)
	}
	if got := listed(t, to); got != " /a /a/1 /b" {
		t.Errorf("restored %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(to, "b")); err != nil || string(b) != "two" {
		t.Errorf("b holds %q, %v", b, err)
	}
}

// What the destination cannot hold is named, with all that is below it; the rest
// comes back.
func TestDestinationCannotHold(t *testing.T) {
	s := newStream(t, rec.Down)
	d := s.blob(0, []byte("hello"))
	long := strings.Repeat("n", 300)
	p := s.page([]*rec.Entry{dir("a"), dir("a/" + long), file("a/"+long+"/f", x(0, 0, 5)), file("b", x(0, 0, 5)), file(strings.Repeat("z", 300), x(0, 0, 5))}, d)
	s.put(s.snapshot(p, snap.Snapshot{Entries: 5, Bytes: 15}), p, d)
	to := filepath.Join(t.TempDir(), "to")
	_, stderr, status := s.run("-q", "-k", keyFile("read"), to)
	if status != 3 || listed(t, to) != " /a /b" || strings.Count(stderr, "\n") != 3 {
		t.Errorf("status %d, restored %q\n%s", status, listed(t, to), stderr)
	}
}

// A huge file in several pieces, and one that lost its second page.
func TestPieces(t *testing.T) {
	for _, lose := range []bool{false, true} {
		s := newStream(t, rec.Down)
		d1, d2 := s.blob(0, []byte("first")), s.blob(0, []byte("second"))
		a := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o600, Size: 99, More: true, Extents: []rec.Extent{x(0, 0, 5), {Hole: true, Len: 5}}}
		b := &rec.Entry{Path: "h", Type: rec.File, Size: 99, Off: 10, More: true, Extents: []rec.Extent{x(0, 0, 6)}}
		c := &rec.Entry{Path: "h", Type: rec.File, Size: 21, Off: 16, Extents: []rec.Extent{x(0, 0, 5)}}
		p1, p2, p3 := s.page([]*rec.Entry{a}, d1), s.page([]*rec.Entry{b}, d2), s.page([]*rec.Entry{c, file("i", x(0, 0, 1))}, d1)
		w := wire.NewWriter()
		page.EncodeIndex(w, []page.Key{{Path: "h"}, {Path: "h", Off: 10}, {Path: "h", Off: 16}})
		root := s.blob(2, w.Bytes(), p1, p2, p3)
		s.put(s.snapshot(root, snap.Snapshot{Entries: 2, Bytes: 22}), root, p1, d1)
		if lose {
			s.put(&rec.Missing{ID: p2.ID})
		} else {
			s.put(p2, d2)
		}
		s.put(p3, d1)
		to := filepath.Join(t.TempDir(), "to")
		_, stderr, status := s.run("-k", keyFile("read"), to)
		got, _ := os.ReadFile(filepath.Join(to, "h")) // absent is empty
		if !lose && (status != 0 || string(got) != "first\x00\x00\x00\x00\x00secondfirst") {
			t.Errorf("status %d, %q\n%s", status, got, stderr)
		}
		if lose && (status != 3 || listed(t, to) != " /i" || !strings.Contains(stderr, "h: a part of it is lost")) {
			t.Errorf("lost: status %d, %s\n%s", status, listed(t, to), stderr)
		}
	}
}

// Nothing is made for a stream that is not believed.
func TestNothingIsMadeForABadStream(t *testing.T) {
	good := func() *stream {
		s := newStream(t, rec.Down)
		p := s.page([]*rec.Entry{dir("a")})
		return s.put(s.snapshot(p, snap.Snapshot{Entries: 1}), p)
	}
	to := filepath.Join(t.TempDir(), "to")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"other snapshot": {[]string{"-k", keyFile("read"), "--snapshot", id.ID{1}.String(), to}, "asked for"},
		"list key":       {[]string{"-k", keyFile("list"), to}, "list key cannot open"},
		"cut key":        {[]string{"-k", keyFile("cut"), to}, "cut key"},
	} {
		if _, stderr, status := good().run(c.args...); status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, %s", name, status, stderr)
		}
		if _, err := os.Lstat(to); err == nil {
			t.Errorf("%s: the directory was made", name)
		}
	}
	s := good()
	s.put(&rec.End{})
	if _, stderr, status := run(s.out.Bytes()[:s.out.Len()-3], "-k", keyFile("read"), to); status != 1 || !strings.Contains(stderr, "without its end record") {
		t.Errorf("cut off: status %d, %s", status, stderr)
	}
}

func TestVerifyAndList(t *testing.T) {
	make := func() *stream {
		s := newStream(t, rec.Down)
		d := s.blob(0, []byte("hello"))
		sticky := dir("s")
		sticky.Mode = 0o1777
		p := s.page([]*rec.Entry{file("a\nb", x(0, 0, 5)), {Path: "l", Type: rec.Symlink, Mode: 0o777, Target: "a\x1b"}, sticky}, d)
		return s.put(s.snapshot(p, snap.Snapshot{Entries: 3, Bytes: 5, Users: []rec.Name{{ID: 0, Name: "ro\not"}}}), p, d)
	}
	if out, stderr, status := make().run("-k", keyFile("read"), "--verify"); status != 0 || !strings.Contains(out, "is whole: 3 entries, 5 bytes") {
		t.Errorf("verify: %d %s %s", status, out, stderr)
	}
	if out, _, status := make().run("-k", keyFile("list"), "--list"); status != 0 || out != "\"a\\nb\"\nl\ns\n" {
		t.Errorf("list: %d %q", status, out)
	}
	out, _, _ := make().run("-q", "-k", keyFile("list"), "--list", "-l")
	lines := strings.Split(out, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "-rw-r--r-- ") || !strings.HasPrefix(lines[1], "lrwxrwxrwx ro\\not ") || !strings.HasSuffix(lines[1], `l -> "a\x1b"`) || !strings.HasPrefix(lines[2], "drwxrwxrwt") {
		t.Errorf("long list:\n%s", out)
	}
	// The stage before has left something out, and said so.
	s := make()
	s.put(&rec.End{Status: 3})
	if _, _, status := run(s.out.Bytes(), "-k", keyFile("read"), "--verify"); status != 3 {
		t.Errorf("the stage before had status 3, and now it is %d", status)
	}
}

// someSnapshots is a list of two jobs and a snapshot of another key.
func someSnapshots(t *testing.T) (list []byte, ids []string) {
	s := newStream(t, rec.Loose)
	p := s.page([]*rec.Entry{dir("a")})
	for n, label := range []string{"home", "home", "", "cafe"} {
		b := s.snapshot(p, snap.Snapshot{Label: label, Entries: uint64(n), Roots: []rec.Root{{Dir: "/", Path: "srv\xff"}}})
		ids = append(ids, b.ID.String())
		s.put(&rec.Stored{ID: b.ID, Received: rec.Time{Sec: int64(100 - n)}}, b)
	}
	other, err := key.FromMaster([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if s.box, err = box.NewSealer(other, box.Fastest); err != nil {
		t.Fatal(err)
	}
	b := s.snapshot(p, snap.Snapshot{})
	ids = append(ids, b.ID.String())
	s.put(&rec.Session{Data: s.box.Session()}, &rec.Stored{ID: b.ID, Received: rec.Time{Sec: 1000}}, b, &rec.End{})
	return s.out.Bytes(), ids
}

func TestPick(t *testing.T) {
	list, ids := someSnapshots(t)
	for name, want := range map[string]string{"latest": ids[0], "home": ids[0], "cafe": ids[3], ids[2][:8]: ids[2], strings.ToUpper(ids[2][:8]): ids[2], ids[4]: ids[4]} {
		if out, stderr, status := run(list, "-k", keyFile("list"), "--snapshots", "--pick", name); out != want+"\n" || status != 0 {
			t.Errorf("%s: %d %q %s", name, status, out, stderr)
		}
	}
	for _, name := range []string{"latest", ids[2][:8]} {
		out, stderr, status := run(list, "-k", keyFile("list"), "--snapshots", "--pick", name, "-l")
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		got := map[string]int{}
		for _, l := range lines {
			columns := strings.Split(l, "\t")
			if len(columns) != 5 {
				t.Fatalf("%q", l)
			}
			got[columns[0]]++
		}
		want := map[string]string{"latest": ids[0]}[name]
		if want == "" {
			want = ids[2]
		}
		if status != 0 || !strings.HasPrefix(out, want+"\t") || len(got) != len(lines) || got[ids[0]] != 1 || got[ids[3]] != 1 {
			t.Errorf("%s -l: %d %s%s", name, status, out, stderr)
		}
	}
	for _, name := range []string{"nothing", "", ids[2][:3], strings.Repeat("0", 64)} {
		if out, _, status := run(list, "-k", keyFile("list"), "--snapshots", "--pick", name); name != "" && (status != 1 || out != "") {
			t.Errorf("%q: %d %q", name, status, out)
		}
	}
	if _, stderr, status := run(list, "--snapshots", "--pick", "latest"); status != 1 || !strings.Contains(stderr, "without a key") {
		t.Errorf("without a key: %d %s", status, stderr)
	}
	if out, _, status := run(list, "--snapshots", "--pick", ids[1][:12]); status != 0 || out != ids[1]+"\n" {
		t.Errorf("a prefix needs no key: %d %s", status, out)
	}
}

func TestSnapshotsAsJSON(t *testing.T) {
	list, ids := someSnapshots(t)
	out, _, status := run(list, "-k", keyFile("list"), "--snapshots")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != 5 || !strings.Contains(lines[0], ids[3]) || !strings.Contains(lines[0], `"label":"cafe"`) || !strings.Contains(lines[0], `"sources":[{"b64":"L3Nydv8="}]`) {
		t.Errorf("status %d\n%s", status, out)
	}
	if !strings.Contains(lines[4], "needs key") || strings.Contains(lines[4], "writer") {
		t.Errorf("another key's snapshot: %s", lines[4])
	}
	out, _, _ = run(list, "-k", keyFile("cut"), "--snapshots")
	if !strings.Contains(out, "cut key") || strings.Contains(out, "home") {
		t.Errorf("with a cut key:\n%s", out)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1 << 10: "1.0 KiB", 15 << 20: "15 MiB", 1 << 60: "1.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
