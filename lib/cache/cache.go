// Package cache is the change cache of one backup job: what the last snapshots
// hold of each file, so that the next run need not read it again; and which blobs
// they reach, so that it need not send them again.
//
// A cache is a directory. For a snapshot it has a file of the snapshot's name with
// all its entries, in path order, and one with ".ids" behind the name with the
// sorted ids of the blobs that the snapshot reaches. pv-seal writes both (Create),
// pv-chunk reads the first (Open), pv-seal the second (OpenIDs). The format is
// docs/format/cache.md. Nothing but time is lost with a cache: it may be deleted,
// whole or in part, whenever no backup runs.
//
// Every block of a cache and every page of a list has a MAC under a secret that follows from the cut key: a
// file that is damaged, cut off, made under another key, or made up, is found out
// at the block where it is.
package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// Errors of this package; match them with errors.Is. That a cache is not there is
// fs.ErrNotExist.
var (
	// ErrOther is a whole cache of another job or key: the text says what differs.
	ErrOther = errors.New("a cache of something else")
	// ErrKey is an ErrOther that was made under another master key.
	ErrKey = fmt.Errorf("%w: made under another master key", ErrOther)
	// ErrDamaged is a file that is not what was written.
	ErrDamaged = errors.New("the cache is damaged")
	// ErrUnsafe is a file or directory that others than its reader can write.
	ErrUnsafe = errors.New("others can write the cache")
	// ErrBusy is a cache that another run writes.
	ErrBusy = errors.New("another run uses the cache")
	// ErrForeign is a directory with files in it that is no cache.
	ErrForeign = errors.New("not a cache, and not empty")
)

// A Job is what a cache belongs to. Key, chunker and the paths of the roots must
// agree, or the cache is not used. The host, and the directories that the roots are
// found in, may be others: a container has a new name in each run, and the snapshot of a file
// system a new place. What a cache says of a file is believed for its inode, times and size.
type Job struct {
	Key     key.ID
	Chunker rec.Chunker
	Host    string
	Roots   []rec.Root
}

// JobOf returns the Job of a content stream's head, under a key. The head needs a
// Chunker: an uncut stream has no job.
func JobOf(h *rec.Head, k key.ID) Job {
	j := Job{Key: k, Host: h.Host, Roots: h.Roots}
	if h.Chunker != nil {
		j.Chunker = *h.Chunker
	}
	return j
}

// differs says what distinguishes the job of a cache from j; nil if they are the same.
func (j *Job) differs(of *Job) error {
	switch {
	case j.Key != of.Key:
		return fmt.Errorf("%w: %s", ErrKey, of.Key)
	case j.Chunker != of.Chunker:
		return fmt.Errorf("%w: files were cut by %q with sizes %d, %d, %d", ErrOther, of.Chunker.Name, of.Chunker.Min, of.Chunker.Avg, of.Chunker.Max)
	case !slices.Equal(rec.Paths(j.Roots), rec.Paths(of.Roots)):
		return fmt.Errorf("%w: made for other sources", ErrOther)
	}
	return nil
}

// Limits of the format.
const (
	magic      = "pvcache\x01"
	magicIDs   = "pvids\x00\x00\x01"
	randomSize = 16
	prefixSize = len(magic) + randomSize
	headSize   = 5 // of a block: kind, length
	macSize    = 16
	maxBlock   = 16 << 20
	maxEntries = 65536 // of a page
	maxRoots   = rec.MaxSmall
)

// Kinds of blocks.
const (
	kindHeader  = 0
	kindPage    = 1
	kindTrailer = 2
)

// A sum computes the MACs of a file's blocks, or of a list's pages.
type sum struct {
	mac    hash.Hash
	prefix [prefixSize]byte
	number [8]byte
	out    [sha256.Size]byte
}

// newSum makes the sum of a file that begins with prefix: its magic and its random
// value. So what is in a list is never taken for what is in a cache.
func newSum(secret key.Secret, prefix []byte) *sum {
	s := &sum{mac: hmac.New(sha256.New, secret.Bytes())}
	copy(s.prefix[:], prefix)
	return s
}

