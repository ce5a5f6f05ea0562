package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"preserve/lib/pack"
	"preserve/lib/rec"
)

// A QuotaError says that the repository is as large as it may become.
type QuotaError struct {
	Dir string
	Max int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("repository %q has reached the size that it may have here, %s", e.Dir, size(uint64(e.Max)))
}

// What a record takes beside its data, in bytes, or a little more.
const (
	blobFrame   = 160                  // keys and lengths of a blob record
	sessionSize = rec.SessionSize + 32 // a session record
	rowCost     = 2*pack.RowSize + 1   // rows of toc and segment, and their checksum
	// packCost is head, frame of the toc, and end of a pack, its place in the table of a
	// segment, and that segment's head, last checksum and last block.
	packCost = 66 + 17 + 128 + 40 + 20 + block
)

// block is what a file takes at least, and what its size is rounded up to.
const block = 4 << 10

// recordSize returns no less than the bytes of a blob's record.
func recordSize(b *rec.Blob) int { return len(b.Refs) + len(b.Data) + len(b.Sig) + blobFrame }

// sizeIn returns no less than what b adds to the repository, if it is appended to o: its
// record, its session, the rows of both, the pack.
func sizeIn(o *openPack, b *rec.Blob) int {
	n := recordSize(b) + rowCost
	if o == nil || !o.w.HasSession(b.SID) {
		n += sessionSize + rowCost
	}
	if o == nil {
		n += packCost + eventPack + block
	}
	return n
}

// How much a put writes before it counts again what the repository has: a part of what is
// left, so that many at once do not exceed it, within these bounds.
const (
	recountMin  = 16 << 20
	recountMax  = 1 << 30
	recountPart = 64
)

// A quota bounds the bytes of all files of a repository, in whole blocks. What this put writes is counted
// when it is written, whatever it is; what others write is seen when all is counted
// again.
type quota struct {
	max  int64 // 0 for none
	left int64 // when all was counted
	at   int64 // written by this put until then
	due  int64 // how much may be written before all is counted again
}

// checkQuota returns a QuotaError if n more bytes, and what is owed for all that was
// appended, exceed the quota: so that what was appended can be listed whatever happens. What
// writes nothing exceeds nothing.
func (p *Put) checkQuota(n int64) error {
	q := &p.quota
	if q.max == 0 {
		return nil
	}
	need := n + p.owed
	if need > 0 {
		need += p.logOwed()
	}
	if done := p.written() - q.at; q.due > 0 && done < q.due && done+need <= q.left {
		return nil
	}
	q.at = p.disk.written.Load()
	used, err := p.r.used()
	if err != nil {
		return err
	}
	q.left = q.max - used
	q.due = min(max(q.left/recountPart, recountMin), recountMax)
	if p.written()-q.at+need > q.left {
		return &QuotaError{p.r.dir, q.max}
	}
	return nil
}

// written returns how many bytes this put has written, with those on their way to the
// files of open packs.
func (p *Put) written() int64 {
	n := p.disk.written.Load()
	for _, o := range p.open {
		if o != nil {
			n += o.w.Size() - o.f.n
		}
	}
	return n
}

// used returns the bytes of all files of the repository, each in whole blocks, on whatever
// disks its directories lie. A file that is published meanwhile is counted once: temporaries come first.
func (r *Repo) used() (n int64, err error) {
	type file struct{ dev, ino uint64 }
	temps := map[file]bool{}
	add := func(remember bool) fs.WalkDirFunc {
		return func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary of another put
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			st, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				f := file{sys.Dev, sys.Ino}
				if !remember && temps[f] {
					return nil
				}
				if remember {
					temps[f] = true
				}
			}
			n += (st.Size() + block - 1) / block * block
			return nil
		}
	}
	err = filepath.WalkDir(r.path("tmp")+"/", add(true))
	for _, place := range r.Places() {
		if err == nil {
			err = filepath.WalkDir(place+"/", add(false))
		}
	}
	if err != nil {
		err = fmt.Errorf("add up the repository's size: %w", err)
	}
	return n, err
}
