package check

import (
	"fmt"
	"io/fs"
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
)

// put stores trees, one run each.
func put(t *testing.T, dir string, trees ...*storetest.Tree) {
	t.Helper()
	for _, tree := range trees {
		r, err := store.Create(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.NewPut(nil, store.PutOptions{})
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
}

// heal stores blobs in order loose.
func heal(t *testing.T, dir string, tree *storetest.Tree, want []id.ID) {
	t.Helper()
	r, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := r.NewPut(nil, store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range tree.Blobs {
		if slices.Contains(want, b.ID) {
			if _, err := p.Heal(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
}

// A result is a report and what was told.
type result struct {
	*Report
	damage, notes []string
}

func all(id.ID, int64) bool { return true }

func check(t *testing.T, dir string, data func(id.ID, int64) bool) (*result, error) {
	t.Helper()
	r, err := store.Open(dir, store.Options{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := &result{}
	add := func(to *[]string) func(string, ...any) {
		return func(format string, args ...any) { *to = append(*to, fmt.Sprintf(format, args...)) }
	}
	out.Report, err = Run(r, Options{Data: data, Damage: add(&out.damage), Note: add(&out.notes)})
	return out, err
}

func mustCheck(t *testing.T, dir string) *result {
	t.Helper()
	out, err := check(t, dir, all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readable reports whether all snapshots can be read to the last blob.
func readable(dir string) bool {
	warned := false
	r, err := store.Open(dir, store.Options{Warn: func(string, ...any) { warned = true }})
	if err != nil {
		return false
	}
	defer r.Close()
	list, err := r.Snapshots()
	if err != nil {
		return false
	}
	for _, i := range list {
		s, err := r.Snapshot(i)
		if err != nil {
			return false
		}
		err = r.Down(s, false, func(a *store.Answer) error { return a.Err })
		if err != nil {
			return false
		}
	}
	return len(list) == 2 && !warned
}

// made is a repository of two snapshots that share most of what they reach, with the files
// in it.
func made(t *testing.T) (dir string, old, last *storetest.Tree, files []string) {
	t.Helper()
	run := storetest.New(1).Run(3, 2, 2, 60)
	old, last = run.Trees[1], run.Trees[2]
	dir = filepath.Join(t.TempDir(), "repo")
	put(t, dir, old, last)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "lock" && d.Name() != "ballast" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	return dir, old, last, files
}

func TestWhole(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t)
	out := mustCheck(t, dir)
	if !out.OK() || len(out.damage)+len(out.notes) > 0 || out.Snapshots != 2 || out.Packs != 4 || out.Read != 4 || out.Segments != 2 || out.Bytes != out.ReadBytes {
		t.Fatalf("%+v %q %q", out.Report, out.damage, out.notes)
	}
}

// No bit of any object changes in silence. What is no more than noted leaves all snapshots
// readable.
func TestEveryChangeIsFound(t *testing.T) {
	t.Parallel()
	dir, old, last, files := made(t)
	found := 0
	try := func(what, path string, bad []byte) {
		t.Helper()
		good, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, bad, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := check(t, dir, all)
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
		case out.OK() && len(out.notes) == 0:
			t.Fatalf("%s, %s: it was not found", rel, what)
		case out.OK() && !readable(dir):
			t.Fatalf("%s, %s: noted only, but not all can be read: %q", rel, what, out.notes)
		case !out.OK() && len(out.damage) == 0 && len(out.Bad) == 0:
			t.Fatalf("%s, %s: not told", rel, what)
		}
		for _, i := range append(slices.Clone(orNil(out).Bad), orNil(out).Incomplete...) {
			if !slices.ContainsFunc(append(slices.Clone(old.Blobs), last.Blobs...), func(b *rec.Blob) bool { return b.ID == i }) {
				t.Fatalf("%s, %s: %s is no blob of ours", rel, what, i)
			}
		}
		found++
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(b); at += 1 + len(b)/40 {
			for _, bit := range []byte{1, 0x40} {
				bad := slices.Clone(b)
				bad[at] ^= bit
				try(fmt.Sprintf("byte %d ^ %#x", at, bit), path, bad)
			}
		}
		for _, bad := range [][]byte{{}, b[:len(b)-1], b[:len(b)/2], append(slices.Clone(b), 0), append(slices.Clone(b), b...)} {
			try(fmt.Sprintf("%d bytes of %d", len(bad), len(b)), path, bad)
		}
	}
	if out := mustCheck(t, dir); !out.OK() || found < 500 {
		t.Fatal(found)
	}
}

func orNil(r *result) *Report {
	if r == nil || r.Report == nil {
		return &Report{}
	}
	return r.Report
}

// A file that is gone is found, too, but for a second copy.
func TestEveryLossIsFound(t *testing.T) {
	t.Parallel()
	dir, _, _, files := made(t)
	for _, path := range files {
		rel, _ := filepath.Rel(dir, path)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		out, err := check(t, dir, all)
		kind, _, _ := strings.Cut(rel, "/")
		switch kind {
		case "config":
			if err == nil {
				t.Errorf("%s: not found", rel)
			}
		case "packs":
			if err != nil || out.OK() || len(out.Bad) == 0 || len(out.Incomplete) == 0 {
				t.Errorf("%s: %v %+v", rel, err, out)
			}
		case "index":
			if err != nil || !out.OK() || len(out.notes) == 0 {
				t.Errorf("%s: %v %+v", rel, err, out)
			}
		case "snapshots":
			// As if it had never been: a list of what is there holds no more than that.
			if err != nil || out.Snapshots != 1 {
				t.Errorf("%s: %v %+v", rel, err, out)
			}
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
}

// inPack returns a pack that holds a blob, and where the record's data begins.
func inPack(t *testing.T, dir string, b *rec.Blob) (path string, at int) {
	t.Helper()
	list, err := filepath.Glob(dir + "/packs/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(string(data), string(b.Data)); at >= 0 {
			return path, at
		}
	}
	t.Fatal("no pack has it")
	return "", 0
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[at] ^= 1
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sorted(ids ...id.ID) []id.ID {
	slices.SortFunc(ids, func(a, b id.ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Just what is damaged is named: the blob, and the snapshots that need it. Another repository
// heals it, and the damaged copy is only noted from then on.
func TestOneBlob(t *testing.T) {
	t.Parallel()
	for n := range 30 {
		dir, old, last, _ := made(t)
		if n >= len(last.Blobs) {
			break
		}
		b := last.Blobs[n]
		path, at := inPack(t, dir, b)
		flip(t, path, at)
		var need []id.ID
		for _, tree := range []*storetest.Tree{old, last} {
			if slices.ContainsFunc(tree.Blobs, func(x *rec.Blob) bool { return x.ID == b.ID }) {
				need = append(need, tree.Snapshot().ID)
			}
		}
		out := mustCheck(t, dir)
		if b.Kind == rec.KindSnapshot {
			need = nil // its object is good
		}
		if !slices.Equal(out.Bad, []id.ID{b.ID}) || !slices.Equal(out.Incomplete, sorted(need...)) {
			t.Fatalf("kind %d: bad %v, incomplete %v, want %v", b.Kind, out.Bad, out.Incomplete, need)
		}
		heal(t, dir, last, out.Bad)
		if out := mustCheck(t, dir); !out.OK() || len(out.notes) != 1 || !readable(dir) {
			t.Fatalf("kind %d: not healed: %+v %q", b.Kind, out.Report, out.notes)
		}
	}
}

// A pack that is lost takes just its blobs with it.
func TestLostPack(t *testing.T) {
	t.Parallel()
	dir, _, last, _ := made(t)
	path, _ := inPack(t, dir, last.Blobs[0])
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, list, err := pack.Check(f)
	if err != nil {
		t.Fatal(err)
	}
	var want []id.ID
	for _, e := range list {
		if e.Kind != pack.KindSession {
			want = append(want, e.ID)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	out := mustCheck(t, dir)
	if !slices.Equal(out.Bad, sorted(want...)) || len(out.Incomplete) != 2 {
		t.Fatalf("%+v", out.Report)
	}
	heal(t, dir, last, out.Bad)
	if out := mustCheck(t, dir); !out.OK() || !readable(dir) {
		t.Fatalf("%+v", out.Report)
	}
}

// The session of a pack is damaged: nobody opens what was sealed under it, as long as no
// other pack has the session.
func TestSession(t *testing.T) {
	t.Parallel()
	tree := storetest.New(2).Tree(1, 3, 2, 60)
	dir := filepath.Join(t.TempDir(), "repo")
	put(t, dir, tree)
	list, err := filepath.Glob(dir + "/packs/*/*")
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	flip(t, list[0], 100)
	if out := mustCheck(t, dir); !out.OK() || len(out.notes) != 1 {
		t.Fatalf("%+v %q", out.Report, out.notes)
	}
	flip(t, list[1], 100)
	out := mustCheck(t, dir)
	if len(out.Bad) != len(tree.Blobs) || len(out.Incomplete) != 1 || !strings.Contains(strings.Join(out.damage, "\n"), "session") {
		t.Fatalf("%+v %q", out.Report, out.damage)
	}
	heal(t, dir, tree, out.Bad)
	if out := mustCheck(t, dir); !out.OK() {
		t.Fatalf("%+v", out.Report)
	}
}

// A segment that lists something else than the pack's own table is found, though both are
// right by themselves.
func TestSegmentAgainstPack(t *testing.T) {
	t.Parallel()
	dir, _, last, _ := made(t)
	path, _ := inPack(t, dir, last.Blobs[0])
	name, err := id.Parse(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	_, list, err := pack.Check(f)
	if err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(dir + "/index/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments { // the true ones would name the pack, too
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	list[1].Length--
	data, segment, err := pack.EncodeSegment([]pack.List{{Pack: pack.Pack{Name: name, Size: uint64(st.Size())}, Entries: list}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "index", segment.String()), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := mustCheck(t, dir); !slices.Equal(out.BySegment, []id.ID{segment}) {
		t.Fatalf("%+v", out.Report)
	}
	// What the hint says heals it.
	if err := os.Remove(filepath.Join(dir, "index", segment.String())); err != nil {
		t.Fatal(err)
	}
	heal(t, dir, last, nil)
	if out := mustCheck(t, dir); !out.OK() || len(out.notes) > 0 || !readable(dir) {
		t.Fatalf("%+v %q", out.Report, out.notes)
	}
}

// Of a part of the data no more than that is read; metadata always is.
func TestPartOfTheData(t *testing.T) {
	t.Parallel()
	dir, _, last, _ := made(t)
	data, at := inPack(t, dir, last.Blobs[0])
	flip(t, data, at)
	out, err := check(t, dir, func(id.ID, int64) bool { return false })
	if err != nil || !out.OK() || out.Read != 2 {
		t.Fatalf("%v %+v", err, out)
	}
	out, err = check(t, dir, func(name id.ID, _ int64) bool { return name.String() == filepath.Base(data) })
	if err != nil || out.OK() || out.Read != 3 {
		t.Fatalf("%v %+v", err, out)
	}
	page := last.Blobs[slices.IndexFunc(last.Blobs, func(b *rec.Blob) bool { return b.Kind == rec.KindPage })]
	meta, at := inPack(t, dir, page)
	flip(t, meta, at)
	out, err = check(t, dir, func(id.ID, int64) bool { return false })
	if err != nil || !slices.Equal(out.Bad, []id.ID{page.ID}) {
		t.Fatalf("%v %+v", err, out)
	}
}

// under makes another copy of a page, with other references.
func under(m *storetest.Maker, page *rec.Blob, refs ...*rec.Blob) *rec.Blob {
	b := m.Blob(page.Kind, 40, refs...)
	b.ID = page.ID
	b.CRC = b.Sum()
	return b
}

// Somebody has stored, under the ids of pages and before they came, pages that refer to nothing.
// This is no damage. What is lost below the true one is, as far as no copy is whole.
func TestRubbishFirst(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	m := storetest.New(7)
	tree := storetest.New(1).Tree(3, 2, 2, 60)
	nothing := m.Data(40, 30)
	put(t, dir, storetest.New(3).Tree(1, 1, 1, 30))
	var pages, rubbish []*rec.Blob
	for _, b := range tree.Blobs {
		if b.Kind != rec.KindData && b.Kind != rec.KindSnapshot {
			pages = append(pages, b)
			for range 3 {
				below := nothing[len(rubbish)]
				if b.Kind > rec.KindPage { // on two levels
					below = pages[0]
				}
				rubbish = append(rubbish, under(m, b, nothing[39], below))
			}
		}
	}
	stranger := &storetest.Tree{Session: m.Session, Blobs: rubbish}
	for _, b := range rubbish {
		heal(t, dir, stranger, []id.ID{b.ID})
	}
	put(t, dir, tree)
	out := mustCheck(t, dir)
	if !out.OK() || len(out.damage) > 0 || len(out.notes) == 0 || len(out.notes) > len(pages) {
		t.Fatalf("%+v %q %q", out.Report, out.damage, out.notes)
	}
	// A data blob is lost: all copies of its page lack something now.
	path, _ := inPack(t, dir, tree.Blobs[0])
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	out = mustCheck(t, dir)
	if out.OK() || len(out.Incomplete) != 1 || out.Incomplete[0] != tree.Snapshot().ID || len(out.Bad) == 0 {
		t.Fatalf("%+v %q", out.Report, out.damage)
	}
	heal(t, dir, tree, out.Bad)
	if out = mustCheck(t, dir); !out.OK() {
		t.Fatalf("%+v %q", out.Report, out.damage)
	}
	// The true page's data is nowhere: it is named.
	run := storetest.New(9)
	data := run.Data(2, 30)
	page := run.Blob(rec.KindPage, 30, data...)
	mine := &storetest.Tree{Session: run.Session, Blobs: []*rec.Blob{data[0], page}}
	bad := &storetest.Tree{Session: m.Session, Blobs: []*rec.Blob{under(m, page, nothing[38])}}
	snapshot := run.Blob(rec.KindSnapshot, 30, page)
	heal(t, dir, bad, []id.ID{page.ID})
	put(t, dir, &storetest.Tree{Session: run.Session, Blobs: []*rec.Blob{data[0], data[1], page, snapshot}})
	other := filepath.Join(t.TempDir(), "other")
	put(t, other, storetest.New(3).Tree(1, 1, 1, 30))
	heal(t, other, bad, []id.ID{page.ID})
	heal(t, other, mine, []id.ID{data[0].ID, page.ID})
	object, err := os.ReadFile(filepath.Join(dir, "snapshots", snapshot.ID.String()))
	if err == nil {
		err = os.WriteFile(filepath.Join(other, "snapshots", snapshot.ID.String()), object, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out = mustCheck(t, other); !slices.Equal(out.Bad, sorted(nothing[38].ID, data[1].ID)) || !slices.Equal(out.Incomplete, []id.ID{snapshot.ID}) {
		t.Fatalf("%+v %q", out.Report, out.damage)
	}
}
