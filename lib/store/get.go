package store

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"preserve/lib/id"
	"preserve/lib/rec"
)

const (
	// readers is how many records are read at once, ahead of their turn.
	readers = 3
	// maxAhead bounds the bytes of records that were read and not yet given, and
	// maxPages those of pages read before the blobs of the pages in front.
	maxAhead = 32 << 20
	maxPages = 8 << 20
	// maxQueue bounds the answers in flight, lookahead the pages.
	maxQueue  = 256
	lookahead = 8
)

// An Answer is a blob that was asked for, or the reason why it is missing. The
// blobs are valid until the function that was given the answer returns.
type Answer struct {
	ID      id.ID
	Blob    *rec.Blob    // nil if missing
	Session *rec.Session // that it is sealed under
	// More are other copies of the blob, with the same kind and references, for whoever
	// cannot open the first one. At most maxCopies; Asked gives none.
	More []*Item
	Err  error // why it is missing; ErrMissing or ErrDamaged
}

// maxCopies is how many copies beside the first are given of one blob.
const maxCopies = 7

// Down gives what a snapshot reaches, parents first: the snapshot itself, its
// root, then depth first each page, or index page, and what it refers to, each
// reference of one page once, in order of first use. Of a page of which copies refer to
// different blobs another copy follows behind what the one before it refers to. With meta it leaves out
// the data. What cannot be given is an answer with Err, and what lies below it
// is not reached. give is called by one goroutine, in that order; its error
// ends the walk and is returned. Reading runs ahead by a bounded number of
// bytes, whatever the snapshot refers to.
func (r *Repo) Down(s *Snapshot, meta bool, give func(*Answer) error) error {
	if _, err := r.current(); err != nil {
		return err
	}
	if err := give(&Answer{ID: s.ID, Blob: s.Blob, Session: s.Session}); err != nil {
		return err
	}
	p := r.newPipeline()
	p.walks, p.all = true, true
	go func() {
		defer close(p.queue)
		w := walk{p: p, meta: meta}
		root := p.job(s.Blob.Ref(0), rootKinds)
		if p.start(root) && p.enqueue(root) {
			w.visit(root)
		}
	}()
	return p.run(give, nil)
}

// Asked gives an answer for each id that next returns, in that order, until next
// returns io.EOF or another error, which is returned. With the id next returns which copy
// is wanted: the first good one from that number on, as in Copy. idle is called when all
// that was asked has been answered and nothing more waits.
func (r *Repo) Asked(next func() (i id.ID, copy int, err error), give func(*Answer) error, idle func() error) error {
	if _, err := r.current(); err != nil {
		return err
	}
	p := r.newPipeline()
	var failed error
	go func() {
		defer close(p.queue)
		for {
			i, n, err := next()
			if err != nil {
				if err != io.EOF {
					failed = err
				}
				return
			}
			j := p.job(i, AnyBlob)
			j.nth = n
			if !p.start(j) || !p.enqueue(j) {
				return
			}
		}
	}()
	if err := p.run(give, idle); err != nil {
		return err
	}
	return failed
}

// A job is one record to be read. Whoever makes it fills in what the index
// says; a worker fills in the answer and closes done.
type job struct {
	Answer
	want Kinds
	nth  int     // the copy that is wanted
	from *budget // that size is taken of, until the answer was given
	size int64
	done chan struct{}
	item *Item
	kind uint8   // of the blob that was found
	refs []id.ID // what it refers to, if the pipeline walks

	shape  *shape  // that the copy must have, if not nil
	shapes []shape // of the copies of a page, if there are several; the first is that of the blob
}

// A pipeline reads jobs with several workers and gives their answers in the
// order in which they were put into queue.
type pipeline struct {
	r     *Repo
	walks bool // somebody wants to know what pages refer to
	all   bool // all copies are given
	work  chan *job
	queue chan *job
	trees shapes        // of the pages
	quit  chan struct{} // closed when nobody takes answers any more
	main  *budget
	pages *budget
}

