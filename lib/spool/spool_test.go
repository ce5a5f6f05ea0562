package spool

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // it never fails
	return b
}

// What was appended is read back, whatever the limit and the lengths.
func TestReadBack(t *testing.T) {
	for _, limit := range []int{0, 1, Block, 3*Block + 1, 100 * Block} {
		t.Setenv("TMPDIR", t.TempDir())
		s := New(limit)
		var want []byte
		for round := range 2 {
			rnd := rand.New(rand.NewPCG(uint64(limit), uint64(round)))
			want = want[:0]
			for len(want) < 8*Block {
				p := random(byte(len(want)), rnd.IntN(Block*2)>>rnd.IntN(18))
				off, err := s.Append(p)
				if err != nil || off != int64(len(want)) {
					t.Fatalf("append at %d: %d, %v", len(want), off, err)
				}
				want = append(want, p...)
			}
			if s.Len() != int64(len(want)) {
				t.Fatalf("length %d, want %d", s.Len(), len(want))
			}
			for range 200 {
				off := rnd.IntN(len(want))
				p := make([]byte, rnd.IntN(2*Block))
				n, err := s.ReadAt(p, int64(off))
				if !bytes.Equal(p[:n], want[off:min(len(want), off+len(p))]) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
					t.Fatalf("limit %d: %d bytes of %d at %d: %v", limit, n, len(p), off, err)
				}
			}
			if used := (len(s.mem) + len(s.idle)) * Block; used > max(Block, limit+Block-1) {
				t.Errorf("%d bytes of memory with a limit of %d", used, limit)
			}
			if err := s.Reset(); err != nil {
				t.Fatal(err)
			}
			if n, err := s.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
				t.Errorf("after Reset: %d bytes, %v", n, err)
			}
		}
		if inMemory := s.file == nil; inMemory != (limit > 10*Block) {
			t.Errorf("limit %d: in memory alone is %v", limit, inMemory)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func onDisk(t *testing.T, s *Spool) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// Blocks that are freed give their memory and their disk back, and what is
// around them stays.
func TestFree(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := New(2 * Block)
	defer s.Close()
	want := random(1, 10*Block)
	if _, err := s.Append(want); err != nil {
		t.Fatal(err)
	}
	before := onDisk(t, s)
	s.Free(10, 4*Block) // blocks 1…3 wholly, 0 and 4 in part
	if after := onDisk(t, s); after >= before {
		t.Errorf("%d bytes on disk, %d before", after, before)
	}
	got := make([]byte, 5*Block)
	if _, err := s.ReadAt(got, 5*Block); err != nil || !bytes.Equal(got, want[5*Block:]) {
		t.Errorf("behind what was freed: %v", err)
	}
	if _, err := s.ReadAt(got[:10], 0); err != nil || !bytes.Equal(got[:10], want[:10]) {
		t.Errorf("before what was freed: %v", err)
	}
	s.Free(0, 10)
	s.Free(10+4*Block, 6*Block-10)
	if len(s.mem) != 0 || len(s.freed) != 0 {
		t.Errorf("all is freed, and %d blocks are in memory, %d in part", len(s.mem), len(s.freed))
	}
	more := random(2, 3*Block)
	off, err := s.Append(more)
	if err != nil || off != 10*Block {
		t.Fatal(off, err)
	}
	if _, err := s.ReadAt(got[:3*Block], off); err != nil || !bytes.Equal(got[:3*Block], more) {
		t.Errorf("appended after freeing: %v", err)
	}
}

// The file has no name, and nobody but its owner could open it.
func TestLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := New(0)
	defer s.Close()
	if _, err := s.Append(random(1, 3*Block)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v in the directory, %v", left, err)
	}
	st, err := s.file.Stat()
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// Errors say where the file was to be and what to do.
func TestErrors(t *testing.T) {
	t.Setenv("TMPDIR", "/does/not/exist")
	s := New(0)
	_, err := s.Append(make([]byte, 3*Block))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `in "/does/not/exist"`) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("no directory: %v", err)
	}
	if s.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	_, err = s.Append(make([]byte, 3*Block))
	if !errors.Is(err, unix.ENOSPC) || !strings.HasSuffix(err.Error(), "make room there, or name a directory with more of it in TMPDIR") {
		t.Errorf("full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append([]byte{1}); err != ErrClosed {
		t.Errorf("append to a closed spool: %v", err)
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); err != ErrClosed {
		t.Errorf("read from a closed spool: %v", err)
	}
	if s.Reset() != ErrClosed || s.Close() != ErrClosed {
		t.Error("a closed spool can be reset or closed")
	}
}

// Some read while another appends and frees.
func TestTogether(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := New(Block)
	defer s.Close()
	first := random(1, Block/2)
	if _, err := s.Append(first); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			p := make([]byte, len(first))
			for range 50 {
				if _, err := s.ReadAt(p, 0); err != nil || !bytes.Equal(p, first) {
					t.Errorf("read %v", err)
					return
				}
			}
		})
	}
	for range 20 {
		off, err := s.Append(random(2, Block))
		if err != nil {
			t.Fatal(err)
		}
		s.Free(off, Block)
	}
	wg.Wait()
}
