package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// upAll returns what Up gives, "missing " in front of what is.
func upAll(r *Repo, i id.ID, o UpOptions) (order []string, err error) {
	s, err := r.Snapshot(i)
	if err != nil {
		return nil, err
	}
	err = r.Up(s, o, func(a *Answer) error {
		if a.Blob == nil {
			order = append(order, "missing "+a.ID.String())
			return nil
		}
		if a.Blob.ID != a.ID || a.Blob.Sum() != a.Blob.CRC || pack.SID(a.Session) != a.Blob.SID {
			return fmt.Errorf("another blob for %s", a.ID)
		}
		order = append(order, a.ID.String())
		return nil
	})
	return order, err
}

// upOrder is the order in which a tree must come: the slow reference. leave are
// left out with what is below them, known alone.
func upOrder(tree *storetest.Tree, leave, known map[id.ID]bool) (order []string) {
	byID := map[id.ID]*rec.Blob{}
	for _, b := range tree.Blobs {
		byID[b.ID] = b
	}
	seen := map[id.ID]bool{}
	var walk func(b *rec.Blob)
	walk = func(b *rec.Blob) {
		if seen[b.ID] || leave[b.ID] {
			return
		}
		seen[b.ID] = true
		for k := range b.NRefs() {
			walk(byID[b.Ref(k)])
		}
		if !known[b.ID] || b.Kind == rec.KindSnapshot {
			order = append(order, b.ID.String())
		}
	}
	walk(tree.Snapshot())
	return order
}

// shared is two trees, the second with some pages and data of the first, and pages
// that several index pages refer to.
func shared(seed byte) (one, two *storetest.Tree) {
	m := storetest.New(seed)
	run := m.Run(6, 3, 2, 400)
	one, two = run.Trees[3], run.Trees[5]
	// A page that refers to data of others, and comes below two index pages.
	var data, pages []*rec.Blob
	for _, b := range two.Blobs {
		switch b.Kind {
		case rec.KindData:
			data = append(data, b)
		case rec.KindPage:
			pages = append(pages, b)
		}
	}
	mix := m.Blob(rec.KindPage, 100, data[1], data[7], data[16])
	a, b := m.Blob(2, 50, mix, pages[0], pages[5]), m.Blob(2, 50, pages[5], mix)
	root := m.Blob(3, 50, a, b)
	two = &storetest.Tree{Session: m.Session, Blobs: append(append(slices.Clone(data), pages...), mix, a, b, root, m.Blob(rec.KindSnapshot, 50, root))}
	return one, two
}

