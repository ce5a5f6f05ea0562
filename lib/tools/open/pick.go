package open

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"preserve/lib/id"
	"preserve/lib/reading"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// pickOne prints the id of the snapshot that name means, and with long what else might have
// been meant.
func (l *snapshotList) pickOne(name string, allow, long bool) error {
	f, passed, err := l.pick(name, allow)
	l.passedOver(passed, f)
	if err != nil {
		return err
	}
	l.tellGaps(func(g *found) bool { return f.opened && g.job == f.job })
	if !strings.HasPrefix(f.id.String(), strings.ToLower(name)) {
		l.tellLater(f, allow)
	}
	if !long {
		_, err = fmt.Fprintln(l.env.Stdout, f.id)
		return err
	}
	return l.writePicked(f, allow)
}

// pick returns the snapshot that name means. A label and "latest" mean whole snapshots
// that the key opens, and pass over those of revoked writers, if they are not allowed: passed
// are those that would have been meant, the newest last. The beginning of an id means only
// what the key opens, unless it opens nothing at all.
func (l *snapshotList) pick(name string, allow bool) (f *found, passed []*found, err error) {
	var byLabel, byPrefix *found
	prefixes := 0
	lower := strings.ToLower(name)
	_, err = id.Parse(lower)
	entire := err == nil // who asks for a whole id wants that snapshot and none, whatever labels there are
	for i := range l.list {
		f := &l.list[i]
		switch {
		case entire || !f.whole() || name != "latest" && !f.labelled:
		case f.revoked != "" && !allow:
			passed = append(passed, f)
		default:
			byLabel, passed = f, nil // the list is in order of arrival
		}
		if len(name) >= 4 && name != "latest" && (f.opened || l.open == nil || len(name) == 2*id.Size) && strings.HasPrefix(f.id.String(), lower) {
			byPrefix = f
			prefixes++
		}
	}
	switch {
	case byLabel != nil && byPrefix != nil:
		return nil, nil, fmt.Errorf("%q is both a label and the beginning of snapshot %s: give more of the id", name, byPrefix.id)
	case prefixes > 1:
		return nil, nil, fmt.Errorf("%q is the beginning of %d snapshots: give more of the id", name, prefixes)
	case byPrefix != nil:
		return byPrefix, nil, nil
	case byLabel != nil:
		return byLabel, passed, nil
	}
	return nil, passed, l.none(name)
}

// choice returns what is printed of a snapshot that might be meant. In columns with tabs
// between: id, time, writer, host, label; "-" stands for what there is not.
func (l *snapshotList) choice(f *found, _ string, s *snap.Snapshot) []byte {
	if s == nil {
		return fmt.Appendf(nil, "%s\t-\t-\t-\t-\n", f.id)
	}
	return fmt.Appendf(nil, "%s\t%s\t%s\t%s\t%s\n", f.id, s.Time.Std().Local().Format(time.DateTime),
		tool.Mask(s.WriterName), tool.Mask(cmp.Or(s.Host, "-")), tool.Mask(cmp.Or(s.Label, "-")))
}

// maxChoices bounds how many other snapshots are shown.
const maxChoices = 100

// writePicked prints what was picked, and after it what else might have been meant: the
// newest snapshot of each other writer, host and label, and that of the picked one's own if
// it is newer.
func (l *snapshotList) writePicked(picked *found, allow bool) error {
	lines, seen := []*found{picked}, map[[16]byte]bool{}
	more := 0
	for i := range slices.Backward(l.list) { // the newest first
		f := &l.list[i]
		switch {
		case !f.whole():
		case f.id == picked.id:
			seen[f.job] = true
		case !seen[f.job] && (f.revoked == "" || allow):
			if seen[f.job] = true; len(lines) <= maxChoices {
				lines = append(lines, f)
			} else {
				more++
			}
		}
	}
	for _, f := range lines {
		b, err := l.lineOf(f)
		if err != nil {
			return err
		}
		if _, err := l.env.Stdout.Write(b); err != nil {
			return err
		}
	}
	if more > 0 {
		l.env.Notice("%s", plural(more, "more writer, host and label has snapshots: pv-list shows them", "more writers, hosts and labels have snapshots: pv-list shows them"))
	}
	return nil
}

// passedOver says which snapshots a label or "latest" would have meant, had their
// writers not been revoked. What is picked is older than all of them.
func (l *snapshotList) passedOver(passed []*found, picked *found) {
	if len(passed) == 0 {
		return
	}
	f := passed[len(passed)-1]
	what := "snapshot " + f.id.Short()
	if n := len(passed); n > 1 {
		what = fmt.Sprintf("%d snapshots, the newest", n) + " " + f.id.Short()
	}
	l.env.Say("passed over: %s of %s, received at %s: its writer %q, key %x, has been revoked (%s)",
		what, reading.Stamp(f.time), reading.Stamp(f.received), f.writer, f.key, f.revoked)
	if picked != nil {
		l.env.Notice("taken instead: snapshot %s", picked.id.Short())
	}
}

// none says that a name means nothing, and why.
func (l *snapshotList) none(name string) error {
	err := fmt.Errorf("no snapshot is meant by %q among the %d in the repository", name, len(l.list))
	digits := strings.Trim(name, "0123456789abcdefABCDEF") == ""
	switch {
	case len(name) < 4 && digits:
		return &tool.Hint{Err: err, Text: "the beginning of an id takes 4 digits or more"}
	case l.why != "" && len(l.list) > 0:
		return &tool.Hint{Err: err, Text: "labels and \"latest\" cannot be read: " + l.why}
	}
	for i := range l.list {
		f := &l.list[len(l.list)-1-i]
		begins := digits && strings.HasPrefix(f.id.String(), strings.ToLower(name))
		switch {
		case f.why != "" && (begins || i == 0 && !digits):
			return &tool.Hint{Err: err, Text: fmt.Sprintf("snapshot %s does not count: %s", f.id.Short(), f.why)}
		case f.partial && !digits && i == 0:
			return &tool.Hint{Err: err, Text: fmt.Sprintf("snapshot %s is the checkpoint of a run that did not end, not a whole snapshot", f.id.Short())}
		}
	}
	return err
}
