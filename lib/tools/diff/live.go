package diff

import (
	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/tool"
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
		l.err = scan.Walk(roots, scan.Options{Report: liveReport{env}, Choose: cover}, func(e *rec.Entry) error {
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
// below its roots, and the directories above them. A root that is the directory itself, and not
// an entry (as of a list of files), covers nothing: what is in the snapshot's directories they say
// themselves.
type cover struct {
	roots []rec.Root
	all   bool // the snapshot has the root itself
}

// Drop implements tree.Chooser.
func (c *cover) Drop(path string, _ rec.Type) bool {
	at, above := c.covers(path)
	return !at && !above
}

// Take implements tree.Chooser.
func (c *cover) Take(string, *inode.Stat, bool) bool { return true }

// Looks implements tree.Chooser.
func (c *cover) Looks() bool { return false }

// Enter implements tree.Chooser.
func (c *cover) Enter(*scan.Dir) []string { return nil }

// covers reports whether a path is at or below a root, or above one.
func (c *cover) covers(path string) (at, above bool) {
	if c.all {
		return true, false
	}
	for _, r := range c.roots {
		if r.Path == "" {
			above = true
			continue
		}
		if rec.Below(path, r.Path) {
			return true, false
		}
		above = above || rec.Below(r.Path, path)
	}
	return false, above
}
