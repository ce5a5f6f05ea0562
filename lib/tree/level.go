package tree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// batchSize is how many entries of one directory are looked at before the
// first of them is visited.
const batchSize = 1024

// A level is a directory that a walk is in: its names, and the metadata of the
// next of them.
type level struct {
	fd       int // -1 while closed to save descriptors
	ino, dev uint64
	path     string
	names    []byte // each with a NUL behind it
	list     []dirent
	batch    []child
	looked   int // names whose batch was looked at before the directory's entry
	order    []int32
}

// A dirent is one name: its inode, as the directory says, and its place in
// level.names.
type dirent struct {
	ino uint64
	at  int
	n   int
	typ rec.Type // as the directory says; None if it does not
	// mount says that another file system is mounted there, as far as is known without
	// looking, and the walk does not go there.
	mount bool
}

// A child is one name looked at.
type child struct {
	index int
	st    Stat
	err   error
	// With a Chooser: the path, and whether it does not take it.
	path string
	out  bool
}

func (l *level) bytes(d dirent) []byte { return l.names[d.at : d.at+d.n] }
func (l *level) name(i int) string     { return string(l.bytes(l.list[i])) }

// read reads all names of a directory, through buf, and sorts them as bytes. That
// is path order: a name has neither "/" nor NUL in it, so what is below a
// directory comes right behind it. With an error the names up to it are there.
func (l *level) read(fd int, buf []byte) error {
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
	l.list = slices.CompactFunc(l.list, func(a, b dirent) bool { return bytes.Equal(l.bytes(a), l.bytes(b)) })
	return err
}

func (l *level) sort() {
	slices.SortFunc(l.list, func(a, b dirent) int { return bytes.Compare(l.bytes(a), l.bytes(b)) })
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
func (l *level) parse(b []byte) {
	for len(b) > direntName {
		n := int(binary.NativeEndian.Uint16(b[direntLen:]))
		if n <= direntName || n > len(b) {
			return
		}
		name, _, _ := bytes.Cut(b[direntName:n], []byte{0})
		if dots := len(name) <= 2 && string(name) == ".."[:len(name)]; !dots && bytes.IndexByte(name, '/') < 0 {
			d := dirent{ino: binary.NativeEndian.Uint64(b), at: len(l.names), n: len(name)}
			if t := b[direntType]; int(t) < len(direntTypes) {
				d.typ = direntTypes[t]
			}
			l.list = append(l.list, d)
			l.names = append(append(l.names, name...), 0)
		}
		b = b[n:]
	}
}

// has reports whether the directory has that name.
func (l *level) has(name string) bool {
	key := []byte(name)
	_, found := slices.BinarySearchFunc(l.list, key, func(d dirent, key []byte) int { return bytes.Compare(l.bytes(d), key) })
	return found
}

// stat looks at a batch of names from index at on and returns where the next
// begins, with so many workers at once. It goes by inode: that is nearly how
// they lie on the disk.
func (l *level) stat(fd, at, workers int) (next int) {
	next = min(at+batchSize, len(l.list))
	l.batch = slices.Grow(l.batch[:0], next-at)[:next-at]
	l.order = slices.Grow(l.order[:0], next-at)[:next-at]
	for i := range l.order {
		l.order[i] = int32(at + i)
	}
	slices.SortFunc(l.order, func(a, b int32) int { return cmp.Compare(l.list[a].ino, l.list[b].ino) })
	part := func(order []int32) {
		var x unix.Statx_t
		for _, i := range order {
			c := &l.batch[int(i)-at]
			c.index = int(i)
			if l.list[i].mount && l.list[i].typ != rec.None {
				c.err = errMount
				continue
			}
			if c.err = statRaw(fd, &l.names[l.list[i].at], &x); c.err == nil {
				c.st.set(&x)
			}
		}
	}
	var wg sync.WaitGroup
	n := len(l.order)
	for i := 1; i < workers; i++ {
		wg.Go(func() { part(l.order[n*i/workers : n*(i+1)/workers]) })
	}
	part(l.order[:n/workers])
	wg.Wait()
	return next
}

// errMount is a child that was not looked at, since another file system is mounted there.
var errMount = errors.New("a mount point")

// keepNames is how much memory for names a level keeps for the next directory.
const keepNames = 256 << 10

// push enters a directory, which pop closes.
func (w *walker) push(fd int, path string) *level {
	n := len(w.stack)
	w.stack = slices.Grow(w.stack, 1)[:n+1]
	l := w.stack[n]
	if l == nil {
		l = &level{}
		w.stack[n] = l
	}
	*l = level{fd: -1, path: path, names: l.names[:0], list: l.list[:0], batch: l.batch[:0], order: l.order[:0]}
	w.opened(l, fd)
	return l
}

func (w *walker) pop() {
	l := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	w.closed(l)
	if cap(l.names) > keepNames || cap(l.list) > keepNames/16 {
		*l = level{}
	}
}

func (w *walker) closed(l *level) {
	if l.fd >= 0 {
		closeFD(l.fd)
		l.fd = -1
		w.nopen--
	}
}

// opened gives a level its descriptor. If there are too many, the uppermost
// level loses its own, and remembers which directory it was.
func (w *walker) opened(l *level, fd int) {
	l.fd = fd
	w.nopen++
	for i := 0; w.nopen > maxOpen && i < len(w.stack); i++ {
		if up := w.stack[i]; up != l && up.fd >= 0 {
			var st Stat
			if statAt(up.fd, "", &st) == nil {
				up.ino, up.dev = st.Ino, st.Dev
			}
			w.closed(up)
		}
	}
}

// fd returns the level's descriptor, opened again if need be. The directory
// must still be the one that it was.
func (w *walker) fd(l *level) (int, error) {
	if l.fd >= 0 {
		return l.fd, nil
	}
	open, flags := openBeneath, openDir
	if w.Follow {
		open, flags = openFollow, openDir&^unix.O_NOFOLLOW
	}
	fd, err := quietly(open, w.rootfd, l.path, flags)
	var st Stat
	if err == nil {
		err = statAt(fd, "", &st)
		if err == nil && (st.Ino != l.ino || st.Dev != l.dev) {
			err = ErrReplaced
		}
		if err != nil {
			closeFD(fd)
		}
	}
	if err != nil {
		return -1, err
	}
	w.opened(l, fd)
	return fd, nil
}
