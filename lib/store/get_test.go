package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

func TestHeal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(3, 3, 2, 2000)
	putTree(t, dir, tree)
	lg := &log{}
	bad := []*rec.Blob{tree.Blobs[1], tree.Blobs[7]} // data, and the next page
	for _, b := range bad {
		r := mustOpen(t, dir, lg)
		row := packsWith(t, r, b.ID)[0]
		flip(t, r.packPath(row.Pack), int64(row.Offset+row.Length)-3)
	}
	r := mustOpen(t, dir, lg)
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if n := strings.Count(strings.Join(got, " "), "missing"); err != nil || n != 2 {
		t.Fatalf("%d missing, %v", n, err)
	}
	p := mustPut(t, r, nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range 2 { // what was healed once needs it no more
		for _, b := range tree.Blobs {
			stored, err := p.Heal(b)
			if err != nil {
				t.Fatal(err)
			}
			if stored {
				n++
			}
		}
	}
	if err := p.Keep(); err != nil || n != len(bad) {
		t.Fatalf("%d healed, %v", n, err)
	}
	lg = &log{}
	r = mustOpen(t, dir, lg)
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatalf("%v, %q", err, got)
	}
	if len(packsWith(t, r, bad[0].ID)) != 2 {
		t.Fatal("the damaged copy's row is gone")
	}
	other := *bad[1]
	other.Refs = other.Refs[:32]
	other.CRC = other.Sum()
	p = mustPut(t, r, nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	if stored, err := p.Heal(&other); err != nil || !stored { // nobody here can tell which is the true one
		t.Fatal(stored, err)
	}
}

// A pack that is gone makes its blobs missing, unless the index has changed
// meanwhile: then it is read again.
func TestPackGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	putTree(t, dir, tree)
	lg := &log{}
	r := mustOpen(t, dir, lg)
	if _, err := r.current(); err != nil {
		t.Fatal(err)
	}
	row := packsWith(t, r, tree.Blobs[0].ID)[0]
	if err := os.Rename(r.packPath(row.Pack), dir+"/aside"); err != nil {
		t.Fatal(err)
	}
	got, err := walkAll(r, tree.Snapshot().ID, false)
	if n := strings.Count(strings.Join(got, " "), "missing"); err != nil || n != 4 {
		t.Fatalf("%d missing, %v", n, err)
	}
	p := mustPut(t, mustOpen(t, dir, lg), nil)
	if err := p.Session(tree.Session); err != nil {
		t.Fatal(err)
	}
	for _, b := range tree.Blobs {
		if _, err := p.Heal(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Keep(); err != nil {
		t.Fatal(err)
	}
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatalf("the old view was kept: %q, %v", got, err)
	}
}

func TestSnapshotObjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 100)
	started := time.Now().Add(-5 * time.Second)
	r := mustCreate(t, dir)
	p, err := r.NewPut(nil, PutOptions{As: "nas/é"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	i := tree.Snapshot().ID
	s, err := r.Snapshot(i)
	if err != nil || s.As != "nas/é" || s.Received.Std().Before(started) || s.Received.Std().After(time.Now().Add(5*time.Second)) || !bytes.Equal(s.Blob.Data, tree.Snapshot().Data) {
		t.Fatalf("%+v, %v", s, err)
	}
	path := filepath.Join(dir, "snapshots", i.String())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k := range data {
		bad := bytes.Clone(data)
		bad[k] ^= 4
		if _, err := parseSnapshot(bad, i); err == nil && !nonceAt(data, k) {
			t.Fatalf("byte %d of %d changed unnoticed", k, len(data))
		} else if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if _, err := parseSnapshot(data[:k], i); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", k, err)
		}
	}
	// A damaged object is replaced by the copy in checkpoints, or else by that in a pack. It is
	// named.
	flip(t, path, int64(len(data)/2))
	lg := &log{}
	r = mustOpen(t, dir, lg)
	if again, err := r.Snapshot(i); err != nil || again.Stored != s.Stored || len(lg.warns) != 1 {
		t.Fatalf("%+v, %v, %q", again, err, lg.warns)
	}
	if err := os.Remove(filepath.Join(dir, "checkpoints", i.String())); err != nil {
		t.Fatal(err)
	}
	lg = &log{}
	if got, err := walkAll(mustOpen(t, dir, lg), i, false); err != nil || !same(got, downOrder(tree, false)) || len(lg.warns) != 1 {
		t.Fatalf("%v, %q", err, lg.warns)
	}
}

func nonceAt(data []byte, k int) bool {
	at := bytes.Index(data, []byte("\xa5nonce")) + 6 + 2
	return k >= at && k < at+rec.NonceSize
}

// A reference graph that a hostile holder of a write key made, with far more
// paths than blobs, is walked in bounded memory.
func TestHostileGraph(t *testing.T) {
	m := storetest.New(1)
	dir := t.TempDir()
	tree := &storetest.Tree{Session: m.Session}
	level := m.Data(40, 10)
	tree.Blobs = append(tree.Blobs, level...)
	for kind := uint8(1); kind <= 8; kind++ {
		var up []*rec.Blob
		for range 40 {
			up = append(up, m.Blob(kind, 10, level...))
		}
		tree.Blobs = append(tree.Blobs, up...)
		level = up
	}
	tree.Blobs = append(tree.Blobs, m.Blob(9, 10, level[0]))
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	s, err := r.Snapshot(tree.Snapshot().ID)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	enough := errors.New("enough")
	err = r.Down(s, false, func(a *Answer) error {
		if n++; n == 30000 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			return enough
		}
		return a.Err
	})
	if err != enough {
		t.Fatal(err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Fatalf("%d bytes held after %d blobs", grown, n)
	}
}

// Answers come in order however large they are, and within the budget.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	m := storetest.New(1)
	tree := &storetest.Tree{Session: m.Session}
	var data []*rec.Blob
	for k := range 30 {
		data = append(data, m.Blob(0, []int{10, 9 << 20, 100, 700 << 10}[k%4]))
	}
	tree.Blobs = append(tree.Blobs, data...)
	var pages []*rec.Blob
	for k := range 10 {
		pages = append(pages, m.Blob(1, []int{100, 4 << 20}[k%2], data[3*k:3*k+3]...))
	}
	tree.Blobs = append(tree.Blobs, pages...)
	tree.Blobs = append(tree.Blobs, m.Blob(2, 10, pages...))
	tree.Blobs = append(tree.Blobs, m.Blob(9, 10, tree.Blobs[len(tree.Blobs)-1]))
	dir := t.TempDir()
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	if got, err := walkAll(r, tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	// The same through Asked, with unknown ids in between.
	var asked []id.ID
	for k, b := range tree.Blobs {
		asked = append(asked, b.ID, id.ID{byte(k + 1)})
	}
	next, answered, idle := 0, 0, 0
	err := r.Asked(func() (id.ID, int, error) {
		if next == len(asked) {
			return id.ID{}, 0, errors.New("end of the list")
		}
		next++
		return asked[next-1], 0, nil
	}, func(a *Answer) error {
		if a.ID != asked[answered] || (a.Blob == nil) != (answered%2 == 1) || a.Blob == nil && !errors.Is(a.Err, ErrMissing) {
			return fmt.Errorf("answer %d: %v %v", answered, a.ID, a.Err)
		}
		answered++
		return nil
	}, func() error { idle++; return nil })
	if fmt.Sprint(err) != "end of the list" || answered != len(asked) || idle == 0 {
		t.Fatal(err, answered, idle)
	}
}
