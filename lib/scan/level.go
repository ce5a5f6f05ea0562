package scan

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
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
	inode.Names
	batch  []child
	looked int // names whose batch was looked at before the directory's entry
	order  []int32
}

// A child is one name looked at.
type child struct {
	index int
	st    inode.Stat
	err   error
	// With a Chooser: the path, and whether it does not take it.
	path string
	out  bool
}

// stat looks at a batch of names from index at on and returns where the next
// begins, with so many workers at once. It goes by inode: that is nearly how
// they lie on the disk.
func (l *level) stat(fd, at, workers int) (next int) {
	next = min(at+batchSize, len(l.List))
	l.batch = slices.Grow(l.batch[:0], next-at)[:next-at]
	l.order = slices.Grow(l.order[:0], next-at)[:next-at]
	for i := range l.order {
		l.order[i] = int32(at + i)
	}
	slices.SortFunc(l.order, func(a, b int32) int { return cmp.Compare(l.List[a].Ino, l.List[b].Ino) })
	part := func(order []int32) {
		var x unix.Statx_t
		for _, i := range order {
			c := &l.batch[int(i)-at]
			c.index = int(i)
			if l.List[i].Mount && l.List[i].Type != rec.None {
				c.err = errMount
				continue
			}
			if c.err = inode.StatRaw(fd, l.CName(int(i)), &x); c.err == nil {
				c.st.Set(&x)
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
	l.Clear()
	*l = level{fd: -1, path: path, Names: l.Names, batch: l.batch[:0], order: l.order[:0]}
	w.opened(l, fd)
	return l
}

func (w *walker) pop() {
	l := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	w.closed(l)
	if l.Cap() > keepNames {
		*l = level{}
	}
}

func (w *walker) closed(l *level) {
	if l.fd >= 0 {
		inode.Close(l.fd)
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
			var st inode.Stat
			if inode.StatAt(up.fd, "", &st) == nil {
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
	open, flags := inode.OpenBeneath, inode.OpenDir
	if w.Follow {
		open, flags = source.OpenFollow, inode.OpenDir&^unix.O_NOFOLLOW
	}
	fd, err := inode.Quietly(open, w.rootfd, l.path, flags)
	var st inode.Stat
	if err == nil {
		err = inode.StatAt(fd, "", &st)
		if err == nil && (st.Ino != l.ino || st.Dev != l.dev) {
			err = inode.ErrReplaced
		}
		if err != nil {
			inode.Close(fd)
		}
	}
	if err != nil {
		return -1, err
	}
	w.opened(l, fd)
	return fd, nil
}
