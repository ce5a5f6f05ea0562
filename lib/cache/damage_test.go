package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// small returns a directory with the cache of pages() under nth(60), its bytes and
// where its blocks begin.
func small(t testing.TB) (dir string, file []byte, blocks []int) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "c")
	w := create(t, dir)
	write(t, w, pages()...)
	if err := w.Finish(nth(60), nth(61), listOf(t, nth(1), nth(2), nth(3))); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, nth(60).String()))
	if err != nil {
		t.Fatal(err)
	}
	for at := prefixSize; at < len(file); {
		blocks = append(blocks, at)
		at += headSize + int(binary.BigEndian.Uint32(file[at+1:])) + macSize
	}
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	return dir, file, blocks
}

// put gives a file contents. It empties none: a file system may wait for the disk
// when one that was emptied is closed, and tests do this thousands of times.
func put(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteAt(b, 0)
		err = errors.Join(err, f.Truncate(int64(len(b))), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reread makes file the cache of nth(60), and reads it.
func reread(t testing.TB, dir string, file []byte) ([]*rec.Entry, error) {
	t.Helper()
	put(t, filepath.Join(dir, nth(60).String()), file)
	r, err := Open(dir, nth(60), secret, job)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return all(r)
}

// atMost checks that what was read before an error is a part of what was written.
func atMost(t testing.TB, got []*rec.Entry, n int) {
	t.Helper()
	all := want(pages())
	if len(got) != n {
		t.Fatalf("%d entries were read, want %d", len(got), n)
	}
	same(t, got, all[:n])
}

// entriesBefore is how many entries the blocks before block k have.
func entriesBefore(k int) int { return []int{0, 0, 6, 7, 9, 9}[k] }

func TestCutOff(t *testing.T) {
	dir, file, blocks := small(t)
	for n := range file {
		k := 0
		for k < len(blocks) && blocks[k] <= n {
			k++
		}
		got, err := reread(t, dir, file[:n])
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes of %d: %v", n, len(file), err)
		}
		atMost(t, got, entriesBefore(max(0, k-1)))
	}
}

// Every bit flipped is found at its block, and what comes before it is still good.
func TestFlipped(t *testing.T) {
	dir, file, blocks := small(t)
	for n := range file {
		k := 0
		for k < len(blocks) && blocks[k] <= n {
			k++
		}
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[n] ^= 1 << bit
			got, err := reread(t, dir, bad)
			if !errors.Is(err, ErrDamaged) && (n >= blocks[1] || !errors.Is(err, ErrOther)) {
				t.Fatalf("bit %d of byte %d: %v", bit, n, err)
			}
			atMost(t, got, entriesBefore(max(0, k-1)))
		}
	}
}

// Blocks that are good in themselves do not go for others.
func TestBlocksMoved(t *testing.T) {
	dir, file, blocks := small(t)
	_, other, at := small(t)
	end := func(blocks []int, k int) int { return append(blocks, len(file))[k+1] }
	block := func(k int) []byte { return file[blocks[k]:end(blocks, k)] }
	for name, c := range map[string]struct {
		file []byte
		n    int
	}{
		"of another file":  {append(bytes.Clone(file[:blocks[2]]), other[at[2]:]...), 6},
		"first of another": {append(bytes.Clone(other[:at[1]]), file[blocks[1]:]...), 0},
		"left out":         {append(bytes.Clone(file[:blocks[2]]), file[blocks[3]:]...), 6},
		"twice":            {append(bytes.Clone(file[:blocks[2]]), file[blocks[1]:]...), 6},
		"swapped":          {bytes.Join([][]byte{file[:blocks[2]], block(3), block(2), block(4)}, nil), 6},
		"too early":        {bytes.Join([][]byte{file[:blocks[1]], block(4)}, nil), 0},
	} {
		got, err := reread(t, dir, c.file)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		atMost(t, got, c.n)
	}
}

