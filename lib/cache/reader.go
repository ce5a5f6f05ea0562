package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// A Reader reads the cache of one snapshot. It is not safe for concurrent use,
// but it and its Forks may be used by a goroutine each.
type Reader struct {
	file     file
	name     string // for messages
	size     int64
	snapshot id.ID
	head     *header
	secret   key.Secret
	sum      *sum

	off     int64  // of the next block
	number  uint64 // its number
	block   []byte // the block in hand, without its MAC
	shared  bool   // with a Fork
	refs    []byte
	entries uint64 // left in it
	cursor  wire.Cursor
	prev    string // path of the entry before, in this block
	last    place  // of the entry before
	read    uint64 // entries
	room    []rec.Entry
	err     error
}

// A file is where a cache is read from.
type file interface {
	io.ReaderAt
	io.Closer
}

// Open opens the cache of a snapshot in dir, if it was written under secret for
// job. It reads the header only.
//
// Errors: fs.ErrNotExist, ErrUnsafe, ErrOther, ErrDamaged, and those of the file
// system. None of them is a reason not to make a backup.
func Open(dir string, snapshot id.ID, secret key.Secret, job Job) (*Reader, error) {
	f, size, err := open(dir, snapshot.String())
	if err != nil {
		return nil, err
	}
	r := &Reader{file: f, name: filepath.Join(dir, snapshot.String()), size: size, snapshot: snapshot, secret: secret}
	if err := r.begin(&job); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// begin reads what stands before the first page.
func (r *Reader) begin(job *Job) error {
	var prefix [prefixSize]byte
	if _, err := r.file.ReadAt(prefix[:], 0); err != nil {
		return r.damaged(noEOF(err))
	}
	if string(prefix[:len(magic)]) != magic {
		return r.damaged(errors.New("it does not begin as one does"))
	}
	r.sum = newSum(r.secret, prefix[:])
	r.off = int64(prefixSize)
	kind, b, err := r.next()
	if errors.Is(err, errMAC) && len(b) > 0 {
		// What nobody vouches for is good for a better message.
		if h, err := decodeHeader(b); err == nil && h.job.Key != job.Key {
			return fmt.Errorf("cache %q: %w", r.name, job.differs(&h.job))
		}
	}
	if err != nil {
		return err
	}
	if kind != kindHeader {
		return r.damaged(fmt.Errorf("a block of kind %d where the header belongs", kind))
	}
	if r.head, err = decodeHeader(b); err != nil {
		return r.damaged(err)
	}
	if err := job.differs(&r.head.job); err != nil {
		return fmt.Errorf("cache %q: %w", r.name, err)
	}
	return nil
}

// errMAC is a block that nobody with the key has written.
var errMAC = errors.New("wrong checksum")

func (r *Reader) damaged(err error) error {
	return fmt.Errorf("cache %q: %w: block %d: %w", r.name, ErrDamaged, r.number, err)
}

// next reads the next block, and returns its payload, which is valid until the
// next call. With errMAC the payload is returned too.
func (r *Reader) next() (kind byte, payload []byte, err error) {
	var head [headSize]byte
	if _, err := r.file.ReadAt(head[:], r.off); err != nil {
		return 0, nil, r.damaged(noEOF(err))
	}
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if n > maxBlock || r.off+headSize+n+macSize > r.size {
		return 0, nil, r.damaged(io.ErrUnexpectedEOF)
	}
	need := int(headSize + n + macSize)
	if cap(r.block) < need || r.shared {
		r.block, r.shared = make([]byte, max(need, 96<<10)), false
	}
	b := r.block[:need]
	if _, err := r.file.ReadAt(b, r.off); err != nil {
		return 0, nil, r.damaged(noEOF(err))
	}
	body := b[:headSize+n]
	if !key.Equal(r.sum.of(r.number, body), b[headSize+n:]) {
		return 0, body[headSize:], r.damaged(errMAC)
	}
	r.off += int64(need)
	r.number++
	return body[0], body[headSize:], nil
}

// Time returns the time in the head of the run that wrote the cache: no file in it
// was read before that, or it was trusted then.
func (r *Reader) Time() rec.Time { return r.head.time }

// Next returns the next entry, in path order: as it was in the content stream, with
// what only streams carry, and its extents by ID. The pieces of a large file are
// entries each; a cache of a checkpoint may end before the last of them. At the
// end of what the snapshot has the error is io.EOF. If the file is damaged it is
// ErrDamaged, and what was returned before is still good. The entry is the
// caller's.
func (r *Reader) Next() (*rec.Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	for r.entries == 0 {
		if r.err = r.page(); r.err != nil {
			return nil, r.err
		}
	}
	if len(r.room) == 0 {
		r.room = make([]rec.Entry, 32)
	}
	e := &r.room[0]
	r.room = r.room[1:]
	err := decodeEntry(&r.cursor, r.prev, len(r.refs)/id.Size, e)
	if err == nil && r.read > 0 && !r.last.before(e) {
		err = rec.ErrOrder
	}
	r.entries--
	if err == nil && r.entries == 0 {
		err = r.cursor.Finish()
	}
	if err != nil {
		r.err = r.damaged(err)
		return nil, r.err
	}
	resolve(e, r.refs)
	r.prev, r.last = e.Path, place{e.Path, e.Off, e.More}
	r.read++
	return e, nil
}

// A place is what the order of entries needs of one.
type place struct {
	path string
	off  uint64
	more bool
}

// before reports whether e may come behind p.
func (p *place) before(e *rec.Entry) bool {
	if p.more {
		return e.Path == p.path && e.Off > p.off
	}
	return e.Off == 0 && rec.ComparePaths(p.path, e.Path) < 0
}

// page makes the next page the one in hand. The error is io.EOF at the snapshot's
// trailer.
func (r *Reader) page() error {
	kind, b, err := r.next()
	if err != nil {
		return err
	}
	switch kind {
	case kindTrailer:
		t, err := decodeTrailer(b)
		switch {
		case err != nil:
			return r.damaged(err)
		case t.entries != r.read:
			return r.damaged(fmt.Errorf("%d entries where it counts %d", r.read, t.entries))
		case t.snapshot == r.snapshot:
			return io.EOF
		}
		return nil // of a checkpoint before
	case kindPage:
		r.cursor.Reset(b, true)
		r.refs = r.cursor.Bin(rec.MaxRefs * id.Size)
		r.entries, r.prev = r.cursor.Uint(maxEntries), ""
		if err := r.cursor.Err(); err != nil {
			return r.damaged(err)
		}
		if len(r.refs)%id.Size != 0 || r.entries == 0 {
			return r.damaged(errors.New("a page without entries"))
		}
		return nil
	}
	return r.damaged(fmt.Errorf("a block of kind %d", kind))
}

// Fork returns another Reader at the same place, which goes on independently. It
// needs no Close, and must not be used after r is closed.
func (r *Reader) Fork() *Reader {
	r.shared = true
	f := *r
	f.sum = newSum(r.secret, r.sum.prefix[:])
	f.room = nil
	return &f
}

// Close closes the file. Only the Reader that Open returned is closed.
func (r *Reader) Close() error { return r.file.Close() }
