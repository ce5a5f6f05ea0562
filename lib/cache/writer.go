package cache

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// A Writer writes the cache of the run that goes on, while it holds the lock of
// the directory. Its methods may be called from several goroutines, one at a time
// in effect: so that Abort may come with a signal.
type Writer struct {
	mu      sync.Mutex
	dir     string
	lock    *os.File
	file    *os.File // nil after the end
	tmp     string
	keyID   key.ID
	secret  key.Secret
	sum     *sum
	number  uint64
	w       *wire.Writer
	entries uint64
	bases   []id.ID
	made    []id.ID // checkpoints of this run that have a file
	err     error   // the first of a write
}

// Create begins the cache of a run whose head says time, on the snapshots bases.
// dir is made if it is not there, with mode 0700, and marked so that no backup
// descends into it. What runs that were killed left behind is removed.
//
// Errors: ErrBusy, ErrUnsafe, ErrForeign, and those of the file system. None of
// them, nor of the methods, is a reason not to make a backup.
func Create(dir string, secret key.Secret, job Job, time rec.Time, bases []id.ID) (*Writer, error) {
	lock, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, lock: lock, keyID: job.Key, secret: secret, w: wire.NewWriter(), bases: slices.Clone(bases),
		tmp: filepath.Join(dir, durable.TempPrefix+rand.Text())}
	if w.err = w.begin(&header{job, time}); w.err != nil {
		err := w.err
		w.end()
		return nil, err
	}
	return w, nil
}

func (w *Writer) begin(h *header) (err error) {
	if err := removeTemporaries(w.dir); err != nil {
		return err
	}
	w.file, err = os.OpenFile(w.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	prefix := newPrefix(magic)
	w.sum = newSum(w.secret, prefix)
	if _, err := w.file.Write(prefix); err != nil {
		return err
	}
	w.start()
	h.encode(w.w)
	return w.finish(kindHeader)
}

// start begins a block in w.w; finish writes it.
func (w *Writer) start() {
	w.w.Reset()
	w.w.Raw(make([]byte, headSize))
}

func (w *Writer) finish(kind byte) error {
	b := w.w.Bytes()
	n := len(b) - headSize
	if n > maxBlock {
		return fmt.Errorf("cache: a block of %d bytes: %w of %d", n, wire.ErrLimit, maxBlock)
	}
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	w.w.Raw(w.sum.of(w.number, b))
	w.number++
	_, err := w.file.Write(w.w.Bytes())
	return err
}

// errEnded is a Writer that has written its last.
var errEnded = errors.New("cache: the writer was ended")

// Page adds a page: the entries as the content stream had them, but each extent's
// N the index of one of refs, and its ID zero. Neither is kept. A Writer without
// room on the disk fails, and goes on failing: then Abort it.
func (w *Writer) Page(refs []id.ID, entries []*rec.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.file == nil:
		return errEnded
	case len(entries) == 0:
		return nil
	}
	w.start()
	w.w.BinLen(len(refs) * id.Size)
	for i := range refs {
		w.w.Raw(refs[i][:])
	}
	w.w.Uint(uint64(len(entries)))
	prev := ""
	for _, e := range entries {
		encodeEntry(w.w, prev, e)
		prev = e.Path
	}
	w.entries += uint64(len(entries))
	w.err = w.finish(kindPage)
	return w.err
}

// trail ends what snapshot has of the file, and returns when that is on the disk.
func (w *Writer) trail(snapshot, root id.ID) error {
	switch {
	case w.err != nil:
		return w.err
	case w.file == nil:
		return errEnded
	}
	w.start()
	(&trailer{snapshot, root, w.entries}).encode(w.w)
	if w.err = w.finish(kindTrailer); w.err == nil {
		w.err = w.file.Sync()
	}
	return w.err
}

// Checkpoint gives the pages so far a name: they are the cache of a partial
// snapshot. The last two of a run are kept, until later runs need the room. Where
// the file system knows no hard links that fails, and the Writer can still be
// used.
func (w *Writer) Checkpoint(snapshot, root id.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.trail(snapshot, root); err != nil {
		return err
	}
	path := filepath.Join(w.dir, snapshot.String())
	if err := remove(path); err != nil {
		return err
	}
	if err := os.Link(w.tmp, path); err != nil {
		return err
	}
	w.made = append(w.made, snapshot)
	if len(w.made) > 2 {
		if err := remove(filepath.Join(w.dir, w.made[0].String())); err != nil {
			return err
		}
		w.made = w.made[1:]
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return err
	}
	return w.prune(snapshot)
}

// Finish gives the cache its name, and makes a list of what the snapshot reaches
// beside it, if reached is not nil. A cache of that snapshot that was there is
// replaced; its list stays if there is no new one. Of the others remain the bases
// and the newest two. The Writer is then ended, whatever comes back.
func (w *Writer) Finish(snapshot, root id.ID, reached *ids.List) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.end()
	if err := w.trail(snapshot, root); err != nil {
		return err
	}
	if reached != nil {
		if err := w.writeIDs(snapshot, root, reached); err != nil {
			return err
		}
	}
	if err := os.Rename(w.tmp, filepath.Join(w.dir, snapshot.String())); err != nil {
		return err
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return err
	}
	return w.prune(snapshot)
}

// Abort gives up what was written; checkpoints stay. It may be called at any time,
// again too.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
}

// end lets go of everything.
func (w *Writer) end() {
	if w.file != nil {
		_ = w.file.Close()   // it is whole, or of no use
		_ = os.Remove(w.tmp) // after Finish it is not there; else the next run tries again
		w.file, w.w = nil, nil
	}
	if w.lock != nil {
		_ = w.lock.Close() // this unlocks
		w.lock = nil
	}
}

// lockDir takes the lock of a cache.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return f, nil
}
