package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// A log keeps remarks.
type log struct {
	mu    sync.Mutex
	warns []string
	notes []string
}

func (l *log) options() Options {
	add := func(to *[]string) func(string, ...any) {
		return func(format string, args ...any) {
			l.mu.Lock()
			*to = append(*to, fmt.Sprintf(format, args...))
			l.mu.Unlock()
		}
	}
	return Options{Warn: add(&l.warns), Note: add(&l.notes)}
}

func mustCreate(t testing.TB, dir string) *Repo {
	t.Helper()
	r, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func mustOpen(t testing.TB, dir string, l *log) *Repo {
	t.Helper()
	r, err := Open(dir, l.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func mustPut(t testing.TB, r *Repo, base []id.ID) *Put {
	t.Helper()
	p, err := r.NewPut(base, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// send puts the blobs of a tree, without committing.
func send(p *Put, tree *storetest.Tree) error {
	if err := p.Session(tree.Session); err != nil {
		return err
	}
	for _, b := range tree.Blobs {
		if err := p.Blob(b); err != nil {
			return err
		}
	}
	return nil
}

// putTree stores and commits a tree.
func putTree(t testing.TB, dir string, tree *storetest.Tree, base ...id.ID) *Put {
	t.Helper()
	p := mustPut(t, mustCreate(t, dir), base)
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if i, err := p.Commit(); err != nil || i != tree.Snapshot().ID {
		t.Fatalf("commit: %v, %v", i, err)
	}
	return p
}

// walkAll reads all that a snapshot reaches and returns the ids in order, with
// "missing" in front of those that are.
func walkAll(r *Repo, i id.ID, meta bool) (order []string, err error) {
	s, err := r.Snapshot(i)
	if err != nil {
		return nil, err
	}
	err = r.Down(s, meta, func(a *Answer) error {
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

// downOrder is the order in which a tree must come: the slow reference.
func downOrder(tree *storetest.Tree, meta bool) (order []string) {
	byID := map[id.ID]*rec.Blob{}
	for _, b := range tree.Blobs {
		byID[b.ID] = b
	}
	var walk func(b *rec.Blob)
	walk = func(b *rec.Blob) {
		if meta && b.Kind == rec.KindData {
			return
		}
		order = append(order, b.ID.String())
		seen := map[id.ID]bool{}
		for k := range b.NRefs() {
			if !seen[b.Ref(k)] {
				seen[b.Ref(k)] = true
				walk(byID[b.Ref(k)])
			}
		}
	}
	walk(tree.Snapshot())
	return order
}

func same(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// files returns all regular files below dir but the fixed ones.
func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if rel, _ := filepath.Rel(dir, path); rel != "lock" && rel != "ballast" && rel != "config" {
				list = append(list, rel)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// packsWith returns the paths of the packs that hold a blob.
func packsWith(t testing.TB, r *Repo, i id.ID) (rows []Row) {
	t.Helper()
	seq, err := r.Lookup(i)
	if err != nil {
		t.Fatal(err)
	}
	for row := range seq {
		rows = append(rows, row)
	}
	return rows
}

// flip changes a byte of a file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// path is where an object of a repository in a directory lies.
func (r *Repo) path(parts ...string) string {
	return filepath.Join(append([]string{r.String()}, parts...)...)
}

func (r *Repo) packPath(name id.ID) string { return r.path(packName(name)) }

// dirOf is the directory of a repository, for what only tests do with it.
func dirOf(r *Repo) *objects.Dir { return r.o.(*objects.Dir) }
