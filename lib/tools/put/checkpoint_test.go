package put_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
	"preserve/lib/tools/get"
)

// count returns how many objects a directory of a repository has.
func count(dir, name string) int { return len(files(filepath.Join(dir, name))) }

// getAll reads each checkpoint of a repository, all of it.
func getAll(t *testing.T, dir string) (n int) {
	t.Helper()
	for _, path := range files(filepath.Join(dir, "checkpoints")) {
		if r := run("pv-get", get.Run, nil, dir, filepath.Base(path)); r.status != 0 || r.err != "" {
			t.Fatalf("checkpoint %s: %d %s", filepath.Base(path), r.status, r.err)
		}
		n++
	}
	return n
}

// However far a stream comes: the checkpoints in it are there, and are no
// snapshots; the next run sends on.
func TestCheckpointsOfACutStream(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(4, 2, 2, 40)
	rs := run.Stream()
	b, at := stream(t, rs)
	for k, n := range at[1:] {
		dir := filepath.Join(t.TempDir(), "repo")
		r := runPut(b[:n+1], "--checkpoint", "0", dir)
		want := 0
		for _, v := range rs[:k+1] {
			if _, is := v.(*rec.Checkpoint); is {
				want++
			}
		}
		if r.status != 1 || r.out != "" || !strings.Contains(r.err, rec.ErrCut.Error()) || snapshots(dir) != 0 || getAll(t, dir) != want {
			t.Fatalf("cut behind record %d: %+v, %d checkpoints of %d", k, r, count(dir, "checkpoints"), want)
		}
		last := run.Trees[len(run.Trees)-1].Snapshot().ID
		if r := runPut(b, "-v", "--checkpoint", "0", dir); r.status != 0 || r.out != last.String()+"\n" || strings.Count(r.err, "checkpoint ") != 3 || snapshots(dir) != 1 {
			t.Fatalf("after a cut behind record %d: %+v", k, r)
		}
		if getAll(t, dir) != len(run.Trees) {
			t.Fatalf("cut behind record %d: %q", k, files(dir))
		}
	}
}

func TestRefusedCheckpoints(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(2, 2, 2, 40)
	tree := storetest.New(2).Tree(1, 1, 2, 10)
	loose := storetest.Loose(tree.Session, tree.Blobs...)
	loose = append(loose[:len(loose)-1], &rec.Checkpoint{ID: tree.Snapshot().ID}, &rec.End{})
	early := append(run.Stream()[:2], &rec.Checkpoint{ID: id.ID{1}}, &rec.End{})
	for name, c := range map[string]struct {
		records []rec.Record
		text    string
	}{
		"in a loose stream": {loose, `record 6 at byte \d+: a record that only a stream in order "up" has`},
		"of nothing":        {early, `record 3 at byte \d+: checkpoint 01000000.*, which is not the snapshot that came before it: out of order`},
		"alone":             {append(run.Stream()[:8], &rec.End{}), "the stream has no snapshot: there is nothing to commit"},
	} {
		b, _ := stream(t, c.records)
		dir := filepath.Join(t.TempDir(), "repo")
		if r := runPut(b, dir); r.status != 1 || r.out != "" || !regexp.MustCompile(c.text).MatchString(r.err) || snapshots(dir) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A disk that is full, a quota that is used up: at a checkpoint as anywhere else.
// What is listed is whole, and the run ends with one message.
func TestFullAtACheckpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		perPage, size int
		quota         bool
	}{{4, 60000, false}, {1, 150000, false}, {1, 150000, true}, {3, 30, true}} {
		mount := tmpfs(t, "size=6m")
		dir := filepath.Join(mount, "repo")
		in, _ := stream(t, storetest.New(1).Run(60, c.perPage, 30, c.size).Stream())
		args, text := []string{"-v", "--checkpoint", "0", dir}, `the file system of ".*repo" is full: \d+ KiB are free`
		max := int64(6 << 20)
		if c.quota {
			max = 600_000
			args, text = append(args, "--max-bytes", "600000"), `repository ".*repo" has reached the size that it may have here`
		}
		r := runPut(in, args...)
		if r.status != 1 || r.out != "" || !regexp.MustCompile(text).MatchString(r.err) || strings.Count(r.err, "\n") != strings.Count(r.err, "checkpoint ")+2 {
			t.Fatalf("%+v: %+v", c, r)
		}
		n := getAll(t, dir)
		if n < 3 || n > 58 || snapshots(dir) != 0 || count(dir, "tmp") != 0 {
			t.Fatalf("%+v: %d checkpoints, %q", c, n, files(dir))
		}
		if used := usedBy(t, dir); used > max {
			t.Fatalf("%+v: %d bytes", c, used)
		}
	}
}

func usedBy(t *testing.T, dir string) (n int64) {
	t.Helper()
	for _, path := range files(dir) {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		n += st.Size()
	}
	return n
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(3, 2, 2, 100)
	i := tree.Snapshot().ID
	runPut(upStream(t, tree), dir)
	before := fmt.Sprint(files(dir))
	for _, status := range []int{0, 3} {
		b, _ := stream(t, []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up, Base: []id.ID{i}}, &rec.End{Unchanged: i, Status: status}})
		if r := runPut(b, dir); r != (result{status, i.String() + "\n", ""}) {
			t.Fatalf("%+v", r)
		}
	}
	if after := fmt.Sprint(files(dir)); after != before {
		t.Fatal(after)
	}
	// What it reaches is gone in part.
	packs, _ := filepath.Glob(dir + "/packs/*/*")
	for _, p := range packs {
		if b, err := os.ReadFile(p); err != nil || !strings.Contains(string(b), string(tree.Blobs[0].Data)) {
			continue
		}
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := stream(t, []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up, Base: []id.ID{i}}, &rec.End{Unchanged: i}})
	r := runPut(b, dir)
	if r.status != 1 || strings.Count(r.out, "missing ") != 6 || !strings.Contains(r.out, "missing "+tree.Blobs[0].ID.String()+"\n") || strings.Contains(r.out, "\n"+i.String()) ||
		!strings.Contains(r.err, "snapshot "+i.String()+" needs what is missing in the repository (blobs: 6)") {
		t.Fatalf("%+v", r)
	}
	// It is marked as forgotten.
	if err := os.WriteFile(filepath.Join(dir, "forgotten", i.String()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := runPut(b, dir); r.status != 1 || r.out != "" || !strings.Contains(r.err, "is marked as forgotten") {
		t.Fatalf("%+v", r)
	}
}
