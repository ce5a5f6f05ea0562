package open

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/spool"
	"preserve/lib/tool"
)

// listOf returns a list with these blobs, received one second after the other, and marks.
func listOf(s *sealtest.Stream, blobs []*rec.Blob, marks ...id.ID) []byte {
	for n, b := range blobs {
		s.Put(&rec.Stored{ID: b.ID, Received: rec.Time{Sec: int64(1000 + n)}}, b)
	}
	for _, i := range marks {
		s.Put(&rec.Missing{ID: i})
	}
	s.Put(&rec.End{})
	return s.Out.Bytes()
}

// rows runs --snapshots over a list and returns its lines of JSON, by id.
func rows(t *testing.T, list []byte, args ...string) (byID map[string]map[string]any, stderr string) {
	t.Helper()
	out, stderr, status := run(list, append([]string{"-k", sealtest.KeyFile("list"), "--snapshots"}, args...)...)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	byID = map[string]map[string]any{}
	for line := range strings.Lines(out) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		byID[row["id"].(string)] = row
	}
	return byID, stderr
}

// A checkpoint may lie where snapshots do, if a store wants it so. It is marked, and neither
// "latest" nor a label means it, however new it is.
func TestLatestIsNeverPartial(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	whole := s.Snapshot(p, snap.Snapshot{Label: "home"})
	part := s.Snapshot(p, snap.Snapshot{Label: "home", Partial: true})
	list := listOf(s, []*rec.Blob{whole, part})
	for _, name := range []string{"latest", "home"} {
		if out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name); status != 0 || out != whole.ID.String()+"\n" {
			t.Errorf("%s: %d %q %s", name, status, out, stderr)
		}
	}
	if out, _, _ := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", "latest", "-l"); strings.Contains(out, part.ID.String()) {
		t.Errorf("a checkpoint is offered in place of a snapshot:\n%s", out)
	}
	if out, _, _ := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "-l"); strings.Count(out, "(PARTIAL)") != 1 {
		t.Errorf("in the list:\n%s", out)
	}
	alone := sealtest.New(t, rec.Loose)
	alone.Box = s.Box
	alone.Put(&rec.Session{Data: s.Box.Session()})
	list = listOf(alone, []*rec.Blob{part})
	if out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", "latest"); status != 1 || out != "" || !strings.Contains(stderr, "not a whole snapshot") {
		t.Errorf("nothing but a checkpoint: %d %q %s", status, out, stderr)
	}
}

// What another master key's writers, a thief without a certificate, or a store have put into
// a repository is shown, counts for nothing, and does not spoil the exit status for ever.
func TestNotOfThisMaster(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	good := s.Snapshot(p, snap.Snapshot{Label: "home"})
	unsigned := s.Snapshot(p, snap.Snapshot{Label: "home", Entries: 1})
	unsigned.Sig = bytes.Repeat([]byte{7}, len(unsigned.Sig))
	torn := s.Snapshot(p, snap.Snapshot{Label: "home", Entries: 2})
	torn.Data[len(torn.Data)-1] ^= 1
	torn.CRC = torn.Sum()
	lost := s.Snapshot(p, snap.Snapshot{Label: "home", Entries: 3})
	lost.SID = id.ID{9}
	lost.CRC = lost.Sum()
	other, err := key.FromMaster([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	mine := s.Box
	if s.Box, err = box.NewSealer(other, box.Fastest); err != nil {
		t.Fatal(err)
	}
	foreign := s.Snapshot(p, snap.Snapshot{Label: "home"})
	s.Put(&rec.Session{Data: s.Box.Session()}, &rec.Session{Data: bytes.Repeat([]byte{'x'}, len(mine.Session()))})
	all := []*rec.Blob{good, unsigned, torn, lost, foreign}
	list := listOf(s, all)

	got, stderr := rows(t, list)
	if len(got) != len(all) || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "3 snapshots are not signed by a writer of this master key and count for nothing") {
		t.Errorf("%d rows: %s", len(got), stderr)
	}
	for i, why := range map[id.ID]string{unsigned.ID: box.ErrSignature.Error(), torn.ID: box.ErrSealed.Error(), lost.ID: box.ErrNoSession.Error(), foreign.ID: "needs key"} {
		row := got[i.String()]
		if text, _ := row["unread"].(string); !strings.Contains(text, why) || row["label"] != nil || row["writer"] != nil {
			t.Errorf("%s: %v, want %q", i.Short(), row, why)
		}
	}
	if _, stderr := rows(t, list, "-q"); stderr != "" {
		t.Errorf("-q: %s", stderr)
	}
	for _, name := range []string{"latest", "home", good.ID.String()[:8]} {
		if out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name); status != 0 || out != good.ID.String()+"\n" {
			t.Errorf("%s: %d %q %s", name, status, out, stderr)
		}
	}
	for _, b := range all[1:] {
		out, stderr, status := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", b.ID.String()[:8])
		if status != 1 || out != "" || !strings.Contains(stderr, "hint: snapshot "+b.ID.Short()+" does not count: ") {
			t.Errorf("the beginning of %s: %d %q %s", b.ID.Short(), status, out, stderr)
		}
	}
}

