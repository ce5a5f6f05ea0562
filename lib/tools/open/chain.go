package open

import (
	"preserve/lib/id"
	"preserve/lib/reading"
)

// chains marks the snapshots that follow one that is not here. A snapshot says under its
// seal which one it builds on, its prev: whoever removes one that another builds on, or
// shows an old state with a newer snapshot in it, is seen by that. What the repository
// marks as forgotten is explained. Whatever no other snapshot builds on, as the newest of
// each job, can be removed without a trace in the list.
//
// Only what opens is here: whoever removes a snapshot can list something else under its id.
func (l *snapshotList) chains() {
	var here, shut id.Set
	for i := range l.list {
		if f := &l.list[i]; f.opened {
			here.Add(f.id)
		} else {
			shut.Add(f.id)
		}
	}
	for i := range l.list {
		switch f := &l.list[i]; {
		case !f.opened || f.prev.IsZero() || here.Has(f.prev) || l.forgotten.Has(f.prev):
		case shut.Has(f.prev):
			f.gap = "does not open"
		default:
			f.gap = "is not here"
		}
	}
}

// maxGaps is how many gaps are told one by one.
const maxGaps = 20

// tellGaps tells of snapshots that follow one that is not here, among those that concern
// the user. It is nothing that -q silences where older snapshots of the same job are here; the
// first one of a job may well have been copied without those before it. Older is what was signed
// with an earlier time: the times of arrival are the store's.
func (l *snapshotList) tellGaps(concerns func(*found) bool) {
	oldest := map[[16]byte]*found{}
	for i := range l.list {
		f := &l.list[i]
		if o := oldest[f.job]; f.opened && (o == nil || f.time.Std().Before(o.time.Std())) {
			oldest[f.job] = f
		}
	}
	told, more := 0, 0
	for i := range l.list {
		f := &l.list[i]
		switch {
		case f.gap == "" || !concerns(f):
		case told == maxGaps:
			more++
		default:
			told++
			say := l.env.Notice
			if oldest[f.job] != f {
				say = l.env.Say
			}
			say("snapshot %s of %s follows %s, which %s, and no mark says that it was forgotten", f.id.Short(), reading.Stamp(f.time), f.prev.Short(), f.gap)
		}
	}
	if more > 0 {
		l.env.Say("%s", plural(more, "more snapshot follows one that is not here or does not open", "more snapshots follow one that is not here or does not open"))
	}
}

// tellLater tells of the latest snapshot of the job of f, which a label or "latest" means, if
// it was made later than f: the store says when they arrived, and so which is the newest. It
// may be an honest one, if f was copied to it later, or if a clock was wrong.
func (l *snapshotList) tellLater(f *found, allow bool) {
	late := f
	for i := range l.list {
		if g := &l.list[i]; g.whole() && g.job == f.job && (g.revoked == "" || allow) && g.time.Std().After(late.time.Std()) {
			late = g
		}
	}
	if late != f {
		l.env.Say("snapshot %s is the last that arrived here, and says that it was made at %s; snapshot %s of the same job was made later, at %s",
			f.id.Short(), reading.Stamp(f.time), late.id.Short(), reading.Stamp(late.time))
	}
}