func (r *Repo) newPipeline() *pipeline {
	quit := make(chan struct{})
	return &pipeline{
		r:     r,
		trees: shapes{r: r},
		work:  make(chan *job),
		queue: make(chan *job, maxQueue),
		quit:  quit,
		main:  newBudget(maxAhead),
		pages: newBudget(maxPages),
	}
}

// job looks up how long the copies of a record are that are held at once.
func (p *pipeline) job(i id.ID, want Kinds) *job {
	j := &job{Answer: Answer{ID: i}, want: want, done: make(chan struct{})}
	rows, err := p.r.Lookup(i)
	if err != nil {
		j.Err = err
		return j
	}
	for row := range rows {
		switch size := int64(row.Length); {
		case !want.Has(row.Kind):
		case p.all:
			j.size = min(j.size+size, maxAhead)
		default:
			j.size = min(max(j.size, size), maxAhead)
		}
	}
	return j
}

// start takes memory from the main budget, in the order of the answers, and
// hands the job to a worker. It reports false when the pipeline was ended.
func (p *pipeline) start(j *job) bool {
	if j.from != nil {
		return true
	}
	if !p.main.take(j.size, p.quit) {
		return false
	}
	j.from = p.main
	return p.hand(j)
}

// ahead starts a page before its turn if there is room.
func (p *pipeline) ahead(j *job) {
	if j.from == nil && p.pages.try(j.size) {
		j.from = p.pages
		p.hand(j)
	}
}

func (p *pipeline) hand(j *job) bool {
	select {
	case p.work <- j:
		return true
	case <-p.quit:
		return false
	}
}

// enqueue gives the job, which was started, its place among the answers.
func (p *pipeline) enqueue(j *job) bool {
	select {
	case p.queue <- j:
		return true
	case <-p.quit:
		return false
	}
}

// run gives the answers. It returns when the queue was closed and all of it was
// given, or with the error of give or idle.
func (p *pipeline) run(give func(*Answer) error, idle func() error) error {
	var workers sync.WaitGroup
	for range readers {
		workers.Go(func() {
			for {
				select {
				case j := <-p.work:
					p.answer(j)
				case <-p.quit:
					return
				}
			}
		})
	}
	defer workers.Wait()
	defer close(p.quit)
	for {
		var j *job
		select {
		case j = <-p.queue:
		default:
			if idle != nil {
				if err := idle(); err != nil {
					return err
				}
			}
			j = <-p.queue
		}
		if j == nil {
			return nil
		}
		<-j.done
		err := give(&j.Answer)
		if j.item != nil {
			j.item.Free()
		}
		for _, m := range j.More {
			m.Free()
		}
		j.from.give(j.size)
		if err != nil {
			return err
		}
	}
}

// answer reads a job's record.
func (p *pipeline) answer(j *job) {
	defer close(j.done)
	if j.Err != nil {
		return
	}
	item, err := p.copy(j)
	if err != nil {
		j.Err = err
		return
	}
	j.item, j.Blob, j.Session = item, item.Blob, item.Session
	if p.all {
		j.More = p.r.more(item, j.want)
	}
	if p.walks {
		j.kind, j.refs = item.Blob.Kind, distinct(item.Blob.Refs)
	}
}

// copy reads the copy that a job is for.
func (p *pipeline) copy(j *job) (*Item, error) {
	if j.shape != nil {
		return p.r.shaped(*j.shape)
	}
	item, err := p.r.Copy(j.ID, j.want, j.nth)
	if err != nil || !p.walks {
		return item, err
	}
	if j.shapes, err = p.trees.of(item, j.want); err != nil || len(j.shapes) == 0 {
		return item, err
	}
	item.Free()
	return p.r.shaped(j.shapes[0])
}

