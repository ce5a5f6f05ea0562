package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"preserve/lib/durable"
)

// errAborted is what writers see after abort.
var errAborted = errors.New("aborted")

// A disk is all that one put does to the file system: it makes temporaries,
// gives them their final names, makes both durable, and removes its own
// temporaries, nothing else. It may be used by many goroutines.
type disk struct {
	tmp    string // directory of the temporaries
	mu     sync.Mutex
	temps  map[string]bool
	closed bool
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

// A temp is a temporary file, open for writing.
type temp struct {
	*os.File
	d *disk
}

func (t *temp) Write(p []byte) (int, error) {
	if err := t.d.step("write", t.Name()); err != nil {
		return 0, err
	}
	return t.File.Write(p)
}

// settle makes the file's contents durable and closes it.
func (t *temp) settle() error {
	err := t.d.step("sync", t.Name())
	if err == nil {
		err = t.Sync()
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	return err
}

// create makes a temporary that only its owner reads.
func (d *disk) create() (*temp, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errAborted
	}
	path := d.tmp + "/put-" + rand.Text()
	if err := d.step("create", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	d.temps[path] = true
	return &temp{f, d}, nil
}

// publish gives a temporary its final name, without replacing anything: then
// the error is fs.ErrExist.
func (d *disk) publish(path, final string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.temps[path] {
		return errAborted
	}
	if err := d.step("publish", final); err != nil {
		return err
	}
	err := durable.Publish(path, final)
	if err == nil {
		delete(d.temps, path)
	}
	return err
}

// mkdir makes a directory and reports whether it was not there.
func (d *disk) mkdir(path string) (fresh bool, err error) {
	if err := d.step("mkdir", path); err != nil {
		return false, err
	}
	err = os.Mkdir(path, dirPerm)
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

// remove removes a temporary that is not needed.
func (d *disk) remove(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temps[path] {
		// If it cannot be removed it stays as a stale temporary, which harms
		// nobody.
		_ = os.Remove(path)
		delete(d.temps, path)
	}
}

// abort removes all temporaries and lets no more be made.
func (d *disk) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for path := range d.temps {
		_ = os.Remove(path) // as in remove
	}
	d.temps = map[string]bool{}
}

// writeObject makes a small object that is there, whole, after power loss. If
// it is there already it is left as it is.
func (p *Put) writeObject(data []byte, dir, name string) error {
	f, err := p.disk.create()
	if err != nil {
		return p.spaceError(err)
	}
	defer p.disk.remove(f.Name())
	if _, err = f.Write(data); err != nil {
		_ = f.Close() // nothing of it counts
	} else if err = f.settle(); err == nil {
		err = p.disk.publish(f.Name(), p.r.path(dir, name))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return p.spaceError(fmt.Errorf("write %s/%s: %w", dir, name, err))
	}
	return p.spaceError(p.disk.syncDir(p.r.path(dir)))
}
