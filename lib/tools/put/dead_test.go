package put_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// exclusive reports whether a collector would get the lock.
func exclusive(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) == nil
}

// A connection that is dead looks like a pipe that nothing comes from, and whose
// other end is open. pv-put gives up, frees its lock, commits nothing, and keeps
// what was whole, for the next run.
func TestDeadConnection(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	run := storetest.New(1).Run(3, 3, 2, 2000)
	b, at := stream(t, run.Stream())
	cmd, w, errs := start(t, "-v", "--stall", "1500ms", dir)
	// The second page has come, and a part of its snapshot.
	if _, err := w.Write(b[:at[13]+40]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); count(dir, "checkpoints") < 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint")
		}
	}
	if exclusive(t, dir) {
		t.Fatal("it has no lock while it waits")
	}
	_ = cmd.Wait() // the pipe is open all the time
	text := errs.String()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text, rec.ErrStall.Error()) || snapshots(dir) != 0 || count(dir, "tmp") != 0 {
		t.Fatal(code, text, files(dir))
	}
	if !exclusive(t, dir) || getAll(t, dir) != 1 {
		t.Fatal("the lock stays, or the checkpoint does not")
	}
	kept := regexp.MustCompile(`(\d+) new blobs`).FindStringSubmatch(text)
	r := runPut(b, "-v", dir)
	if kept == nil || r.status != 0 || !strings.Contains(r.err, "; "+kept[1]+" blobs, ") || kept[1] != "10" {
		t.Fatalf("kept %q: %+v", kept, r)
	}
}

// A stage that is at work and has nothing to send sends ticks: nobody gives up, far
// beyond the limit.
func TestTicksKeepAQuietPipeAlive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	b, at := stream(t, tree.Records())
	cmd, w, errs := start(t, "--stall", "2s", dir)
	tick, _, err := storetest.Encode([]rec.Record{&rec.Tick{Files: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b[:at[4]]); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(20 * time.Millisecond) {
		if _, err := w.Write(tick); err != nil {
			t.Fatalf("%v: %s", err, errs)
		}
	}
	if _, err := w.Write(b[at[4]:]); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := cmd.Wait(); err != nil || snapshots(dir) != 1 {
		t.Fatal(err, errs)
	}
}

// Ticks, sessions and ends of empty streams are signs of life, and no blobs: with --idle a run
// that gets nothing else ends, and what was whole stays.
func TestIdle(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	loose := storetest.Loose(tree.Session, tree.Blobs[:2]...)
	for name, c := range map[string]struct{ first, then []rec.Record }{
		"ticks":         {tree.Records()[:4], []rec.Record{&rec.Tick{Files: 1}}},
		"sessions":      {tree.Records()[:4], []rec.Record{tree.Session}},
		"empty streams": {loose, []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Loose}, &rec.End{}}},
	} {
		dir := filepath.Join(t.TempDir(), "repo")
		cmd, w, errs := start(t, "-v", "--idle", "300ms", dir)
		first, _ := stream(t, c.first)
		then, _ := stream(t, c.then)
		_, err := w.Write(first)
		for deadline := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(deadline); { // until it hangs up
			_, err = w.Write(then)
			time.Sleep(5 * time.Millisecond)
		}
		w.Close()
		_ = cmd.Wait()
		text := errs.String()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text, "the peer is alive, but has sent no blob for 300ms") || snapshots(dir) != 0 || count(dir, "tmp") != 0 {
			t.Fatalf("%s: %d %s %q", name, code, text, files(dir))
		}
		if !strings.Contains(text, "2 new blobs") || count(dir, "packs") == 0 || !exclusive(t, dir) {
			t.Errorf("%s: what was whole was not kept: %s", name, text)
		}
	}
}

// A client that takes none of what pv-put says, on stdout or stderr, does not hold it for ever.
func TestIdleOutput(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	lost := []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up}}
	for range 5000 {
		lost = append(lost, &rec.Missing{ID: m.Data(1, 1)[0].ID})
	}
	pages := []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up}, m.Session}
	for range 10 {
		pages = append(pages, m.Blob(rec.KindPage, 10, m.Data(1000, 1)...))
	}
	for name, records := range map[string][]rec.Record{"stderr": lost, "stdout": pages} {
		dir := filepath.Join(t.TempDir(), "repo")
		in, _ := stream(t, records)
		cmd := exec.Command(os.Args[0], "--idle", "300ms", dir)
		cmd.Env = append(os.Environ(), "BE_PV_PUT=1")
		cmd.Stdin = bytes.NewReader(in)
		taken, full, err := os.Pipe() // nobody reads it
		if err != nil {
			t.Fatal(err)
		}
		if name == "stderr" {
			cmd.Stderr = full
		} else {
			cmd.Stdout = full
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		if !stop.Stop() || cmd.ProcessState.ExitCode() != 1 || count(dir, "tmp") != 0 || !exclusive(t, dir) {
			t.Errorf("%s: %v, %q", name, cmd.ProcessState, files(dir))
		}
		_, _ = taken.Close(), full.Close()
	}
}

// A peer that sends a record, or the head, a byte at a time never stalls, and is as idle as one
// that sends no blob.
func TestIdleInsideARecord(t *testing.T) {
	t.Parallel()
	in := upStream(t, storetest.New(1).Tree(2, 2, 2, 4000))
	for _, n := range []int{0, 5000} {
		dir := filepath.Join(t.TempDir(), "repo")
		cmd, w, errs := start(t, "--idle", "500ms", "--stall", "1m", dir)
		_, err := w.Write(in[:n])
		for deadline := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(deadline); n++ { // until it hangs up
			_, err = w.Write(in[n : n+1])
			time.Sleep(50 * time.Millisecond)
		}
		w.Close()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != 1 || !strings.Contains(errs.String(), "the peer is alive, but has sent no blob for 500ms") {
			t.Fatalf("%v, %d %s", err, code, errs)
		}
	}
}

// What a pv-put that was killed was writing is removed by the next.
func TestKilledLeavesNothingForLong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(4, 4, 2, 100)
	in := upStream(t, tree)
	half := func() func() {
		cmd, w, _ := start(t, dir)
		had := count(dir, "tmp")
		if _, err := w.Write(in[:len(in)-20]); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); count(dir, "tmp") < had+2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no packs are being written")
			}
		}
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	kill, alive := half(), half()
	kill()
	if n := count(dir, "tmp"); n != 4 {
		t.Fatalf("%d temporaries", n)
	}
	if r := runPut(in, dir); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	if n := count(dir, "tmp"); n != 2 {
		t.Fatalf("%d temporaries, where one put is at work", n)
	}
	alive()
	if r := runPut(in, dir); r.status != 0 || count(dir, "tmp") != 0 {
		t.Fatalf("%+v, %q", r, files(dir))
	}
}
