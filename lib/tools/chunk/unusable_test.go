package chunk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/id"
	"preserve/lib/rec"
)

// A cache that cannot be used costs time: everything is read, nobody is alarmed, and
// nothing rests on it.
func TestUnusableCache(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), random(byte(i), 1000))
	}
	stream := scannedAt(t, dir, start(), nil)
	for name, c := range map[string]struct {
		spoil  func(v *vault, cache string) *snapshot
		reason string
	}{
		"missing":                           {func(v *vault, cache string) *snapshot { _ = os.Remove(cache); return nil }, "no such file"},
		"empty":                             {func(v *vault, cache string) *snapshot { write(t, cache, nil); return nil }, "damaged"},
		"cut off at once":                   {func(v *vault, cache string) *snapshot { _ = os.Truncate(cache, 30); return nil }, "damaged"},
		"writable by others":                {func(v *vault, cache string) *snapshot { _ = os.Chmod(cache, 0o622); return nil }, "others can write"},
		"in a directory writable by others": {func(v *vault, cache string) *snapshot { _ = os.Chmod(v.dir, 0o777); return nil }, "others can write"},
		"of other sizes": {func(v *vault, cache string) *snapshot {
			v.fine = true
			s := v.run(stream)
			v.fine = false
			return s
		}, "cut by"},
		"of another snapshot": {func(v *vault, cache string) *snapshot {
			s := &snapshot{id: id.ID{5}}
			if err := os.Link(cache, filepath.Join(v.dir, s.id.String())); err != nil {
				t.Fatal(err)
			}
			return s
		}, ""},
	} {
		v := newVault(t)
		first := v.run(stream)
		base := first
		if s := c.spoil(v, filepath.Join(v.dir, first.id.String())); s != nil {
			base = s
		}
		out, stderr, status := v.chunk(stream, v.on(base)...)
		if status != 0 {
			t.Errorf("%s: status %d: %s", name, status, stderr)
			continue
		}
		if c.reason == "" { // found out at its end
			continue
		}
		if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "is not used") || !strings.Contains(stderr, c.reason) {
			t.Errorf("%s: %q", name, stderr)
		}
		v.dir = t.TempDir()
		if s := v.keep(out); s.root != first.root || len(s.base) > 0 || s.read != first.read {
			t.Errorf("%s: %d bytes read, %d in the base", name, s.read, len(s.base))
		}
	}
}

// Damage in the middle of a cache is told once. What comes before it is used, what
// comes behind it is read.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := sampler(t, dir)
	stream := scannedAt(t, dir, start(), nil)
	v := newVault(t)
	first := v.run(stream)
	file := filepath.Join(v.dir, first.id.String())
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var most, least int
	for i, at := range []int{len(good) / 3, len(good) / 2, len(good) * 19 / 20} {
		for _, b := range [][]byte{slices.Concat(good[:at], []byte{good[at] ^ 1}, good[at+1:]), good[:at]} {
			write(t, file, b)
			s := v.run(stream, v.on(first)...)
			if s.status != 0 || strings.Count(s.stderr, "\n") != 1 || !strings.Contains(s.stderr, "damaged") {
				t.Errorf("at %d: status %d, %q", at, s.status, s.stderr)
			}
			s.holds(t, want)
			if s.root != first.root || len(s.base) != 1 {
				t.Errorf("at %d: another root", at)
			}
			if i == 0 {
				most = s.read
			}
			least = s.read
		}
	}
	if least >= most || most >= first.read {
		t.Errorf("%d, then %d bytes of %d were read", most, least, first.read)
	}
}

// Two caches: a checkpoint's has the beginning, the older one the rest. The newer is
// asked first.
func TestTwoCaches(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "y", "z"} {
		write(t, filepath.Join(dir, n), []byte("old "+n))
	}
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil))
	tick(t, dir)
	write(t, filepath.Join(dir, "a"), []byte("new a"))
	write(t, filepath.Join(dir, "z"), []byte("new z"))
	stream := scannedAt(t, dir, start(), nil)
	part := v.run(scannedAt(t, dir, start(), func(e *rec.Entry) {
		if e.Path == "z" || e.Path == "y" { // as if they had not come yet
			e.Type, e.Size = rec.Fifo, 0
		}
	}), v.on(old)...)
	s, read := reads(v, stream, v.on(old, part)...)
	if strings.Join(read, " ") != "z" || fmt.Sprint(s.base) != fmt.Sprint([]id.ID{old.id, part.id}) {
		t.Errorf("read: %v; rests on %v", read, s.base)
	}
	for n, c := range map[string]string{"a": "new a", "b": "old b", "y": "old y", "z": "new z"} {
		if !bytes.Equal(s.data[n], []byte(c)) {
			t.Errorf("%s: %q", n, s.data[n])
		}
	}
	// One that is not there does not spoil the other.
	gone := &snapshot{id: id.ID{7}}
	s, read = reads(v, stream, v.on(gone, part)...)
	if strings.Join(read, " ") != "y z" || len(s.base) != 1 || s.base[0] != part.id || !strings.Contains(s.stderr, gone.id.String()) {
		t.Errorf("read: %v; rests on %v: %s", read, s.base, s.stderr)
	}
}

// The pieces of a huge file are taken one by one, and cut the pages as before.
func TestCachedPieces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := newVault(t)
	v.fine = true
	want := map[string][]byte{}
	edit := func(n string, b []byte) { want[n] = b; write(t, filepath.Join(dir, n), b) }
	edit("a", random(1, 500))
	edit("huge", random(3, 6<<20))
	edit("huge2", random(4, 3<<20))
	for i := range 20 {
		edit(fmt.Sprintf("i%02d", i), random(byte(i), 100))
	}
	stream := scannedAt(t, dir, start(), nil)
	first := v.run(stream)
	if len(first.pages) < 6 {
		t.Fatalf("pages: %v", first.pages)
	}
	s := v.run(stream, v.on(first)...)
	if s.read != 0 || s.root != first.root {
		t.Errorf("%d bytes read; %v, %v", s.read, s.pages, first.pages)
	}
	s.holds(t, want)
	// A page that is fuller than it was has no room for the first piece.
	for i := range 900 {
		edit(fmt.Sprintf("b%03d", i), random(byte(i), 300<<10/300))
	}
	for i := range 60 {
		edit(fmt.Sprintf("g%03d", i), random(byte(i), bounds.SmallFile+1))
	}
	stream = scannedAt(t, dir, start(), nil)
	s = v.run(stream, v.on(s)...)
	s.holds(t, want)
	if again := v.run(stream, v.on(s)...); again.read != 0 || again.root != s.root {
		t.Errorf("%d bytes read; %v, %v", again.read, again.pages, s.pages)
	}
	// Its last piece says that it was not whole, or that it is distrusted: none is
	// taken.
	out, _, _ := v.chunk(stream, v.on(s)...)
	spoilt := v.keep(respoken(t, out, func(e *rec.Entry) {
		if e.Path == "huge" && !e.More {
			e.Inconsistent = true
		}
	}))
	again, read := reads(v, stream, v.on(spoilt)...)
	again.holds(t, want)
	if len(read) < 3 || slices.ContainsFunc(read, func(p string) bool { return p != "huge" }) {
		t.Errorf("read: %v", read)
	}
}

// respoken is a stream with changed entries.
func respoken(t testing.TB, stream []byte, edit func(*rec.Entry)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	for {
		r, err := in.Next()
		if err != nil {
			break
		}
		if e, ok := r.(*rec.Entry); ok {
			edit(e)
		}
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
