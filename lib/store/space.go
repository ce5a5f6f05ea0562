package store

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// A SpaceError says that the repository's file system is full, or nearly.
type SpaceError struct {
	Dir        string
	Free, Need uint64 // bytes; Need must stay free
	Inodes     bool   // it is the number of files that is used up
}

func (e *SpaceError) Error() string {
	if e.Inodes {
		return fmt.Sprintf("the file system of %q has no room for another file (no inodes left)", e.Dir)
	}
	if e.Free >= e.Need {
		return fmt.Sprintf("the file system of %q is full: %s are free, which is too little for the next file", e.Dir, size(e.Free))
	}
	return fmt.Sprintf("the file system of %q is full: %s are free where %s must stay free: at least %s more are needed",
		e.Dir, size(e.Free), size(e.Need), size(e.Need-min(e.Need, e.Free)))
}

func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}

// maxReserve is how much must stay free on a large file system; on a small one
// it is a hundredth.
const maxReserve = 256 << 20

// space returns the free bytes and how many must stay free. A file system that
// does not know its size has no reserve.
func space(dir string) (free, need uint64, inodes bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, false, fmt.Errorf("ask for the free space of %q: %w", dir, err)
	}
	if st.Blocks == 0 {
		return math.MaxInt64, 0, false, nil
	}
	unit := uint64(max(st.Frsize, 1))
	return st.Bavail * unit, min(st.Blocks*unit/100, maxReserve), st.Files > 0 && st.Ffree == 0, nil
}

// askEvery is how much is written before the free space is asked for again:
// others write, too.
const askEvery = 16 << 20

// checkRoom returns a QuotaError or a SpaceError if n bytes, and what is to be written of
// all records when the run ends, exceed the quota, or would come into the reserve.
func (p *Put) checkRoom(n int) error {
	if err := p.checkQuota(int64(n)); err != nil {
		return err
	}
	want := int64(n) + 4<<10 // a directory
	if p.room >= want {
		p.room -= want
		return nil
	}
	free, need, inodes, err := space(p.r.dir)
	if err != nil {
		return err
	}
	// And the objects of a commit.
	need += uint64(want) + uint64(p.owed+p.logOwed()) + 16<<10
	if need > free || inodes {
		return &SpaceError{p.r.dir, free, need, inodes}
	}
	p.room = min(int64(free-need), askEvery)
	return nil
}

// spaceError turns a failed write for want of space into a SpaceError.
func (p *Put) spaceError(err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	free, need, inodes, serr := space(p.r.dir)
	if serr != nil || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return &SpaceError{p.r.dir, free, need, inodes}
}
