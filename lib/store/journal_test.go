package store

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/store/storetest"
)

// loggedPut begins a put that is logged.
func loggedPut(t testing.TB, dir, as string) *Put {
	t.Helper()
	p, err := mustCreate(t, dir).NewPut(nil, PutOptions{Log: true, As: as, Client: "192.0.2.7 51000 192.0.2.1 22"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// readLog returns the log of a repository, in order.
func readLog(t testing.TB, dir string) (events []event) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, logDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var e event
		if err := json.Unmarshal(b, &e); err != nil || strings.Count(string(b), "\n") != 1 {
			t.Fatalf("%s: %v: %q", path, err, b)
		}
		events = append(events, e)
	}
	return events
}

// named returns all that a log names.
func named(events []event) (names []string) {
	for _, e := range events {
		names = append(append(names, e.Packs...), e.Segment, e.Snapshot, e.Checkpoint)
	}
	return names
}

// A client that sends again and again what is stored already holds the lock, and stores nothing: after a
// while the log shows it, as far as there is room.
func TestLogOfAPutThatStoresNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(1, 2, 2, 100)
	putTree(t, dir, tree)
	again := func(p *Put) {
		t.Helper()
		if err := errors.Join(p.Session(tree.Session), p.Blob(tree.Blobs[0]), p.Turn()); err != nil {
			t.Fatal(err)
		}
	}
	p := loggedPut(t, dir, "laptop")
	again(p)
	if events := readLog(t, dir); len(events) != 0 {
		t.Fatalf("%+v", events)
	}
	p.journal.start = p.journal.start.Add(-logAfter)
	again(p)
	again(p)
	if events := readLog(t, dir); len(events) != 1 || events[0].Event != eventBegin || events[0].Client == "" {
		t.Fatalf("%+v", events)
	}
	if err := p.LogEnd(1, "cut off"); err != nil {
		t.Fatal(err)
	}
	if events := readLog(t, dir); len(events) != 2 || events[1].Event != eventEnd {
		t.Fatalf("%+v", events)
	}
	r := mustOpen(t, dir, &log{})
	used, err := r.o.Used()
	if err == nil {
		p, err = r.NewPut(nil, PutOptions{Log: true, MaxBytes: used + block})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.journal.start = p.journal.start.Add(-logAfter)
	again(p)
	if events := readLog(t, dir); len(events) != 2 {
		t.Fatalf("%+v", events)
	}
}

func TestLogOfAPut(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	run := storetest.New(1).Run(3, 2, 2, 100)
	p := loggedPut(t, dir, "laptop")
	if err := feed(p, run.Records); err != nil {
		t.Fatal(err)
	}
	i, err := p.Commit()
	if err == nil {
		err = p.LogEnd(3, "a\x1b[2Jb\u202e")
	}
	if err != nil {
		t.Fatal(err)
	}
	events := readLog(t, dir)
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Event)
		if e.As != "laptop" || e.Client != "192.0.2.7 51000 192.0.2.1 22" || e.Put != events[0].Put || len(e.Time) != len("2006-01-02T15:04:05.000Z") {
			t.Errorf("%+v", e)
		}
	}
	want := []string{eventBegin, eventStore, eventStore, eventStore, eventEnd}
	if !slices.Equal(kinds, want) {
		t.Fatal(kinds)
	}
	end := events[len(events)-1]
	if *end.Status != 3 || end.Snapshot != i.String() || end.Blobs != p.Count.New || end.Bytes != p.Count.NewBytes || end.Error != `a\x1b[2Jb\u202e` {
		t.Errorf("%+v", end)
	}
	for n, tree := range run.Trees {
		if e := events[1+n]; n < len(run.Trees)-1 && (e.Checkpoint != tree.Snapshot().ID.String() || e.Snapshot != "") || n == len(run.Trees)-1 && (e.Snapshot != i.String() || e.Checkpoint != "") {
			t.Errorf("%d: %+v", n, e)
		}
	}
	checkLog(t, dir)
	// What is stored already makes no packs, but a snapshot.
	tree := storetest.New(3).Tree(1, 1, 2, 10)
	kept := loggedPut(t, dir, "laptop")
	if err := send(kept, tree); err != nil {
		t.Fatal(err)
	}
	if err := kept.Keep(); err != nil {
		t.Fatal(err)
	}
	once := loggedPut(t, dir, "laptop")
	if err := send(once, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := once.Commit(); err != nil {
		t.Fatal(err)
	}
	if events = readLog(t, dir); !slices.Contains(named(events), tree.Snapshot().ID.String()) {
		t.Fatal("a snapshot without new packs is not in the log")
	}
	checkLog(t, dir)
	again := loggedPut(t, dir, "laptop")
	if err := again.LogEnd(0, ""); err != nil || len(readLog(t, dir)) != len(events) {
		t.Fatalf("%v: a put that has stored nothing is in the log", err)
	}
	putTree(t, dir, storetest.New(2).Tree(1, 1, 2, 10))
	if len(readLog(t, dir)) != len(events) {
		t.Fatal("a put without a log is in the log")
	}
}

