package chunk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/bounds"
	"preserve/lib/cdc"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// A settling is pv-chunk over a tree, with a clock that only waiting moves.
type settling struct {
	at     func(what, path string, n int) // "opened" or "read" for the nth time, "wait"
	settle time.Duration
	small  bool // cut into very small chunks
	ahead  int
	real   bool // the system's clock, for files that settle at once

	out    []byte
	said   string
	status int
	waits  int
}

func (r *settling) run(t *testing.T, stream []byte) *parsed {
	t.Helper()
	var out, stderr bytes.Buffer
	env := tool.NewEnv("pv-chunk", nil, nil, &out, &stderr)
	w := rec.NewWriter(&out)
	in := rec.NewReader(bytes.NewReader(stream), rec.Tree)
	head, err := in.Head()
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenRoots(head.Roots)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	master, err := key.FromMaster([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := master.Cut()
	p := cdc.Default
	if r.small {
		p = cdc.Params{Min: 256, Avg: 1024, Max: 4096}
	}
	rules, err := keyed(cut, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.ahead > 0 {
		rules.ahead = r.ahead
	}
	var mu sync.Mutex
	times := map[string]int{}
	rd := &reader{src: src}
	rd.pause = func(what, path string) {
		mu.Lock()
		defer mu.Unlock()
		times[what+path]++
		if r.at != nil {
			r.at(what, path, times[what+path])
		}
	}
	a := newAssembler(env, rd, w, rules)
	a.settle = r.settle
	var passed atomic.Int64
	begin := time.Now()
	if !r.real {
		rd.clock = func() time.Time { return begin.Add(time.Duration(passed.Load())) }
	}
	a.sleep = func(d time.Duration) {
		r.waits++
		passed.Add(int64(d))
		if r.at != nil {
			r.at("wait", "", r.waits)
		}
	}
	err = w.Write(&rec.Head{Kind: rec.Content})
	if err != nil {
		t.Fatal(err)
	}
	before, err := readFiles(in, w, a, &caches{})
	if err == nil {
		err = a.finish(before)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.out, r.said, r.status = out.Bytes(), stderr.String(), env.Status(nil)
	return parse(t, r.out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Ways to change a file, with what is in it then.
var changes = map[string]func(t *testing.T, file string, n int) (now []byte){
	"written": func(t *testing.T, file string, n int) []byte {
		b := other(t, file, n)
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(b, 0)
		must(t, err)
		must(t, f.Close())
		return b
	},
	"written, with its mtime set back": func(t *testing.T, file string, n int) []byte {
		st, err := os.Stat(file)
		must(t, err)
		b := other(t, file, n)
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(b, 0)
		must(t, err)
		must(t, f.Close())
		must(t, os.Chtimes(file, st.ModTime(), st.ModTime()))
		return b
	},
	"written through a mapping": func(t *testing.T, file string, n int) []byte {
		b := other(t, file, n)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		copy(m, b)
		must(t, unix.Munmap(m))
		return b
	},
	"replaced": func(t *testing.T, file string, n int) []byte {
		b := other(t, file, n)
		must(t, os.WriteFile(file+".new", b, 0o644))
		must(t, os.Rename(file+".new", file))
		return b
	},
	"truncated": func(t *testing.T, file string, n int) []byte {
		b, err := os.ReadFile(file)
		must(t, err)
		b = b[:len(b)-7]
		must(t, os.Truncate(file, int64(len(b))))
		return b
	},
	"emptied": func(t *testing.T, file string, _ int) []byte {
		must(t, os.Truncate(file, 0))
		return nil
	},
	"made large": func(t *testing.T, file string, n int) []byte {
		b := random(byte(50+n), 400<<10)
		must(t, os.WriteFile(file, b, 0o644))
		return b
	},
	"made a hole": func(t *testing.T, file string, n int) []byte {
		must(t, os.Truncate(file, 0))
		must(t, os.Truncate(file, 9<<10))
		return make([]byte, 9<<10)
	},
	"chmod": func(t *testing.T, file string, n int) []byte {
		must(t, os.Chmod(file, os.FileMode(0o600+n)))
		b, err := os.ReadFile(file)
		must(t, err)
		return b
	},
	"grown": func(t *testing.T, file string, n int) []byte {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write(random(byte(n), 1000))
		must(t, err)
		must(t, f.Close())
		b, err := os.ReadFile(file)
		must(t, err)
		return b
	},
	"removed": func(t *testing.T, file string, n int) []byte {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return nil
	},
	"made a fifo": func(t *testing.T, file string, n int) []byte {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		mkfifo(t, file)
		return nil
	},
}

// other is other content of the same length.
func other(t *testing.T, file string, n int) []byte {
	t.Helper()
	st, err := os.Stat(file)
	must(t, err)
	return random(byte(100+n), int(st.Size()))
}

// Files that change while they are read or while they settle, once or every time:
// what is stored is the old content or the new, never a mixture of which nobody
// knows.
func TestChangesMeanwhile(t *testing.T) {
	t.Parallel()
	const old, fresh = "old", "new"
	for _, size := range []int{5000, 300 << 10} {
		for how, change := range changes {
			for _, when := range []string{"read", "wait"} {
				for _, times := range []int{1, 2, 100} {
					name := fmt.Sprintf("%d bytes %s at %s, %d times", size, how, when, times)
					if times > 1 && (how == "truncated" && size < 100 || how == "made a fifo" || how == "removed" || how == "emptied" || how == "made a hole" || how == "made large") {
						continue
					}
					dir := t.TempDir()
					file := filepath.Join(dir, "d", "f")
					first := random(1, size)
					write(t, file, first)
					write(t, filepath.Join(dir, "d", "other"), []byte("stays"))
					stream := scanned(t, dir, nil)
					var last []byte
					r := &settling{settle: time.Hour, at: func(what, path string, n int) {
						if what == when && n <= times && (path == "d/f" || what == "wait") {
							last = change(t, file, n)
						}
					}}
					c := r.run(t, stream)
					got, e := c.data["d/f"], c.entries["d/f"]
					if string(c.data["d/other"]) != "stays" {
						t.Errorf("%s: the other file is %q", name, c.data["d/other"])
					}
					want, status, inconsistent := fresh, 0, false
					switch {
					case how == "removed", how == "made a fifo", how == "grown" && when == "wait":
						want = old
					case how == "grown" && times == 1:
					case how == "grown" && size > bounds.SmallFile:
						want = old
					case how == "grown":
						want = "begin" // of what it is last
					case how == "replaced" && when == "read" && times > 2, how == "chmod":
						// What is replaced stands as it was, and settles; mode and content go together.
						inconsistent = how == "replaced"
					case times > 2:
						want, inconsistent = "", true
					}
					if how == "grown" && when == "read" && size > bounds.SmallFile {
						want = old
					}
					if how == "chmod" && when == "wait" && times > 2 {
						inconsistent = true
					}
					if inconsistent {
						want, status = "", 3
					}
					if e == nil || e.Err != "" {
						t.Errorf("%s: entry %+v", name, e)
						continue
					}
					if e.Inconsistent != inconsistent || r.status != status {
						t.Errorf("%s: inconsistent %v, status %d, %d waits\n%s", name, e.Inconsistent, r.status, r.waits, r.said)
					}
					if want == old && !bytes.Equal(got, first) || want == fresh && !bytes.Equal(got, last) || want == "begin" && !bytes.HasPrefix(last, got) {
						t.Errorf("%s: %d bytes, not the %s content (old %v, new %v)\n%s", name, len(got), want, bytes.Equal(got, first), bytes.Equal(got, last), r.said)
					}
					if how == "grown" && want == old && !strings.Contains(r.said, "has grown") {
						t.Errorf("%s: nothing was said: %q", name, r.said)
					}
					if r.waits > tries {
						t.Errorf("%s: waited %d times", name, r.waits)
					}
				}
			}
		}
	}
}

// chunks counts the chunks of a content stream.
func chunks(t *testing.T, stream []byte) (n, most int) {
	t.Helper()
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	var lens []int
	for {
		v, err := in.Next()
		if err == io.EOF {
			return n, most
		}
		must(t, err)
		switch v := v.(type) {
		case *rec.Chunk:
			n++
			lens = append(lens, len(v.Data))
			sum := 0
			for _, l := range lens {
				sum += l
			}
			most = max(most, sum)
			v.Free()
		case *rec.Cut:
			lens = lens[len(lens)-int(v.Keep):]
		}
	}
}

// A new mode does not make new content.
func TestModeSettles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), random(1, 5000))
	r := &settling{settle: time.Hour, at: func(what, _ string, n int) {
		if what == "wait" && n == 1 {
			must(t, os.Chmod(filepath.Join(dir, "f"), 0o640))
		}
	}}
	c := r.run(t, scanned(t, dir, nil))
	if n, _ := chunks(t, r.out); n != 1 || c.entries["f"].Mode != 0o640 || r.waits != 2 || r.status != 0 {
		t.Errorf("%d chunks, mode %o, %d waits, status %d", n, c.entries["f"].Mode, r.waits, r.status)
	}
}

// Attributes that change while a file is read, large or small, go with the ctime
// that the entry says.
func TestAttributesSettle(t *testing.T) {
	for _, size := range []int{5000, 300 << 10} {
		for _, when := range []string{"read", "wait"} {
			dir := t.TempDir()
			file := filepath.Join(dir, "f")
			write(t, file, random(1, size))
			if err := unix.Setxattr(file, "user.was", []byte("old"), 0); err != nil {
				t.Skipf("no attributes here: %v", err)
			}
			r := &settling{settle: time.Hour, at: func(what, _ string, n int) {
				if what == when && n == 1 {
					must(t, unix.Removexattr(file, "user.was"))
					must(t, unix.Setxattr(file, "user.is", []byte("new"), 0))
				}
			}}
			e := r.run(t, scanned(t, dir, nil)).entries["f"]
			var st unix.Stat_t
			must(t, unix.Lstat(file, &st))
			if len(e.XAttrs) != 1 || e.XAttrs[0].Name != "user.is" || e.CTime.Nsec != uint32(st.Ctim.Nsec) || r.status != 0 {
				t.Errorf("%d bytes, at %s: %v, ctime %v, is %v, status %d", size, when, e.XAttrs, e.CTime, st.Ctim, r.status)
			}
		}
	}
}

// What is too large to be read again, or is partly sent, is marked, unless it has
// only grown.
func TestLargeSettles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		small  bool
		size   int64
		when   string
		grow   bool
		status int
	}{
		"pieces, written":                 {true, 2 << 20, "wait", false, 3},
		"pieces, grown":                   {true, 2 << 20, "wait", true, 0},
		"pieces, written while read":      {true, 2 << 20, "opened again", false, 3},
		"large, written":                  {false, againSize + 4096, "wait", false, 3},
		"large, grown":                    {false, againSize + 4096, "wait", true, 0},
		"large enough, written":           {false, againSize, "wait", false, 0},
		"large enough, grown":             {false, againSize, "wait", true, 0},
		"large, unchanged":                {false, againSize + 4096, "never", false, 0},
		"pieces, unchanged, and its page": {true, 2 << 20, "never", false, 0},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "f")
		if c.small {
			write(t, file, random(1, int(c.size)))
		} else {
			sparse(t, file, c.size, 0, c.size/2, c.size-4096)
		}
		change := func() {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			must(t, err)
			if c.grow {
				_, err = f.WriteAt(random(8, 3000), c.size)
			} else {
				_, err = f.WriteAt(random(9, 3000), c.size/2)
			}
			must(t, err)
			must(t, f.Close())
		}
		r := &settling{settle: time.Hour, small: c.small}
		waited := 0
		r.at = func(what, _ string, _ int) {
			if what == "wait" {
				if waited++; c.when == "wait" && waited == 1 {
					change()
				}
			}
		}
		if c.when == "opened again" {
			r.ahead = 1 // so that it waits when the page of the file before it ends
			write(t, filepath.Join(dir, "a"), []byte("a small file"))
			r.at = func(what, _ string, _ int) {
				if what == "wait" {
					if waited++; waited == 1 {
						change()
					}
				}
			}
		}
		p := r.run(t, scanned(t, dir, nil))
		e := p.entries["f"]
		if r.status != c.status || e.Inconsistent != (c.status == 3) || int64(e.Size) != c.size || int64(len(p.data["f"])) != c.size {
			t.Errorf("%s: status %d, %d bytes, inconsistent %v\n%s", name, r.status, len(p.data["f"]), e.Inconsistent, r.said)
		}
		if c.status == 0 && !c.grow {
			now, err := os.ReadFile(file)
			must(t, err)
			if !bytes.Equal(now, p.data["f"]) {
				t.Errorf("%s: not what the file is now", name)
			}
		}
		if c.small && p.pieces["f"] < 2 {
			t.Errorf("%s: %d pieces", name, p.pieces["f"])
		}
	}
}

