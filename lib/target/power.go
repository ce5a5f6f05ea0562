package target

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// Of what takes a privilege, a restore tries the first and takes the answer for
// all: an ordinary user's restore does not knock at the door for each file.
// (Owners are asked for one by one: Target.denied.)
const (
	powerDevice  = "device"
	powerTrusted = "trusted."
)

// Numbers of devices that do not fit into what the system call takes: it would
// cut them, and make another device.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

var errDeviceNumber = errors.New("no such device number on this system")

// try runs what takes a power, unless the power was refused before.
func (t *Target) try(power string, do func() error) error {
	t.mu.Lock()
	refused := t.powerless[power]
	t.mu.Unlock()
	if refused {
		return unix.EPERM
	}
	err := do()
	if errors.Is(err, unix.EPERM) {
		t.mu.Lock()
		if t.powerless == nil {
			t.powerless = map[string]bool{}
		}
		t.powerless[power] = true
		t.mu.Unlock()
	}
	return err
}

// makeDevice makes a device; e is one. A character device 0:0, with which
// overlays say that a name is gone, takes no privilege.
func (t *Target) makeDevice(dirfd int, name string, kind uint32, e *rec.Entry) error {
	if e.Major > maxMajor || e.Minor > maxMinor {
		return errDeviceNumber
	}
	mknod := func() error { return unix.Mknodat(dirfd, name, kind|0o600, int(unix.Mkdev(e.Major, e.Minor))) }
	if e.Type == rec.Char && e.Major == 0 && e.Minor == 0 {
		return mknod()
	}
	return t.try(powerDevice, mknod)
}

// setXAttr sets an extended attribute.
func (m *meta) setXAttr(x *rec.XAttr) error {
	if !strings.HasPrefix(x.Name, powerTrusted) {
		return m.in.Set(x.Name, x.Value)
	}
	return m.t.try(powerTrusted, func() error { return m.in.Set(x.Name, x.Value) })
}
