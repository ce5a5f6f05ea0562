package cache

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
	"preserve/lib/id"
	"preserve/lib/inode"
)

// names lists what is in a cache besides what every cache has.
func names(t testing.TB, dir string) (list []string) {
	t.Helper()
	all, err := namesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if n != lockName && n != markerName && n != tagName {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// files are the names of the caches of snapshots: 1 with its list, -1 without.
func files(snapshots ...int) (list []string) {
	for _, n := range snapshots {
		if n > 0 {
			list = append(list, nth(n).String(), nth(n).String()+idsSuffix)
		} else {
			list = append(list, nth(-n).String())
		}
	}
	slices.Sort(list)
	return list
}

func holds(t testing.TB, dir string, want []string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Fatalf("there is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// run writes a cache of its own for a snapshot.
func run(t testing.TB, dir string, snapshot int, bases ...id.ID) {
	t.Helper()
	w := create(t, dir, bases...)
	write(t, w, pages()...)
	if err := w.Finish(nth(snapshot), nth(0), listOf(t, nth(1))); err != nil {
		t.Fatal(err)
	}
	// Times of files are coarse; what follows is later.
	age(t, dir)
}

// age makes all files an hour older.
func age(t testing.TB, dir string) {
	t.Helper()
	old := map[string]time.Time{}
	for _, n := range names(t, dir) {
		st, err := os.Stat(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		old[n] = st.ModTime().Add(-time.Hour) // of links, once
	}
	for n, then := range old {
		if err := os.Chtimes(filepath.Join(dir, n), then, then); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	w := create(t, dir)
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Error(st, err)
		}
	}
	if markerName != inode.CacheMarker {
		t.Errorf("a walk knows caches by %q", inode.CacheMarker)
	}
	if b, err := os.ReadFile(filepath.Join(dir, tagName)); err != nil || !strings.HasPrefix(string(b), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Error(string(b), err)
	}
	if err := w.Finish(nth(1), nth(2), nil); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, nth(1).String())); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
}

// A directory with something in it becomes no cache: it would no longer be backed
// up.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, secret, job, begun, nil); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if got, err := namesIn(dir); err != nil || !slices.Equal(got, []string{"letter"}) {
		t.Error(got, err)
	}
	if _, err := Create(filepath.Join(dir, "letter"), secret, job, begun, nil); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

// Two writers at once: the second is told, and harms nothing.
func TestBusy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	w := create(t, dir)
	write(t, w, pages()...)
	if _, err := Create(dir, secret, job, begun, nil); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if err := w.Finish(nth(1), nth(2), nil); err != nil {
		t.Fatal(err)
	}
	create(t, dir).Abort()
	holds(t, dir, files(-1))
	if got, err := all(openCache(t, dir, nth(1))); err != io.EOF || len(got) != 9 {
		t.Error(len(got), err)
	}
}

