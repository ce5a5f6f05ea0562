// Package objectstest is what every objects.Store must pass, and Mem, the simplest one. No program imports
// it.
package objectstest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"preserve/lib/objects"
)

// Suite tests stores that make returns, each of them new and empty.
func Suite(t *testing.T, make func(t *testing.T) objects.Store) {
	for _, c := range []struct {
		name string
		fn   func(t *testing.T, s objects.Store)
	}{
		{"put", testPut}, {"put at once", testAtOnce}, {"read", testRead}, {"list", testList}, {"delete", testDelete},
		{"writer", testWriter}, {"abort", testAbort}, {"dates", testDates}, {"lock", testLock}, {"used", testUsed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := make(t)
			defer s.Close()
			c.fn(t, s)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, s objects.Store, name string) []byte {
	t.Helper()
	f, err := s.Open(name)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Info().Size+1))
	must(t, err)
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it has no errors
	return b
}

// An object is made once, in a directory that is there or not; then nobody replaces it.
func testPut(t *testing.T, s objects.Store) {
	for _, name := range []string{"config", "index/a", "packs/ab/abc"} {
		data := random(5000)
		must(t, s.Put(name, data))
		for _, put := range []func(string, []byte) error{s.Put, s.Writer().Put} {
			if err := put(name, []byte("other")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: put again: %v", name, err)
			}
		}
		if !bytes.Equal(content(t, s, name), data) {
			t.Errorf("%s: other content", name)
		}
	}
	must(t, s.Writer().Put("empty", nil))
	if b := content(t, s, "empty"); len(b) != 0 {
		t.Errorf("%q", b)
	}
}

// Of many that make one object at the same time, one does, and all of its content is there.
func testAtOnce(t *testing.T, s objects.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won [][]byte
	for k := range 16 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(k)}, 10000+k)
			put := s.Put
			if k%2 == 0 {
				put = s.Writer().Put
			}
			switch err := put("index/one", data); {
			case err == nil:
				mu.Lock()
				won = append(won, data)
				mu.Unlock()
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || !bytes.Equal(content(t, s, "index/one"), won[0]) {
		t.Errorf("%d made it", len(won))
	}
}

func testRead(t *testing.T, s objects.Store) {
	data := random(100_000)
	must(t, s.Put("packs/00/x", data))
	for _, c := range []struct{ off, n, want int }{{0, 10, 10}, {99_990, 10, 10}, {99_995, 10, 5}, {100_000, 1, 0}, {200_000, 1, 0}, {17, 70_000, 70_000}} {
		p := make([]byte, c.n)
		n, err := s.ReadAt("packs/00/x", p, int64(c.off))
		if n != c.want || n < c.n && err != io.EOF || n == c.n && err != nil && err != io.EOF {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
		if !bytes.Equal(p[:n], data[min(c.off, len(data)):][:n]) {
			t.Errorf("%+v: other bytes", c)
		}
	}
	for _, name := range []string{"none", "none/none", "packs/00/y"} {
		if _, err := s.ReadAt(name, make([]byte, 1), 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %s: %v", name, err)
		}
		if _, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := s.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", name, err)
		}
	}
	// More objects than are kept open, by many at once.
	for k := range 200 {
		must(t, s.Put(fmt.Sprintf("index/%03d", k), []byte{byte(k)}))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for k := range 200 {
				k = (k + 25*w) % 200
				p := make([]byte, 1)
				if _, err := s.ReadAt(fmt.Sprintf("index/%03d", k), p, 0); err != nil || p[0] != byte(k) {
					t.Errorf("%d: %v %v", k, p, err)
				}
			}
		})
	}
	wg.Wait()
}

