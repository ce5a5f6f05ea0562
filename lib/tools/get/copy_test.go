package get_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store"
	"preserve/lib/store/storetest"
	"preserve/lib/tool"
	"preserve/lib/tools/put"
)

// putInto stores a stream, and says what pv-put said.
func putInto(dir string, stream []byte) (status int, out, errs string) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-put", []string{dir}, bytes.NewReader(stream), &o, &e)
	status = env.Status(put.Run(env))
	env.Cleanup()
	return status, o.String(), e.String()
}

// head returns the head of a stream.
func head(t *testing.T, b []byte) *rec.Head {
	t.Helper()
	h, err := rec.NewReader(bytes.NewReader(b), rec.Sealed).Head()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Two snapshots that share most of what they reach go to another repository: the
// same ids, and nothing twice.
func TestCopy(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(5, 3, 2, 300)
	old, last := run.Trees[2], run.Trees[4]
	from, to := fill(t, old, last), filepath.Join(t.TempDir(), "to")
	oldID, lastID := old.Snapshot().ID.String(), last.Snapshot().ID.String()

	status, out, errs := runGet(nil, from, "--copy", oldID)
	all := parse(t, out, rec.Up, false)
	if status != 0 || errs != "" || len(ids(all)) != len(old.Blobs) || len(head(t, out).Base) != 0 {
		t.Fatal(status, errs, len(ids(all)))
	}
	if e := end(all); e.Status != 0 || e.Entries != uint64(len(old.Blobs)) {
		t.Fatalf("%+v", e)
	}
	if status, line, errs := putInto(to, out); status != 0 || line != oldID+"\n" || errs != "" {
		t.Fatal(status, line, errs)
	}

	status, out, errs = runGet(nil, from, "--copy", lastID, "--since", oldID)
	all = parse(t, out, rec.Up, false)
	if status != 0 || errs != "" || len(ids(all)) >= len(last.Blobs) || !slices.Equal(head(t, out).Base, []id.ID{old.Snapshot().ID}) {
		t.Fatal(status, errs, len(ids(all)))
	}
	// Without the snapshot that it rests on it is not taken.
	if status, line, errs := putInto(filepath.Join(t.TempDir(), "empty"), out); status != 1 || line != "" || !strings.Contains(errs, "rests on an earlier snapshot") {
		t.Fatal(status, line, errs)
	}
	if status, line, errs := putInto(to, out); status != 0 || line != lastID+"\n" || errs != "" {
		t.Fatal(status, line, errs)
	}
	for _, tree := range []*storetest.Tree{old, last} {
		i := tree.Snapshot().ID.String()
		_, a, _ := runGet(nil, from, i)
		status, b, errs := runGet(nil, to, i)
		if status != 0 || errs != "" || !bytes.Equal(a, b) {
			t.Fatal("the copy is another", status, errs)
		}
	}
}

// What the other repository has already need not be known by a snapshot.
func TestCopyKnown(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(5, 3, 2, 300)
	old, last := run.Trees[2], run.Trees[4]
	from, to := fill(t, old, last), fill(t, old)
	_, known, _ := runGet(nil, to, "--ids")
	file := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(file, known, 0o600); err != nil {
		t.Fatal(err)
	}
	i := last.Snapshot().ID.String()
	status, out, errs := runGet(nil, from, "--copy", i, "--known", file)
	all := ids(parse(t, out, rec.Up, false))
	if status != 0 || errs != "" || len(head(t, out).Base) != 0 {
		t.Fatal(status, errs)
	}
	data := func(tree *storetest.Tree) (list []string) {
		for _, b := range tree.Blobs {
			if b.Kind == rec.KindData {
				list = append(list, b.ID.String())
			}
		}
		return list
	}
	for _, k := range data(old) {
		if slices.Contains(all, k) {
			t.Fatalf("%s is known", k)
		}
	}
	if n := len(last.Blobs) - len(data(old)); len(all) != n { // pages come all the same
		t.Fatalf("%d blobs, not %d", len(all), n)
	}
	status, piped, errs := runGet(bytes.NewReader(known), from, "--copy", i, "--known", "-")
	if status != 0 || errs != "" || !bytes.Equal(piped, out) {
		t.Fatal("another stream with --known -", status, errs)
	}
	if status, line, errs := putInto(to, out); status != 0 || line != i+"\n" || errs != "" {
		t.Fatal(status, line, errs)
	}
	// Everything is known: no data comes, and the snapshot is committed again.
	_, known, _ = runGet(nil, to, "--ids")
	status, out, errs = runGet(bytes.NewReader(known), from, "--copy", i, "--known", "-")
	if all := ids(parse(t, out, rec.Up, false)); status != 0 || errs != "" || len(all) != len(last.Blobs)-len(data(last)) || all[len(all)-1] != i {
		t.Fatal(status, errs, all)
	}
	if status, line, errs := putInto(to, out); status != 0 || line != i+"\n" || errs != "" {
		t.Fatal(status, line, errs)
	}
}

func TestCopyRefused(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(2, 2, 2, 10)
	dir := fill(t, tree)
	i, unknown := tree.Snapshot().ID.String(), strings.Repeat("1", 64)
	for _, args := range [][]string{{dir, "--copy", i, i}, {dir, "--copy", "latest"}, {dir, "--since", i, i}, {dir, "--known", "-", "--ids"}, {dir, "--copy", i, "--meta"},
		{dir, "--copy", i, "--since", "x"}, {dir, "--copy", i, "--since", i + ","}, {dir, "--copy", i, "--since", i + "," + i + "," + i}} {
		if status, out, errs := runGet(nil, args...); status != 2 || len(out) != 0 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d %q %q", args, status, out, errs)
		}
	}
	checkFail(t, "unknown", nil, nil, []string{dir, "--copy", unknown}, "snapshot "+unknown+" is missing in the repository")
	checkFail(t, "since what is not there", nil, nil, []string{dir, "--copy", i, "--since", unknown}, "--since: snapshot "+unknown+" is missing in the repository")
	checkFail(t, "no list", nil, nil, []string{dir, "--copy", i, "--known", dir + "/nope"}, "--known: open ")
	checkFail(t, "cut list", nil, strings.NewReader(i), []string{dir, "--copy", i, "--known", "-"}, "--known -: line 1: not a list of ids")
	checkFail(t, "checkpoint", func() error { return os.Remove(filepath.Join(dir, "snapshots", i)) }, nil, []string{dir, "--copy", i}, i+" is a checkpoint of a run that did not end, no snapshot: it is not copied")
}

