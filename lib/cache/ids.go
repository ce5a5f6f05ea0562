package cache

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"

	"preserve/lib/durable"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/wire"
)

// A list is pages of pageSize bytes: the first has the header, each other one
// idsPerPage ids, zeros behind them, and its MAC.
const (
	pageSize   = 4096
	pageData   = pageSize - macSize
	idsPerPage = pageData / id.Size
	idBytes    = idsPerPage * id.Size
)

// idsHeader says what a list is of.
type idsHeader struct {
	key            key.ID
	snapshot, root id.ID
	n              uint64
}

func (h *idsHeader) encode(w *wire.Writer) {
	w.Array(4)
	w.Bin(h.key[:])
	w.Bin(h.snapshot[:])
	w.Bin(h.root[:])
	w.Uint(h.n)
}

func decodeIDsHeader(b []byte) (h idsHeader, err error) {
	c := wire.NewCursor(b, true)
	tuple(c, 4)
	ok := copy(h.key[:], c.Bin(key.IDSize)) == key.IDSize
	ok = copy(h.snapshot[:], c.Bin(id.Size)) == id.Size && ok
	ok = copy(h.root[:], c.Bin(id.Size)) == id.Size && ok
	h.n = c.Uint(math.MaxInt64 / pageSize)
	if !ok {
		c.Fail(errors.New("not ids"))
	}
	return h, c.Finish()
}

// writeIDs makes the list of a snapshot, in place of one that is there.
func (w *Writer) writeIDs(snapshot, root id.ID, reached *ids.List) (err error) {
	tmp := filepath.Join(w.dir, durable.TempPrefix+rand.Text())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := idsHeader{w.keyID, snapshot, root, uint64(reached.Len())}
	err = writeIDs(f, w.secret, &h, reached)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(w.dir, snapshot.String()+idsSuffix))
	}
	if err != nil {
		_ = os.Remove(tmp) // else the next run does
	}
	return err
}

func writeIDs(to io.Writer, secret key.Secret, h *idsHeader, reached *ids.List) error {
	prefix := newPrefix(magicIDs)
	sum := newSum(secret, prefix)
	b := wire.NewWriter()
	b.Raw(make([]byte, headSize))
	h.encode(b)
	block := b.Bytes()
	binary.BigEndian.PutUint32(block[1:], uint32(len(block)-headSize))
	page := append(append(make([]byte, 0, pageSize), prefix...), block...)
	page = append(page, sum.of(0, block)...)
	out := bufio.NewWriterSize(to, 64<<10)
	if _, err := out.Write(page[:pageSize]); err != nil { // zeros behind it
		return err
	}
	number := uint64(0)
	page = page[:0]
	flush := func() error {
		number++
		clear(page[len(page):pageData])
		page = page[:pageData]
		page = append(page, sum.of(number, page)...)
		_, err := out.Write(page)
		page = page[:0]
		return err
	}
	for i, err := range reached.All() {
		if err != nil {
			return err
		}
		if page = append(page, i[:]...); len(page) == idBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(page) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	return out.Flush()
}

// IDs are the blobs that a snapshot reaches: data and metadata, the snapshot
// itself not. It may be used by many goroutines.
type IDs struct {
	file  file
	name  string
	head  idsHeader
	list  *ids.List
	pages sync.Pool // of *idsPage
}

// An idsPage is room for a page, and the means to check it.
type idsPage struct {
	data [pageSize]byte
	sum  *sum
}

// OpenIDs opens the list beside the cache of a snapshot, if it was written under
// secret. It reads the header only; a damaged page is found when it is read. The
// errors are those of Open.
func OpenIDs(dir string, snapshot id.ID, secret key.Secret, of key.ID) (*IDs, error) {
	f, size, err := open(dir, snapshot.String()+idsSuffix)
	if err != nil {
		return nil, err
	}
	l := &IDs{file: f, name: filepath.Join(dir, snapshot.String()+idsSuffix)}
	if err := l.begin(snapshot, secret, of, size); err != nil {
		f.Close()
		return nil, err
	}
	l.list = ids.NewList(l, int(l.head.n))
	return l, nil
}

func (l *IDs) begin(snapshot id.ID, secret key.Secret, of key.ID, size int64) error {
	page := make([]byte, pageSize)
	if _, err := l.file.ReadAt(page, 0); err != nil {
		return l.damaged(0, noEOF(err))
	}
	if string(page[:len(magicIDs)]) != magicIDs {
		return l.damaged(0, errors.New("it does not begin as one does"))
	}
	prefix := page[:prefixSize]
	rest := page[prefixSize:]
	n := int64(binary.BigEndian.Uint32(rest[1:]))
	if n > int64(len(rest)-headSize-macSize) {
		return l.damaged(0, io.ErrUnexpectedEOF)
	}
	block, mac := rest[:headSize+n], rest[headSize+n:headSize+n+macSize]
	h, err := decodeIDsHeader(block[headSize:])
	switch {
	case err == nil && h.key != of:
		return fmt.Errorf("cache %q: %w: %s", l.name, ErrKey, h.key)
	case !key.Equal(newSum(secret, prefix).of(0, block), mac):
		return l.damaged(0, errMAC)
	case err != nil:
		return l.damaged(0, err)
	case h.snapshot != snapshot:
		return l.damaged(0, errors.New("it is of another snapshot"))
	case size != pageSize*(1+int64((h.n+idsPerPage-1)/idsPerPage)):
		return l.damaged(0, io.ErrUnexpectedEOF)
	}
	l.head = h
	l.pages.New = func() any { return &idsPage{sum: newSum(secret, prefix)} }
	return nil
}

func (l *IDs) damaged(page uint64, err error) error {
	return fmt.Errorf("cache %q: %w: page %d: %w", l.name, ErrDamaged, page, err)
}

// ReadAt reads ids as if they stood one behind the other.
func (l *IDs) ReadAt(p []byte, off int64) (n int, err error) {
	page := l.pages.Get().(*idsPage)
	defer l.pages.Put(page)
	for n < len(p) {
		number, at := uint64(off/idBytes)+1, off%idBytes
		if _, err := l.file.ReadAt(page.data[:], int64(number)*pageSize); err != nil {
			return n, l.damaged(number, noEOF(err))
		}
		if !key.Equal(page.sum.of(number, page.data[:pageData]), page.data[pageData:]) {
			return n, l.damaged(number, errMAC)
		}
		k := copy(p[n:], page.data[at:idBytes])
		n += k
		off += int64(k)
	}
	return n, nil
}

// Root returns the root of the snapshot's tree.
func (l *IDs) Root() id.ID { return l.head.root }

// Len returns the number of ids.
func (l *IDs) Len() int { return l.list.Len() }

// Has reports whether the snapshot reaches i. An error is ErrDamaged, or the file
// system's.
func (l *IDs) Has(i id.ID) (bool, error) { return l.list.Has(i) }

// Close closes the file.
func (l *IDs) Close() error { return l.file.Close() }
