package chunk

import (
	"math"
	"time"

	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/rec"
	"preserve/lib/source"
)

// A trust is the rule by which an entry of a cache stands for a file.
type trust struct {
	margin                   time.Duration
	ignoreCTime, ignoreInode bool
	distrust                 *ids.List // of blobs that are not in the repository; nil for none
}

// networkMargin is how many times the margin is kept where the times of files
// come from another machine.
const networkMargin = 5

// cutoffs are the times before which a file must have changed last, to be trusted
// from a cache of a run that began at t: here, and on another machine.
func (t *trust) cutoffs(began rec.Time) (near, far rec.Time) {
	near = earlier(began, t.margin)
	far = near
	for range networkMargin - 1 {
		far = earlier(far, t.margin)
	}
	return near, far
}

// earlier is a time d before t, or the earliest there is.
func earlier(t rec.Time, d time.Duration) rec.Time {
	sec, nsec := int64(d/time.Second), int64(t.Nsec)-int64(d%time.Second)
	if nsec < 0 {
		sec, nsec = sec+1, nsec+int64(time.Second)
	}
	if t.Sec < math.MinInt64+sec {
		return rec.Time{Sec: math.MinInt64}
	}
	return rec.Time{Sec: t.Sec - sec, Nsec: uint32(nsec)}
}

func before(a, b rec.Time) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// same reports whether what a cache says of a path, k, is still true of what the
// scan found there, e. It does not look at the content. near and far are the
// cutoffs of the cache.
func (t *trust) same(e, k *rec.Entry, near, far rec.Time, system func(*rec.Entry) source.FileSystem) bool {
	switch {
	case k.Type != e.Type, k.Size != e.Size, k.MTime != e.MTime:
		return false
	case k.Err != "", k.Inconsistent, k.Off != 0, e.Off != 0:
		return false
	case k.CTime == rec.Time{}: // it was not read as it should, or nobody knows what was read
		return false
	case k.CTime != e.CTime && !t.ignoreCTime:
		return false
	}
	changed := e.CTime
	if t.ignoreCTime {
		changed = e.MTime
	}
	inode := t.ignoreInode || k.Ino == e.Ino
	switch {
	case !before(changed, near):
		return false
	case inode && before(changed, far) && t.ignoreCTime:
		return true
	}
	on := system(e)
	return (inode || !on.Inodes) && (!on.Network || before(changed, far)) && (on.ChangeTimes || t.ignoreCTime)
}

// distrusts reports whether an extent lies in a blob that is not to be relied on.
func (t *trust) distrusts(extents []rec.Extent) (bool, error) {
	if t.distrust == nil {
		return false, nil
	}
	var last id.ID
	for i := range extents {
		x := &extents[i]
		if x.Hole || x.ID == last {
			continue
		}
		last = x.ID
		if has, err := t.distrust.Has(last); has || err != nil {
			return has, err
		}
	}
	return false, nil
}
