// Package reading is what all tools have in common that read the content of a
// snapshot, sealed or not: which part of it the user wants (Choice, Chooser), whose
// files are to be on this system, and what is told of that which cannot be had (Base).
//
// It knows no key.
package reading

import (
	"errors"
	"strings"
	"time"

	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// Stall is how long nothing may arrive: a stage that is alive sends a tick every
// ten seconds.
const Stall = 15 * time.Minute

// Idle is how long signs of life may be all that arrives.
const Idle = time.Hour

// Whole is how much data a file has at most that an output which cannot be taken back
// begins only when all of it is there.
const Whole = 32 << 20

// Base is what all sinks have in common: they name what cannot be had.
type Base struct {
	Env    *tool.Env
	Choose *Chooser
	ID     id.ID
	Snap   *snap.Snapshot
}

// Snapshot implements content.Sink.
func (b *Base) Snapshot(i id.ID, s *snap.Snapshot) error {
	b.ID, b.Snap = i, s
	return b.Choose.Begin(s)
}

// Gap implements content.Sink.
func (b *Base) Gap(first page.Key, next *page.Key, l content.Loss) error {
	switch {
	case errors.Is(l.Why, content.ErrPartial):
		b.Env.Notice("the checkpoint ends at %s: what comes behind it is not in it", rec.Quote(first.Path))
		return nil
	case errors.Is(l.Why, content.ErrTold): // the end record has the status
		return nil
	}
	to := "the end"
	if next != nil {
		to = "before " + next.String()
	}
	b.Env.Warn("page %s %s; everything from %s to %s is lost", l.ID.Short(), l, first, to)
	return nil
}

// Flawed names an entry that was not stored as it was.
func (b *Base) Flawed(e *rec.Entry) {
	switch {
	case e.Err != "" && e.Type == rec.Dir:
		b.Env.Warn("%s: was stored without what is in it: %s", rec.Quote(e.Path), e.Err)
	case e.Err != "":
		b.Env.Warn("%s: was stored without content: %s", rec.Quote(e.Path), e.Err)
	case e.Inconsistent:
		b.Env.Warn("%s: changed while it was backed up: its content is of different moments", rec.Quote(e.Path))
	}
}

// End passes on what the stage before left out, and has named.
func (b *Base) End(e *rec.End) error {
	if e.Status != 0 {
		b.Env.SetWarned()
	}
	return nil
}

// Orphan implements content.Sink.
func (b *Base) Orphan(e *rec.Entry) error {
	b.Env.Warn("%s: %s", rec.Quote(e.Path), page.ErrOrphan)
	return nil
}

// LostFiles names the files that a missing blob belongs to.
func LostFiles(p *content.Page, ref int) string {
	var names []string
	last := -1
	for _, u := range p.Uses[ref] {
		if u.Entry != last {
			names = append(names, rec.Quote(p.Entries[u.Entry].Path))
			last = u.Entry
		}
	}
	return strings.Join(names, ", ")
}

// Stamp writes a time for programs.
func Stamp(t rec.Time) string { return t.Std().Format(time.RFC3339Nano) }

// A Source is where a snapshot comes from. Walk gives sink all that choose, which may be nil,
// lets through; with meta only names and metadata are needed.
type Source interface {
	Walk(meta bool, choose content.Chooser, sink content.Sink) error
}
