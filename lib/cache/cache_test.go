package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"testing"

	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/rec"
)

func secretOf(n byte) key.Secret {
	s, _ := key.NewSecret(append(make([]byte, key.SecretSize-1), n))
	return s
}

func nth(n int) id.ID { return sha256.Sum256(fmt.Append(nil, n)) }

var (
	secret = secretOf(1)
	job    = Job{Key: key.ID{1, 2}, Chunker: rec.Chunker{Name: "gear1", Min: 1, Avg: 2, Max: 3}, Host: "h\xff", Roots: []rec.Root{{Dir: "/a", Path: "b"}}}
	begun  = rec.Time{Sec: 1000, Nsec: 5}
)

// A page is what Writer.Page takes.
type page struct {
	refs    []id.ID
	entries []*rec.Entry
}

// pages returns a small tree with every kind of field in it.
func pages() []page {
	t := rec.Time{Sec: -5, Nsec: 999_999_999}
	return []page{{
		refs: []id.ID{nth(1), nth(2)},
		entries: []*rec.Entry{
			{Path: "b", Type: rec.Dir, Mode: 0o755, UID: 1, GID: 2, MTime: t, CTime: t, BTime: t, Ino: 1 << 63, Dev: 9, Way: true},
			{Path: "b/c", Type: rec.File, Size: 12, Links: 2, CTime: rec.Time{Sec: 900}, Ino: 3,
				XAttrs:  []rec.XAttr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte{0}}},
				Extents: []rec.Extent{{N: 0, Off: 5, Len: 4}, {Hole: true, Len: 4}, {N: 1, Len: 4}},
				X:       []rec.XField{{Key: "x-a", Raw: []byte{1}}}, Inconsistent: true, Flags: 3, Alone: true},
			{Path: "b/cd", Type: rec.HardLink, Leader: "b/c"},
			{Path: "b/d", Type: rec.Symlink, Target: "t\xff"},
			{Path: "b/e", Type: rec.Char, Major: 1, Minor: 2},
			{Path: "b/f", Type: rec.File, Err: "gone"},
		},
	}, {
		refs:    []id.ID{nth(3)},
		entries: []*rec.Entry{{Path: "b/g", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{{N: 0, Len: 5}}}},
	}, {
		refs:    []id.ID{nth(4)},
		entries: []*rec.Entry{{Path: "b/g", Type: rec.File, Size: 9, Off: 5, Extents: []rec.Extent{{N: 0, Len: 4}}}, {Path: "c", Type: rec.Fifo}},
	}}
}

// want returns the entries of pages as a Reader gives them.
func want(pages []page) (list []*rec.Entry) {
	for _, p := range pages {
		for _, e := range p.entries {
			c := *e
			c.Extents = nil
			for _, x := range e.Extents {
				if !x.Hole {
					x.ID, x.N = p.refs[x.N], 0
				}
				c.Extents = append(c.Extents, x)
			}
			list = append(list, &c)
		}
	}
	return list
}

func create(t testing.TB, dir string, bases ...id.ID) *Writer {
	t.Helper()
	w, err := Create(dir, secret, job, begun, bases)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Abort)
	return w
}

func write(t testing.TB, w *Writer, pages ...page) {
	t.Helper()
	for _, p := range pages {
		if err := w.Page(p.refs, p.entries); err != nil {
			t.Fatal(err)
		}
	}
}

func listOf(t testing.TB, list ...id.ID) *ids.List {
	t.Helper()
	s := ids.NewSorter(0)
	for _, i := range list {
		if err := s.Add(i); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openCache(t testing.TB, dir string, snapshot id.ID) *Reader {
	t.Helper()
	r, err := Open(dir, snapshot, secret, job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// all reads to the end.
func all(r *Reader) (list []*rec.Entry, err error) {
	for {
		e, err := r.Next()
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
}

func same(t testing.TB, got, want []*rec.Entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("entry %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "cache")
	w := create(t, dir)
	ps := pages()
	write(t, w, ps[:2]...)
	if err := w.Checkpoint(nth(50), nth(51)); err != nil {
		t.Fatal(err)
	}
	write(t, w, ps[2])
	if err := w.Finish(nth(60), nth(61), listOf(t, nth(1), nth(2), nth(1))); err != nil {
		t.Fatal(err)
	}
	for snapshot, n := range map[id.ID]int{nth(50): 2, nth(60): 3} {
		r := openCache(t, dir, snapshot)
		if r.Time() != begun {
			t.Error(r.Time())
		}
		got, err := all(r)
		if err != io.EOF {
			t.Fatal(err)
		}
		same(t, got, want(ps[:n]))
		if _, err := r.Next(); err != io.EOF {
			t.Fatal(err)
		}
	}
	l, err := OpenIDs(dir, nth(60), secret, job.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Root() != nth(61) || l.Len() != 2 {
		t.Error(l.Root(), l.Len())
	}
	for n, there := range map[int]bool{1: true, 2: true, 3: false} {
		if has, err := l.Has(nth(n)); err != nil || has != there {
			t.Error(n, has, err)
		}
	}
	if _, err := OpenIDs(dir, nth(50), secret, job.Key); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
