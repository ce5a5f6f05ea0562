package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/store/storetest"
)

func TestPutAndGet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pages, perPage, fan, size int }{{1, 0, 2, 1}, {1, 1, 2, 100}, {5, 3, 2, 5000}, {40, 7, 30, 300}, {3, 300, 3, 40}} {
		tree := storetest.New(1).Tree(c.pages, c.perPage, c.fan, c.size)
		dir := filepath.Join(t.TempDir(), "repo")
		p := putTree(t, dir, tree)
		if p.Count.New != uint64(len(tree.Blobs)) || p.Count.Had != 0 || p.Count.Packs > 2 {
			t.Fatalf("count %+v", p.Count)
		}
		for _, meta := range []bool{false, true} {
			got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, meta)
			if err != nil || !same(got, downOrder(tree, meta)) {
				t.Fatalf("%+v meta %v: another order: %v", c, meta, err)
			}
		}
		if got, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(got) != 0 {
			t.Fatalf("left in tmp: %v", got)
		}
	}
}

// A copy that left out what was empty, and the lock, is still a repository.
func TestCopyWithoutEmptyDirectories(t *testing.T) {
	t.Parallel()
	gen := storetest.New(2)
	tree, more := gen.Tree(2, 2, 2, 100), gen.Tree(3, 2, 2, 100)
	dir := t.TempDir()
	putTree(t, dir, tree)
	for _, name := range []string{"lock", "ballast", "tmp", "gc", "keys", "forgotten", "checkpoints"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	putTree(t, dir, more)
}

// Packs that are gone, or cut short, are not relied on: the next run brings what
// they held.
func TestLostPacksHeal(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-1, 50} {
		tree := storetest.New(3).Tree(4, 3, 2, 500)
		dir := t.TempDir()
		putTree(t, dir, tree)
		packs, err := filepath.Glob(filepath.Join(dir, "packs/*/*"))
		if err != nil || len(packs) == 0 {
			t.Fatal(err)
		}
		for _, p := range packs {
			if size < 0 {
				err = os.Remove(p)
			} else {
				err = os.Truncate(p, size)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if p := putTree(t, dir, tree); p.Count.New != uint64(len(tree.Blobs)) {
			t.Fatalf("%d of %d blobs stored again", p.Count.New, len(tree.Blobs))
		}
		if got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal(err, got)
		}
		// Nothing is lost now: that the packs are gone is no reason to warn for ever.
		lg := &log{}
		r := mustOpen(t, dir, lg)
		p, err := r.NewPut(nil, PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		if len(lg.warns) != 0 || len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "all that they held is in others") {
			t.Errorf("%q %q", lg.warns, lg.notes)
		}
	}
}

// So with segments that are read with pread.
func TestLostPacksOfLargeSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putTree(t, dir, storetest.New(1).Tree(2, 2, 2, 10))
	m := storetest.New(2)
	var entries []pack.Entry
	for k := range 30000 {
		entries = append(entries, pack.Entry{ID: id.ID(m.Bytes(32)), Offset: uint32(k), Length: 1})
	}
	segment := func(p id.ID, entries []pack.Entry) {
		data, name, err := pack.EncodeSegment([]pack.List{{Pack: pack.Pack{Name: p, Size: 1 << 20}, Entries: entries}})
		if err != nil || len(data) < smallSegment {
			t.Fatal(len(data), err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index", name.String()), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func() *log {
		lg := &log{}
		if err := mustOpen(t, dir, lg).IDs(func(id.ID) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return lg
	}
	here, gone := id.ID(m.Bytes(32)), id.ID(m.Bytes(32))
	path := filepath.Join(dir, "packs", here.String()[:2], here.String())
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<20)); err != nil {
		t.Fatal(err)
	}
	segment(here, entries[1:])
	segment(gone, entries[1:])
	if lg := look(); len(lg.warns) != 0 || len(lg.notes) != 1 {
		t.Errorf("%q %q", lg.warns, lg.notes)
	}
	segment(gone, entries) // one more
	if lg := look(); len(lg.warns) != 1 || len(lg.notes) != 0 {
		t.Errorf("%q %q", lg.warns, lg.notes)
	}
}

func TestPutTwiceAddsNothing(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(5, 5, 3, 200)
	dir := t.TempDir()
	putTree(t, dir, tree)
	before := files(t, dir)
	p := putTree(t, dir, tree)
	if after := files(t, dir); !same(before, after) || p.Count.New != 0 {
		t.Fatalf("%d blobs stored again: %q", p.Count.New, after)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string]bool{}
	for seed := range byte(4) {
		tree := storetest.New(seed).Tree(3, 4, 2, 10)
		putTree(t, dir, tree)
		for _, b := range tree.Blobs {
			want[b.ID.String()] = true
		}
	}
	last := ""
	r := mustOpen(t, dir, &log{})
	n := 0
	err := r.IDs(func(i id.ID) error {
		if !want[i.String()] || i.String() <= last {
			t.Errorf("%v behind %v", i, last)
		}
		last = i.String()
		n++
		return nil
	})
	if err != nil || n != len(want) {
		t.Fatalf("%d of %d ids, %v", n, len(want), err)
	}
	boom := errors.New("boom")
	if err := r.IDs(func(id.ID) error { return boom }); err != boom {
		t.Fatal(err)
	}
}

// The same answers come from segments that are read with pread.
func TestLargeSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putTree(t, dir, storetest.New(1).Tree(2, 2, 2, 10))
	m := storetest.New(2)
	var lists []pack.List
	l := pack.List{Pack: pack.Pack{Name: id.ID(m.Bytes(32)), Size: 1 << 30}}
	want := map[id.ID]uint32{}
	for k := range 30000 {
		e := pack.Entry{ID: id.ID(m.Bytes(32)), Offset: uint32(k), Length: 1}
		want[e.ID] = e.Offset
		l.Entries = append(l.Entries, e)
	}
	data, name, err := pack.EncodeSegment(append(lists, l))
	if err != nil || len(data) < smallSegment {
		t.Fatal(len(data), err)
	}
	path := filepath.Join(dir, "index", name.String())
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	pack := filepath.Join(dir, "packs", l.Name.String()[:2], l.Name.String())
	if err := errors.Join(os.MkdirAll(filepath.Dir(pack), 0o700), os.WriteFile(pack, nil, 0o600), os.Truncate(pack, 1<<30)); err != nil {
		t.Fatal(err)
	}
	lg := &log{}
	r := mustOpen(t, dir, lg)
	for i, off := range want {
		if rows := packsWith(t, r, i); len(rows) != 1 || rows[0].Offset != off || rows[0].Pack != l.Name {
			t.Fatalf("%v: %v", i, rows)
		}
	}
	n := 0
	if err := r.IDs(func(id.ID) error { n++; return nil }); err != nil || n != len(want)+8 {
		t.Fatal(n, err)
	}
	// A flipped bit is told, once, and the rest still found.
	flip(t, path, 500000)
	r = mustOpen(t, dir, lg)
	lost := 0
	for i := range want {
		if len(packsWith(t, r, i)) == 0 {
			lost++
		}
	}
	if lost == 0 || lost > 300 || len(lg.warns) != 0 || len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "index segment "+name.String()) {
		t.Fatalf("%d lost, %q, %q", lost, lg.warns, lg.notes)
	}
	// Under another name it is another's, however large it is.
	flip(t, path, 500000)
	if err := os.Rename(path, filepath.Join(dir, "index", id.ID{7}.String())); err != nil {
		t.Fatal(err)
	}
	lg = &log{}
	r = mustOpen(t, dir, lg)
	for i := range want {
		if rows := packsWith(t, r, i); len(rows) != 0 || len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "those of another") {
			t.Fatalf("%v, %q", rows, lg.notes)
		}
		break
	}
}

func TestDamagedSmallSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 10)
	putTree(t, dir, tree)
	names, _ := filepath.Glob(dir + "/index/*")
	// Under another name it is another's.
	if err := os.Rename(names[0], filepath.Join(dir, "index", id.ID{7}.String())); err != nil {
		t.Fatal(err)
	}
	notes := &log{}
	if packsWith(t, mustOpen(t, dir, notes), tree.Blobs[0].ID); len(notes.notes) != 1 || !strings.Contains(notes.notes[0], "those of another") {
		t.Fatalf("%q", notes.notes)
	}
	if err := os.Rename(filepath.Join(dir, "index", id.ID{7}.String()), names[0]); err != nil {
		t.Fatal(err)
	}
	flip(t, names[0], 100)
	lg := &log{}
	r := mustOpen(t, dir, lg)
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if err != nil || !same(got, downOrder(tree, false)) || len(lg.warns) != 0 || len(lg.notes) != 2 {
		t.Fatalf("%q, %v, %q, %q", got, err, lg.warns, lg.notes)
	}
	// The next put lists the packs again, and stores nothing twice.
	if p := putTree(t, dir, tree); p.Count.New != 0 || p.Count.Adopted != 2 {
		t.Fatalf("%+v", p.Count)
	}
	if got, err := walkAll(mustOpen(t, dir, lg), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	repo := filepath.Join(base, "repo")
	mustCreate(t, repo)
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    error
		text    string
	}{
		"missing": {func(dir string) error { return os.RemoveAll(dir) }, ErrNone, "no such directory"},
		"empty":   {func(dir string) error { return os.Remove(dir + "/config") }, ErrNone, "no config in it"},
		"newer": {func(dir string) error {
			return os.WriteFile(dir+"/config", []byte("\x85\xa8preserve\x02\xa3abc\x01"), 0o600)
		}, ErrNewer, "upgrade"},
		"fifo config": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/config"), unix.Mkfifo(dir+"/config", 0o600))
		}, ErrNone, "no file"},
		"huge config": {func(dir string) error { return os.WriteFile(dir+"/config", make([]byte, 1<<20), 0o600) }, ErrNone, "large"},
	} {
		dir := filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
		mustCreate(t, dir)
		if err := c.prepare(dir); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir, Options{})
		if err == nil {
			r.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(dir string) error{
		"a file":       func(dir string) error { return os.WriteFile(dir+"/x", nil, 0o600) },
		"a directory":  func(dir string) error { return os.Mkdir(dir+"/photos", 0o700) },
		"packs":        func(dir string) error { return os.MkdirAll(dir+"/packs/00", 0o700) },
		"a snapshot":   func(dir string) error { return os.MkdirAll(dir+"/snapshots/00", 0o700) },
		"a file packs": func(dir string) error { return os.WriteFile(dir+"/packs", nil, 0o600) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		if r, err := Create(dir, Options{}); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("%s: %v %v", name, r, err)
		}
	}
	if r, err := Create(filepath.Join(t.TempDir(), "not", "mounted"), Options{}); !errors.Is(err, ErrNoParent) {
		t.Error(r, err)
	}
	// What a creator that died leaves, and a new file system, are empty.
	dir := t.TempDir()
	for _, d := range []string{"packs", "tmp", "keys", "lost+found"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"ballast", ".tmp-x", "tmp/put-x"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustCreate(t, dir)
}

func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := filepath.Join(t.TempDir(), "repo")
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids := map[string]int{}
		for range 8 {
			wg.Go(func() {
				r, err := Create(dir, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				mu.Lock()
				ids[r.Config().String()]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(ids) != 1 {
			t.Fatalf("%d repositories in one directory", len(ids))
		}
	}
}

func TestExclusiveLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustCreate(t, dir)
	f, err := os.OpenFile(dir+"/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err == nil {
		t.Fatal("an exclusive lock beside a shared one")
	}
	dir = t.TempDir()
	r, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	g, err := os.OpenFile(dir+"/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := unix.FcntlFlock(g.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		t.Fatal("the lock outlives Close:", err)
	}
	if r, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatal(r, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := newConfig()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig(c.encode())
	if err != nil || got.String() != c.String() {
		t.Fatal(got, err)
	}
	for name, x := range map[string]Config{"feature": {Needs: []string{"s3"}}} {
		if _, err := parseConfig(x.encode()); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	c := Config{}
	f.Add(c.encode())
	c.Needs = []string{"a", "b"}
	f.Add(c.encode())
	f.Add([]byte("\x85\xa8preserve\x02\xa3abc\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err == nil && !bytes.Equal(c.encode(), b) {
			t.Fatalf("encoded otherwise: %x", b)
		}
	})
}
