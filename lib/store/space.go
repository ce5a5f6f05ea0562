package store

import (
	"errors"
	"fmt"

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

// askEvery is how much is written before the free space is asked for again:
// others write, too.
const askEvery = 16 << 20

// checkRoom returns a QuotaError or a SpaceError if n bytes, and what is to be written of
// all records when the run ends, exceed the quota, or would come into the reserve.
func (p *Put) checkRoom(n int) error {
	if err := p.checkQuota(int64(n)); err != nil {
		return err
	}
	if p.o.collector {
		return nil
	}
	want := int64(n) + 4<<10 // a directory
	if p.room >= want {
		p.room -= want
		return nil
	}
	s, err := p.r.o.Space()
	if err != nil {
		return err
	}
	// And the objects of a commit.
	need := s.Reserve + uint64(want) + uint64(p.owed+p.logOwed()) + 16<<10
	if need > s.Free || s.NoInodes {
		return &SpaceError{p.r.String(), s.Free, need, s.NoInodes}
	}
	p.room = min(int64(s.Free-need), askEvery)
	return nil
}

// spaceError turns a failed write for want of space into a SpaceError.
func (p *Put) spaceError(err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	s, serr := p.r.o.Space()
	if serr != nil || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return &SpaceError{p.r.String(), s.Free, s.Reserve, s.NoInodes}
}
