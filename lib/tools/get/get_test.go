package get_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store"
	"preserve/lib/store/storetest"
	"preserve/lib/tool"
	"preserve/lib/tools/get"
)

func runGet(in io.Reader, args ...string) (status int, out []byte, errs string) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-get", args, in, &o, &e)
	status = env.Status(get.Run(env))
	env.Cleanup()
	return status, o.Bytes(), e.String()
}

// fill commits trees to a new repository.
func fill(t testing.TB, trees ...*storetest.Tree) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	for _, tree := range trees {
		r, err := store.Create(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.NewPut(nil, store.PutOptions{As: "label"})
		if err == nil {
			err = p.Session(tree.Session)
		}
		for _, b := range tree.Blobs {
			if err == nil {
				err = p.Blob(b)
			}
		}
		if err == nil {
			_, err = p.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		r.Close()
	}
	return dir
}

// parse reads a stream strictly and checks what every stream of pv-get keeps:
// each session once, before its first use.
func parse(t testing.TB, b []byte, order string, meta bool) (all []rec.Record) {
	t.Helper()
	r := rec.NewReader(bytes.NewReader(b), rec.Sealed)
	r.Strict()
	h, err := r.Head()
	if err != nil || h.Order != order || h.Meta != meta {
		t.Fatalf("head %+v, %v", h, err)
	}
	sids := map[id.ID]bool{}
	for {
		v, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Session:
			if sids[pack.SID(v)] {
				t.Fatal("a session twice")
			}
			sids[pack.SID(v)] = true
		case *rec.Blob:
			if !sids[v.SID] || v.Sum() != v.CRC {
				t.Fatal("a blob before its session, or damaged")
			}
		}
		all = append(all, v)
	}
}

// ids returns the ids of blobs, "-" in front of those missing.
func ids(all []rec.Record) (list []string) {
	for _, v := range all {
		switch v := v.(type) {
		case *rec.Blob:
			list = append(list, v.ID.String())
		case *rec.Missing:
			list = append(list, "-"+v.ID.String())
		}
	}
	return list
}

func end(all []rec.Record) *rec.End { return all[len(all)-1].(*rec.End) }

func TestDown(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 2, 2, 50)
	dir := fill(t, storetest.New(2).Tree(2, 2, 2, 10), tree)
	i := tree.Snapshot().ID.String()
	status, out, errs := runGet(nil, dir, i)
	all := parse(t, out, rec.Down, false)
	if status != 0 || errs != "" || len(ids(all)) != len(tree.Blobs) || ids(all)[0] != i {
		t.Fatal(status, errs)
	}
	if e := end(all); e.Status != 0 || e.Entries != uint64(len(tree.Blobs)) {
		t.Fatalf("%+v", e)
	}
	status, out, errs = runGet(nil, "--meta", dir, i)
	all = parse(t, out, rec.Down, true)
	if status != 0 || errs != "" || len(ids(all)) != len(tree.Blobs)-6 {
		t.Fatal(status, errs, len(ids(all)))
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("1", 64)
	for _, args := range [][]string{{}, {"r"}, {""}, {"r", full, full}, {"r", full, "--ids"}, {"r", "--ids", "--snapshots"}, {"r", "--meta", "--ids"}, {"r", "--blobs", "file"},
		{"r", "latest"}, {"r", full[:10]}, {"r", "--has", full + ","}, {"r", "--has", "x"}, {"r", "--nope"}} {
		status, out, errs := runGet(nil, args...)
		if status != 2 || len(out) != 0 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d %q %q", args, status, out, errs)
		}
	}
	if _, _, errs := runGet(nil, "r", "3f9c"); !strings.Contains(errs, "scripts (pv-restore, pv-list) take a prefix") {
		t.Error(errs)
	}
	if status, out, errs := runGet(nil, "-h"); status != 0 || !strings.HasPrefix(string(out), "usage: pv-get") || errs != "" {
		t.Error(status, errs)
	}
}