// TestRemovedSnapshots removes any of the snapshots of three jobs, with and without a mark, a
// thousand times. A removal without a mark is seen just if a snapshot is there that
// follows the removed one; never is one told that did not happen.
func TestRemovedSnapshots(t *testing.T) {
	const jobs, each, trials = 3, 6, 1000
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	var all []*rec.Blob
	prev := map[id.ID]id.ID{}
	last := map[string]id.ID{}
	for n := range jobs * each {
		label := fmt.Sprint(n % jobs)
		before := last[label]
		if n == 12 {
			before = all[0].ID // it builds on an older one: a branch
		}
		b := s.Snapshot(p, snap.Snapshot{Label: label, Entries: uint64(n), Prev: before})
		prev[b.ID], last[label] = before, b.ID
		all = append(all, b)
	}
	session := s.Box.Session()
	random := rand.New(rand.NewPCG(1, 2))
	seen, hidden, unseen := 0, 0, 0
	for trial := range trials {
		s := sealtest.New(t, rec.Loose)
		s.Put(&rec.Session{Data: session})
		here, marked := map[id.ID]bool{}, map[id.ID]bool{}
		var left []*rec.Blob
		var marks []id.ID
		share := random.Float64()
		for _, b := range all {
			switch {
			case random.Float64() >= share:
				left, here[b.ID] = append(left, b), true
			case random.IntN(3) == 0:
				marks, marked[b.ID] = append(marks, b.ID), true
			}
		}
		random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] }) // copies come in any order
		got, stderr := rows(t, listOf(s, left, marks...))
		noticed := map[id.ID]bool{}
		for _, b := range left {
			want := !prev[b.ID].IsZero() && !here[prev[b.ID]] && !marked[prev[b.ID]]
			if got[b.ID.String()]["prev_missing"] == true != want {
				t.Fatalf("trial %d: %s: %v, want prev_missing %v", trial, b.ID.Short(), got[b.ID.String()], want)
			}
			if want {
				noticed[prev[b.ID]] = true
				if text := fmt.Sprintf("snapshot %s of .* follows %s", b.ID.Short(), prev[b.ID].Short()); !strings.Contains(stderr, strings.Split(text, " of .*")[0]) {
					t.Fatalf("trial %d: nothing is said of %s: %s", trial, b.ID.Short(), stderr)
				}
			}
		}
		if len(noticed) == 0 && strings.Contains(stderr, "not here") {
			t.Fatalf("trial %d: false alarm: %s", trial, stderr)
		}
		for _, b := range all {
			followed, behind := false, false
			for _, x := range all {
				if prev[x.ID] == b.ID {
					followed = followed || here[x.ID]
					behind = behind || noticed[x.ID]
				}
			}
			switch {
			case here[b.ID] || marked[b.ID]:
			case noticed[b.ID] != followed:
				t.Fatalf("trial %d: the removal of %s: noticed %v", trial, b.ID.Short(), noticed[b.ID])
			case followed:
				seen++
			case behind:
				hidden++
			default:
				unseen++
			}
		}
	}
	t.Logf("of %d removals without a mark %d are seen, and %d lie right behind one that is; %d are not seen: the newest of their job, or those that only removed ones follow", seen+hidden+unseen, seen, hidden, unseen)
	if seen == 0 || hidden == 0 || unseen == 0 {
		t.Error("one case never came")
	}
}

