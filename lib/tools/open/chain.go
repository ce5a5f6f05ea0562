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
func (l *snapshotList) chains() {
	var here id.Set
	for i := range l.list {
		here.Add(l.list[i].id)
	}
	for i := range l.list {
		f := &l.list[i]
		f.gap = f.opened && !f.prev.IsZero() && !here.Has(f.prev) && !l.forgotten.Has(f.prev)
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
		case !f.gap || !concerns(f):
		case told == maxGaps:
			more++
		default:
			told++
			say := l.env.Notice
			if jobs[f.job] {
				say = l.env.Say
			}
			say("snapshot %s of %s follows %s, which is not here, and no mark says that it was forgotten", f.id.Short(), reading.Stamp(f.time), f.prev.Short())
		}
		if f.opened {
			jobs[f.job] = true
		}
	}
	if more > 0 {
		l.env.Say("%s", plural(more, "more snapshot follows one that is not here", "more snapshots follow one that is not here"))
	}
}