// checkLog fails if anything is in a repository that its log does not name.
func checkLog(t testing.TB, dir string) {
	t.Helper()
	names := named(readLog(t, dir))
	for _, kind := range []string{"index", "snapshots", "checkpoints"} {
		for _, name := range files(t, filepath.Join(dir, kind)) {
			if !slices.Contains(names, name) {
				t.Fatalf("%s/%s is not in the log", kind, name)
			}
		}
	}
	r := mustOpen(t, dir, &log{})
	v, err := r.current()
	if err != nil {
		t.Fatal(err)
	}
	for _, pack := range v.packs {
		if !slices.Contains(names, pack.String()) {
			t.Fatalf("pack %s is listed, and not in the log", pack)
		}
	}
}

// Whenever a put is killed: what counts in the repository is in the log, and what of it
// another put takes over is there as that.
func TestLogKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	run := storetest.New(1).Run(3, 2, 2, 3000)
	adopted := 0
	for k, total := int64(0), int64(1); k < total; k++ {
		dir := filepath.Join(t.TempDir(), "repo")
		p := loggedPut(t, dir, "killed")
		steps := killAt(p, k)
		err := feed(p, run.Records)
		if err == nil {
			_, err = p.Commit()
		}
		p.background.Wait()
		if !errors.Is(err, errKilled) {
			if err != nil || len(*steps) < 20 {
				t.Fatal(err, len(*steps))
			}
			break
		}
		total = k + 2
		checkLog(t, dir)
		packs, _ := filepath.Glob(dir + "/packs/*/*")
		if len(packs) > 0 && len(readLog(t, dir)) == 0 {
			t.Fatalf("step %d: a pack without a beginning", k)
		}
		other := loggedPut(t, dir, "next")
		other.Close()
		checkLog(t, dir)
		for _, e := range readLog(t, dir) {
			if e.As == "next" && e.Event == eventAdopt {
				adopted++
			}
		}
	}
	if adopted == 0 {
		t.Fatal("nothing was adopted")
	}
}

// The log counts against the quota, and the end has its place.
func TestQuotaCountsTheLog(t *testing.T) {
	t.Parallel()
	for max := int64(150_000); max < 160_000; max += 1000 {
		dir := filepath.Join(t.TempDir(), "repo")
		p, err := mustCreate(t, dir).NewPut(nil, PutOptions{MaxBytes: max, Log: true, Client: strings.Repeat("\x01", 2000)})
		if err != nil {
			t.Fatal(err)
		}
		ids := fill(t, p, storetest.New(1), 1, false)
		if err := p.Keep(); err != nil {
			t.Fatal(err)
		}
		if err := p.LogEnd(1, strings.Repeat("\x01", 2000)); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if used := sizeOfFiles(t, dir); used > max || len(ids) == 0 {
			t.Errorf("%d bytes of %d, %d blobs", used, max, len(ids))
		}
		if events := readLog(t, dir); len(events) != 3 || events[1].Segment == "" {
			t.Errorf("%d events", len(events))
		}
	}
}

// Where the log cannot be written nothing is stored.
func TestLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	mustCreate(t, dir)
	if err := os.WriteFile(filepath.Join(dir, logDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := loggedPut(t, dir, "laptop")
	if err := send(p, storetest.New(1).Tree(1, 1, 2, 10)); err == nil || !strings.Contains(err.Error(), "write the log of puts") && !strings.Contains(err.Error(), "write log/") {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err == nil {
		t.Fatal("committed")
	}
	if list := files(t, filepath.Join(dir, "packs")); len(list) > 0 {
		t.Fatal(list)
	}
}