func testList(t *testing.T, s objects.Store) {
	for _, name := range []string{"config", "packs/bb/b1", "packs/aa/a2", "packs/aa/a1", "index/z", "index/y"} {
		must(t, s.Put(name, []byte(name)))
	}
	for dir, want := range map[string][]string{
		"packs": {"aa", "bb"}, "packs/aa": {"a1", "a2"}, "packs/bb": {"b1"}, "index": {"y", "z"}, "none": nil, "packs/cc": nil,
	} {
		got, err := s.List(dir)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
	top, err := s.List("")
	must(t, err)
	for _, want := range []string{"config", "index", "packs"} {
		if !slices.Contains(top, want) {
			t.Errorf("%q has no %s", top, want)
		}
	}
}

func testDelete(t *testing.T, s objects.Store) {
	must(t, s.Put("forgotten/a", nil))
	must(t, s.Put("packs/aa/b", []byte("b")))
	must(t, s.Delete("forgotten/a"))
	if err := s.Delete("forgotten/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	w := s.Writer()
	must(t, w.Delete("packs/aa/b"))
	must(t, w.Delete("packs/aa/b"))
	must(t, w.Sync("packs/aa"))
	for _, name := range []string{"forgotten/a", "packs/aa/b"} {
		if _, err := s.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, s.Put("packs/aa/b", []byte("again")))
}

// What is written under no name is seen under none, and then at once and whole.
func testWriter(t *testing.T, s objects.Store) {
	w := s.Writer()
	f, err := w.Create()
	must(t, err)
	data := random(3 * objects.Block)
	_, err = f.Write(data[:5000])
	must(t, err)
	f.Begin(0, 5000)
	_, err = f.Write(data[5000:])
	must(t, err)
	if f.Written() != int64(len(data)) {
		t.Error(f.Written())
	}
	if names, err := s.List("packs"); err != nil || len(names) > 0 {
		t.Errorf("%q, %v", names, err)
	}
	must(t, w.Publish(f, "packs/ab/x"))
	must(t, w.Sync())
	w.Drop(f) // changes nothing now
	if !bytes.Equal(content(t, s, "packs/ab/x"), data) {
		t.Error("other content")
	}
	if w.Written() < int64(len(data)) {
		t.Error(w.Written())
	}
	// The name is taken: what is there stays, and the other one can be dropped.
	g, err := w.Create()
	must(t, err)
	if err := w.Publish(g, "packs/ab/x"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	was := w.Written()
	w.Drop(g)
	if w.Written() >= was || !bytes.Equal(content(t, s, "packs/ab/x"), data) {
		t.Error(w.Written(), was)
	}
}

func testAbort(t *testing.T, s objects.Store) {
	w := s.Writer()
	f, err := w.Create()
	must(t, err)
	w.Abort()
	if err := w.Publish(f, "index/x"); !errors.Is(err, objects.ErrAborted) {
		t.Error(err)
	}
	if _, err := w.Create(); !errors.Is(err, objects.ErrAborted) {
		t.Error(err)
	}
	if names, err := s.List("index"); err != nil || len(names) > 0 {
		t.Errorf("%q, %v", names, err)
	}
}

// An undated object has no time until it gets that of the store, and then keeps it.
func testDates(t *testing.T, s objects.Store) {
	w := s.Writer()
	before, err := w.Now()
	must(t, err)
	f, err := w.Create()
	must(t, err)
	must(t, f.Undated())
	must(t, w.Publish(f, "packs/aa/x"))
	info, err := s.Stat("packs/aa/x")
	must(t, err)
	if !info.Time.IsZero() {
		t.Skip("objects cannot be without a time here")
	}
	must(t, w.Date("packs/aa/x"))
	info, err = s.Stat("packs/aa/x")
	must(t, err)
	if info.Time.Before(before) {
		t.Errorf("%v before %v", info.Time, before)
	}
	was := info.Time
	must(t, w.Date("packs/aa/x"))
	if info, err = s.Stat("packs/aa/x"); err != nil || !info.Time.Equal(was) {
		t.Errorf("%v, then %v", was, info.Time)
	}
	g, err := w.Create()
	must(t, err)
	must(t, g.Dated(was.Add(-time.Hour)))
	must(t, w.Publish(g, "packs/aa/y"))
	must(t, w.Date("packs/aa/y"))
	if info, err = s.Stat("packs/aa/y"); err != nil || !info.Time.Equal(was.Add(-time.Hour)) {
		t.Errorf("%v, want an hour before %v", info.Time, was)
	}
	if err := w.Date("packs/aa/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func testLock(t *testing.T, s objects.Store) {
	lock := func(alone bool) io.Closer {
		t.Helper()
		l, err := s.Lock(alone)
		if errors.Is(err, objects.ErrNoLocks) {
			t.Skip(err)
		}
		must(t, err)
		return l
	}
	a, b := lock(false), lock(false)
	if _, err := s.Lock(true); !errors.Is(err, objects.ErrLocked) {
		t.Error(err)
	}
	must(t, a.Close())
	must(t, b.Close())
	c := lock(true)
	for _, alone := range []bool{false, true} {
		if _, err := s.Lock(alone); !errors.Is(err, objects.ErrLocked) {
			t.Error(err)
		}
	}
	must(t, c.Close())
	must(t, lock(false).Close())
}

func testUsed(t *testing.T, s objects.Store) {
	before, err := s.Used()
	must(t, err)
	must(t, s.Put("index/a", make([]byte, 1)))
	must(t, s.Put("index/b", make([]byte, objects.Block+1)))
	after, err := s.Used()
	must(t, err)
	if after-before != 3*objects.Block {
		t.Errorf("%d bytes more", after-before)
	}
	if space, err := s.Space(); err != nil || space.Free == 0 || space.NoInodes {
		t.Errorf("%+v, %v", space, err)
	}
}