// The newest two are kept, and the bases; nothing grows.
func TestPrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	alone := filepath.Join(dir, "README")
	for n := 1; n <= 9; n++ {
		run(t, dir, n)
		if n == 1 {
			if err := os.WriteFile(alone, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			age(t, dir)
			// A list without its cache is of no use.
			if err := os.WriteFile(filepath.Join(dir, nth(99).String()+idsSuffix), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(alone); err != nil {
		t.Fatal("what is not of a cache was removed: ", err)
	}
	holds(t, dir, files(7, 8, 9))
	for n := 10; n <= 15; n++ {
		run(t, dir, n, nth(7), nth(n-1))
	}
	holds(t, dir, files(7, 12, 13, 14, 15))
}

// The checkpoints of a run that was killed are good caches, and do not add up.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	run(t, dir, 1)
	ps := pages()
	for n := range 5 {
		w := create(t, dir, nth(1))
		for k := range 3 {
			write(t, w, ps[k])
			if err := w.Checkpoint(nth(100*(n+1)+k), nth(2)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.file.Close(), w.lock.Close()); err != nil { // as a kill does
			t.Fatal(err)
		}
		w.file, w.lock = nil, nil
		// The base and its list, what was written, two checkpoints, and one of before.
		if got := len(names(t, dir)); got != min(5+n, 6) {
			t.Fatal(names(t, dir))
		}
		age(t, dir)
	}
	for k, want := range map[int]int{501: 7, 502: 9} {
		if got, err := all(openCache(t, dir, nth(k))); err != io.EOF || len(got) != want {
			t.Error(k, len(got), err)
		}
	}
	w := create(t, dir, nth(1), nth(502))
	write(t, w, ps...)
	if err := w.Finish(nth(3), nth(4), nil); err != nil {
		t.Fatal(err)
	}
	got := names(t, dir)
	for _, n := range files(1, -501, -502, -3) {
		if !slices.Contains(got, n) {
			t.Errorf("%s is gone", n)
		}
	}
	if len(got) != 6 { // and one checkpoint of the run before that
		t.Error(got)
	}
}

// The cache of an unchanged tree takes the place of its base's, and leaves the list.
func TestReplace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	run(t, dir, 1)
	open := openCache(t, dir, nth(1))
	w, err := Create(dir, secret, job, begun, []id.ID{nth(1)})
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, pages()[0])
	if err := w.Finish(nth(1), nth(0), nil); err != nil {
		t.Fatal(err)
	}
	holds(t, dir, files(1))
	if got, err := all(openCache(t, dir, nth(1))); err != io.EOF || len(got) != 6 {
		t.Error(len(got), err)
	}
	if got, err := all(open); err != io.EOF || len(got) != 9 {
		t.Error("who had it open lost it:", len(got), err)
	}
}

// A write that fails makes no cache, and leaves nothing behind.
func TestWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	run(t, dir, 1)
	for name, end := range map[string]func(w *Writer) error{
		"page":       func(w *Writer) error { return w.Page(nil, pages()[2].entries[1:]) },
		"checkpoint": func(w *Writer) error { return w.Checkpoint(nth(5), nth(6)) },
		"finish":     func(w *Writer) error { return w.Finish(nth(5), nth(6), nil) },
	} {
		w := create(t, dir, nth(1))
		write(t, w, pages()...)
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		if err := end(w); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := w.Finish(nth(5), nth(6), nil); err == nil {
			t.Errorf("%s: what went wrong was forgotten", name)
		}
		holds(t, dir, files(1))
	}
}

func TestAbort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	w := create(t, dir)
	write(t, w, pages()...)
	w.Abort()
	w.Abort()
	if err := w.Page(nil, pages()[2].entries[1:]); !errors.Is(err, errEnded) {
		t.Error(err)
	}
	if err := w.Finish(nth(1), nth(2), nil); !errors.Is(err, errEnded) {
		t.Error(err)
	}
	holds(t, dir, nil)
	if err := os.WriteFile(filepath.Join(dir, durable.TempPrefix+"left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	create(t, dir).Abort()
	holds(t, dir, nil)
}

// A path in a list of many ids is found on the right page.
func TestManyIDs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	var list []id.ID
	for n := range 3 * idsPerPage {
		list = append(list, nth(n))
	}
	for _, n := range []int{0, 1, idsPerPage - 1, idsPerPage, idsPerPage + 1, 3 * idsPerPage} {
		w := create(t, dir)
		if err := w.Finish(nth(1), nth(2), listOf(t, list[:n]...)); err != nil {
			t.Fatal(err)
		}
		l, err := OpenIDs(dir, nth(1), secret, job.Key)
		if err != nil {
			t.Fatal(n, err)
		}
		for k, i := range list {
			if has, err := l.Has(i); err != nil || has != (k < n) {
				t.Fatal(n, k, has, err)
			}
		}
		if err := l.Close(); err != nil || l.Len() != n {
			t.Fatal(err)
		}
	}
}