// A file that changes long after it was read, in the same run, is stored as it
// was, with the time stamps of then: so the next run reads it again.
func TestChangedLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range bounds.MaxEntries + 3*ahead {
		write(t, filepath.Join(dir, fmt.Sprintf("f%04d", i)), []byte("old content"))
	}
	first, lastName := filepath.Join(dir, "f0000"), fmt.Sprintf("f%04d", bounds.MaxEntries+3*ahead-1)
	stream := scanned(t, dir, nil)
	var was, is unix.Stat_t
	must(t, unix.Lstat(first, &was))
	r := &settling{settle: 1, real: true, at: func(what, path string, n int) {
		if what == "opened" && path == lastName && n == 1 {
			must(t, os.WriteFile(first, []byte("new content"), 0o644))
		}
	}}
	c := r.run(t, stream)
	must(t, unix.Lstat(first, &is))
	e := c.entries["f0000"]
	if string(c.data["f0000"]) != "old content" || e.CTime != (rec.Time{Sec: was.Ctim.Sec, Nsec: uint32(was.Ctim.Nsec)}) || was.Ctim == is.Ctim || r.status != 0 {
		t.Errorf("%q with ctime %v, was %v, is %v, status %d", c.data["f0000"], e.CTime, was.Ctim, is.Ctim, r.status)
	}
}

