package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// quotaPut begins a put with a quota.
func quotaPut(t *testing.T, dir string, max int64) *Put {
	t.Helper()
	p, err := mustCreate(t, dir).NewPut(nil, PutOptions{MaxBytes: max})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func sizeOfFiles(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			n += (st.Size() + 4095) / 4096 * 4096
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill stores blobs until there is no room, and returns the ids of those that were taken.
func fill(t *testing.T, p *Put, m *storetest.Maker, size int, sessions bool) (ids []id.ID) {
	t.Helper()
	session := &rec.Session{Data: m.Bytes(rec.SessionSize)}
	for range 100_000 {
		if sessions {
			session = &rec.Session{Data: m.Bytes(rec.SessionSize)}
		}
		b := m.Blob(rec.KindData, size)
		b.SID = pack.SID(session)
		b.CRC = b.Sum()
		p.NextStream()
		err := p.Session(session)
		if err == nil {
			_, err = p.Heal(b)
		}
		var quota *QuotaError
		if errors.As(err, &quota) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.ID)
	}
	t.Fatal("no quota")
	return nil
}

// The quota is of all that is written: sessions, frames of records, lists. What was taken
// before it was used up is listed.
func TestQuotaCountsAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size     int
		sessions bool
		max      int64
	}{
		"a session for each byte": {1, true, 1 << 20},
		"many small blobs":        {1, false, 1 << 20},
		"large blobs":             {300_000, false, 3 << 20},
	} {
		dir := filepath.Join(t.TempDir(), "repo")
		p := quotaPut(t, dir, c.max)
		ids := fill(t, p, storetest.New(1), c.size, c.sessions)
		if err := p.Keep(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p.Close()
		used := sizeOfFiles(t, dir)
		if used > c.max || used < c.max-int64(c.size)-24<<10 {
			t.Errorf("%s: %d bytes of %d", name, used, c.max)
		}
		r := mustOpen(t, dir, &log{})
		for _, i := range ids {
			if item, err := r.Get(i, AnyBlob); err != nil {
				t.Fatalf("%s: %v", name, err)
			} else {
				item.Free()
			}
		}
		if orphans, err := r.orphanIDs(r.view); err != nil || len(orphans) > 0 || len(ids) == 0 {
			t.Errorf("%s: %d blobs, %d not listed, %v", name, len(ids), len(orphans), err)
		}
		// Whoever stores nothing may come while nothing is over.
		if idle, err := r.NewPut(nil, PutOptions{MaxBytes: used, Log: true}); err != nil {
			t.Errorf("%s: a put that stores nothing: %v", name, err)
		} else {
			idle.Close()
		}
		// Full it is for everybody.
		var quota *QuotaError
		if _, err := r.NewPut(nil, PutOptions{MaxBytes: used - 1}); !errors.As(err, &quota) {
			t.Errorf("%s: a further put: %v", name, err)
		}
	}
}

// It is never exceeded by as much as the end of a pack, or a session.
func TestQuotaIsExact(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		for max := int64(90_000); max < 100_000; max += 500 {
			dir := filepath.Join(t.TempDir(), "repo")
			p := quotaPut(t, dir, max)
			fill(t, p, storetest.New(1), 1, sessions)
			if err := p.Keep(); err != nil {
				t.Fatal(err)
			}
			if used := sizeOfFiles(t, dir); used > max {
				t.Errorf("sessions %v: %d bytes of %d", sessions, used, max)
			}
		}
	}
}

// Nor by the objects of a snapshot, which have its blob twice more.
func TestQuotaOfACommit(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	page := m.Blob(rec.KindPage, 100)
	tree := &storetest.Tree{Session: m.Session, Blobs: []*rec.Blob{page, m.Blob(rec.KindSnapshot, 300_000, page)}}
	committed, refused := 0, 0
	for max := int64(80_000); max < 1_200_000; max += 40_000 {
		dir := filepath.Join(t.TempDir(), "repo")
		p := quotaPut(t, dir, max)
		err := send(p, tree)
		if err == nil {
			_, err = p.Commit()
		}
		var quota *QuotaError
		switch {
		case err == nil:
			committed++
		case errors.As(err, &quota):
			refused++
			_ = p.Keep() // as much as there is room for
		default:
			t.Fatal(err)
		}
		if used := sizeOfFiles(t, dir); used > max {
			t.Errorf("%v: %d bytes of %d", err, used, max)
		}
	}
	if committed == 0 || refused == 0 {
		t.Fatal(committed, refused)
	}
}