// What the source has lost is said, and pv-put does not commit; unless the other
// repository has it.
func TestCopyOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 2, 2, 200)
	from := fill(t, tree)
	i := tree.Snapshot().ID.String()
	lost := tree.Blobs[0]
	packs, _ := filepath.Glob(from + "/packs/*/*")
	for _, p := range packs {
		b, err := os.ReadFile(p)
		if at := bytes.Index(b, lost.Data); err == nil && at >= 0 {
			b[at] ^= 1
			err = os.WriteFile(p, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := runGet(nil, from, "--copy", i)
	all := parse(t, out, rec.Up, false)
	if got := ids(all); status != 3 || end(all).Status != 3 || got[0] != "-"+lost.ID.String() || len(got) != len(tree.Blobs) || !strings.Contains(errs, lost.ID.String()) {
		t.Fatal(status, errs, got)
	}
	to := filepath.Join(t.TempDir(), "to")
	status, line, errs := putInto(to, out)
	if status != 1 || line != "missing "+lost.ID.String()+"\n" || !strings.Contains(errs, "the snapshot needs what is missing in the repository (blobs: 1): it was not committed") {
		t.Fatal(status, line, errs)
	}
	if r, err := store.Open(to, store.Options{}); err != nil {
		t.Fatal(err)
	} else if has, err := r.HasSnapshot(tree.Snapshot().ID); has || err != nil {
		t.Fatal(has, err)
	}
	// A repository that has the blob takes the snapshot, and says what it heard.
	to = filepath.Join(t.TempDir(), "to")
	if status, _, errs := putInto(to, loose(t, tree.Session, lost)); status != 0 {
		t.Fatal(errs)
	}
	if status, line, _ := putInto(to, out); status != 3 || line != i+"\n" {
		t.Fatal(status, line)
	}
	if status, _, errs := runGet(nil, to, i); status != 0 {
		t.Fatal(errs)
	}
}

func loose(t *testing.T, s *rec.Session, blobs ...*rec.Blob) []byte {
	t.Helper()
	b, _, err := storetest.Encode(storetest.Loose(s, blobs...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What lies in packs that are gone is not in the list of what is there.
func TestIDsWithoutLostPacks(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(3, 2, 2, 200)
	dir := fill(t, tree)
	packs, _ := filepath.Glob(dir + "/packs/*/*")
	for _, p := range packs {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, tree.Blobs[0].Data) {
			if err := os.Truncate(p, int64(len(b)-1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	status, out, errs := runGet(nil, dir, "--ids")
	for _, b := range tree.Blobs {
		if has := strings.Contains(string(out), b.ID.String()+"\n"); has != (b.Kind != rec.KindData) {
			t.Errorf("kind %d: %v", b.Kind, has)
		}
	}
	if status != 3 || !strings.Contains(errs, "1 packs of the repository are missing or not whole: what only they held is not in the list") {
		t.Fatal(status, errs)
	}
}

// What rests on more runs than pv-put remembers of one stream is copied all the same: a session that
// is needed again after so many others comes again.
func TestCopyOfManyRuns(t *testing.T) {
	t.Parallel()
	const runs = 17_000
	m := storetest.New(1)
	from := fill(t, storetest.New(2).Tree(1, 1, 1, 20))
	r, err := store.Open(from, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.NewPut(nil, store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store := func(b *rec.Blob, s *rec.Session) {
		t.Helper()
		if err := errors.Join(p.Session(s), p.Blob(b)); err != nil {
			t.Fatal(err)
		}
	}
	data := m.Data(1, 20)[0]
	store(data, m.Session)
	var pages []*rec.Blob
	for n := range runs {
		page := m.Blob(rec.KindPage, 20, data)
		s := &rec.Session{Data: fmt.Appendf(nil, "%*d", rec.SessionSize, n)}
		page.SID = storetest.SID(s)
		page.CRC = page.Sum()
		store(page, s)
		pages = append(pages, page)
	}
	root := m.Blob(2, 20, pages...)
	snapshot := m.Blob(rec.KindSnapshot, 20, root)
	store(root, m.Session)
	store(snapshot, m.Session)
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	r.Close()
	status, out, errs := runGet(nil, from, "--copy", snapshot.ID.String())
	if status != 0 || errs != "" {
		t.Fatal(status, errs)
	}
	if status, line, errs := putInto(filepath.Join(t.TempDir(), "to"), out); status != 0 || line != snapshot.ID.String()+"\n" {
		t.Fatal(status, line, errs)
	}
}
