package target

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// What was refused once is not tried again; any other error says nothing of the
// next time.
func TestPowerIsTriedOnce(t *testing.T) {
	tg, _, _ := target(t)
	calls := 0
	try := func(power string, err error) error {
		return tg.try(power, func() error { calls++; return err })
	}
	for _, c := range []struct {
		power     string
		err, want error
		calls     int
	}{
		{powerDevice, nil, nil, 1},
		{powerDevice, unix.ENOSPC, unix.ENOSPC, 2},
		{powerDevice, unix.EPERM, fs.ErrPermission, 3},
		{powerDevice, nil, fs.ErrPermission, 3},
		{powerTrusted, nil, nil, 4},
	} {
		if err := try(c.power, c.err); !errors.Is(err, c.want) || calls != c.calls {
			t.Errorf("%s %v: %v after %d calls", c.power, c.err, err, calls)
		}
	}
	treetest.Must(t, tg.Close())
}

// The system call would cut these numbers and make another device.
func TestDeviceNumbers(t *testing.T) {
	tg, _, _ := target(t)
	for i, d := range []struct{ major, minor uint32 }{{maxMajor + 1, 0}, {0, maxMinor + 1}, {1<<32 - 1, 1<<32 - 1}} {
		e := &rec.Entry{Path: string(rune('a' + i)), Type: rec.Char, Major: d.major, Minor: d.minor}
		var w *Warning
		if err := create(tg, e); !errors.As(err, &w) || !errors.Is(err, errDeviceNumber) {
			t.Errorf("%d:%d: %v", d.major, d.minor, err)
		}
	}
	treetest.Must(t, tg.Close())
}