// One page that changes all the time does not let the others wait for it each
// time; and pages without anything that was read do not wait at all.
func TestManyPagesSettle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 2500 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%04d", i)), []byte{byte(i), byte(i >> 8)})
	}
	stream := scanned(t, dir, nil)
	r := &settling{settle: time.Hour, at: func(what, _ string, n int) {
		if what == "wait" {
			for _, f := range []string{"f0000", "f2000", "f2499"}[:min(3, 4-n)] {
				must(t, os.WriteFile(filepath.Join(dir, f), []byte{byte(n), 77}, 0o644))
			}
		}
	}}
	c := r.run(t, stream)
	if r.waits != tries || c.pages < 3 || r.status != 3 || !c.entries["f0000"].Inconsistent || c.entries["f2000"].Inconsistent || c.entries["f2499"].Inconsistent {
		t.Errorf("%d waits, %d pages, status %d\n%s", r.waits, c.pages, r.status, r.said)
	}
	if string(c.data["f2000"]) != "\x02M" || string(c.data["f2499"]) != "\x01M" || string(c.data["f0001"]) != "\x01\x00" {
		t.Errorf("%q %q %q", c.data["f2000"], c.data["f2499"], c.data["f0001"])
	}
	dir = t.TempDir()
	for i := range 1500 {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755))
	}
	write(t, filepath.Join(dir, "empty"), nil)
	r = &settling{settle: time.Hour}
	if c := r.run(t, scanned(t, dir, nil)); r.waits != 0 || c.pages < 2 {
		t.Errorf("%d waits for %d pages of directories", r.waits, c.pages)
	}
}