// In the list for people the gap stands in the row, and -q does not silence it where older
// snapshots of the job are here.
func TestGapInTable(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	a := s.Snapshot(p, snap.Snapshot{Label: "home"})
	b := s.Snapshot(p, snap.Snapshot{Label: "home", Prev: a.ID, Entries: 1})
	c := s.Snapshot(p, snap.Snapshot{Label: "home", Prev: b.ID, Entries: 2})
	other := s.Snapshot(p, snap.Snapshot{Label: "work", Prev: id.ID{5}})
	list := listOf(s, []*rec.Blob{a, c, other})
	out, stderr, status := run(list, "-q", "-k", sealtest.KeyFile("list"), "--snapshots", "-l")
	if status != 0 || strings.Count(out, "which is not here") != 2 || !strings.Contains(out, "(follows "+b.ID.Short()+", which is not here)\n") {
		t.Errorf("status %d:\n%s", status, out)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "snapshot "+c.ID.Short()+" of ") || !strings.Contains(stderr, "follows "+b.ID.Short()+", which is not here") {
		t.Errorf("-q: %s", stderr)
	}
	// Whoever picks hears of his own job.
	if _, stderr, _ := run(list, "-q", "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", "home"); !strings.Contains(stderr, "follows "+b.ID.Short()) {
		t.Errorf("--pick home: %s", stderr)
	}
	if _, stderr, _ := run(list, "-q", "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", "work"); stderr != "" {
		t.Errorf("--pick work: %s", stderr)
	}
}

