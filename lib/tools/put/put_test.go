package put_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
	"preserve/lib/tool"
	"preserve/lib/tools/get"
	"preserve/lib/tools/put"
)

// A result is what a command left.
type result struct {
	status   int
	out, err string
}

func run(name string, command func(*tool.Env) error, in io.Reader, args ...string) result {
	var out, errs bytes.Buffer
	e := tool.NewEnv(name, args, in, &out, &errs)
	status := e.Status(command(e))
	e.Cleanup()
	return result{status, out.String(), errs.String()}
}

func runPut(in []byte, args ...string) result {
	return run("pv-put", put.Run, bytes.NewReader(in), args...)
}

func stream(t testing.TB, rs []rec.Record) ([]byte, []int) {
	t.Helper()
	b, at, err := storetest.Encode(rs)
	if err != nil {
		t.Fatal(err)
	}
	return b, at
}

// upStream returns a tree's stream.
func upStream(t testing.TB, tree *storetest.Tree, base ...id.ID) []byte {
	b, _ := stream(t, tree.Records(base...))
	return b
}

func files(dir string) (list []string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return nil
	})
	return list
}

func snapshots(dir string) int {
	list, _ := os.ReadDir(filepath.Join(dir, "snapshots"))
	return len(list)
}

func TestPutThenGet(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(3, 3, 2, 100)
	in := upStream(t, tree)
	want := tree.Snapshot().ID.String()
	for range 2 {
		if r := runPut(in, dir, "--as", "nas"); r != (result{0, want + "\n", ""}) {
			t.Fatalf("%+v", r)
		}
	}
	r := run("pv-get", get.Run, nil, dir, want)
	if r.status != 0 || r.err != "" {
		t.Fatal(r.status, r.err)
	}
	// What put prints last is what get takes.
	if n := strings.Count(r.out, "\xa4blob"); n != len(tree.Blobs) {
		t.Fatalf("%d blobs of %d", n, len(tree.Blobs))
	}
}

func TestStatusOfTheEnd(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(1, 1, 2, 10)
	rs := tree.Records()
	rs[len(rs)-1] = &rec.End{Status: 3}
	b, _ := stream(t, rs)
	if r := runPut(b, t.TempDir()); r != (result{3, tree.Snapshot().ID.String() + "\n", ""}) {
		t.Fatalf("%+v", r)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"a", "b"}, {""}, {"--stall", "0s", "a"}, {"--as", "a\nb", "a"}, {"--as", strings.Repeat("x", 256), "a"}, {"--nope", "a"}, {"--stall", "x", "a"},
		{"--key", "k", "--max-bytes", "1M", "a"}, {"--key", "k", "--existing", "a"}, {"--key", "k", "--log", "a"}, {"--key", "k", "--as", "l", "a"}, {"--key", "k", "--idle", "1h", "a"},
		{"--log", "ssh://host/a"}, {"--no-loose", "ssh://host/a"}, {"--max-bytes", "0", "a"}, {"--checkpoint", "x", "a"}} {
		if r := run("pv-put", put.Run, iotest.ErrReader(fmt.Errorf("read")), args...); r.status != 2 || r.out != "" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := run("pv-put", put.Run, nil, "-h"); r.status != 0 || !strings.HasPrefix(r.out, "usage: pv-put") || r.err != "" {
		t.Errorf("%+v", r)
	}
}

// Messages: one line, what was done, to what, why.
func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 10)
	other := storetest.New(2).Tree(1, 1, 2, 10)
	with := func(at int, rs ...rec.Record) []byte {
		all := tree.Records()
		b, _ := stream(t, append(append(append([]rec.Record{}, all[:at]...), rs...), all[at:]...))
		return b
	}
	head := func(order string) []byte {
		b, _ := stream(t, []rec.Record{&rec.Head{Kind: rec.Sealed, Order: order}, &rec.End{}})
		return b
	}
	failed, _ := stream(t, []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up}, &rec.Fail{Tool: "pv-seal", Text: "no"}})
	content, _ := stream(t, []rec.Record{&rec.Head{Kind: rec.Content}, &rec.End{}})
	bad := *tree.Blobs[0]
	bad.CRC++
	for name, c := range map[string]struct {
		in   []byte
		text string
	}{
		"down":              {head(rec.Down), `order "down" is for pv-open`},
		"nothing":           {head(rec.Up), "no snapshot"},
		"empty":             {nil, "input is empty"},
		"banner":            {[]byte("Welcome to host\n"), "Welcome to host"},
		"content stream":    {content, "is pv-seal missing"},
		"fail":              {failed, "^$"},
		"toc":               {with(3, &rec.Toc{}), "record 4 at byte"},
		"stored":            {with(3, &rec.Stored{ID: id.ID{1}}), "record 4 at byte"},
		"checksum":          {with(2, &bad), "record 3 at byte .* arrived damaged"},
		"no session":        {with(2, other.Blobs[0]), "before its session"},
		"two snapshots":     {with(len(tree.Blobs)+2, m.Blob(9, 5, tree.Blobs[len(tree.Blobs)-2])), "given twice"},
		"base":              {upStream(t, tree, id.ID{1}), "rests on an earlier snapshot, but .*no such directory"},
		"cut":               {upStream(t, tree)[:4000], "input ended without its end record"},
		"bytes behind":      {append(upStream(t, tree), 'x'), "bytes after the end record"},
		"missing at source": {with(2, &rec.Missing{ID: tree.Blobs[0].ID})[:4000], "missing where the stream was made"},
	} {
		dir := filepath.Join(t.TempDir(), "repo")
		r := runPut(c.in, dir)
		if r.status != 1 || r.out != "" || !regexp.MustCompile(c.text).MatchString(r.err) {
			t.Errorf("%s: %+v", name, r)
		}
		if snapshots(dir) != 0 || len(files(filepath.Join(dir, "tmp"))) != 0 {
			t.Errorf("%s: left %q", name, files(dir))
		}
	}
	// A stream that rests on a snapshot does not make a repository.
	dir := filepath.Join(t.TempDir(), "repo")
	if r := runPut(upStream(t, tree, id.ID{1}), dir); !strings.Contains(r.err, "hint: not the repository of the last run, or not mounted?") {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("made")
	}
	runPut(upStream(t, other), dir)
	if r := runPut(upStream(t, tree, id.ID{1}), dir); r.status != 1 || !strings.Contains(r.err, "rests on snapshot 01000000") || !strings.Contains(r.err, "hint: ") {
		t.Errorf("%+v", r)
	}
}