func TestUp(t *testing.T) {
	t.Parallel()
	one, two := shared(1)
	big := storetest.New(5).Tree(40, 30, 4, 3000)
	from := t.TempDir()
	for _, tree := range []*storetest.Tree{one, two, big} {
		putTree(t, from, tree)
	}
	r := mustOpen(t, from, &log{})
	for _, tree := range []*storetest.Tree{one, two, big} {
		got, err := upAll(r, tree.Snapshot().ID, UpOptions{})
		if err != nil || !same(got, upOrder(tree, nil, nil)) {
			t.Fatalf("another order: %v\n%s", err, strings.Join(got, "\n"))
		}
	}
	// Without what another reaches.
	old, err := r.Snapshot(one.Snapshot().ID)
	if err != nil {
		t.Fatal(err)
	}
	leave := map[id.ID]bool{}
	for _, b := range one.Blobs {
		leave[b.ID] = true
	}
	got, err := upAll(r, two.Snapshot().ID, UpOptions{Since: []*Snapshot{old}})
	if err != nil || !same(got, upOrder(two, leave, nil)) || len(got) >= len(upOrder(two, nil, nil)) {
		t.Fatalf("%v %v", err, got)
	}
	// And of itself: nothing but the snapshot.
	if got, err := upAll(r, old.ID, UpOptions{Since: []*Snapshot{old}}); err != nil || !slices.Equal(got, []string{old.ID.String()}) {
		t.Fatalf("%v %v", err, got)
	}
	// Without the data that is known, each blob by itself; pages and the snapshot come all the same.
	known, leaveOut := map[id.ID]bool{two.Snapshot().ID: true}, map[id.ID]bool{}
	for k, b := range two.Blobs {
		if k%3 == 0 {
			known[b.ID], leaveOut[b.ID] = true, b.Kind == rec.KindData
		}
	}
	o := UpOptions{Known: func(i id.ID) (bool, error) { return known[i], nil }}
	if got, err := upAll(r, two.Snapshot().ID, o); err != nil || !same(got, upOrder(two, nil, leaveOut)) {
		t.Fatalf("%v %v", err, got)
	}
	// What cannot be told ends it, before the snapshot.
	boom := errors.New("input/output error")
	n := 0
	o.Known = func(i id.ID) (bool, error) {
		if n++; n == 5 {
			return false, boom
		}
		return false, nil
	}
	if got, err := upAll(r, two.Snapshot().ID, o); !errors.Is(err, boom) || len(got) < 4 || slices.Contains(got, two.Snapshot().ID.String()) {
		t.Fatalf("%v %v", err, got)
	}
	// So does who takes the blobs.
	s, err := r.Snapshot(big.Snapshot().ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Up(s, UpOptions{}, func(*Answer) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
}

// The marks are a set, in segments of any size.
func TestMarks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := storetest.New(1).Tree(30, 800, 30, 1) // its segment is over a mebibyte
	putTree(t, dir, big)
	small := storetest.New(2).Tree(2, 2, 2, 10)
	putTree(t, dir, small)
	putTree(t, dir, storetest.New(3).Tree(30, 800, 30, 1))
	v, err := mustOpen(t, dir, &log{}).current()
	if err != nil || len(v.large) != 2 || len(v.rows) == 0 {
		t.Fatalf("%v: %d large segments", err, len(v.large))
	}
	m := newMarks(v)
	for round := range 2 {
		for _, b := range append(slices.Clone(big.Blobs), small.Blobs...) {
			if m.add(b.ID) != (round == 0) {
				t.Fatalf("round %d: wrong about %s", round, b.ID)
			}
		}
	}
	// What has no row is always new, and takes no memory.
	for range 2 {
		if !m.add(id.ID{1}) {
			t.Fatal("it has no row")
		}
	}
}

// A copy is the same snapshot, and heals or is refused.
func TestCopyToAnother(t *testing.T) {
	t.Parallel()
	one, two := shared(2)
	from, to := t.TempDir(), t.TempDir()
	for _, tree := range []*storetest.Tree{one, two} {
		putTree(t, from, tree)
	}
	copyTo := func(tree *storetest.Tree, since ...*storetest.Tree) (*Put, []id.ID, error) {
		src := mustOpen(t, from, &log{})
		var o UpOptions
		var base []id.ID
		for _, old := range since {
			s, err := src.Snapshot(old.Snapshot().ID)
			if err != nil {
				t.Fatal(err)
			}
			o.Since, base = append(o.Since, s), append(base, s.ID)
		}
		s, err := src.Snapshot(tree.Snapshot().ID)
		if err != nil {
			t.Fatal(err)
		}
		var told []id.ID
		p, err := mustCreate(t, to).NewPut(base, PutOptions{Missing: func(i id.ID) error { told = append(told, i); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if err := p.Session(tree.Session); err != nil {
			t.Fatal(err)
		}
		err = src.Up(s, o, func(a *Answer) error {
			if a.Blob == nil {
				return nil
			}
			return p.Blob(a.Blob)
		})
		if err == nil {
			_, err = p.Commit()
		}
		return p, told, err
	}
	if _, told, err := copyTo(one); err != nil || len(told) > 0 {
		t.Fatal(err, told)
	}
	p, told, err := copyTo(two, one)
	if err != nil || len(told) > 0 || p.Count.Had != 0 || p.Count.New >= uint64(len(two.Blobs)) {
		t.Fatalf("%v %v %+v", err, told, p.Count)
	}
	for _, tree := range []*storetest.Tree{one, two} {
		if got, err := walkAll(mustOpen(t, to, &log{}), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal(err)
		}
	}
	checkSound(t, to)

	// The source has lost its data: what is not in the target either is named.
	for _, row := range packsWith(t, mustOpen(t, from, &log{}), two.Blobs[17].ID) {
		if err := os.Remove(filepath.Join(from, "packs", row.Pack.String()[:2], row.Pack.String())); err != nil {
			t.Fatal(err)
		}
	}
	to = t.TempDir()
	if _, told, err = copyTo(two); !errors.Is(err, ErrMissing) || !slices.Contains(told, two.Blobs[17].ID) {
		t.Fatal(err, told)
	}
	if has, _ := mustOpen(t, to, &log{}).HasSnapshot(two.Snapshot().ID); has {
		t.Fatal("committed")
	}
}

// What is missing is said in its place, and nothing below it comes.
func TestUpOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	m := storetest.New(4)
	tree := m.Tree(4, 2, 2, 100)
	dir := t.TempDir()
	putTree(t, dir, tree)
	r := mustOpen(t, dir, &log{})
	var want []string
	page := 0
	for _, line := range upOrder(tree, nil, nil) {
		b := tree.Blobs[slices.IndexFunc(tree.Blobs, func(b *rec.Blob) bool { return b.ID.String() == line })]
		row := packsWith(t, r, b.ID)[0]
		spoil := func() {
			flip(t, filepath.Join(dir, "packs", row.Pack.String()[:2], row.Pack.String()), int64(row.Offset+row.Length-10))
			want = append(want, "missing "+line)
		}
		switch {
		case b.Kind == rec.KindPage:
			if page++; page == 2 {
				want = want[:len(want)-2]
				spoil()
				continue
			}
		case b.Kind == rec.KindData && page == 2:
			if len(want) > 0 && !strings.HasPrefix(want[len(want)-1], "missing") {
				spoil()
				continue
			}
		}
		want = append(want, line)
	}
	got, err := upAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, UpOptions{})
	if err != nil || !same(got, want) || strings.Count(strings.Join(got, " "), "missing") < 2 {
		t.Fatalf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