// What goes ahead of entries that wait is bounded.
func TestAheadIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 1000 {
		write(t, filepath.Join(dir, fmt.Sprintf("%02d/%d", i%50, i)), random(byte(i), 20_000))
	}
	r := &settling{settle: time.Hour, ahead: 3 << 20}
	c := r.run(t, scanned(t, dir, nil))
	n, most := chunks(t, r.out)
	if r.waits < 2 || most > 3<<20+16<<20 || c.pages < 2 {
		t.Errorf("%d waits, %d pages, %d chunks, at most %d bytes", r.waits, c.pages, n, most)
	}
	for i := range 1000 {
		if name := fmt.Sprintf("%02d/%d", i%50, i); !bytes.Equal(c.data[name], random(byte(i), 20_000)) {
			t.Fatalf("%s is %d other bytes", name, len(c.data[name]))
		}
	}
}

// What was read again can be larger than its page has room for: then it becomes
// several.
func TestPageOutgrown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const n = 700
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprint(i)), []byte("small"))
	}
	stream := scanned(t, dir, nil)
	r := &settling{settle: time.Hour, at: func(what, _ string, w int) {
		if what != "wait" || w > 1 {
			return
		}
		for i := range n {
			sparse(t, filepath.Join(dir, fmt.Sprint(i)), 200<<10, 0, 16<<10, 32<<10, 48<<10, 64<<10, 80<<10, 96<<10, 112<<10, 128<<10, 144<<10)
		}
	}}
	c := r.run(t, stream)
	in := rec.NewReader(bytes.NewReader(r.out), rec.Content)
	bytes := 0
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		switch v := v.(type) {
		case *rec.Entry:
			if bytes += sizeOf(v) + extentSize*len(v.Extents); bytes > bounds.MaxBytes {
				t.Fatalf("a page of %d bytes at %s", bytes, v.Path)
			}
		case *rec.Cut:
			bytes = 0
		}
	}
	if x := c.entries["7"]; r.status != 0 || len(c.data["7"]) != 200<<10 || len(x.Extents) < 10 {
		t.Errorf("status %d, %d bytes in %d extents\n%s", r.status, len(c.data["7"]), len(x.Extents), r.said)
	}
}

func TestFresh(t *testing.T) {
	now := time.Unix(1000, 500_000_000)
	for _, c := range []struct {
		ctime rec.Time
		want  time.Duration
	}{
		{rec.Time{Sec: 1000, Nsec: 499_000_000}, 9 * time.Millisecond},
		{rec.Time{Sec: 1000, Nsec: 480_000_000}, 0},
		{rec.Time{Sec: 999}, 500 * time.Millisecond},
		{rec.Time{Sec: 998}, 0},
		{rec.Time{Sec: 1000, Nsec: 600_000_000}, 0}, // of another clock
		{rec.Time{}, 0},
	} {
		if got := fresh(c.ctime, now); got != c.want {
			t.Errorf("%v: %v, want %v", c.ctime, got, c.want)
		}
	}
}
