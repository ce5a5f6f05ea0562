package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// feed puts what lies between head and end of a stream, without committing.
func feed(p *Put, records []rec.Record) (err error) {
	for _, v := range records {
		switch v := v.(type) {
		case *rec.Session:
			err = p.Session(v)
		case *rec.Blob:
			err = p.Blob(v)
		case *rec.Checkpoint:
			_, err = p.Checkpoint(v.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	run := storetest.New(1).Run(5, 3, 2, 500)
	p := mustPut(t, mustCreate(t, dir), nil)
	n := 0
	for k, v := range run.Records {
		if err := feed(p, run.Records[k:k+1]); err != nil {
			t.Fatal(err)
		}
		if _, is := v.(*rec.Checkpoint); !is {
			continue
		}
		// It is there at once, for everybody, and it is no snapshot.
		tree := run.Trees[n]
		n++
		other := mustOpen(t, dir, &log{})
		if got, err := walkAll(other, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatalf("checkpoint %d: %v", n, err)
		}
		if list, err := other.Snapshots(); err != nil || len(list) != 0 {
			t.Fatal("a checkpoint is listed", list, err)
		}
		if is, err := other.IsCommitted(tree.Snapshot().ID); is || err != nil {
			t.Fatal(is, err)
		}
	}
	last := run.Trees[n]
	if i, err := p.Commit(); err != nil || i != last.Snapshot().ID {
		t.Fatal(i, err)
	}
	if n != 4 || p.Count.Checkpoints != n || p.Count.Passed != 0 {
		t.Fatalf("%d of %+v", n, p.Count)
	}
	checkSound(t, dir)
	r := mustOpen(t, dir, &log{})
	if list, err := r.Snapshots(); err != nil || !slices.Equal(list, []id.ID{last.Snapshot().ID}) {
		t.Fatal(list, err)
	}
	if got, err := walkAll(r, last.Snapshot().ID, false); err != nil || !same(got, downOrder(last, false)) {
		t.Fatal(err)
	}
	// A stream may rest on one; the same run once more adds nothing.
	p = mustPut(t, r, []id.ID{run.Trees[0].Snapshot().ID})
	before := files(t, dir)
	if err := feed(p, run.Records); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil || p.Count.New != 0 || !same(before, files(t, dir)) {
		t.Fatalf("%v %+v", err, p.Count)
	}
}

// As long as something is missing, checkpoints are passed over.
func TestCheckpointOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := storetest.New(1).Run(4, 3, 2, 50)
	var left *rec.Blob // of the second page
	some := slices.DeleteFunc(slices.Clone(run.Records), func(v rec.Record) bool {
		if v == rec.Record(run.Trees[1].Blobs[4]) {
			left = run.Trees[1].Blobs[4]
		}
		return left != nil && v == rec.Record(left)
	})
	p, list := misses(t, mustCreate(t, dir))
	if err := feed(p, some); err != nil {
		t.Fatal(err)
	}
	if left == nil || !slices.Equal(*list, []id.ID{left.ID}) || p.Count.Checkpoints != 1 || p.Count.Passed != 2 {
		t.Fatalf("told %v, %+v", *list, p.Count)
	}
	if got := files(t, filepath.Join(dir, "checkpoints")); !slices.Equal(got, []string{run.Trees[0].Snapshot().ID.String()}) {
		t.Fatal(got)
	}
	if _, err := p.Commit(); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
}

func TestRefusedCheckpoints(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(3, 2, 2, 50)
	at := slices.IndexFunc(run.Records, func(v rec.Record) bool { _, is := v.(*rec.Checkpoint); return is })
	first := run.Records[at].(*rec.Checkpoint)
	for name, c := range map[string]struct {
		records []rec.Record
		want    error
	}{
		"of nothing":             {[]rec.Record{first}, ErrOrder},
		"twice":                  {append(slices.Clone(run.Records[:at+1]), first), ErrOrder},
		"of another id":          {append(slices.Clone(run.Records[:at]), &rec.Checkpoint{ID: id.ID{1}}), ErrOrder},
		"of a page":              {append(slices.Clone(run.Records[:4]), &rec.Checkpoint{ID: run.Records[3].(*rec.Blob).ID}), ErrOrder},
		"two snapshots, no name": {slices.DeleteFunc(slices.Clone(run.Records), func(v rec.Record) bool { return v == rec.Record(first) }), rec.ErrTwice},
	} {
		p := mustPut(t, mustCreate(t, t.TempDir()), nil)
		if err := feed(p, c.records); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Checkpoints alone are nothing to commit.
	p := mustPut(t, mustCreate(t, t.TempDir()), nil)
	if err := feed(p, run.Records[:at+1]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err == nil {
		t.Fatal("committed")
	}
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(4, 3, 2, 500)
	putTree(t, dir, tree)
	i := tree.Snapshot().ID
	before := files(t, dir)
	p := mustPut(t, mustOpen(t, dir, &log{}), []id.ID{i})
	if err := p.Unchanged(i); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if after := files(t, dir); !same(before, after) {
		t.Fatalf("written: %q", after)
	}
	// What the stream does not rest on, a snapshot besides, a mere checkpoint.
	if err := mustPut(t, mustOpen(t, dir, &log{}), nil).Unchanged(i); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
	p = mustPut(t, mustOpen(t, dir, &log{}), []id.ID{i})
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if err := p.Unchanged(i); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
	run := storetest.New(2).Run(2, 2, 2, 10)
	p = mustPut(t, mustOpen(t, dir, &log{}), nil)
	if err := feed(p, run.Records); err != nil {
		t.Fatal(err)
	}
	c := run.Trees[0].Snapshot().ID
	if err := mustPut(t, mustOpen(t, dir, &log{}), []id.ID{c}).Unchanged(c); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
}

// That nothing has changed is believed only if the snapshot is there with all that
// it reaches; what came with the stream counts.
func TestUnchangedHeals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(4, 3, 2, 500)
	putTree(t, dir, tree)
	i := tree.Snapshot().ID
	// The data are gone.
	for _, row := range packsWith(t, mustOpen(t, dir, &log{}), tree.Blobs[0].ID) {
		if err := os.Remove(filepath.Join(dir, "packs", row.Pack.String()[:2], row.Pack.String())); err != nil {
			t.Fatal(err)
		}
	}
	var data []id.ID
	for _, b := range tree.Blobs {
		if b.Kind == rec.KindData {
			data = append(data, b.ID)
		}
	}
	var told []id.ID
	again := func() *Put {
		told = nil
		p, err := mustOpen(t, dir, &log{}).NewPut([]id.ID{i}, PutOptions{Missing: func(i id.ID) error { told = append(told, i); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	p := again()
	if err := p.Unchanged(i); !errors.Is(err, ErrMissing) || !slices.Equal(told, data) {
		t.Fatalf("%v, told %v", err, told)
	}
	p = again()
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range tree.Blobs {
		if b.Kind == rec.KindData {
			if err := p.Blob(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Unchanged(i); err != nil || len(told) != 0 {
		t.Fatalf("%v, told %v", err, told)
	}
	if got, err := walkAll(mustOpen(t, dir, &log{}), i, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	// A page that is damaged where it lies is seen, too.
	for _, b := range tree.Blobs {
		if b.Kind == rec.KindPage {
			row := packsWith(t, mustOpen(t, dir, &log{}), b.ID)[0]
			flip(t, filepath.Join(dir, "packs", row.Pack.String()[:2], row.Pack.String()), int64(row.Offset+row.Length-10))
			if err := again().Unchanged(i); !errors.Is(err, ErrMissing) || !slices.Equal(told, []id.ID{b.ID}) {
				t.Fatalf("%v, told %v", err, told)
			}
			break
		}
	}
}

// What a put that was killed has left is removed by the next; what one that lives
// is writing is not.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustCreate(t, dir)
	tree := storetest.New(1).Tree(3, 3, 2, 1000)
	alive, dead := mustPut(t, r, nil), mustPut(t, r, nil)
	for _, p := range []*Put{alive, dead} {
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
	}
	tmp := filepath.Join(dir, "tmp")
	if got := files(t, tmp); len(got) != 4 {
		t.Fatalf("%q", got)
	}
	var ofDead []string
	for _, o := range dead.open {
		f := o.f.(interface {
			Name() string
			Close() error
		})
		ofDead = append(ofDead, filepath.Base(f.Name()))
		f.Close() // as its end would
	}
	// None of ours, and no file.
	for _, err := range []error{os.WriteFile(tmp+"/other", nil, 0o600), os.Symlink("../config", tmp+"/put-link"), unix.Mkfifo(tmp+"/put-fifo", 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, tmp)
	p := mustPut(t, mustOpen(t, dir, &log{}), nil)
	got := files(t, tmp)
	want := []string{}
	for _, name := range before {
		if !slices.Contains(ofDead, name) {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	if len(want) != 3 || !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	if _, err := alive.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tmp + "/put-link"); err != nil {
		t.Fatal(err)
	}
	checkSound(t, dir)
}

// Puts that begin all the time do not disturb others.
func TestSweepsAndTemporariesAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustCreate(t, dir)
	p := mustPut(t, r, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := r.o.Writer()
		for range 300 {
			w.Sweep()
		}
	}()
	for k := 0; ; k++ {
		select {
		case <-done:
			return
		default:
		}
		f, err := p.w.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(f.(interface{ Name() string }).Name()); err != nil {
			t.Fatalf("%d: swept: %v", k, err)
		}
		p.w.Drop(f)
	}
}

// Who knows the id of a snapshot that is to be copied may be faster, and store something
// else under it: the copy says so, and works once that has been removed.
func TestSnapshotTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := storetest.New(1)
	tree := m.Tree(2, 2, 2, 100)
	forged := m.Tree(1, 1, 2, 100)
	s := forged.Snapshot()
	s.ID, s.CRC = tree.Snapshot().ID, 0
	s.CRC = s.Sum()
	putTree(t, dir, forged)
	try := func() error {
		p := mustPut(t, mustOpen(t, dir, &log{}), nil)
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
		_, err := p.Commit()
		return err
	}
	if err := try(); !errors.Is(err, ErrTaken) {
		t.Fatal(err)
	}
	for _, d := range []string{"snapshots", "checkpoints"} {
		if err := os.Remove(filepath.Join(dir, d, s.ID.String())); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second finds its own
		if err := try(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := walkAll(mustOpen(t, dir, &log{}), s.ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(got, err)
	}
}
