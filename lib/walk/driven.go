package walk

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

const (
	// maxWaiting bounds what the pages weigh that wait for data.
	maxWaiting = 32 << 20
	// maxPlain bounds the plaintexts of data blobs that are kept for further uses.
	maxPlain = 48 << 20
	// maxNodes bounds the pages that are kept for searches.
	maxNodes = 16 << 20
	// window is how many pages are asked for ahead of their turn.
	window = 32
)

// A drive is a walk that asks for what it needs. All its methods but those of
// the data path are called by the goroutine of Drive.
type drive struct {
	o    Options
	open *box.Opener
	sink Sink
	ask  *asker
	snap *snap.Snapshot
	root id.ID

	gaps   bool          // pages could not be had
	nodes  *cache[*node] // what searches and copies go through
	main   scope
	part   part
	last   string // path of a file whose next piece must come
	copied int    // entries put in the place of links

	data   *par.Map[*arrival, *arrival]
	bufs   sync.Pool
	plain  *cache[[]byte]    // guarded, like the next two, by ask.mu
	wanted map[id.ID]*want   // data blobs on their way
	load   map[*Page]*burden // of pages that wait for data
	weight int64             // of these pages
}

// A use is a place in a page where a blob is due.
type use struct {
	page *Page
	ref  int
}

// A burden is what keeps a page waiting.
type burden struct {
	due    int // blobs
	weight int64
}

// An arrival is a data blob that came.
type arrival struct {
	want *want
	blob *rec.Blob
}

// Drive walks the snapshot o.Want as Run does, but asks p for the blobs that it
// needs: pages that Choose does not reach, and data that nobody uses, are not
// asked for. Everything that Run checks of a blob or an entry is checked; what
// only the whole tree can show (counts; that each parent is a directory, and each
// leader has links) as far as nothing was passed over.
//
// A hard link that is chosen while its first name is not becomes the first name,
// with the content; the links behind it are links to that. With MetaOnly it
// stays a link.
//
// Drive closes p.Wants, and calls p.Stop if it fails.
func Drive(p Peer, open *box.Opener, o Options, sink Sink) error {
	d := &drive{o: o, open: open, sink: sink, nodes: newCache[*node](maxNodes),
		main:  scope{names: map[string]string{}},
		plain: newCache[[]byte](maxPlain), wanted: map[id.ID]*want{}, load: map[*Page]*burden{}}
	d.ask = newAsker(p, open, func(w *want, b *rec.Blob) error {
		return d.data.Put(&arrival{w, b}, int64(len(b.Data)))
	})
	d.data = par.New(runtime.GOMAXPROCS(0), 64, inFlight, d.openData, func(*arrival) error { return nil })
	var wg sync.WaitGroup
	d.ask.start(&wg)
	err := d.run()
	if err != nil {
		d.ask.fail(err)
		p.Stop()
	}
	wg.Wait()
	if cerr := d.data.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return d.ask.err
	}
	return nil
}

func (d *drive) run() error {
	if err := d.first(); err != nil {
		return err
	}
	if d.o.Look != nil {
		if err := d.o.Look(d.has); err != nil {
			return err
		}
	}
	if err := d.tree(); err != nil {
		return err
	}
	if d.snap.Partial {
		if err := d.flush(); err != nil {
			return err
		}
		d.last = ""
		if err := partEnd(&d.main.check, d.sink, d.o.Want); err != nil {
			return err
		}
	}
	if err := d.wait(func() bool { return len(d.load) == 0 }); err != nil {
		return err
	}
	if err := d.whole(); err != nil {
		return err
	}
	d.ask.mu.Lock()
	d.ask.closing = true
	d.ask.changed.Broadcast()
	d.ask.mu.Unlock()
	if err := d.wait(func() bool { return d.ask.ended }); err != nil {
		return err
	}
	return d.sink.End(d.ask.end)
}

// wait waits until ready, which is called with d.ask.mu held, and tells the sink
// meanwhile of blobs that are missing.
func (d *drive) wait(ready func() bool) error {
	a := d.ask
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		switch {
		case a.err != nil:
			return a.err
		case len(a.lost) > 0:
			w := a.lost[0]
			a.lost = a.lost[1:]
			delete(d.wanted, w.id)
			a.mu.Unlock()
			err := d.missing(w)
			a.mu.Lock()
			if err != nil {
				return err
			}
			d.settle(w)
		case ready():
			return nil
		default:
			a.changed.Wait()
		}
	}
}

