package objects

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
)

// A dirWriter is the Writer of a Dir.
//
// A temporary is locked, with a lock of its own, for as long as whoever made it
// needs it. The lock goes with the process, however that ends: so a temporary that
// can be locked is nobody's.
type dirWriter struct {
	d       *Dir
	mu      sync.Mutex // guards these three
	temps   map[string]*temp
	dirs    map[string]bool // whose names are to be made durable
	closed  bool
	written atomic.Int64
}

// Writer implements Store.
func (d *Dir) Writer() Writer {
	return &dirWriter{d: d, temps: map[string]*temp{}, dirs: map[string]bool{}}
}

func (w *dirWriter) step(what, path string) error {
	if w.d.Before == nil {
		return nil
	}
	return w.d.Before(what + " " + path)
}

// A temp is a temporary file, open for writing and locked.
type temp struct {
	*os.File
	w *dirWriter
	n int64 // bytes written
}

func (t *temp) Write(p []byte) (int, error) {
	if err := t.w.step("write", t.Name()); err != nil {
		return 0, err
	}
	n, err := t.File.Write(p)
	t.n += int64(n)
	t.w.written.Add(int64(n))
	return n, err
}

func (t *temp) Written() int64 { return t.n }

func (t *temp) Begin(off, n int64) {
	_ = unix.SyncFileRange(int(t.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (t *temp) Dated(at time.Time) error { return os.Chtimes(t.Name(), at, at) }

func (t *temp) Undated() error {
	if err := os.Chtimes(t.Name(), epoch, epoch); err != nil {
		return nil // it has the time at which it was written
	}
	st, err := t.Stat()
	if err != nil || infoOf(st).Time.IsZero() {
		return err
	}
	return touch(t.Name())
}

// tempPrefix begins the names of temporaries.
const tempPrefix = "put-"

// Create implements Writer.
func (w *dirWriter) Create() (Temp, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrAborted
	}
	for tries := 1; ; tries++ {
		path := w.d.Path(tempDir) + "/" + tempPrefix + rand.Text()
		if err := w.step("create", path); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, w.d.share.file)
		if errors.Is(err, fs.ErrNotExist) && tries == 1 {
			// A copy that leaves out empty directories.
			if err = w.d.mkdir(tempDir, func(string) {}); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if err := w.d.share.fit(f); err != nil {
			f.Close()
			_ = os.Remove(path) // a sweep finds it
			return nil, err
		}
		if lockTemp(f) == errTaken || !linked(f) {
			// A sweep came before the lock.
			_ = os.Remove(path) // it may have done so
			f.Close()
			if tries < 100 {
				continue
			}
			return nil, fmt.Errorf("make a temporary in %q: others remove it at once", w.d.Path(tempDir))
		}
		w.written.Add(Block)
		t := &temp{File: f, w: w}
		w.temps[path] = t
		return t, nil
	}
}

var errTaken = errors.New("locked by another")

// lockTemp locks a temporary. It returns errTaken if somebody else has, and another
// error where there are no locks.
func lockTemp(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errTaken
	}
	return err
}

// linked reports whether a file still has its name.
func linked(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// Sweep implements Writer. It removes the temporaries that it can lock.
// Where there are no locks it removes none. What it cannot open or remove stays:
// it harms nobody.
func (w *dirWriter) Sweep() (removed int) {
	tmp := w.d.Path(tempDir)
	list, err := os.ReadDir(tmp)
	if err != nil {
		return 0
	}
	for _, e := range list {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		f, err := os.OpenFile(tmp+"/"+e.Name(), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		// The name is random: if it is not there any more, no other file has it.
		if lockTemp(f) == nil && os.Remove(f.Name()) == nil {
			removed++
		}
		f.Close()
	}
	return removed
}

// Publish implements Writer. Only after the file has its name is it closed, which unlocks it; it
// was synced, so that closing has nothing to tell.
func (w *dirWriter) Publish(x Temp, name string) error {
	t := x.(*temp)
	if err := w.step("sync", t.Name()); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	dir := parent(name)
	if err := w.mkdir(dir); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.temps[t.Name()] == nil {
		return ErrAborted
	}
	final := w.d.Path(name)
	if err := w.step("publish", final); err != nil {
		return err
	}
	err := durable.Publish(t.Name(), final)
	if err == nil {
		delete(w.temps, t.Name())
		_ = t.Close()
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		w.dirs[dir] = true
	}
	return err
}

// mkdir makes a directory if it is not there.
func (w *dirWriter) mkdir(dir string) error {
	if err := w.step("mkdir", w.d.Path(dir)); err != nil {
		return err
	}
	return w.d.mkdir(dir, func(dir string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dirs[parent(dir)] = true
	})
}

// Sync implements Writer.
func (w *dirWriter) Sync(dirs ...string) error {
	w.mu.Lock()
	todo := w.dirs
	w.dirs = map[string]bool{}
	w.mu.Unlock()
	for _, dir := range dirs {
		todo[dir] = true
	}
	for dir := range todo {
		if err := w.syncDir(dir); err != nil {
			w.mu.Lock()
			for dir := range todo { // the next one tries again
				w.dirs[dir] = true
			}
			w.mu.Unlock()
			return err
		}
		delete(todo, dir)
	}
	return nil
}

func (w *dirWriter) syncDir(dir string) error {
	path := w.d.Path(dir)
	if err := w.step("syncdir", path); err != nil {
		return err
	}
	return durable.SyncDir(path)
}

// Put implements Writer.
func (w *dirWriter) Put(name string, data []byte) error {
	t, err := w.Create()
	if err != nil {
		return err
	}
	defer w.Drop(t)
	if _, err = t.Write(data); err == nil {
		err = w.Publish(t, name)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Whoever made what is there already may not have come to this.
	if serr := w.Sync(parent(name)); serr != nil {
		return serr
	}
	return err
}

// Date implements Writer.
func (w *dirWriter) Date(name string) error {
	f, st, err := openFile(w.d.Path(name))
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	if !infoOf(st).Time.IsZero() {
		return nil
	}
	switch err := touch(f.Name()); {
	case errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return err
	}
	return f.Sync()
}

// Delete implements Writer.
func (w *dirWriter) Delete(name string) error {
	path := w.d.Path(name)
	if err := w.step("unlink", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Drop implements Writer.
func (w *dirWriter) Drop(x Temp) {
	t := x.(*temp)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.temps[t.Name()] != nil {
		// If it cannot be removed it stays for a sweep.
		_ = os.Remove(t.Name())
		delete(w.temps, t.Name())
		w.written.Add(-Block - t.n)
	}
	_ = t.Close() // nothing of it counts, or it is closed
}

// Now implements Writer: the time of the file system, which may be another machine's.
func (w *dirWriter) Now() (time.Time, error) {
	x, err := w.Create()
	if err != nil {
		return time.Time{}, err
	}
	defer w.Drop(x)
	st, err := x.(*temp).Stat()
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

// Written implements Writer.
func (w *dirWriter) Written() int64 { return w.written.Load() }

// Abort implements Writer.
func (w *dirWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for path := range w.temps {
		_ = os.Remove(path) // as in Drop
	}
	w.temps = map[string]*temp{}
}
