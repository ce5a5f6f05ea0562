package tool

import (
	"fmt"
	"sync"
)

// A Tally counts what happens to many files alike, and tells of it once, at the end: of 800 files that
// the same error keeps from having an attribute, one line. Its methods may be called from several
// goroutines.
type Tally struct {
	env  *Env
	many string
	mild bool // it counts notices

	mu     sync.Mutex
	counts map[string]*count
	order  []*count
}

type count struct {
	text, first string // first is the least name
	n           uint64
}

// maxTallied is how many different texts a Tally keeps. Further ones are told at once.
const maxTallied = 100

// NewTally returns an empty Tally. many is what it counts: "files", "entries".
func (e *Env) NewTally(many string) *Tally {
	return &Tally{env: e, many: many, counts: map[string]*count{}}
}

// NewNotices returns an empty Tally of what is no loss: its lines are notices, and the exit status stays.
func (e *Env) NewNotices(many string) *Tally {
	t := e.NewTally(many)
	t.mild = true
	return t
}

// say prints a line.
func (t *Tally) say(line string) {
	if t.mild {
		t.env.Notice("%s", line)
	} else {
		t.env.Warn("%s", line)
	}
}

// Add counts that text is true of name, which is fit for a message (rec.Quote). The exit status is 3 from
// now on. With -v each name is told at once.
func (t *Tally) Add(name, text string) {
	if !t.mild {
		t.env.SetWarned()
	}
	t.mu.Lock()
	c := t.counts[text]
	switch {
	case c != nil:
		c.n++
		c.first = min(c.first, name) // in whatever order they come
	case len(t.order) < maxTallied:
		c = &count{text, name, 1}
		t.counts[text] = c
		t.order = append(t.order, c)
	}
	t.mu.Unlock()
	if c == nil {
		t.say(name + ": " + text)
		return
	}
	t.env.Log.Debug(name + ": " + text)
}

// Tell prints a line for each text, in the order in which they came first, and forgets them. also, unless it
// is nil, gets each line too.
func (t *Tally) Tell(also func(line string)) {
	t.mu.Lock()
	order := t.order
	t.order = nil
	clear(t.counts)
	t.mu.Unlock()
	for _, c := range order {
		line := c.first + ": " + c.text
		if c.n > 1 {
			line = fmt.Sprintf("%s (%d %s; first: %s)", c.text, c.n, t.many, c.first)
		}
		t.say(line)
		if also != nil {
			also(line)
		}
	}
}
