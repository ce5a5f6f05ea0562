package inode

import (
	"io"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// A File is an open file of a Source. ReadAt, Stat, Same and Attributes may be
// called from several goroutines, NextSegment from one.
type File struct {
	fd   int
	omit *Omit
	hole int64 // where the last segment ended; -1 before the first
	// told is the size that the system reports of a file that is longer, and size how long it
	// is. See Reveal.
	told, size uint64
}

// NewFile returns the open file fd, which is its own from now on.
func NewFile(fd int, o *Omit) *File { return &File{fd: fd, omit: o, hole: -1} }

// Close closes the file.
func (f *File) Close() error { return unix.Close(f.fd) }

// Rewind lets NextSegment begin anew.
func (f *File) Rewind() { f.hole = -1 }

// ReadAt reads as io.ReaderAt says.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, Op("read", err)
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}

// Stat reads the file's metadata as it is now.
func (f *File) Stat() (Stat, error) {
	var st Stat
	if err := StatAt(f.fd, "", &st); err != nil {
		return st, Op("stat", err)
	}
	if f.size > 0 && st.Size == f.told {
		st.Size, st.Blocks = f.size, (f.size+511)/512 // without holes
	}
	return st, nil
}

// ReadPast reads as ReadAt does, but at least len(p)-1 bytes count as all: it asks for one byte more
// than a file should have, and takes no second look if that is not there.
func (f *File) ReadPast(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p)-1 || done == 0 {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, Op("read", err)
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// MaxReveal is how much content beyond a file's size is looked for.
const MaxReveal = 1 << 30

// Reveal looks for content beyond the size that the system reports, which st has: files of /proc report
// none, documents that a program makes when they are read report too little. From then on Stat
// says how long the file is, and that it has no holes. It returns false for a file that ends where
// it should, or has grown meanwhile. whole is false if there is more than MaxReveal.
func (f *File) Reveal(st *Stat) (more, whole bool, err error) {
	buf := make([]byte, 64<<10)
	end := st.Size
	for end-st.Size <= MaxReveal {
		n, err := f.ReadAt(buf[:min(len(buf), probeSize+int(end-st.Size))], int64(end))
		if err != nil && err != io.EOF {
			return false, false, err
		}
		if n > 0 && end == st.Size {
			now, err := f.Stat()
			if err != nil || now.Size > st.Size {
				return false, true, err // it grows: that is another matter
			}
		}
		if end += uint64(n); err == io.EOF {
			whole = true
			break
		}
	}
	if end == st.Size {
		return false, true, nil
	}
	f.told, f.size = st.Size, end
	return true, whole, nil
}

// probeSize is how much is read first to see whether there is anything.
const probeSize = 4096

// Same is Stat.Same of the file as it is now.
func (f *File) Same(e *rec.Entry) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return st.Same(e)
}

// Attributes is Source.Attributes of the open file.
func (f *File) Attributes() (Attributes, error) { return ReadAttributes(f.fd, f.omit) }

// NextSegment returns the next stretch of data at or after off; between
// segments, and behind the last one up to the size, there are holes. When there
// is none left the error is io.EOF. Calls go forward, each from the end of the
// segment before; st is what Stat said of the file, and its size is where the
// last segment ends at most. A file whose blocks fill its size costs no call, one
// that turns out to have no hole costs one.
func (f *File) NextSegment(st *Stat, off int64) (start, end int64, err error) {
	size := int64(st.Size)
	switch {
	case off >= size:
		return size, size, io.EOF
	case st.Blocks >= (st.Size+511)/512:
		return off, size, nil
	}
	if off != f.hole {
		end, err := f.seek(off, unix.SEEK_HOLE)
		if err == unix.EINVAL {
			return off, size, nil // the file system knows no holes
		}
		if err == nil && end > off {
			f.hole = end
			return off, min(end, size), nil
		}
		if err != nil && err != unix.ENXIO {
			return 0, 0, Op("look for holes", err)
		}
	}
	start, err = f.seek(off, unix.SEEK_DATA)
	if err == unix.ENXIO || err == nil && start >= size {
		return size, size, io.EOF
	}
	if err == nil {
		end, err = f.seek(start, unix.SEEK_HOLE)
	}
	if err == unix.ENXIO { // it shrank: reading will tell
		return size, size, io.EOF
	}
	if err != nil {
		return 0, 0, Op("look for holes", err)
	}
	f.hole = end
	return start, min(end, size), nil
}

func (f *File) seek(off int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(f.fd, off, whence)
		if err != unix.EINTR {
			return n, err
		}
	}
}