// more reads other copies of a blob that agree with it in kind and references, in the order in
// which they are tried (see copies). Not all may fit into the memory that is set aside for a
// record, and into maxCopies.
func (r *Repo) more(first *Item, want Kinds) (more []*Item) {
	if first.Next == 0 {
		return nil
	}
	v, err := r.current()
	if err != nil {
		return nil
	}
	b, held := first.Blob, len(first.raw)
	rows, _ := r.copies(v, b.ID, want)
	for n := first.Next; n < min(len(rows), first.Next+maxTried) && len(more) < maxCopies; n++ {
		item, err := r.item(rows[n])
		if err != nil {
			continue
		}
		if o := item.Blob; o.Kind != b.Kind || !bytes.Equal(o.Refs, b.Refs) || bytes.Equal(o.Data, b.Data) || held+len(item.raw) > maxAhead {
			item.Free()
			continue
		}
		held += len(item.raw)
		more = append(more, item)
	}
	return more
}

// distinct returns references in order of first use.
func distinct(raw []byte) []id.ID {
	n := len(raw) / id.Size
	if n == 0 {
		return nil
	}
	refs := make([]id.ID, 0, n)
	for ; len(raw) > 0; raw = raw[id.Size:] {
		refs = append(refs, id.ID(raw[:id.Size]))
	}
	sorted := slices.Clone(refs)
	compare := func(a, b id.ID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(sorted, compare)
	unique := slices.Compact(sorted)
	if len(unique) == n {
		return refs
	}
	used := make([]bool, len(unique))
	return slices.DeleteFunc(refs, func(i id.ID) bool {
		k, _ := slices.BinarySearchFunc(unique, i, compare)
		was := used[k]
		used[k] = true
		return was
	})
}

// A walk descends from a root.
type walk struct {
	p    *pipeline
	meta bool
}

// visit walks what a job, which was enqueued, refers to, and then gives the copies of other
// shapes, with what they refer to. It reports false when
// the pipeline was ended. Kinds descend, so that it nests at most nine deep.
func (w *walk) visit(j *job) bool {
	if !w.below(j) {
		return false
	}
	for n := 1; n < len(j.shapes); n++ {
		k := w.p.job(j.ID, j.want)
		k.shape = &j.shapes[n]
		if !w.p.start(k) {
			return false
		}
		select {
		case <-k.done:
		case <-w.p.quit:
			return false
		}
		if k.Err != nil { // only the first copy is reported missing
			k.from.give(k.size)
			continue
		}
		if !w.p.enqueue(k) || !w.below(k) {
			return false
		}
	}
	return true
}

func (w *walk) below(j *job) bool {
	select {
	case <-j.done:
	case <-w.p.quit:
		return false
	}
	refs := j.refs
	j.refs = nil
	if j.Err != nil || j.kind == rec.KindPage && w.meta {
		return true
	}
	if j.kind == rec.KindPage {
		for _, ref := range refs {
			d := w.p.job(ref, Just(rec.KindData))
			if !w.p.start(d) || !w.p.enqueue(d) {
				return false
			}
		}
		return true
	}
	var next []*job // children looked up, in order
	for k := range refs {
		for len(next) < lookahead && k+len(next) < len(refs) {
			c := w.p.job(refs[k+len(next)], Just(j.kind-1))
			w.p.ahead(c)
			next = append(next, c)
		}
		c := next[0]
		next = next[1:]
		if !w.p.start(c) || !w.p.enqueue(c) || !w.visit(c) {
			return false
		}
	}
	return true
}

// A budget is an amount that several hold parts of.
type budget struct {
	mu   sync.Mutex
	free int64
	more chan struct{} // has a token after a part was given back
}

func newBudget(n int64) *budget { return &budget{free: n, more: make(chan struct{}, 1)} }

func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n {
		return false
	}
	b.free -= n
	return true
}

// take waits for n to be free. Only one goroutine may wait. It reports false
// when quit was closed.
func (b *budget) take(n int64, quit chan struct{}) bool {
	for !b.try(n) {
		select {
		case <-b.more:
		case <-quit:
			return false
		}
	}
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}
