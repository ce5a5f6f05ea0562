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
// first one of a job may well have been copied without those before it.
func (l *snapshotList) tellGaps(concerns func(*found) bool) {
	jobs := map[[16]byte]bool{}
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
			if jobs[f.job] {
				say = l.env.Say
			}
			say("snapshot %s of %s follows %s, which %s, and no mark says that it was forgotten", f.id.Short(), reading.Stamp(f.time), f.prev.Short(), f.gap)
		}
		if f.opened {
			jobs[f.job] = true
		}
	}
	if more > 0 {
		l.env.Say("%s", plural(more, "more snapshot follows one that is not here or does not open", "more snapshots follow one that is not here or does not open"))
	}
}
