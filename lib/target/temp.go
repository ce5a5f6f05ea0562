package target

import (
	"strconv"

	"preserve/lib/inode"
)

// A temp is something that is being made under a temporary name.
type temp struct {
	dir  *dir
	name string
}

// newName returns a temporary name that was not given before.
func (t *Target) newName() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names++
	return t.prefix + strconv.FormatUint(t.names, 36)
}

// makeTemp has fn make something under a temporary name in a directory, and has
// it known to Cleanup before it is there. It is forgotten again if fn fails.
func (t *Target) makeTemp(o *temp, d *dir, fn func(dirfd int, name string) error) error {
	t.creating.RLock()
	defer t.creating.RUnlock()
	t.mu.Lock()
	t.names++
	o.dir, o.name = d, t.prefix+strconv.FormatUint(t.names, 36)
	t.temps[o] = struct{}{}
	dead := t.dead
	t.mu.Unlock()
	err := error(inode.ErrClosed)
	if !dead {
		err = t.marked()
	}
	if err != nil {
		t.forgetTemp(o)
		return err
	}
	err = t.inDir(d, func(dirfd int) error { return fn(dirfd, o.name) })
	if err != nil {
		t.forgetTemp(o)
	}
	return err
}

// marked sets the mark, once.
func (t *Target) marked() error {
	t.mark.Do(func() { t.markErr = t.setMark() })
	return t.markErr
}

func (t *Target) forgetTemp(o *temp) { t.mu.Lock(); defer t.mu.Unlock(); delete(t.temps, o) }

// removeTemp removes what is under the name; if it is gone, so much the better.
func (t *Target) removeTemp(o *temp) {
	if fd, err := t.acquire(o.dir); err == nil {
		_ = unlinkAny(fd, o.name)
		t.release(o.dir)
	}
}