// TestListMemory: what a list keeps of a snapshot has a bound, whatever that says, and
// however each looks different: labels, hosts, sources, tags, name tables, sessions.
func TestListMemory(t *testing.T) {
	const n, most = 400, 700 // bytes each: 100,000 are 70 MB
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	pad := func(k, n, size int) string { return fmt.Sprintf("%06d.%06d.%s", k, n, strings.Repeat("x", size-14)) }
	master, err := key.FromMaster([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for k := range n {
		if s.Box, err = box.NewSealer(master, box.Fastest); err != nil {
			t.Fatal(err)
		}
		sn := snap.Snapshot{Label: pad(k, 0, 1000), Host: pad(k, 1, 1000), User: pad(k, 2, 1000), Prev: id.ID{1, byte(k), byte(k >> 8)}}
		for j := range 64 {
			sn.Tags = append(sn.Tags, pad(k, j, 1000))
			sn.Roots = append(sn.Roots, rec.Root{Dir: "/" + pad(k, j, 1000), Path: "x"})
			sn.Users = append(sn.Users, rec.Name{ID: uint32(j), Name: pad(k, j, 1000)})
		}
		b := s.Snapshot(p, sn)
		s.Put(&rec.Session{Data: s.Box.Session()}, &rec.Stored{ID: b.ID, Received: rec.Time{Sec: int64(k)}, As: pad(k, 3, 200)}, b)
	}
	s.Put(&rec.End{})
	for name, line := range map[string]func(*snapshotList, *found, string, *snap.Snapshot) []byte{
		"pick": nil, "choices": (*snapshotList).choice, "rows": (*snapshotList).row, "JSON": (*snapshotList).object} {
		open, err := box.NewOpener(master)
		if err != nil {
			t.Fatal(err)
		}
		env := tool.NewEnv("pv-open", nil, nil, io.Discard, io.Discard)
		l := &snapshotList{env: env, open: open, label: "latest", kept: spool.New(1), line: line}
		before := live()
		if err := l.read(rec.NewReader(bytes.NewReader(s.Out.Bytes()), rec.Sealed)); err != nil {
			t.Fatal(err)
		}
		l.chains()
		kept := int64(live()) - int64(before) - 4*spool.Block
		t.Logf("%s: %d bytes for each of %d snapshots", name, kept/n, n)
		if len(l.list) != n || kept > n*most {
			t.Errorf("%s: %d snapshots take %d bytes each, more than %d", name, len(l.list), kept/n, most)
		}
		if err := l.kept.Close(); err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(open)
	}
}

// live returns how many bytes of the heap are in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Where there is much of it, sources and tags are cut short, and it is said how many more
// there are.
func TestSome(t *testing.T) {
	for _, c := range []struct{ room, first, more int }{{0, 0, 3}, {3, 1, 2}, {6, 2, 1}, {8, 2, 1}, {9, 3, 0}, {100, 3, 0}} {
		if first, more := some([]string{"aaa", "bbb", "ccc"}, c.room); len(first) != c.first || more != c.more {
			t.Errorf("%d bytes: %d and %d more", c.room, len(first), more)
		}
	}
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	sn := snap.Snapshot{}
	for n := range 500 {
		sn.Roots = append(sn.Roots, rec.Root{Dir: "/", Path: fmt.Sprintf("some/longer/path/%04d", n)})
	}
	list := listOf(s, []*rec.Blob{s.Snapshot(p, sn)})
	if out, _, _ := run(list, "-k", sealtest.KeyFile("list"), "--snapshots", "-l"); len(out) > 2*maxRow || !strings.Contains(out, " more\n") {
		t.Errorf("a row of %d bytes", len(out))
	}
	if out, _, _ := run(list, "-k", sealtest.KeyFile("list"), "--snapshots"); strings.Count(out, "some/longer") != 500 || strings.Contains(out, "more_sources") {
		t.Errorf("JSON of %d bytes: %.200s", len(out), out)
	}
}

// Whoever removes a snapshot may list something else under its id: rubbish, or what seems to be
// another master's. The one that follows tells of it all the same. A list has an id once.
func TestRemovedAndFaked(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	a := s.Snapshot(p, snap.Snapshot{Label: "home"})
	b := s.Snapshot(p, snap.Snapshot{Label: "home", Prev: a.ID, Entries: 1})
	c := s.Snapshot(p, snap.Snapshot{Label: "home", Prev: b.ID, Entries: 2})
	session := s.Box.Session()
	master, err := key.FromMaster([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := box.NewSealer(master, box.Fastest)
	if err != nil {
		t.Fatal(err)
	}
	list := func(session []byte, blobs ...*rec.Blob) []byte {
		s := sealtest.New(t, rec.Loose)
		s.Put(&rec.Session{Data: session}, &rec.Session{Data: foreign.Session()})
		return listOf(s, blobs)
	}
	other, rubbish := *b, *b
	other.SID = sha256.Sum256(foreign.Session())
	rubbish.Data = bytes.Repeat([]byte{7}, len(b.Data))
	for _, fake := range []*rec.Blob{&other, &rubbish} {
		out, _, status := run(list(session, a, fake, c), "-k", sealtest.KeyFile("list"), "--snapshots", "-l")
		if status != 0 || !strings.Contains(out, "(follows "+b.ID.Short()+", which does not open)\n") {
			t.Errorf("status %d:\n%s", status, out)
		}
		_, stderr, _ := run(list(session, a, fake, c), "-q", "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", "latest")
		if !strings.Contains(stderr, "snapshot "+c.ID.Short()+" of ") || !strings.Contains(stderr, "follows "+b.ID.Short()+", which does not open") {
			t.Errorf("--pick latest: %s", stderr)
		}
	}
	if _, stderr, status := run(list(session, a, b, b), "-k", sealtest.KeyFile("list"), "--snapshots"); status != 1 || !strings.Contains(stderr, "snapshot "+b.ID.Short()+" comes twice in the list") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// The store says when snapshots arrived, so it chooses which is the newest, and which come first
// in the list. The times that their writers signed it does not: whoever gets an older one hears of the later
// one, and -q silences no gap because of what the store says.
func TestTimesOfArrivalLie(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	a := s.Snapshot(p, snap.Snapshot{Label: "home", Time: rec.Time{Sec: 100}})
	b := s.Snapshot(p, snap.Snapshot{Label: "home", Time: rec.Time{Sec: 200}, Prev: id.ID{5}})
	part := s.Snapshot(p, snap.Snapshot{Label: "home", Time: rec.Time{Sec: 300}, Partial: true})
	other := s.Snapshot(p, snap.Snapshot{Label: "work", Time: rec.Time{Sec: 300}})
	session := s.Box.Session()
	said := func(name string, blobs ...*rec.Blob) string {
		s := sealtest.New(t, rec.Loose)
		s.Put(&rec.Session{Data: session})
		_, stderr, status := run(listOf(s, blobs), "-q", "-k", sealtest.KeyFile("list"), "--snapshots", "--pick", name)
		if status != 0 {
			t.Fatalf("status %d: %s", status, stderr)
		}
		return stderr
	}
	for _, name := range []string{"home", "latest"} {
		stderr := said(name, part, other, b, a)
		if !strings.Contains(stderr, "snapshot "+a.ID.Short()+" is the last that arrived here") || !strings.Contains(stderr, "snapshot "+b.ID.Short()+" of the same job was made later") ||
			!strings.Contains(stderr, "snapshot "+b.ID.Short()+" of ") || !strings.Contains(stderr, "which is not here") || strings.Count(stderr, "\n") != 2 {
			t.Errorf("%s: %s", name, stderr)
		}
	}
	if stderr := said(a.ID.String()[:12], part, other, b, a); strings.Contains(stderr, "made later") {
		t.Errorf("by its id: %s", stderr)
	}
	if stderr := said("latest", a, part, b); strings.Contains(stderr, "made later") {
		t.Errorf("in order: %s", stderr)
	}
}
