package store

import (
	"fmt"

	"preserve/lib/objects"
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

const block = objects.Block

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
	q.at = p.w.Written()
	used, err := p.r.o.Used()
	if err != nil {
		return err
	}
	q.left = q.max - used
	q.due = min(max(q.left/recountPart, recountMin), recountMax)
	if p.written()-q.at+need > q.left {
		return &QuotaError{p.r.String(), q.max}
	}
	return nil
}

// written returns how many bytes this put has written, with those on their way to the
// files of open packs.
func (p *Put) written() int64 {
	n := p.w.Written()
	for _, o := range p.open {
		if o != nil {
			n += o.w.Size() - o.f.Written()
		}
	}
	return n
}
