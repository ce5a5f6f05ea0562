package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/store/storetest"
)

// A put that is killed before it has listed its packs has not stored them in vain:
// the list of ids has what is in them, and the next put lists them.
func TestOrphans(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree := storetest.New(1).Tree(3, 3, 2, 3000)
	p := mustPut(t, mustCreate(t, dir), nil)
	dirOf(p.r).Before = func(step string) error {
		if strings.HasPrefix(step, "publish ") && strings.Contains(step, "/index/") {
			return errKilled
		}
		return nil
	}
	if err := send(p, tree); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	p.Close()
	if packs, _ := filepath.Glob(dir + "/packs/*/*"); len(packs) != 2 {
		t.Fatal(packs)
	}
	// One that is not whole, and one under another name.
	other := filepath.Join(dir, "packs/ab/ab"+strings.Repeat("0", 62))
	if err := errors.Join(os.MkdirAll(filepath.Dir(other), 0o700), os.WriteFile(other, []byte("hello"), 0o600)); err != nil {
		t.Fatal(err)
	}
	seen := map[id.ID]bool{}
	last := id.ID{}
	lg := &log{}
	if err := mustOpen(t, dir, lg).IDs(func(i id.ID) error {
		if i.String() <= last.String() {
			t.Fatal("out of order")
		}
		seen[i], last = true, i
		return nil
	}); err != nil || len(seen) != len(tree.Blobs) || len(lg.notes) != 1 || !strings.Contains(lg.notes[0], "not whole: it is passed over") {
		t.Fatal(len(seen), err, lg.notes)
	}
	for _, b := range tree.Blobs {
		if !seen[b.ID] {
			t.Fatalf("%s is not in the list", b.ID)
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	p = putTree(t, dir, tree)
	if p.Count.New != 0 || p.Count.Adopted != 2 || p.Count.Packs != 0 {
		t.Fatalf("%+v", p.Count)
	}
	checkSound(t, dir)
	if got, err := walkAll(mustOpen(t, dir, &log{}), tree.Snapshot().ID, false); err != nil || !same(got, downOrder(tree, false)) {
		t.Fatal(err)
	}
	if p := putTree(t, dir, tree); p.Count.New != 0 || p.Count.Adopted != 0 {
		t.Fatalf("%+v", p.Count)
	}
	// An index that is lost comes again.
	for _, path := range files(t, filepath.Join(dir, "index")) {
		if err := os.Remove(filepath.Join(dir, "index", path)); err != nil {
			t.Fatal(err)
		}
	}
	if p := putTree(t, dir, tree); p.Count.New != 0 || p.Count.Adopted != 2 {
		t.Fatalf("%+v", p.Count)
	}
	checkSound(t, dir)
}

// loop puts a link that leads to itself in the place of a file: it is there, and cannot be
// read, by root neither.
func loop(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.Remove(path), os.Symlink(filepath.Base(path), path)); err != nil {
		t.Fatal(err)
	}
}

// A pack that cannot be read is not one that is not there: it is named.
func TestUnreadablePacks(t *testing.T) {
	t.Parallel()
	for name, indexed := range map[string]bool{"listed": true, "in no segment": false} {
		dir := filepath.Join(t.TempDir(), "repo")
		tree := storetest.New(1).Tree(2, 2, 2, 1000)
		putTree(t, dir, tree)
		packs, _ := filepath.Glob(dir + "/packs/*/*")
		loop(t, packs[0])
		if !indexed {
			for _, path := range files(t, filepath.Join(dir, "index")) {
				if err := os.Remove(filepath.Join(dir, "index", path)); err != nil {
					t.Fatal(err)
				}
			}
		}
		lg := &log{}
		p := mustPut(t, mustOpen(t, dir, lg), nil)
		if text := strings.Join(lg.warns, "\n"); !strings.Contains(text, "too many levels of symbolic links") || !strings.Contains(text, "cannot be read") {
			t.Fatalf("%s: %q %q", name, lg.warns, lg.notes)
		}
		// Nobody relies on it.
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(); err != nil || p.Count.New == 0 {
			t.Fatalf("%s: %v, %+v", name, err, p.Count)
		}
	}
}

// Directories of packs may be links to another disk: what no segment lists is found there too.
func TestOrphansBehindALink(t *testing.T) {
	t.Parallel()
	dir, disk := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	tree := storetest.New(1).Tree(2, 2, 2, 1000)
	putTree(t, dir, tree)
	parts, _ := filepath.Glob(dir + "/packs/*")
	for _, part := range parts {
		to := filepath.Join(disk, filepath.Base(part))
		if err := errors.Join(os.Rename(part, to), os.Symlink(to, part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files(t, filepath.Join(dir, "index")) {
		if err := os.Remove(filepath.Join(dir, "index", path)); err != nil {
			t.Fatal(err)
		}
	}
	if p := putTree(t, dir, tree); p.Count.New != 0 || p.Count.Adopted != 2 {
		t.Fatalf("%+v", p.Count)
	}
}