// newPrefix returns what a new file begins with.
func newPrefix(magic string) []byte {
	prefix := append(make([]byte, 0, prefixSize), magic...)
	prefix = prefix[:prefixSize]
	rand.Read(prefix[len(magic):]) // never fails: crypto/rand
	return prefix
}

// of returns the MAC of number n: a block, which begins with its head, or a page of
// a list. It is valid until the next call.
func (s *sum) of(n uint64, block []byte) []byte {
	binary.BigEndian.PutUint64(s.number[:], n)
	s.mac.Reset()
	s.mac.Write(s.prefix[:])
	s.mac.Write(s.number[:])
	s.mac.Write(block)
	return s.mac.Sum(s.out[:0])[:macSize]
}

// open opens a file of a cache, once it is sure that only its owner can write it.
func open(dir, name string) (*os.File, int64, error) {
	if err := safe(dir); err != nil {
		return nil, 0, err
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = fmt.Errorf("%q: %w: it is not a file", path, ErrDamaged)
	default:
		err = own(path, st)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// safe reports whether a directory is one and only its owner can write it.
func safe(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	}
	return own(dir, st)
}

// own reports whether what st describes belongs to us or root, and nobody else
// can write it.
func own(path string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*unixStat)
	if !ok {
		return fmt.Errorf("%q: %w: its owner is not known", path, ErrUnsafe)
	}
	switch {
	case sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("%q: %w: it belongs to user %d", path, ErrUnsafe, sys.Uid)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%q: %w: its mode is %04o (chmod go-w makes it safe)", path, ErrUnsafe, st.Mode().Perm())
	}
	return nil
}

// header is the first block of a cache.
type header struct {
	job  Job
	time rec.Time
}

func (h *header) encode(w *wire.Writer) {
	w.Array(5)
	w.Bin(h.job.Key[:])
	rec.EncodeChunker(w, &h.job.Chunker)
	w.BinString(h.job.Host)
	w.Array(len(h.job.Roots))
	for _, r := range h.job.Roots {
		w.Array(2)
		w.BinString(r.Dir)
		w.BinString(r.Path)
	}
	w.Array(2)
	w.Int(h.time.Sec)
	w.Uint(uint64(h.time.Nsec))
}

func decodeHeader(b []byte) (*header, error) {
	h := &header{}
	c := wire.NewCursor(b, true)
	tuple(c, 5)
	if copy(h.job.Key[:], c.Bin(key.IDSize)) != key.IDSize {
		c.Fail(rec.ErrBad)
	}
	h.job.Chunker = *rec.DecodeChunker(c)
	h.job.Host = string(c.Bin(rec.MaxText))
	for n := c.Array(maxRoots); n > 0 && c.Err() == nil; n-- {
		tuple(c, 2)
		h.job.Roots = append(h.job.Roots, rec.Root{Dir: string(c.Bin(rec.MaxPath)), Path: string(c.Bin(rec.MaxPath))})
	}
	tuple(c, 2)
	h.time = rec.Time{Sec: c.Int(), Nsec: uint32(c.Uint(999_999_999))}
	return h, c.Finish()
}

// tuple reads the beginning of an array of exactly n.
func tuple(c *wire.Cursor, n int) {
	if c.Array(n) != n {
		c.Fail(fmt.Errorf("%w: not %d values", rec.ErrBad, n))
	}
}

// trailer ends what a snapshot has of a cache.
type trailer struct {
	snapshot, root id.ID
	entries        uint64
}

func (t *trailer) encode(w *wire.Writer) {
	w.Array(3)
	w.Bin(t.snapshot[:])
	w.Bin(t.root[:])
	w.Uint(t.entries)
}

func decodeTrailer(b []byte) (t trailer, err error) {
	c := wire.NewCursor(b, true)
	tuple(c, 3)
	ok := copy(t.snapshot[:], c.Bin(id.Size)) == id.Size
	ok = copy(t.root[:], c.Bin(id.Size)) == id.Size && ok
	t.entries = c.Uint(1<<64 - 1)
	if !ok {
		c.Fail(rec.ErrBad)
	}
	return t, c.Finish()
}

// noEOF is the error of a read that must not meet the end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
