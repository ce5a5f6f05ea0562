package tarball

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"preserve/lib/spool"
)

const blockSize = 512

// A raw is the bytes of an archive. Contents that can be read again later, since
// the archive is a regular file, stay where they are; others are copied into a
// spool.
type raw struct {
	file  *io.SectionReader // nil for a pipe
	in    *bufio.Reader
	off   int64 // of the next byte
	spool *spool.Spool
	buf   []byte
}

func newRaw(src io.Reader, s *spool.Spool) *raw {
	r := &raw{spool: s, buf: make([]byte, 64<<10)}
	if f, ok := src.(*os.File); ok {
		st, err := f.Stat()
		at, serr := f.Seek(0, io.SeekCurrent)
		if err == nil && serr == nil && st.Mode().IsRegular() {
			r.file = io.NewSectionReader(f, at, max(0, st.Size()-at))
			src = r.file
		}
	}
	r.in = bufio.NewReaderSize(src, 64<<10)
	return r
}

// read fills p. Only an end before its first byte is io.EOF.
func (r *raw) read(p []byte) error {
	n, err := io.ReadFull(r.in, p)
	r.off += int64(n)
	if err == io.ErrUnexpectedEOF {
		return ErrCut
	}
	return err
}

// all fills p; an end is ErrCut wherever it comes.
func (r *raw) all(p []byte) error { return cut(r.read(p)) }

func cut(err error) error {
	if err == io.EOF {
		return ErrCut
	}
	return err
}

// skip passes over n bytes.
func (r *raw) skip(n int64) error {
	if r.file == nil || n <= int64(r.in.Buffered()) {
		for n > 0 {
			k, err := r.in.Discard(int(min(n, 1<<30)))
			n -= int64(k)
			r.off += int64(k)
			if err != nil {
				return cut(err)
			}
		}
		return nil
	}
	if n > r.file.Size()-r.off {
		return ErrCut
	}
	r.off += n
	if _, err := r.file.Seek(r.off, io.SeekStart); err != nil {
		return fmt.Errorf("seek: %w", err)
	}
	r.in.Reset(r.file)
	return nil
}

// keep passes over n bytes of content and returns where they can be read later.
func (r *raw) keep(n int64) (at int64, err error) {
	if r.file != nil {
		at = r.off
		return at, r.skip(n)
	}
	at = r.spool.Len()
	for n > 0 {
		p := r.buf[:min(n, int64(len(r.buf)))]
		if err := r.all(p); err != nil {
			return at, err
		}
		if _, err := r.spool.Append(p); err != nil {
			return at, err
		}
		n -= int64(len(p))
	}
	return at, nil
}

// contents is where keep left what it returned offsets of.
func (r *raw) contents() io.ReaderAt {
	if r.file != nil {
		return r.file
	}
	return r.spool
}

// pad passes over what fills the last block of n bytes.
func (r *raw) pad(n int64) error { return r.skip(-n & (blockSize - 1)) }

// drain reads what stands behind the end of the archive, so that who writes it
// is not cut off, and reports whether it is more than the padding of a tape.
func (r *raw) drain() (more bool, err error) {
	for {
		n, err := r.in.Read(r.buf)
		for _, c := range r.buf[:n] {
			more = more || c != 0
		}
		if errors.Is(err, io.EOF) {
			return more, nil
		}
		if err != nil {
			return more, err
		}
	}
}
