package store

import (
	"preserve/lib/id"
	"preserve/lib/rec"
)

// UpOptions say what Up leaves out.
type UpOptions struct {
	// Since are snapshots: what they reach is left out, as far as it can be read.
	Since []*Snapshot
	// Known reports whether whoever gets the blobs has a data blob already; it is left
	// out. Pages never are: what is had under the id of one may refer to other blobs. It
	// may be nil. Its error ends the walk. One goroutine calls it.
	Known func(id.ID) (bool, error)
}

// Up gives what a snapshot reaches, children first, each blob once, and last the
// snapshot itself, which is never left out. Of a page of which copies refer to different blobs
// these follow each other. What cannot be given is an answer with
// Err, perhaps more than once, and what lies below it is not reached. give is
// called by one goroutine, in that order; its error ends the walk and is returned.
// It holds a bit for each row of the index, a page of each level, and what reading
// ahead takes, whatever the snapshot refers to.
func (r *Repo) Up(s *Snapshot, o UpOptions, give func(*Answer) error) error {
	v, err := r.complete()
	if err != nil {
		return err
	}
	u := &upward{r: r, p: r.newPipeline(), seen: newMarks(v), known: o.Known}
	u.p.all = true
	for _, old := range o.Since {
		u.leaveOut(old.Blob.Ref(0), rootKinds)
	}
	go func() {
		defer close(u.p.queue)
		if u.visit(s.Blob.Ref(0), rootKinds) {
			u.finished(&job{Answer: Answer{ID: s.ID, Blob: s.Blob, Session: s.Session}})
		}
	}()
	if err := u.p.run(give, nil); err != nil {
		return err
	}
	return u.failed
}

// An upward is a walk that gives what a page refers to before the page.
type upward struct {
	r      *Repo
	p      *pipeline
	seen   *marks
	known  func(id.ID) (bool, error)
	failed error // of known; valid when the queue is closed
}

// leaveOut marks all that a page reaches as seen, and the page. What is missing
// reaches nothing.
func (u *upward) leaveOut(i id.ID, want Kinds) {
	if !u.seen.add(i) {
		return
	}
	item, err := u.r.Get(i, want)
	if err != nil {
		u.r.opts.Note("blob %s: %v: what an earlier snapshot reaches through it is not left out", i, err)
		return
	}
	defer item.Free()
	for n := range item.Blob.NRefs() {
		if ref := item.Blob.Ref(n); item.Blob.Kind == rec.KindPage {
			u.seen.add(ref)
		} else {
			u.leaveOut(ref, Just(item.Blob.Kind-1))
		}
	}
}

// visit gives what a page reaches, and then the page. It reports false when the
// pipeline was ended, or known has failed. Kinds descend, so that it nests at most
// eight deep.
func (u *upward) visit(i id.ID, want Kinds) bool {
	if !u.seen.add(i) {
		return true
	}
	item, err := u.r.Get(i, want)
	if err != nil {
		return u.finished(&job{Answer: Answer{ID: i, Err: err}})
	}
	several, err := u.p.trees.of(item, want)
	if err != nil {
		item.Free()
		return u.finished(&job{Answer: Answer{ID: i, Err: err}})
	}
	if len(several) == 0 {
		if !u.below(item) {
			item.Free()
			return false
		}
		return u.give(item, want)
	}
	item.Free()
	// First what all copies refer to, and then these one after the other.
	for n := range 2 * len(several) {
		item, err := u.r.shaped(several[n%len(several)])
		if err != nil {
			return u.finished(&job{Answer: Answer{ID: i, Err: err}})
		}
		good := false
		if n < len(several) {
			good = u.below(item)
			item.Free()
		} else {
			good = u.give(item, want)
		}
		if !good {
			return false
		}
	}
	return true
}

// below gives what a page refers to.
func (u *upward) below(item *Item) bool {
	b := item.Blob
	for n := range b.NRefs() {
		good := false
		if b.Kind == rec.KindPage {
			good = u.data(b.Ref(n))
		} else {
			good = u.visit(b.Ref(n), Just(b.Kind-1))
		}
		if !good {
			return false
		}
	}
	return true
}

// give gives a page, and other copies of the same shape.
func (u *upward) give(item *Item, want Kinds) bool {
	b := item.Blob
	j := &job{Answer: Answer{ID: b.ID, Blob: b, Session: item.Session, More: u.r.more(item, want)}, item: item, size: int64(len(item.raw))}
	for _, m := range j.More {
		j.size += int64(len(m.raw))
	}
	j.size = min(j.size, maxAhead)
	return u.finished(j)
}

// data lets a data blob be read and given.
func (u *upward) data(i id.ID) bool {
	if !u.seen.add(i) {
		return true
	}
	if known, ok := u.isKnown(i); known || !ok {
		return ok
	}
	j := u.p.job(i, Just(rec.KindData))
	return u.p.start(j) && u.p.enqueue(j)
}

// isKnown reports whether a blob is known; ok is false if that cannot be told.
func (u *upward) isKnown(i id.ID) (known, ok bool) {
	if u.known == nil {
		return false, true
	}
	known, u.failed = u.known(i)
	return known, u.failed == nil
}

// finished gives an answer that is there already its place behind those that were
// started. The memory that it takes is counted from now on: a page that waits for
// what is below it must not keep that from being read.
func (u *upward) finished(j *job) bool {
	if !u.p.main.take(j.size, u.p.quit) {
		return false
	}
	j.from = u.p.main
	j.done = make(chan struct{})
	close(j.done)
	return u.p.enqueue(j)
}
