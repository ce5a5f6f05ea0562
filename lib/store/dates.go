package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/id"
	"preserve/lib/pack"
)

// A pack's time is when it was first listed, not when it was written: a put may hold back
// for long what it has written, and others store meanwhile what is then found behind it.
// Until then a pack has the time zero, and is younger than all that have one. So it
// remains if its put is killed, and whoever adopts it lists it as what came last. Packs
// whose segment is lost have a time, and keep it.

// undate takes the time from a pack that is about to be made durable. Where files cannot have the
// time zero, it keeps that at which it was written.
func undate(f *temp) error {
	if err := os.Chtimes(f.Name(), time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		return nil // it has the time at which it was written
	}
	st, err := f.Stat()
	if err != nil || undated(st) {
		return err
	}
	return touch(f.Name())
}

// undated reports whether a pack has no time.
func undated(st fs.FileInfo) bool { return st.ModTime().UnixNano() == 0 }

// touch gives a file the time of its file system.
func touch(path string) error {
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{now, now}, 0)
}

// date gives the packs that are about to be listed their time, durably, unless they have
// one. Those of another user may keep none: they stay the youngest.
func (p *Put) date(lists []pack.List) error {
	for _, l := range lists {
		if err := p.r.date(l.Name); err != nil {
			return p.spaceError(fmt.Errorf("pack %s: note when it is listed: %w", l.Name, err))
		}
	}
	return nil
}

func (r *Repo) date(name id.ID) error {
	f, err := openObject(r.packPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !undated(st) {
		return err
	}
	if err := touch(f.Name()); errors.Is(err, fs.ErrPermission) {
		return nil
	} else if err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.ages, name)
	r.mu.Unlock()
	return f.Sync()
}
