package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// The thief of a key sends again what its owner, and others, have stored before, or rubbish under the same
// ids: none of that is his, though the log of his runs names it. What he has stored is.
func TestUploadsAreTheirOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	commit := func(as string, tree *storetest.Tree) error {
		t.Helper()
		p := loggedPut(t, dir, as)
		err := send(p, tree)
		if err == nil {
			_, err = p.Commit()
		}
		if lerr := p.LogEnd(0, ""); lerr != nil {
			t.Fatal(lerr)
		}
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m := storetest.New(1)
	before, owner, other, own := m.Tree(1, 2, 2, 50), m.Tree(1, 2, 2, 50), m.Tree(1, 2, 2, 50), m.Tree(1, 2, 2, 50)
	must(commit("laptop", before))
	// Long ago, so that its log is not kept any more.
	for _, kind := range []string{"checkpoints", "snapshots"} {
		path := filepath.Join(dir, kind, before.Snapshot().ID.String())
		r := mustOpen(t, dir, &log{})
		s, err := r.CheckSnapshot(before.Snapshot().ID, false)
		must(err)
		s.Received = rec.TimeOf(time.Now().Add(-30 * 24 * time.Hour))
		b, err := s.encode([rec.NonceSize]byte{1})
		must(err)
		must(os.WriteFile(path, b, 0o600))
	}
	must(os.RemoveAll(filepath.Join(dir, logDir)))
	must(commit("laptop", owner))
	must(commit("desk", other))
	time.Sleep(5 * time.Millisecond)
	since := time.Now()
	must(commit("laptop", own))
	for _, tree := range []*storetest.Tree{before, owner, other} {
		if err := commit("laptop", tree); err != nil { // the same: success
			t.Fatal(err)
		}
		again := *tree
		again.Blobs = append(slices.Clone(tree.Blobs[:len(tree.Blobs)-1]), twin(m, tree.Snapshot(), rec.KindSnapshot))
		if err := commit("laptop", &again); !errors.Is(err, ErrTaken) {
			t.Fatal(err)
		}
	}
	lg := &log{}
	list, err := mustOpen(t, dir, lg).Uploads("laptop", since)
	must(err)
	var snapshots, checkpoints []id.ID
	for _, u := range list {
		snapshots, checkpoints = append(snapshots, u.Snapshots...), append(checkpoints, u.Checkpoints...)
	}
	if !slices.Equal(snapshots, []id.ID{own.Snapshot().ID}) || len(checkpoints) > 0 {
		t.Errorf("%v %v", snapshots, checkpoints)
	}
	if len(lg.notes) == 0 {
		t.Error("nothing is told of what is left out")
	}
	// The label alone, where the log has lost the first run.
	must(os.RemoveAll(filepath.Join(dir, logDir)))
	if err := commit("laptop", other); err != nil {
		t.Fatal(err)
	}
	if list, err = mustOpen(t, dir, &log{}).Uploads("laptop", since); err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	for _, u := range list {
		if slices.Contains(u.Snapshots, other.Snapshot().ID) {
			t.Error("the snapshot of another label is listed")
		}
	}
}
