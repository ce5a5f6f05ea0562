package unpack

import (
	"errors"

	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/tree"
)

// A live tree is what is below a directory now, in path order: read ahead by a
// goroutine of its own, as far as the sources of the snapshot go.
type liveTree struct {
	batches chan []rec.Entry
	batch   []rec.Entry
	quit    chan struct{}
	err     error // of the walk, once batches is closed
}

// Entries are handed over in batches, of which a few wait.
const (
	liveBatch   = 256
	liveBatches = 4
)

var errQuit = errors.New("nobody wants the rest")

// newLiveTree begins to walk.
func newLiveTree(env *tool.Env, roots []rec.Root, cover *cover) *liveTree {
	l := &liveTree{batches: make(chan []rec.Entry, liveBatches), quit: make(chan struct{})}
	go func() {
		defer close(l.batches)
		var batch []rec.Entry
		send := func() error {
			select {
			case l.batches <- batch:
				batch = nil
				return nil
			case <-l.quit:
				return errQuit
			}
		}
		l.err = tree.Walk(roots, tree.Options{Report: liveReport{env}, Choose: cover}, func(e *rec.Entry) error {
			if batch = append(batch, *e); len(batch) < liveBatch {
				return nil
			}
			return send()
		})
		if l.err == nil && len(batch) > 0 {
			l.err = send()
		}
	}()
	return l
}

// peek returns the next entry, nil at the end.
func (l *liveTree) peek() (*rec.Entry, error) {
	for len(l.batch) == 0 {
		batch, ok := <-l.batches
		if !ok {
			return nil, l.err
		}
		l.batch = batch
	}
	return &l.batch[0], nil
}

// drop passes over the entry that peek returned.
func (l *liveTree) drop() { l.batch = l.batch[1:] }

// close ends the walk, and waits for it.
func (l *liveTree) close() {
	close(l.quit)
	for range l.batches {
	}
}

// A liveReport names what could not be looked at. What has vanished is missing.
type liveReport struct{ env *tool.Env }

func (r liveReport) Warn(path string, err error) { r.env.Warn("%s: %v", rec.Quote(path), err) }
func (r liveReport) Vanished(string)             {}
func (r liveReport) Skipped(path, why string) {
	r.env.Notice("%s: is not looked into: %s", rec.Quote(path), why)
}

// A cover is the part of a live tree that a snapshot speaks of: what is at and
// below its sources, and the directories above them. A snapshot tells where its
// sources were, but not from which directory on their paths are stored: every end
// of a source's path is taken for one.
type cover struct {
	sources []string
	all     bool   // the snapshot has the root itself
	inside  string // a directory that is covered, the last one met
}

// Take implements tree.Chooser.
func (c *cover) Take(path string, _ *tree.Stat) bool {
	at, above := c.covers(path)
	return at || above
}

// Enter implements tree.Chooser.
func (c *cover) Enter(*tree.Dir) []string { return nil }

// covers reports whether a path is at or below a source, or above one.
func (c *cover) covers(path string) (at, above bool) {
	if c.all || c.inside != "" && rec.Below(path, c.inside) {
		return true, false
	}
	for _, s := range c.sources {
		for i := range len(s) {
			if s[i] != '/' || i+1 == len(s) {
				continue
			}
			if end := s[i+1:]; rec.Below(path, end) {
				c.inside = end
				return true, false
			} else if rec.Below(end, path) {
				above = true
			}
		}
	}
	return false, above
}
