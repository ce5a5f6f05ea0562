package chunk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/bounds"
	"preserve/lib/rec"
)

// sampler makes a tree with files of all kinds and sizes, and returns what they
// hold.
func sampler(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	want := map[string][]byte{}
	put := func(name string, b []byte) { want[name] = b; write(t, filepath.Join(dir, name), b) }
	for i, n := range []int{0, 1, 64, 4096, bounds.SmallFile - 1, bounds.SmallFile, bounds.SmallFile + 1, 2 << 20, 5<<20 + 1} {
		put(fmt.Sprintf("sizes/%d", n), random(byte(i), n))
	}
	for i := range 1200 {
		put(fmt.Sprintf("many/%02d/%d", i%37, i), random(byte(i), i*7%5000))
	}
	for i := range 9 {
		put(fmt.Sprintf("middle/%d", i), random(byte(i), 300<<10))
	}
	for _, n := range []string{"holes/all", "holes/tail", "holes/small"} {
		size := 2 << 20
		b := make([]byte, size)
		if n != "holes/all" {
			copy(b[8192:], random(1, 5000))
		}
		if n == "holes/small" {
			b = b[:100<<10]
		}
		write(t, filepath.Join(dir, n), nil)
		holey(t, filepath.Join(dir, n), b)
		want[n] = b
	}
	for _, n := range []string{"link", "hard"} {
		var err error
		if n == "link" {
			err = os.Symlink("many", filepath.Join(dir, n))
		} else {
			err = os.Link(filepath.Join(dir, "sizes/4096"), filepath.Join(dir, "z-hard"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mkfifo(t, filepath.Join(dir, "fifo"))
	if err := unix.Setxattr(filepath.Join(dir, "sizes/64"), "user.of", []byte("the file"), 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	return want
}

// holey writes b into a file, its blocks of zeros as holes.
func holey(t testing.TB, file string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(b); off += 4096 {
		block := b[off:min(off+4096, len(b))]
		if len(bytes.Trim(block, "\x00")) == 0 {
			continue
		}
		if _, err := f.WriteAt(block, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
}

// holds compares a snapshot with what was written.
func (s *snapshot) holds(t testing.TB, want map[string][]byte) {
	t.Helper()
	for name, b := range want {
		if !bytes.Equal(s.data[name], b) || s.entries[name] == nil || s.entries[name].Size != uint64(len(b)) {
			t.Errorf("%s: %d bytes are not the %d that were written", name, len(s.data[name]), len(b))
		}
	}
	for name, e := range s.entries {
		if _, ok := want[name]; !ok && e.Type == rec.File {
			t.Errorf("%s: should not be there", name)
		}
	}
}

// same compares what two snapshots say of all entries.
func (s *snapshot) same(t testing.TB, o *snapshot) {
	t.Helper()
	if len(s.entries) != len(o.entries) {
		t.Errorf("%d entries, and %d", len(s.entries), len(o.entries))
	}
	for path, e := range s.entries {
		f := o.entries[path]
		if f == nil {
			t.Errorf("%s is in one of them only", path)
			continue
		}
		a, b := *e, *f
		a.Extents, b.Extents, a.More, b.More = nil, nil, false, false
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) || !bytes.Equal(s.data[path], o.data[path]) {
			t.Errorf("%s:\n%+v\n%+v", path, a, b)
		}
	}
}

// Nothing is opened for what did not change: it need not even be there any more. The
// pages come out the same, byte for byte.
func TestUnchangedIsNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := sampler(t, dir)
	v := newVault(t)
	stream := scannedAt(t, dir, start(), nil)
	first := v.run(stream)
	first.holds(t, want)
	if fresh := v.run(stream); fresh.root != first.root {
		t.Fatal("the same tree gives another root")
	}
	names, err := filepath.Glob(dir + "/*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names { // the directory itself stays: it is the source
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	second := v.run(stream, v.on(first)...)
	if second.stderr != "" || second.status != 0 || second.read != 0 {
		t.Errorf("status %d, %d bytes read: %s", second.status, second.read, second.stderr)
	}
	if second.root != first.root || !slices.Equal(second.pages, first.pages) {
		t.Errorf("the root is another: %v, %v", second.pages, first.pages)
	}
	second.holds(t, want)
	second.same(t, first)
	if len(second.base) != 1 || second.base[0] != first.id {
		t.Errorf("the stream rests on %v", second.base)
	}
	if first.end.Entries != second.end.Entries {
		t.Errorf("%d entries are counted, and %d", first.end.Entries, second.end.Entries)
	}
	// The cache of such a run is as good as that of the first.
	if third := v.run(stream, v.on(second)...); third.read != 0 || third.root != first.root {
		t.Errorf("on the second: %d bytes read", third.read)
	}
}

// What changed is read, and little else: whatever was edited, the snapshot holds what
// a fresh one would.
func TestChangesAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := sampler(t, dir)
	in := func(n string) string { return filepath.Join(dir, n) }
	v := newVault(t)
	old := v.run(scannedAt(t, dir, start(), nil))
	edit := func(name string, b []byte) { write(t, in(name), b); want[name] = b }
	for i, step := range []func(){
		func() { edit("many/03/40", []byte("new content")) },
		func() { edit("many/new", []byte("a new file")); edit("00first", []byte("before all others")) },
		func() { edit("sizes/5242881", random(77, 3<<20)) },
		func() { edit("middle/3", random(78, 310<<10)); edit("middle/4", random(79, 10)) },
		func() {
			for n := range want {
				if strings.HasPrefix(n, "many/05/") {
					delete(want, n)
				}
			}
			if err := os.RemoveAll(in("many/05")); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			for j := range 300 {
				edit(fmt.Sprintf("many/new%03d", j), random(byte(j), 200))
			}
		},
		func() {
			if err := os.Rename(in("many/07"), in("many/zz")); err != nil {
				t.Fatal(err)
			}
			for n, b := range want {
				if rest, ok := strings.CutPrefix(n, "many/07/"); ok {
					delete(want, n)
					want["many/zz/"+rest] = b
				}
			}
		},
	} {
		step()
		stream := scannedAt(t, dir, start(), nil)
		s := v.run(stream, v.on(old)...)
		if s.status != 0 || s.stderr != "" {
			t.Fatalf("step %d: status %d: %s", i, s.status, s.stderr)
		}
		s.holds(t, want)
		fresh := v.run(stream)
		s.same(t, fresh)
		if s.read > fresh.read*2/3 {
			t.Errorf("step %d: %d bytes of %d were read", i, s.read, fresh.read)
		}
		if again := v.run(stream, v.on(s)...); again.root != s.root || again.read != 0 {
			t.Errorf("step %d: then nothing has changed: %d bytes read, root the same: %v", i, again.read, again.root == s.root)
		}
		old = s
	}
}