// What fails is said on stderr and in the stream, so that the next stage keeps
// quiet.
func TestFailsInBand(t *testing.T) {
	t.Parallel()
	dir := fill(t, storetest.New(1).Tree(1, 1, 2, 10), storetest.New(2).Tree(1, 1, 2, 10))
	forgotten := storetest.New(1).Tree(1, 1, 2, 10).Snapshot().ID.String()
	unknown := strings.Repeat("1", 64)
	for name, c := range map[string]struct {
		prepare func() error
		args    []string
		text    string
	}{
		"no directory":  {nil, []string{dir + "/nope", unknown}, `nope" is not a Preserve repository (no such directory)`},
		"no repository": {nil, []string{filepath.Dir(dir), "--snapshots"}, `is not a Preserve repository (no config in it)`},
		"no snapshot":   {nil, []string{dir, unknown}, "snapshot " + unknown + ` is missing in the repository: "` + dir},
		"forgotten":     {func() error { return os.WriteFile(dir+"/forgotten/"+forgotten, nil, 0o600) }, []string{dir, forgotten}, "is marked as forgotten"},
		"broken list":   {nil, []string{dir, "--blobs", "-"}, "not an id"},
		"cut list":      {nil, []string{dir, "--blobs", "-"}, "ends inside a line"},
		"much too long": {nil, []string{dir, "--blobs", "-"}, "not an id"},
	} {
		in := map[string]string{"broken list": "hello\n", "cut list": unknown, "much too long": strings.Repeat("1", 1<<20) + "\n"}[name]
		checkFail(t, name, c.prepare, strings.NewReader(in), c.args, c.text)
	}
	// This makes all others fail, so it comes last.
	later := []byte("\x82\xa8preserve\x02\xa3abc\xc3") // a verdict of version 2
	name := fmt.Sprintf("%s/gc/%x", dir, sha256.Sum256(later))
	at := storetest.New(2).Tree(1, 1, 2, 10).Snapshot().ID.String()
	checkFail(t, "collected", func() error { return os.WriteFile(name, later, 0o600) }, nil, []string{dir, "--copy", at}, "collected by a newer version of Preserve: upgrade")
	if status, out, errs := runGet(nil, dir, "--ids"); status != 1 || len(out) != 0 || !strings.Contains(errs, "upgrade") {
		t.Errorf("%d %q %q", status, out, errs)
	}
}