func TestMissingIsPrinted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 3, 2, 10)
	left := tree.Blobs[0]
	some := &storetest.Tree{Session: tree.Session, Blobs: tree.Blobs[1:]}
	r := runPut(upStream(t, some), dir)
	if r.status != 1 || r.out != "missing "+left.ID.String()+"\n" || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "the snapshot needs what is missing in the repository (blobs: 1)") {
		t.Fatalf("%+v", r)
	}
	if r := runPut(upStream(t, tree), "-v", dir); r.status != 0 || !strings.Contains(r.err, "1 new blobs") {
		t.Fatalf("%+v", r)
	}
}

// A stream that is cut off behind any record commits nothing, but what arrived
// need not be sent again.
func TestTruncatedAtEveryRecord(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(2, 3, 2, 50)
	b, at := stream(t, tree.Records())
	for k, n := range at[1:] {
		for _, more := range []int{0, 1} {
			dir := filepath.Join(t.TempDir(), "repo")
			r := runPut(b[:n+more], dir)
			if r.status != 1 || r.out != "" || !strings.Contains(r.err, rec.ErrCut.Error()) || strings.Count(r.err, "\n") != 1 {
				t.Fatalf("cut behind record %d: %+v", k, r)
			}
			if snapshots(dir) != 0 || len(files(filepath.Join(dir, "tmp"))) != 0 {
				t.Fatalf("cut behind record %d: left %q", k, files(dir))
			}
			r = runPut(b, "-v", dir)
			want := fmt.Sprintf("%d blobs, ", max(0, k-1))
			if r.status != 0 || !strings.Contains(r.err, "; "+want) {
				t.Fatalf("after a cut behind record %d: %+v, want %q", k, r, want)
			}
		}
	}
}

func TestLoose(t *testing.T) {
	t.Parallel()
	src, dir := t.TempDir(), filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(4, 3, 2, 300)
	runPut(upStream(t, tree), src)
	// Packs are streams: their concatenation salvages all blobs.
	var packs []byte
	paths, _ := filepath.Glob(src + "/packs/*/*")
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		packs = append(packs, b...)
	}
	r := runPut(packs[:len(packs)-1], dir)
	if r.status != 1 || r.out != "" || !strings.Contains(r.err, rec.ErrCut.Error()) || !strings.Contains(r.err, fmt.Sprintf("blobs added: %d, there before: 0", len(tree.Blobs))) {
		t.Fatalf("%+v", r)
	}
	r = runPut(packs, dir)
	if r.status != 0 || r.out != "" || !strings.Contains(r.err, fmt.Sprintf("blobs added: 0, there before: %d", len(tree.Blobs))) {
		t.Fatalf("%+v", r)
	}
	if snapshots(dir) != 0 {
		t.Fatal("a loose stream committed a snapshot")
	}
	if r := runPut(upStream(t, tree), "-v", dir); r.status != 0 || !strings.Contains(r.err, " 0 new blobs") {
		t.Fatalf("%+v", r)
	}
	if r := runPut(append(packs, upStream(t, tree)...), dir); r.status != 1 || !strings.Contains(r.err, "out of order") {
		t.Fatalf("%+v", r)
	}
}

// The answers of another repository heal this one.
func TestHealFromAnother(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	tree := storetest.New(1).Tree(4, 3, 2, 300)
	runPut(upStream(t, tree), a)
	runPut(upStream(t, tree), b)
	data := tree.Blobs[0]
	paths, _ := filepath.Glob(a + "/packs/*/*")
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(raw, data.Data); at >= 0 {
			raw[at] ^= 1
			if err := os.WriteFile(p, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := run("pv-get", get.Run, nil, a, tree.Snapshot().ID.String())
	if r.status != 3 || !strings.Contains(r.err, "blob "+data.ID.String()+": missing in the repository: pack ") {
		t.Fatalf("%d %s", r.status, r.err)
	}
	asked := data.ID.String() + "\n" + strings.Repeat("1", 64) + "\n"
	r = run("pv-get", get.Run, strings.NewReader(asked), b, "--blobs", "-")
	if r.status != 3 {
		t.Fatal(r.status, r.err)
	}
	r = runPut([]byte(r.out), a)
	if r.status != 3 || r.out != "" || !strings.Contains(r.err, "blobs added: 1,") || !strings.Contains(r.err, "missing where the stream was made") {
		t.Fatalf("%+v", r)
	}
	if r := run("pv-get", get.Run, nil, a, tree.Snapshot().ID.String()); r.status != 0 {
		t.Fatal(r.err)
	}
}