// What is behind the trailer is nobody's, and a file under another name is not
// that snapshot's.
func TestTrailer(t *testing.T) {
	dir, file, _ := small(t)
	if got, err := reread(t, dir, append(bytes.Clone(file), "more"...)); err != io.EOF || len(got) != 9 {
		t.Error(len(got), err)
	}
	if err := os.WriteFile(filepath.Join(dir, nth(70).String()), file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := all(openCache(t, dir, nth(70))); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestOther(t *testing.T) {
	dir, _, _ := small(t)
	for want, change := range map[string]func(j *Job){
		"key":     func(j *Job) { j.Key[0]++ },
		"cut by":  func(j *Job) { j.Chunker.Avg++ },
		"sources": func(j *Job) { j.Roots = append([]rec.Root{{Dir: "/", Path: "x"}}, j.Roots...) },
	} {
		j := job
		change(&j)
		if _, err := Open(dir, nth(60), secret, j); !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	// Another key has another secret.
	j := job
	j.Key[0]++
	if _, err := Open(dir, nth(60), secretOf(2), j); !errors.Is(err, ErrOther) {
		t.Error(err)
	}
	if _, err := OpenIDs(dir, nth(60), secretOf(2), j.Key); !errors.Is(err, ErrOther) {
		t.Error(err)
	}
	if _, err := Open(dir, nth(60), secretOf(2), job); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := OpenIDs(dir, nth(60), secretOf(2), job.Key); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := Open(dir, nth(1), secret, job); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(dir, "x"), nth(1), secret, job); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestUnsafe(t *testing.T) {
	dir, _, _ := small(t)
	file := filepath.Join(dir, nth(60).String())
	both := func() []error {
		_, err1 := Open(dir, nth(60), secret, job)
		_, err2 := OpenIDs(dir, nth(60), secret, job.Key)
		return []error{err1, err2}
	}
	chmod := func(path string, mode os.FileMode) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o770, 0o702, 0o777 | os.ModeSticky} {
		chmod(dir, mode)
		for _, err := range both() {
			if !errors.Is(err, ErrUnsafe) {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
		if _, err := Create(dir, secret, job, begun, nil); !errors.Is(err, ErrUnsafe) {
			t.Error(err)
		}
	}
	chmod(dir, 0o755)
	for _, err := range both() {
		if err != nil {
			t.Error(err)
		}
	}
	chmod(file, 0o620)
	chmod(file+idsSuffix, 0o602)
	for _, err := range both() {
		if !errors.Is(err, ErrUnsafe) {
			t.Error(err)
		}
	}
	// Links to what would be taken, and what is no file: a device, a directory, a fifo, which must not hang.
	chmod(file, 0o600)
	chmod(file+idsSuffix, 0o600)
	good := filepath.Join(t.TempDir(), "good")
	if err := errors.Join(os.Link(file, good), os.Link(file+idsSuffix, good+idsSuffix)); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink(good+strings.TrimPrefix(p, file), p) },
		"device":    func(p string) error { return os.Symlink("/dev/zero", p) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
	} {
		for _, p := range []string{file, file + idsSuffix} {
			if err := errors.Join(os.RemoveAll(p), put(p)); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range both() {
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The list of a snapshot: every bit flipped is found, be it only when the page is
// read.
func TestIDsDamaged(t *testing.T) {
	dir, _, _ := small(t)
	path := filepath.Join(dir, nth(60).String()+idsSuffix)
	file, err := os.ReadFile(path)
	if err != nil || len(file) != 2*pageSize {
		t.Fatal(len(file), err)
	}
	has := func(file []byte) error {
		put(t, path, file)
		l, err := OpenIDs(dir, nth(60), secret, job.Key)
		if err != nil {
			return err
		}
		defer l.Close()
		there, err := l.Has(nth(2))
		if err == nil && !there {
			t.Error("it has not what it was given")
		}
		return err
	}
	headLen := prefixSize + headSize + int(binary.BigEndian.Uint32(file[prefixSize+1:])) + macSize
	for n := range file {
		bad := bytes.Clone(file)
		bad[n] ^= 1 << (n % 8)
		err := has(bad)
		// Behind its header, nothing of the first page is looked at.
		if ignored := n >= headLen && n < pageSize; ignored != (err == nil) || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrOther) {
			t.Fatalf("byte %d: %v", n, err)
		}
	}
	for n := 0; n < len(file); n += 97 {
		if err := has(file[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if err := has(append(bytes.Clone(file), file[pageSize:]...)); !errors.Is(err, ErrDamaged) {
		t.Error("a page too many:", err)
	}
	if err := has(file); err != nil {
		t.Error(err)
	}
	// Another snapshot's list is not this one's, nor is a page of it.
	if err := os.Rename(path, filepath.Join(dir, nth(70).String()+idsSuffix)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIDs(dir, nth(70), secret, job.Key); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	dir2, _, _ := small(t)
	other, err := os.ReadFile(filepath.Join(dir2, nth(60).String()+idsSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if err := has(append(bytes.Clone(file[:pageSize]), other[pageSize:]...)); !errors.Is(err, ErrDamaged) {
		t.Error("a page of another file:", err)
	}
	// Whoever has not the key makes no page, be its form right.
	other = bytes.Clone(file)
	copy(other[pageSize:], make([]byte, id.Size))
	copy(other[len(other)-macSize:], newSum(secretOf(9), file[:prefixSize]).of(1, other[pageSize:pageSize+pageData]))
	if err := has(other); !errors.Is(err, ErrDamaged) {
		t.Error("a page that was made up:", err)
	}
}

// What a list begins with bears no MAC that holds in a cache, nor the other way round,
// though both are blocks of the same kind and number under the same key.
func TestHeadersApart(t *testing.T) {
	dir, _, _ := small(t)
	cache, list := filepath.Join(dir, nth(60).String()), filepath.Join(dir, nth(60).String()+idsSuffix)
	inCache, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	inList, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	put(t, cache, append([]byte(magic), inList[len(magic):]...))
	if _, err := Open(dir, nth(60), secret, job); !errors.Is(err, errMAC) {
		t.Error(err)
	}
	page := append([]byte(magicIDs), inCache[len(magic):]...)
	put(t, list, append(page, make([]byte, pageSize)...)[:pageSize])
	if _, err := OpenIDs(dir, nth(60), secret, job.Key); !errors.Is(err, errMAC) {
		t.Error(err)
	}
}

// sealed wraps payloads as the blocks of a file that has the right MACs: what only
// who has the key could do.
func sealed(kinds string, payloads ...[]byte) []byte {
	b := append([]byte(magic), make([]byte, randomSize)...)
	s := newSum(secret, b)
	for n, p := range payloads {
		block := append(binary.BigEndian.AppendUint32([]byte{kinds[n] - '0'}, uint32(len(p))), p...)
		b = append(append(b, block...), s.of(uint64(n), block)...)
	}
	return b
}

func goodHeader() []byte {
	w := wire.NewWriter()
	(&header{job, begun}).encode(w)
	return bytes.Clone(w.Bytes())
}

// Even what bears the right MAC is not believed to have the right form.
func TestWrongForm(t *testing.T) {
	dir, _, _ := small(t)
	of := func(fn func(w *wire.Writer)) []byte {
		w := wire.NewWriter()
		fn(w)
		return bytes.Clone(w.Bytes())
	}
	onePage := func(refs int, entries ...*rec.Entry) []byte {
		return of(func(w *wire.Writer) {
			w.Bin(make([]byte, refs))
			w.Uint(uint64(len(entries)))
			for _, e := range entries {
				encodeEntry(w, "", e)
			}
		})
	}
	end := of((&trailer{nth(60), nth(61), 1}).encode)
	fifo := &rec.Entry{Path: "a", Type: rec.Fifo}
	good := onePage(0, fifo)
	h := goodHeader()
	if got, err := reread(t, dir, sealed("012", h, good, end)); err != io.EOF || len(got) != 1 {
		t.Fatal(len(got), err)
	}
	for name, file := range map[string][]byte{
		"page first":        sealed("1", good),
		"header twice":      sealed("00", h, h),
		"kind":              sealed("013", h, good, end),
		"header too long":   sealed("0", append(bytes.Clone(h), 0)),
		"count":             sealed("0112", h, good, onePage(0, &rec.Entry{Path: "b", Type: rec.Fifo}), end),
		"order":             sealed("0112", h, good, good, end),
		"no entries":        sealed("012", h, onePage(0), end),
		"refs":              sealed("012", h, onePage(33, fifo), end),
		"reference":         sealed("012", h, onePage(32, &rec.Entry{Path: "a", Type: rec.File, Size: 1, Extents: []rec.Extent{{N: 1, Len: 1}}}), end),
		"path":              sealed("012", h, onePage(0, &rec.Entry{Path: "../a", Type: rec.Fifo}), end),
		"field":             sealed("012", h, onePage(0, &rec.Entry{Path: "a", Type: rec.Fifo, Size: 1}), end),
		"type":              sealed("012", h, onePage(0, &rec.Entry{Path: "a"}), end),
		"trailing":          sealed("012", h, append(bytes.Clone(good), 0), end),
		"trailer":           sealed("012", h, good, append(bytes.Clone(end), 0)),
		"piece out of turn": sealed("012", h, onePage(32, &rec.Entry{Path: "a", Type: rec.File, Size: 1, Extents: []rec.Extent{{Len: 1}}}, &rec.Entry{Path: "a", Off: 1, Type: rec.File, Size: 2, Extents: []rec.Extent{{Len: 1}}}), end),
	} {
		if _, err := reread(t, dir, file); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A Fork reads on by itself, whichever of the two goes first.
func TestFork(t *testing.T) {
	dir, _, _ := small(t)
	all9 := want(pages())
	for at := range len(all9) + 1 {
		r := openCache(t, dir, nth(60))
		for range at {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		f := r.Fork()
		g := f.Fork()
		for n, x := range []*Reader{f, r, g} {
			got, err := all(x)
			if err != io.EOF {
				t.Fatal(n, err)
			}
			same(t, got, all9[at:])
		}
	}
	// In turns.
	r := openCache(t, dir, nth(60))
	f := r.Fork()
	for n := range all9 {
		a, err1 := r.Next()
		b, err2 := f.Next()
		if err1 != nil || err2 != nil || !reflect.DeepEqual(a, b) {
			t.Fatal(n, err1, err2)
		}
	}
}

// What decodes encodes to the same bytes; what does not is an error.
func FuzzPage(f *testing.F) {
	for _, p := range pages() {
		w := wire.NewWriter()
		prev := ""
		for _, e := range p.entries {
			encodeEntry(w, prev, e)
			prev = e.Path
		}
		f.Add(bytes.Clone(w.Bytes()), len(p.refs))
	}
	f.Fuzz(func(t *testing.T, b []byte, nrefs int) {
		c := wire.NewCursor(b, true)
		w := wire.NewWriter()
		prev := ""
		for c.More() {
			e := &rec.Entry{}
			if err := decodeEntry(c, prev, nrefs, e); err != nil {
				return
			}
			encodeEntry(w, prev, e)
			prev = e.Path
			if !bytes.Equal(w.Bytes(), b[:c.Pos()]) {
				t.Fatalf("%x\nis written as\n%x", b[:c.Pos()], w.Bytes())
			}
		}
	})
}

// Whatever a file of a cache is: no panic, and nothing that was not written.
func FuzzFile(f *testing.F) {
	dir, file, _ := small(f)
	f.Add(file)
	list, err := os.ReadFile(filepath.Join(dir, nth(60).String()+idsSuffix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(list)
	f.Fuzz(func(t *testing.T, b []byte) {
		// What Open and OpenIDs do, but for the file: making one is slow.
		of := inMemory{bytes.NewReader(b)}
		r := &Reader{file: of, size: int64(len(b)), snapshot: nth(60), secret: secret}
		if err := r.begin(&job); err == nil {
			got, err := all(r)
			if err == nil || len(got) > 9 {
				t.Fatal(len(got), err)
			}
			same(t, got, want(pages())[:len(got)])
		}
		l := &IDs{file: of}
		if err := l.begin(nth(60), secret, job.Key, int64(len(b))); err == nil {
			_, _ = ids.NewList(l, int(l.head.n)).Has(id.ID{}) // no panic
		}
	})
}

type inMemory struct{ io.ReaderAt }

func (inMemory) Close() error { return nil }

// Headers and trailers have one form.
func FuzzHeader(f *testing.F) {
	f.Add(goodHeader())
	w := wire.NewWriter()
	(&trailer{nth(1), nth(2), 3}).encode(w)
	f.Add(bytes.Clone(w.Bytes()))
	w.Reset()
	(&idsHeader{job.Key, nth(1), nth(2), 3}).encode(w)
	f.Add(bytes.Clone(w.Bytes()))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := wire.NewWriter()
		check := func(encode func(*wire.Writer)) {
			w.Reset()
			encode(w)
			if !bytes.Equal(w.Bytes(), b) {
				t.Fatalf("%x\nis written as\n%x", b, w.Bytes())
			}
		}
		if h, err := decodeHeader(b); err == nil {
			check(h.encode)
		}
		if tr, err := decodeTrailer(b); err == nil {
			check(tr.encode)
		}
		if h, err := decodeIDsHeader(b); err == nil {
			check(h.encode)
		}
	})
}