func checkFail(t *testing.T, name string, prepare func() error, in io.Reader, args []string, text string) {
	t.Helper()
	if prepare != nil {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := runGet(in, args...)
	r := rec.NewReader(bytes.NewReader(out), rec.Sealed)
	var err error
	for err == nil {
		_, err = r.Next()
	}
	var fail *rec.FailError
	if status != 1 || !strings.Contains(errs, text) || !errors.As(err, &fail) || fail.Tool != "pv-get" {
		t.Errorf("%s: %d %q; the next stage sees %v", name, status, errs, err)
	}
}

// Each want is answered before the next is sent.
func TestBlobsConversation(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 3, 2, 200)
	other := storetest.New(2).Tree(1, 1, 2, 10)
	dir := fill(t, tree, other)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan int)
	go func() {
		var errs bytes.Buffer
		env := tool.NewEnv("pv-get", []string{dir, "--blobs", "-"}, inR, outW, &errs)
		status := env.Status(get.Run(env))
		outW.Close()
		done <- status
	}()
	r := rec.NewReader(outR, rec.Sealed)
	if h, err := r.Head(); err != nil || h.Order != rec.Asked {
		t.Fatal(h, err)
	}
	for k, b := range []*rec.Blob{tree.Blobs[4], tree.Snapshot(), {ID: id.ID{9}}, other.Blobs[0], tree.Blobs[4]} {
		if _, err := fmt.Fprintln(inW, b.ID); err != nil {
			t.Fatal(err)
		}
		v, err := r.Next()
		if _, ok := v.(*rec.Session); ok && (k == 0 || k == 3) {
			v, err = r.Next()
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Blob:
			if v.ID != b.ID || !bytes.Equal(v.Data, b.Data) {
				t.Fatalf("answer %d: another blob", k)
			}
		case *rec.Missing:
			if v.ID != b.ID || k != 2 {
				t.Fatalf("answer %d: missing", k)
			}
		default:
			t.Fatalf("answer %d: %T", k, v)
		}
	}
	inW.Close()
	if v, err := r.Next(); err != nil || v.(*rec.End).Status != 3 {
		t.Fatal(v, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if status := <-done; status != 3 {
		t.Fatal(status)
	}
}

// A session's id is no blob's.
func TestBlobsDoesNotGiveSessions(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(1, 1, 2, 10)
	sid := pack.SID(tree.Session).String()
	status, out, _ := runGet(strings.NewReader(sid+"\n"), fill(t, tree), "--blobs", "-")
	if all := parse(t, out, rec.Asked, false); status != 3 || !slices.Equal(ids(all), []string{"-" + sid}) {
		t.Fatal(status, ids(all))
	}
}

func TestIDsAndHas(t *testing.T) {
	t.Parallel()
	a, b := storetest.New(1).Tree(2, 2, 2, 10), storetest.New(2).Tree(1, 1, 2, 10)
	dir := fill(t, a, b)
	var want []string
	for _, x := range append(slices.Clone(a.Blobs), b.Blobs...) {
		want = append(want, x.ID.String())
	}
	slices.Sort(want)
	status, out, errs := runGet(nil, dir, "--ids")
	if status != 0 || errs != "" || string(out) != strings.Join(want, "\n")+"\n" {
		t.Fatalf("%d %q\n%s", status, errs, out)
	}
	as, bs, none := a.Snapshot().ID.String(), b.Snapshot().ID.String(), strings.Repeat("1", 64)
	if err := os.Remove(dir + "/snapshots/" + bs); err != nil { // the checkpoint stays
		t.Fatal(err)
	}
	for list, want := range map[string]string{as: as + "\n", none: "", none + "," + bs + "," + as: "checkpoint " + bs + "\n" + as + "\n"} {
		if status, out, errs := runGet(nil, dir, "--has", list); status != 0 || string(out) != want || errs != "" {
			t.Fatalf("%s: %d %q %q", list, status, out, errs)
		}
	}
	if err := os.WriteFile(dir+"/forgotten/"+as, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := runGet(nil, dir, "--has", as); status != 0 || len(out) != 0 {
		t.Fatal(status, out)
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	trees := []*storetest.Tree{storetest.New(1).Tree(1, 1, 2, 10), storetest.New(2).Tree(1, 1, 2, 10), storetest.New(3).Tree(1, 1, 2, 10)}
	dir := fill(t, trees...)
	var want []string
	for _, tree := range trees {
		want = append(want, tree.Snapshot().ID.String())
	}
	slices.Sort(want)
	status, out, errs := runGet(nil, dir, "--snapshots")
	all := parse(t, out, rec.Loose, true)
	if status != 0 || errs != "" || !slices.Equal(ids(all), want) {
		t.Fatal(status, errs, ids(all))
	}
	for k, v := range all[:len(all)-1] {
		if s, ok := v.(*rec.Stored); ok && (s.As != "label" || s.ID.String() != want[k/3] || s.Received.Sec == 0) {
			t.Fatalf("%+v", s)
		}
	}
	// One that cannot be read is named, and the others come.
	if err := os.WriteFile(dir+"/snapshots/"+want[1], []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/checkpoints/" + want[1]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(dir+"/index"), os.RemoveAll(dir+"/packs")); err != nil {
		t.Fatal(err)
	}
	status, out, errs = runGet(nil, dir, "--snapshots")
	all = parse(t, out, rec.Loose, true)
	if status != 3 || !strings.Contains(errs, want[1]) || strings.Count(errs, "\n") != 1 || !slices.Equal(ids(all), []string{want[0], want[2]}) || end(all).Status != 3 {
		t.Fatal(status, errs, ids(all))
	}
}

// Damage is named, on stderr and in the stream, and the rest is given.
func TestDamage(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 2, 2, 200)
	for name, c := range map[string]struct {
		bytes []byte // of which one is changed
		lost  int
		text  string
	}{
		"data":    {tree.Blobs[0].Data, 1, "its checksum does not hold"},
		"page":    {tree.Blobs[2].Data, 1, "its checksum does not hold"},
		"refs":    {tree.Blobs[2].Refs, 1, "its checksum does not hold"},
		"session": {tree.Session.Data, 1, "its session"},
	} {
		dir := fill(t, tree)
		paths, _ := filepath.Glob(dir + "/packs/*/*")
		for _, p := range paths {
			raw, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if at := bytes.Index(raw, c.bytes); at >= 0 {
				raw[at] ^= 1
				if err := os.WriteFile(p, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		status, out, errs := runGet(nil, dir, tree.Snapshot().ID.String())
		all := parse(t, out, rec.Down, false)
		lost := 0
		for _, i := range ids(all) {
			if strings.HasPrefix(i, "-") {
				lost++
			}
		}
		if status != 3 || lost != c.lost || !strings.Contains(errs, c.text) || strings.Count(errs, "\n") != lost || end(all).Status != 3 || end(all).Warnings != uint64(lost) {
			t.Errorf("%s: %d, %d lost, %s", name, status, lost, errs)
		}
	}
}

// Thousands of missing blobs do not flood the terminal.
func TestManyMissing(t *testing.T) {
	t.Parallel()
	dir := fill(t, storetest.New(1).Tree(1, 1, 2, 10))
	var in strings.Builder
	for n := range 1000 {
		fmt.Fprintln(&in, id.ID{1, byte(n >> 8), byte(n)})
	}
	status, out, errs := runGet(strings.NewReader(in.String()), dir, "--blobs", "-")
	all := parse(t, out, rec.Asked, false)
	if status != 3 || len(all) != 1001 || strings.Count(errs, "\n") != 101 || !strings.Contains(errs, "1000 blobs are missing in all") || end(all).Warnings != 1000 {
		t.Fatal(status, len(all), errs)
	}
}

// Whoever reads may go away: that is no error of this stage.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(20, 20, 5, 3000)
	dir := fill(t, tree)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	var errs bytes.Buffer
	env := tool.NewEnv("pv-get", []string{dir, tree.Snapshot().ID.String()}, nil, w, &errs)
	if status := env.Status(get.Run(env)); status != 1 || errs.Len() != 0 {
		t.Fatal(status, errs.String())
	}
}
