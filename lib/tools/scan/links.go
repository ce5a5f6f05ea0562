package scan

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// few is how many of a kind are named, unless all are with -v. The others are
// counted.
const few = 10

// A tally names the first few of a kind and counts them all.
type tally struct {
	env *tool.Env
	n   int
}

// add names one more, if it is to be named.
func (t *tally) add(format string, args ...any) {
	if t.n++; t.n <= few || t.all() {
		t.env.Notice(format, args...)
	}
}

func (t *tally) all() bool { return t.env.Log.Enabled(context.Background(), slog.LevelDebug) }

// rest says how many were not named, and what they are: one, or several.
func (t *tally) rest(one, several string) {
	switch more := t.n - few; {
	case more <= 0 || t.all():
	case more == 1:
		t.env.Notice("and one more %s (-v names each)", one)
	default:
		t.env.Notice("and %d more %s (-v names each)", more, several)
	}
}

// leads tells what leads out of the backup. It is a tree.LinkReporter. All it
// says are notices: the backup is what was asked for.
type leads struct{ links, files tally }

func newLeads(env *tool.Env) *leads { return &leads{tally{env: env}, tally{env: env}} }

// LeadsOut implements tree.LinkReporter.
func (l *leads) LeadsOut(path, target, place string) {
	where := rec.Quote(target)
	if target != place {
		where += " (" + rec.Quote(place) + ")"
	}
	l.links.add("%s: is a link to %s, which is not in this backup", name(path), where)
}

// NamesOutside implements tree.LinkReporter.
func (l *leads) NamesOutside(names []string, met, all uint32) {
	for i, n := range names {
		names[i] = name(n)
	}
	first := strings.Join(names, ", ")
	if more := int(met) - len(names); more > 0 {
		first += fmt.Sprintf(" and %d more", more)
	}
	l.files.add("%s: %d of the %d names of one file: the others are not in this backup", first, met, all)
}

// end counts what was not named.
func (l *leads) end() {
	l.links.rest("link like that", "links like that")
	l.files.rest("file with names outside", "files with names outside")
}

// mounts are the places where other file systems begin.
type mounts struct {
	env   *tool.Env
	first []string
	n     int
}

// add takes in one. It is a tree.Options.Mounted.
func (m *mounts) add(path string, typ rec.Type) {
	what := "something of another file system is mounted here: left out"
	switch typ {
	case rec.Dir:
		what = "another file system begins here: stored as an empty directory"
	case rec.Symlink:
		what = "leads to another file system: stored as a link"
	}
	m.env.Log.Debug(name(path) + ": " + what)
	if m.n++; len(m.first) < few {
		m.first = append(m.first, name(path))
	}
}

// end says in one line which they are.
func (m *mounts) end() {
	if m.n == 0 {
		return
	}
	list := strings.Join(m.first, ", ")
	if more := m.n - len(m.first); more > 0 {
		list += fmt.Sprintf(" and %d more (-v names each)", more)
	}
	m.env.Notice("other file systems, left out: %s", list)
}
