package target

import (
	"errors"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
)

var errHalf = errors.New("it was patched in place and is now neither the old file nor the new one: restore it again")

// patches has a file that is patched in place known to Cleanup; it reports
// whether it may be.
func (t *Target) patches(o *Out) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dead {
		t.patched[o] = struct{}{}
	}
	return !t.dead
}

// whole says that the content of a file that is patched in place is complete; it
// reports whether Cleanup did not take it to be half before.
func (t *Target) whole(o *Out) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.patched[o]
	delete(t.patched, o)
	return ok
}

// change has fn change the old content; not any more, in place, when Cleanup has
// come.
func (o *Out) change(fn func() error) error {
	if o.inPlace {
		t := o.n.t
		t.creating.RLock()
		defer t.creating.RUnlock()
		t.mu.Lock()
		dead := t.dead
		t.mu.Unlock()
		if dead {
			return inode.ErrClosed
		}
	}
	o.dirty.Store(true)
	return fn()
}

// abortInPlace gives a file up that may be changed in part.
func (o *Out) abortInPlace() {
	o.n.t.whole(o)
	o.nameHalf()
}

// nameHalf names a file that is changed in part, once; its time must not say that
// it is complete.
func (o *Out) nameHalf() {
	o.naming.Lock() // abort closes the descriptor
	defer o.naming.Unlock()
	if o.dirty.Load() && !o.named {
		o.named = true
		_ = unix.Futimes(o.fd, nil) // now: the writes have done so as a rule
		o.n.t.report(o.n.e.Path, "restore", errHalf)
	}
}
