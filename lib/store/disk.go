package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
)

// errAborted is what writers see after abort.
var errAborted = errors.New("aborted")

// A disk is all that one put does to the file system: it makes temporaries,
// gives them their final names, makes both durable, and removes its own
// temporaries and those of puts that died, nothing else. It may be used by many
// goroutines.
//
// A temporary is locked, with a lock of its own, for as long as whoever made it
// needs it. The lock goes with the process, however that ends: so a temporary that
// can be locked is nobody's.
type disk struct {
	tmp    string // directory of the temporaries
	share  sharing
	mu     sync.Mutex
	temps  map[string]*temp
	closed bool
	// written is how many bytes were written, of all files together, and for each of them a
	// block, since its last one may have been begun only. What was removed does not count.
	written atomic.Int64
	// before is called with each step before it is taken; its error is the
	// step's. It is nil but in tests.
	before func(step string) error
}

func (d *disk) step(what, path string) error {
	if d.before == nil {
		return nil
	}
	return d.before(what + " " + path)
}

// A temp is a temporary file, open for writing and locked. One goroutine writes it.
type temp struct {
	*os.File
	d *disk
	n int64 // bytes written
}

func (t *temp) Write(p []byte) (int, error) {
	if err := t.d.step("write", t.Name()); err != nil {
		return 0, err
	}
	n, err := t.File.Write(p)
	t.n += int64(n)
	t.d.written.Add(int64(n))
	return n, err
}

// settle makes the file's contents durable. The file stays open, and so locked.
func (t *temp) settle() error {
	if err := t.d.step("sync", t.Name()); err != nil {
		return err
	}
	return t.Sync()
}

// tempPrefix begins the names of temporaries.
const tempPrefix = "put-"

// create makes a temporary, for those who share the repository.
func (d *disk) create() (*temp, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errAborted
	}
	for tries := 1; ; tries++ {
		path := d.tmp + "/" + tempPrefix + rand.Text()
		if err := d.step("create", path); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, d.share.file)
		if err != nil {
			return nil, err
		}
		if err := d.share.fit(f); err != nil {
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
			return nil, fmt.Errorf("make a temporary in %q: others remove it at once", d.tmp)
		}
		d.written.Add(block)
		t := &temp{File: f, d: d}
		d.temps[path] = t
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

// sweep removes the temporaries of puts that were killed: those that it can lock.
// Where there are no locks it removes none. What it cannot open or remove stays:
// it harms nobody.
func (d *disk) sweep() (removed int) {
	list, err := os.ReadDir(d.tmp)
	if err != nil {
		return 0
	}
	for _, e := range list {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		f, err := os.OpenFile(d.tmp+"/"+e.Name(), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
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

// publish gives a temporary its final name, without replacing anything: then
// the error is fs.ErrExist. Only behind that is the file closed, which unlocks it;
// it was synced, so that closing has nothing to tell.
func (d *disk) publish(t *temp, final string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temps[t.Name()] == nil {
		return errAborted
	}
	if err := d.step("publish", final); err != nil {
		return err
	}
	err := durable.Publish(t.Name(), final)
	if err == nil {
		delete(d.temps, t.Name())
		_ = t.Close()
	}
	return err
}

// mkdir makes a directory and reports whether it was not there.
func (d *disk) mkdir(path string) (fresh bool, err error) {
	if err := d.step("mkdir", path); err != nil {
		return false, err
	}
	err = d.share.mkdir(path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func (d *disk) syncDir(path string) error {
	if err := d.step("syncdir", path); err != nil {
		return err
	}
	return durable.SyncDir(path)
}

// remove closes a temporary, and removes it if it has not got another name.
func (d *disk) remove(t *temp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temps[t.Name()] != nil {
		// If it cannot be removed it stays for a sweep.
		_ = os.Remove(t.Name())
		delete(d.temps, t.Name())
		d.written.Add(-block - t.n)
	}
	_ = t.Close() // nothing of it counts, or it is closed
}

// abort removes all temporaries and lets no more be made.
func (d *disk) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for path := range d.temps {
		_ = os.Remove(path) // as in remove
	}
	d.temps = map[string]*temp{}
}

// writeObject makes a small object that is there, whole, after power loss. If
// it is there already it is left as it is.
func (p *Put) writeObject(data []byte, dir, name string) error {
	f, err := p.disk.create()
	if err != nil {
		return p.spaceError(err)
	}
	defer p.disk.remove(f)
	if _, err = f.Write(data); err == nil {
		if err = f.settle(); err == nil {
			err = p.disk.publish(f, p.r.path(dir, name))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return p.spaceError(fmt.Errorf("write %s/%s: %w", dir, name, err))
	}
	return p.spaceError(p.disk.syncDir(p.r.path(dir)))
}