// Nor by the segments in which a put lists what one that was killed has left.
func TestQuotaOfAdoption(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	m := storetest.New(1)
	killed := mustPut(t, mustCreate(t, dir), nil)
	err := killed.Session(m.Session)
	for _, b := range m.Data(500, 1) {
		err = errors.Join(err, killed.Blob(b))
	}
	for k, o := range killed.open {
		if killed.open[k] = nil; o != nil {
			err = errors.Join(err, killed.finish(o))
		}
	}
	killed.background.Wait()
	if err != nil {
		t.Fatal(err)
	}
	was := sizeOfFiles(t, dir)
	for _, more := range []int64{0, 4 << 10, 16 << 10, 24 << 10} {
		var quota *QuotaError
		p, err := mustOpen(t, dir, &log{}).NewPut(nil, PutOptions{MaxBytes: was + more, Log: true})
		if !errors.As(err, &quota) {
			t.Fatalf("%d: %v", more, err)
		}
		if p != nil {
			p.Close()
		}
		if used := sizeOfFiles(t, dir); used > was {
			t.Errorf("%d: %d bytes of %d", more, used, was)
		}
	}
	const enough = 128 << 10
	if p := quotaPut(t, dir, was+enough); p.Count.Adopted != 1 {
		t.Error("not adopted")
	}
	if used := sizeOfFiles(t, dir); used > was+enough || used == was {
		t.Errorf("%d bytes, %d before", used, was)
	}
}

// Of two puts at once each sees, now and then, what the other one has stored.
func TestQuotaOfTwo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	const max = 20 << 20
	one, two := quotaPut(t, dir, max), quotaPut(t, dir, max)
	fill(t, one, storetest.New(1), 1<<20, false)
	fill(t, two, storetest.New(2), 1<<20, false)
	for _, p := range []*Put{one, two} {
		if err := p.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	if used := sizeOfFiles(t, dir); used > max+recountMin+1<<20 {
		t.Fatalf("%d bytes of %d", used, max)
	}
}

// A directory of the repository may lie on another disk.
func TestQuotaBehindALink(t *testing.T) {
	t.Parallel()
	dir, other := filepath.Join(t.TempDir(), "repo"), filepath.Join(t.TempDir(), "packs")
	putTree(t, dir, storetest.New(1).Tree(2, 2, 2, 1000))
	r := mustOpen(t, dir, &log{})
	want, err := r.o.Used()
	if err != nil || want != sizeOfFiles(t, dir) {
		t.Fatalf("%d, %v", want, err)
	}
	if err := os.Rename(filepath.Join(dir, "packs"), other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, "packs")); err != nil {
		t.Fatal(err)
	}
	if n, err := r.o.Used(); err != nil || n != want {
		t.Fatalf("%d bytes of %d, %v", n, want, err)
	}
}

// A checkpoint that comes too early is passed over, and the snapshot comes all the same.
func TestCheckpointsTooOften(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	synctest.Test(t, func(t *testing.T) {
		run := storetest.New(1).Run(6, 2, 2, 100)
		p, err := mustCreate(t, dir).NewPut(nil, PutOptions{CheckpointEvery: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		n := 0
		for _, v := range run.Records {
			if err := feed(p, []rec.Record{v}); err != nil {
				t.Fatal(err)
			}
			if _, is := v.(*rec.Checkpoint); is {
				n++
				time.Sleep(25 * time.Second) // so each third one is due
			}
		}
		if _, err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		if n < 4 || p.Count.Checkpoints != (n+2)/3 || p.Count.Passed != n-p.Count.Checkpoints {
			t.Fatalf("%d checkpoints of %d, %d passed over", p.Count.Checkpoints, n, p.Count.Passed)
		}
	})
}
