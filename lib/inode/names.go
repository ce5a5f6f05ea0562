package inode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// Names are the names in a directory, in the order of their bytes after Read. The zero
// value has none.
type Names struct {
	List []Dirent
	text []byte // each name with a NUL behind it
}

// A Dirent is one name of Names.
type Dirent struct {
	Ino  uint64   // as the directory says
	Type rec.Type // as the directory says; None if it does not
	// Mount says that another file system is mounted there, as far as is known without
	// looking, and the walk does not go there. Read does not set it.
	Mount bool
	at, n int // in the text
}

// Bytes returns the name of d. It is valid until the next Read or Clear.
func (l *Names) Bytes(d Dirent) []byte { return l.text[d.at : d.at+d.n] }

// Name returns the name at index i.
func (l *Names) Name(i int) string { return string(l.Bytes(l.List[i])) }

// CName returns the first byte of the name at index i, which has a NUL behind it.
func (l *Names) CName(i int) *byte { return &l.text[l.List[i].at] }

// Clear forgets the names and keeps their memory.
func (l *Names) Clear() { l.List, l.text = l.List[:0], l.text[:0] }

// Cap returns how much memory is kept, about.
func (l *Names) Cap() int { return max(cap(l.text), 16*cap(l.List)) }

// Read adds all names of a directory, through buf, and sorts them as bytes. That
// is path order: a name has neither "/" nor NUL in it, so what is below a
// directory comes right behind it. With an error the names up to it are there.
func (l *Names) Read(fd int, buf []byte) error {
	var err error
	for {
		n, e := unix.ReadDirent(fd, buf)
		if e == unix.EINTR {
			continue
		}
		if n <= 0 || e != nil {
			err = e
			break
		}
		l.parse(buf[:n])
	}
	if errors.Is(err, unix.ENOENT) { // removed while we stand in it
		err = nil
	}
	l.sort()
	// A directory that changes while it is read may give a name twice.
	l.List = slices.CompactFunc(l.List, func(a, b Dirent) bool { return bytes.Equal(l.Bytes(a), l.Bytes(b)) })
	return err
}

func (l *Names) sort() {
	slices.SortFunc(l.List, func(a, b Dirent) int { return bytes.Compare(l.Bytes(a), l.Bytes(b)) })
}

// The layout of struct linux_dirent64.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

// direntTypes are the types that a directory can give, by number.
var direntTypes = [...]rec.Type{unix.DT_FIFO: rec.Fifo, unix.DT_CHR: rec.Char, unix.DT_DIR: rec.Dir, unix.DT_BLK: rec.Block,
	unix.DT_REG: rec.File, unix.DT_LNK: rec.Symlink, unix.DT_SOCK: rec.Socket}

// parse takes over the names in what getdents64 gave: inode, offset, length of
// the record, type, name, NUL.
func (l *Names) parse(b []byte) {
	for len(b) > direntName {
		n := int(binary.NativeEndian.Uint16(b[direntLen:]))
		if n <= direntName || n > len(b) {
			return
		}
		name, _, _ := bytes.Cut(b[direntName:n], []byte{0})
		if dots := len(name) <= 2 && string(name) == ".."[:len(name)]; !dots && bytes.IndexByte(name, '/') < 0 {
			d := Dirent{Ino: binary.NativeEndian.Uint64(b), at: len(l.text), n: len(name)}
			if t := b[direntType]; int(t) < len(direntTypes) {
				d.Type = direntTypes[t]
			}
			l.List = append(l.List, d)
			l.text = append(append(l.text, name...), 0)
		}
		b = b[n:]
	}
}

// Has reports whether the directory has that name.
func (l *Names) Has(name string) bool {
	key := []byte(name)
	_, found := slices.BinarySearchFunc(l.List, key, func(d Dirent, key []byte) int { return bytes.Compare(l.Bytes(d), key) })
	return found
}

// EachName calls fn with every name in a directory, as the system lists them but
// sorted as many at a time as it gives. fn may remove the name.
func EachName(fd int, fn func(name string) error) error {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var l Names
	for {
		n, err := unix.ReadDirent(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ENOENT, err == nil && n <= 0: // removed while we stand in it; the end
			return nil
		case err != nil:
			return err
		}
		l.Clear()
		l.parse(buf[:n])
		l.sort()
		for i := range l.List {
			if err := fn(l.Name(i)); err != nil {
				return err
			}
		}
	}
}