// first takes the snapshot.
func (d *drive) first() error {
	w := d.request(d.o.Want, rec.KindSnapshot, rec.KindSnapshot)
	for {
		b, err := d.await(w)
		if b == nil {
			if err == nil {
				err = noSnapshot(Loss{ID: d.o.Want, Why: w.why})
			}
			return err
		}
		d.snap, err = theSnapshot(d.open, b, &d.o)
		d.root = b.Ref(0)
		b.Free()
		switch {
		case errors.Is(err, box.ErrSealed):
			d.refuse(w, err)
		case err != nil:
			return err
		default:
			return d.sink.Snapshot(d.o.Want, d.snap)
		}
	}
}

// request asks for a page or a snapshot, and does not wait.
func (d *drive) request(i id.ID, low, high uint8) *want {
	w := &want{id: i, low: low, high: high}
	d.ask.mu.Lock()
	d.ask.ask(w)
	d.ask.mu.Unlock()
	return w
}

// await waits for a page that was asked for; nil says that it cannot be had, w.why says why. The
// caller frees it.
func (d *drive) await(w *want) (*rec.Blob, error) {
	for {
		d.ask.mu.Lock()
		w.urgent = true
		d.ask.mu.Unlock()
		if err := d.wait(func() bool { return w.done }); err != nil {
			return nil, err
		}
		d.ask.mu.Lock()
		b := d.ask.take(w)
		again := w.dropped
		if again {
			w.done, w.dropped = false, false
			d.ask.ask(w)
		}
		d.ask.mu.Unlock()
		if !again {
			return b, nil
		}
	}
}

// tree walks all that is chosen.
func (d *drive) tree() error {
	ds, err := d.descend(d.reaches, window)
	if err != nil {
		return err
	}
	return d.through(ds, &d.main)
}

// reaches says whether anybody wants what lies in a range of keys.
func (d *drive) reaches(first page.Key, next *page.Key) bool {
	return d.o.Choose == nil || d.o.Choose.Reaches(first, next)
}

// through takes the pages of a descent as a scope's own.
func (d *drive) through(ds *descent, s *scope) error {
	for {
		l, err := ds.next()
		if err != nil {
			return err
		}
		if ds.skipped || l != nil && l.skipped {
			if err := d.closed(); err != nil {
				return err
			}
			s.pruned = true
			s.check.Skip()
		}
		if l == nil {
			return nil
		}
		if l.node == nil {
			err = d.gap(l, s)
		} else {
			err = d.page(l, s)
		}
		if err != nil {
			return err
		}
	}
}

// gap goes on without a page.
func (d *drive) gap(l *leaf, s *scope) error {
	if err := d.flush(); err != nil {
		return err
	}
	d.gaps = true
	d.last = ""
	s.check.Gap(l.first)
	first, next := s.moved(l.first, l.end)
	return d.sink.Gap(first, next, Loss{ID: l.id, Why: l.why})
}

// page takes the entries of a page.
func (d *drive) page(l *leaf, s *scope) error {
	for _, e := range l.entries {
		if k := page.KeyOf(e); k.Compare(s.begin) < 0 || s.end != nil && k.Compare(*s.end) >= 0 {
			continue
		}
		if err := d.entry(l, e, s); err != nil {
			return err
		}
	}
	if s == &d.main {
		return d.flush()
	}
	return nil
}

func (d *drive) entry(l *leaf, e *rec.Entry, s *scope) error {
	if err := l.holds(e); err != nil {
		return fmt.Errorf("page %s: %w", l.id.Short(), err)
	}
	take := func(e *rec.Entry) error {
		if !rec.Below(e.Path, s.from) { // above what is copied
			return nil
		}
		return d.enter(s, e, l.refs)
	}
	orphan := func(e *rec.Entry) error {
		c := *e
		c.Path = s.move(e.Path)
		return d.sink.Orphan(&c)
	}
	return admit(&s.check, e, l.id, d.snap.Time, take, orphan)
}

// whole checks at the end what can be checked.
func (d *drive) whole() error {
	if err := d.closed(); err != nil || d.gaps {
		return err
	}
	return whole(&d.main.check, d.snap, d.main.pruned)
}
