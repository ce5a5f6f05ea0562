// Package spool keeps bytes for later: they are appended, read back at their
// offsets in any order, and freed in parts or all at once. Up to a limit they
// are in memory, beyond it in a temporary file in $TMPDIR (/tmp if that is not
// set), which has no name: it is gone with the process, however that ends.
//
// What is in a spool is there in the clear. The file has mode 0600, and no name
// under which anybody could open it; but its blocks are on the disk until
// others overwrite them. Who minds sets TMPDIR to a directory in memory or on an
// encrypted disk.
//
// The package knows nothing of what it keeps.
package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Block is the unit in which memory and disk are taken and given back.
const Block = 256 << 10

// ErrClosed is returned by every method of a Spool that was closed.
var ErrClosed = errors.New("spool: closed")

// A Spool keeps bytes. Its methods may be called from several goroutines at
// once.
type Spool struct {
	mu     sync.RWMutex
	limit  int // blocks in memory
	size   int64
	mem    map[int64][]byte // blocks in memory; every other one is in the file
	idle   [][]byte         // memory of blocks that were freed
	freed  map[int64]int    // bytes of blocks that are freed in part
	file   *os.File         // nil before it is needed; block n is at n*Block of it
	closed bool
}

// New returns a Spool that keeps up to limit bytes in memory, rounded up to
// whole blocks, at least one. It takes memory as it needs it, and no file
// before it has to.
func New(limit int) *Spool {
	return &Spool{limit: max(1, (limit+Block-1)/Block), mem: map[int64][]byte{}, freed: map[int64]int{}}
}

// Len returns the number of bytes appended since New or Reset: the offset of the
// next.
func (s *Spool) Len() int64 { s.mu.RLock(); defer s.mu.RUnlock(); return s.size }

// Append adds p behind all that was appended before and returns the offset at
// which it can be read. p is not kept. An error says what to do about a full
// disk; how much of p was added is then unknown, and the offset is that of its
// first byte.
func (s *Spool) Append(p []byte) (off int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	off = s.size
	if s.closed {
		return off, ErrClosed
	}
	for len(p) > 0 {
		n, at := s.size/Block, int(s.size%Block)
		b := s.mem[n]
		if b == nil {
			if b, err = s.memory(n); err != nil {
				return off, err
			}
		}
		k := copy(b[at:], p)
		p = p[k:]
		s.size += int64(k)
	}
	return off, nil
}

// memory takes memory for the new block n. If there is none left, the block
// before it goes to the file: it has been filled, and was the last to come.
func (s *Spool) memory(n int64) ([]byte, error) {
	var b []byte
	switch before := s.mem[n-1]; {
	case len(s.idle) > 0:
		b = s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
	case len(s.mem) < s.limit || before == nil:
		b = make([]byte, Block)
	default:
		if err := s.spill(before, (n-1)*Block); err != nil {
			return nil, err
		}
		delete(s.mem, n-1)
		b = before
	}
	s.mem[n] = b
	return b, nil
}

// spill writes a block to the file.
func (s *Spool) spill(b []byte, off int64) error {
	if s.file == nil {
		f, err := unnamed(os.TempDir())
		if err != nil {
			return explain("make temporary file", err)
		}
		s.file = f
	}
	if _, err := s.file.WriteAt(b, off); err != nil {
		return explain("write temporary file", err)
	}
	return nil
}

// unnamed makes a file without a name in dir.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	// Some file systems have no such files. This one has a name for a moment.
	f, err := os.CreateTemp(dir, "pv-spool-*") // with mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// explain says where the file was to be, and what can be done about it.
func explain(what string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	err = fmt.Errorf("%s in %q: %w", what, os.TempDir(), err)
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: make room there, or name a directory with more of it in TMPDIR", err)
		}
	}
	for _, wrong := range []error{fs.ErrNotExist, fs.ErrPermission, unix.ENOTDIR, unix.EROFS} {
		if errors.Is(err, wrong) {
			return fmt.Errorf("%w: name a directory that can be written to in TMPDIR", err)
		}
	}
	return err
}

// ReadAt reads as io.ReaderAt says. What was freed must not be read: bytes come,
// but not those that were appended, or io.ErrUnexpectedEOF.
func (s *Spool) ReadAt(p []byte, off int64) (n int, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return 0, ErrClosed
	case off < 0:
		return 0, fmt.Errorf("spool: read at %d: %w", off, os.ErrInvalid)
	}
	for n < len(p) && off < s.size {
		block, at := off/Block, off%Block
		part := p[n:min(len(p), n+int(min(Block-at, s.size-off)))]
		if b := s.mem[block]; b != nil {
			copy(part, b[at:])
		} else if err := s.fromFile(part, off); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *Spool) fromFile(p []byte, off int64) error {
	if s.file == nil {
		return io.ErrUnexpectedEOF
	}
	_, err := s.file.ReadAt(p, off)
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case err != nil:
		return explain("read temporary file", err)
	}
	return nil
}

// Free gives up n bytes at off. Each byte is freed once at most. Memory and disk
// come back as soon as all of a block is freed.
func (s *Spool) Free(off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := min(off+n, s.size)
	for off = max(off, 0); off < end; {
		block := off / Block
		part := min(end, (block+1)*Block) - off
		off += part
		if s.freed[block] += int(part); s.freed[block] >= Block {
			delete(s.freed, block)
			s.release(block)
		}
	}
}

func (s *Spool) release(block int64) {
	if b := s.mem[block]; b != nil {
		delete(s.mem, block)
		s.idle = append(s.idle, b)
		return
	}
	if s.file != nil {
		// Where the file system cannot, the disk comes back with Reset or Close.
		_ = unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, block*Block, Block)
	}
}

// Reset gives up all bytes; the next ones begin at offset 0 again. Memory is
// kept for them, the disk is given back.
func (s *Spool) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for _, b := range s.mem {
		s.idle = append(s.idle, b)
	}
	clear(s.mem)
	clear(s.freed)
	s.size = 0
	if s.file == nil {
		return nil
	}
	if err := s.file.Truncate(0); err != nil {
		return explain("empty temporary file", err)
	}
	return nil
}

// Close gives up everything. Nothing is left behind without it either.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.closed = true
	s.mem, s.idle, s.freed = nil, nil, nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
