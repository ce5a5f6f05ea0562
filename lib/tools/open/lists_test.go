package open

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"preserve/lib/box"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/tools/ls"
)

// someSnapshots is a list of two jobs and a snapshot of another key.
func someSnapshots(t *testing.T) (list []byte, ids []string) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	for n, label := range []string{"home", "home", "", "cafe"} {
		b := s.Snapshot(p, snap.Snapshot{Label: label, Entries: uint64(n), Roots: []rec.Root{{Dir: "/", Path: "srv\xff"}}})
		ids = append(ids, b.ID.String())
		s.Put(&rec.Stored{ID: b.ID, Received: rec.Time{Sec: int64(100 - n)}}, b)
	}
	other, err := key.FromMaster([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if s.Box, err = box.NewSealer(other, box.Fastest); err != nil {
		t.Fatal(err)
	}
	b := s.Snapshot(p, snap.Snapshot{})
	ids = append(ids, b.ID.String())
	s.Put(&rec.Session{Data: s.Box.Session()}, &rec.Stored{ID: b.ID, Received: rec.Time{Sec: 1000}}, b, &rec.End{})
	return s.Out.Bytes(), ids
}

func TestPick(t *testing.T) {
	list, ids := someSnapshots(t)
	for name, want := range map[string]string{"latest": ids[0], "home": ids[0], "cafe": ids[3], ids[2][:8]: ids[2], strings.ToUpper(ids[2][:8]): ids[2], ids[4]: ids[4]} {
		if out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name); out != want+"\n" || status != 0 {
			t.Errorf("%s: %d %q %s", name, status, out, stderr)
		}
	}
	// A whole id is never a label, whatever a writer calls his job.
	s := sealtest.New(t, rec.Loose)
	never := strings.Repeat("ab", 32)
	b := s.Snapshot(s.Page([]*rec.Entry{dir("a")}), snap.Snapshot{Label: never, Entries: 1})
	s.Put(&rec.Stored{ID: b.ID}, b, &rec.End{})
	for _, name := range []string{never, strings.ToUpper(never)} {
		if out, stderr, status := run(s.Out.Bytes(), "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name); out != "" || status != 1 {
			t.Errorf("a label that looks like an id: %d %q %s", status, out, stderr)
		}
	}
	for _, name := range []string{"latest", ids[2][:8]} {
		out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name, "-l")
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
		if out, _, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name); name != "" && (status != 1 || out != "") {
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
	out, _, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != 5 || !strings.Contains(lines[0], ids[3]) || !strings.Contains(lines[0], `"label":"cafe"`) || !strings.Contains(lines[0], `"sources":[{"b64":"L3Nydv8="}]`) {
		t.Errorf("status %d\n%s", status, out)
	}
	if !strings.Contains(lines[4], "needs key") || strings.Contains(lines[4], "writer") {
		t.Errorf("another key's snapshot: %s", lines[4])
	}
	out, _, _ = run(list, "-k", sealtest.KeyFile("cut"), "--snapshots")
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

func TestCheckAndList(t *testing.T) {
	make := func() *sealtest.Stream {
		s := sealtest.New(t, rec.Down)
		d := s.Blob(0, []byte("hello"))
		sticky := dir("s")
		sticky.Mode = 0o1777
		p := s.Page([]*rec.Entry{file("a\nb", x(0, 0, 5)), {Path: "l", Type: rec.Symlink, Mode: 0o777, Target: "a\x1b"}, sticky}, d)
		return s.Put(s.Snapshot(p, snap.Snapshot{Entries: 3, Bytes: 5, Users: []rec.Name{{ID: 0, Name: "ro\not"}}}), p, d)
	}
	if out, stderr, status := run(make().Bytes(), "-k", sealtest.KeyFile("read"), "--check"); status != 0 || !strings.Contains(out, "is whole: 3 entries, 5 bytes") {
		t.Errorf("verify: %d %s %s", status, out, stderr)
	}
	if out, _, status := pipe(make().Bytes(), []string{"-k", sealtest.KeyFile("list"), "--meta"}, ls.Run); status != 0 || out != "\"a\\nb\"\nl\ns\n" {
		t.Errorf("list: %d %q", status, out)
	}
	out, _, _ := pipe(make().Bytes(), []string{"-q", "-k", sealtest.KeyFile("list"), "--meta"}, ls.Run, "-l")
	lines := strings.Split(out, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "-rw-r--r-- ") || !strings.HasPrefix(lines[1], "lrwxrwxrwx ro\\not ") || !strings.HasSuffix(lines[1], `l -> "a\x1b"`) || !strings.HasPrefix(lines[2], "drwxrwxrwt") {
		t.Errorf("long list:\n%s", out)
	}
	// The stage before has left something out, and said so.
	s := make()
	s.Put(&rec.End{Status: 3})
	if _, _, status := run(s.Out.Bytes(), "-k", sealtest.KeyFile("read"), "--check"); status != 3 {
		t.Errorf("the stage before had status 3, and now it is %d", status)
	}
}

// endless is a stream that goes on with signs of life.
type endless struct{ begin, tick []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.begin) == 0 {
		time.Sleep(10 * time.Second)
		e.begin = e.tick
	}
	n := copy(p, e.begin)
	e.begin = e.begin[n:]
	return n, nil
}

// TestSignsOfLife: a store that has not what it should give may be alive for ever. Nobody waits for ever.
func TestSignsOfLife(t *testing.T) {
	cut := func(stream []byte) []byte { return stream[:bytes.LastIndex(stream, []byte("\xa1t\xa3end"))-1] }
	list, _ := someSnapshots(t)
	whole := sealtest.New(t, rec.Down)
	whole.Put(whole.Snapshot(whole.Page([]*rec.Entry{dir("a")}), snap.Snapshot{Entries: 1}), &rec.End{})
	var tick bytes.Buffer
	w := rec.NewWriter(&tick)
	for _, r := range []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Down}, &rec.Tick{}} {
		if err := errors.Join(w.Write(r), w.Flush()); err != nil {
			t.Fatal(err)
		}
		if _, is := r.(*rec.Head); is {
			tick.Reset()
		}
	}
	for _, c := range []struct {
		begin []byte
		args  []string
	}{{cut(list), []string{"--snapshots"}}, {cut(list), []string{"--snapshots", "--pick", "latest"}}, {cut(whole.Out.Bytes()), []string{"--check"}}} {
		synctest.Test(t, func(t *testing.T) {
			var out, said bytes.Buffer
			env := tool.NewEnv("pv-open", append([]string{"-k", sealtest.KeyFile("read")}, c.args...), &endless{c.begin, tick.Bytes()}, &out, &said)
			status := env.Status(Run(env))
			env.Cleanup()
			if status != 1 || !strings.Contains(said.String(), "the peer is alive but sends no data for 1h0m0s") {
				t.Errorf("%q: %d %s", c.args, status, said.String())
			}
		})
	}
}
