// Package walk makes of sealed blobs a verified tree: it knows which blob it
// expects, opens it, checks it as docs/format/crypto.md ("Reading") says, and
// hands entries and data to a Sink. Nothing reaches the Sink that was not asked
// for, signed for and checked.
//
// Run reads a stream that brings a whole snapshot, parents first. Drive descends
// by itself, and asks a Peer for the blobs that it needs and no others; it also
// finds single paths, and so can put copies in the place of links.
//
// Pages are opened in the goroutine of Run or Drive, in order; data blobs by
// several goroutines, whose weight in flight is bounded.
package walk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"preserve/lib/box"
	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// Errors of a stream that is not what was asked for.
var (
	ErrOther      = errors.New("not the snapshot that was asked for")
	ErrUnexpected = errors.New("a blob that does not belong here")
	ErrIncomplete = content.ErrIncomplete
	ErrCounts     = errors.New("the tree has not as many entries or bytes as its snapshot says")
	ErrPartial    = content.ErrPartial
	ErrMissing    = content.ErrMissing
	ErrOrder      = errors.New("blobs in another order")
	ErrEndless    = errors.New("what is stored in the place of a lost page refers to more blobs than the snapshot can have")
)

// An OrderError is a sealed stream in another order than is read here. It is ErrOrder.
type OrderError struct{ Order, needs string }

func (e *OrderError) Error() string {
	return fmt.Sprintf("%v: this is a sealed stream in order %q, and %s", ErrOrder, e.Order, e.needs)
}

func (e *OrderError) Unwrap() error { return ErrOrder }

// What a walk brings, and to whom.
type (
	Loss    = content.Loss
	Page    = content.Page
	Use     = content.Use
	Sink    = content.Sink
	Chooser = content.Chooser
)

// Options of a walk.
type Options struct {
	Want     id.ID // the snapshot that was asked for; zero: any (Run only)
	MetaOnly bool  // skip data blobs, should they come
	// Partial accepts a checkpoint: a snapshot of the first part of a tree. Its end
	// is then told to the sink as a Gap to the end, whose Loss has the id of the
	// snapshot and ErrPartial; a file may end there that has more pieces.
	Partial bool
	Choose  Chooser // nil: the sink gets every entry as it is

	// For Drive only. What these put in an entry's place has the entry's path, and
	// passes Choose.

	// Checked, if not nil, is what walks before this one have opened.
	Checked *Checked
	// Look, if not nil, is called after Sink.Snapshot and before anything is chosen. With has it
	// finds out whether a path is in the snapshot; of one in a page that cannot be
	// had the error is ErrLost. A page that was not given now may be given later.
	Look func(has func(path string) (bool, error)) error
	// Unshare makes of each hard link a file of its own, with the content of its
	// first name.
	Unshare bool
	// Follow, if not nil, puts in the place of a symbolic link a copy of what it
	// leads to: a file, or a directory with all that is below it, links in it
	// followed likewise. It is called for each link that stays one, with the
	// reason: ErrDangling, ErrLoop, ErrLost.
	Follow func(link *rec.Entry, why error)
}

// inFlight bounds the sealed bytes of data blobs that are being opened.
const inFlight = 16 << 20

type walker struct {
	in      *rec.Reader
	open    *box.Opener
	o       Options
	sink    Sink
	check   page.Checker
	stack   []frame
	snap    *snap.Snapshot
	top     id.ID // of snap
	meta    bool  // no data will come
	gaps    bool  // pages could not be had
	refused error // what the sink returned
	data    *par.Map[*datum, *datum]
	plain   sync.Pool

	passed      uint64 // blobs that were passed over below lost pages
	passedBytes uint64

	held *rec.Blob // that came last, and waits for other copies of it
	at   rec.Place // where it stands
	why  error     // what was wrong with a copy before it
}

// A frame is a page, or the snapshot, whose references are still to come. Behind them another copy
// of the page may come, which refers to other blobs.
type frame struct {
	id   id.ID // of the page
	kind uint8
	refs []byte
	next int
	keys []page.Key // of an index page's children
	page *Page      // of a page
	skip bool       // it cannot be had: what it refers to comes, and is passed over
	loss *Loss      // then: what is lost, if no other copy comes that opens
}

type datum struct {
	blob *rec.Blob
	page *Page
	ref  int
	why  error // what was wrong with another copy
}

// Run walks the stream of in to its end.
func Run(in *rec.Reader, open *box.Opener, o Options, sink Sink) error {
	w := &walker{in: in, open: open, o: o, sink: sink}
	head, err := in.Head()
	if err != nil {
		return err
	}
	if head.Order != rec.Down {
		return &OrderError{head.Order, fmt.Sprintf("reading needs order %q: the output of pv-get REPO ID", rec.Down)}
	}
	if head.Meta && !o.MetaOnly {
		return fmt.Errorf("%w: it was asked for without file contents (pv-get --meta)", ErrIncomplete)
	}
	w.meta = head.Meta
	w.data = par.New(runtime.GOMAXPROCS(0), 64, inFlight, w.openData, func(*datum) error { return nil })
	err = w.run()
	if cerr := w.data.Close(); cerr != nil {
		return cerr
	}
	if err != nil && w.refused == nil && !errors.Is(err, ErrEndless) && len(w.stack) > 1 && w.stack[1].loss != nil {
		return noRoot(*w.stack[1].loss) // whatever came behind it
	}
	return err
}

func (w *walker) run() error {
	defer func() {
		if w.held != nil {
			w.held.Free()
		}
	}()
	for {
		v, err := w.in.Next()
		if _, session := v.(*rec.Session); !session && (err == nil || err == io.EOF) {
			if b, ok := v.(*rec.Blob); ok && w.another(b) {
				continue
			}
			if err := w.settle(); err != nil {
				if b, ok := v.(*rec.Blob); ok {
					b.Free()
				}
				return err
			}
		}
		if err == io.EOF {
			return w.finish()
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Session:
			err = addSession(w.open, v.Data)
		case *rec.Blob:
			w.held, w.at = v, w.in.Place()
		case *rec.Missing:
			err = w.missing(v.ID)
		case *rec.End:
			err = w.unwind(id.ID{})
			if err == nil && w.snap != nil && w.snap.Partial {
				err = w.told(partEnd(&w.check, w.sink, w.top))
			}
			if err == nil {
				err = w.told(w.sink.End(v))
			}
		case *rec.Stored, *rec.Toc:
			err = fmt.Errorf("%w: a record of a pack", ErrUnexpected)
		case *rec.Checkpoint:
			err = fmt.Errorf("%w: a checkpoint", ErrUnexpected)
		}
		if w.refused != nil {
			return w.refused
		}
		if err != nil {
			return w.in.Wrap(err)
		}
	}
}

// another reports whether b is another copy of the blob that came before it, with the same
// references. Of the copies the first that opens is kept.
func (w *walker) another(b *rec.Blob) bool {
	h := w.held
	if h == nil || h.ID != b.ID || h.Kind != b.Kind || !bytes.Equal(h.Refs, b.Refs) {
		return false
	}
	if _, err := w.open.Open(nil, h.Kind, h.ID, h.SID, h.Refs, h.Data); !isLoss(err) {
		b.Free()
		return true
	} else if w.why == nil {
		w.why = err
	}
	h.Free()
	w.held, w.at = b, w.in.Place()
	return true
}

// settle takes the blob that was held: no other copy of it comes.
func (w *walker) settle() error {
	b := w.held
	if b == nil {
		return nil
	}
	w.held = nil
	err := w.blob(b)
	w.why = nil
	if w.refused != nil {
		return w.refused
	}
	return w.at.Wrap(err)
}

// first returns what was wrong with the first copy of a blob, of which err is wrong
// with the last one.
func first(why, err error) error {
	if why != nil {
		return why
	}
	return err
}

// told keeps an error of the sink, which is not about the stream.
func (w *walker) told(err error) error {
	w.refused = err
	return err
}

// unwind takes down pages of which all references have come, down to one with a certain id, of which
// another copy has come. Of the others no other copy comes any more.
func (w *walker) unwind(to id.ID) error {
	for len(w.stack) > 0 {
		n := len(w.stack) - 1
		t := w.stack[n]
		if t.next*id.Size < len(t.refs) || t.id == to && !to.IsZero() {
			return nil
		}
		w.stack = w.stack[:n]
		if t.loss != nil {
			if err := w.lose(&w.stack[n-1], w.stack[n-1].next-1, *t.loss); err != nil {
				return err
			}
		}
	}
	return nil
}

// expect returns what must come next; ok is false when nothing more must. unwind was called.
func (w *walker) expect() (i id.ID, kind uint8, f *frame, ok bool) {
	if len(w.stack) == 0 {
		return id.ID{}, 0, nil, false
	}
	f = &w.stack[len(w.stack)-1]
	return id.ID(f.refs[f.next*id.Size:]), f.kind - 1, f, true
}

func (w *walker) blob(b *rec.Blob) error {
	if w.snap == nil {
		defer b.Free()
		return w.snapshot(b)
	}
	if err := w.unwind(b.ID); err != nil {
		b.Free()
		return err
	}
	if n := len(w.stack) - 1; n >= 0 && w.stack[n].id == b.ID && !b.ID.IsZero() && w.stack[n].next*id.Size == len(w.stack[n].refs) {
		defer b.Free()
		return w.copy(b)
	}
	want, kind, f, ok := w.expect()
	switch {
	case !ok:
		b.Free()
		return fmt.Errorf("%w: blob %s behind the end of the tree", ErrUnexpected, b.ID.Short())
	case b.ID != want:
		b.Free()
		return fmt.Errorf("%w: blob %s where %s is due", ErrUnexpected, b.ID.Short(), want.Short())
	}
	low, high := f.children()
	ref := f.next
	f.next++
	if b.Kind < low || b.Kind > high {
		defer b.Free()
		why, err := otherKind(w.open, b, kind)
		if err != nil {
			return err
		}
		return w.lose(f, ref, Loss{ID: b.ID, Why: first(w.why, why)})
	}
	if f.skip {
		defer b.Free()
		return w.pass(b, nil)
	}
	if b.Kind == rec.KindData {
		if w.needs(f, ref) {
			return w.data.Put(&datum{b, f.page, ref, w.why}, int64(len(b.Data)))
		}
		b.Free()
		return nil
	}
	defer b.Free()
	plain, err := w.open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, b.Data)
	switch {
	case isLoss(err):
		return w.pass(b, &Loss{ID: b.ID, Why: first(w.why, err)})
	case err != nil:
		return fmt.Errorf("page %s: %w", b.ID.Short(), err)
	}
	return w.node(b, plain, f.key(ref))
}

// copy takes another copy of a page, which refers to other blobs than the one before it.
func (w *walker) copy(b *rec.Blob) error {
	n := len(w.stack) - 1
	t, f := w.stack[n], &w.stack[n-1]
	low, high := f.children()
	if b.Kind < low || b.Kind > high {
		return fmt.Errorf("%w: a copy of page %s is of kind %d", ErrUnexpected, b.ID.Short(), b.Kind)
	}
	w.stack = w.stack[:n]
	if t.loss == nil { // a copy has opened, or nothing here is needed
		return w.pass(b, nil)
	}
	plain, err := w.open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, b.Data)
	switch {
	case isLoss(err):
		return w.pass(b, t.loss)
	case err != nil:
		return fmt.Errorf("page %s: %w", b.ID.Short(), err)
	}
	return w.node(b, plain, f.key(f.next-1))
}

// children returns which kinds the blobs may have that f refers to.
func (f *frame) children() (low, high uint8) {
	if f.kind == rec.KindSnapshot { // the root's id vouches for its kind
		return rec.KindPage, rec.KindIndexMax
	}
	return f.kind - 1, f.kind - 1
}

// key returns the key that an index page gives one of its children; nil below the snapshot.
func (f *frame) key(ref int) *page.Key {
	if f.keys == nil {
		return nil
	}
	return &f.keys[ref]
}

// needs reports whether anybody wants a page's data blob.
func (w *walker) needs(f *frame, ref int) bool {
	return !w.o.MetaOnly && (w.o.Choose == nil || len(f.page.Uses[ref]) > 0)
}

// lose goes on without a blob, if that can be. f.next is behind it.
func (w *walker) lose(f *frame, ref int, l Loss) error {
	switch {
	case f.kind == rec.KindSnapshot:
		return noRoot(l)
	case f.skip:
		return nil
	case f.page == nil:
		w.gaps = true
		w.check.Gap(f.keys[ref])
		return w.told(w.sink.Gap(f.keys[ref], w.nextKey(), l))
	case w.needs(f, ref):
		return w.told(w.sink.Missing(f.page, ref, l))
	}
	return nil
}

// pass sees to it that what a blob refers to is passed over. What is stored in the place of a lost page
// may refer to as much as it likes: more than the snapshot can have is ErrEndless.
func (w *walker) pass(b *rec.Blob, l *Loss) error {
	w.passed, w.passedBytes = w.passed+1, w.passedBytes+uint64(len(b.Data))
	if w.passed > maxPassed+8*w.snap.Entries+w.snap.Bytes>>14 || w.passedBytes > maxPassedBytes+2*w.snap.Bytes {
		return fmt.Errorf("%w: %d blobs were passed over", ErrEndless, w.passed-1)
	}
	if b.Kind == rec.KindData {
		return nil
	}
	refs := distinct(b.Refs)
	if b.Kind == rec.KindPage && w.meta {
		refs = nil
	}
	w.stack = append(w.stack, frame{id: b.ID, kind: b.Kind, refs: refs, skip: true, loss: l})
	return nil
}

// How much is passed over below lost pages, beside what the snapshot says that it has. Tests set less.
var (
	maxPassed      uint64 = 1 << 20
	maxPassedBytes uint64 = 1 << 30
)

// snapshot takes the first blob.
func (w *walker) snapshot(b *rec.Blob) error {
	s, err := theSnapshot(w.open, b, &w.o)
	if err != nil {
		return err
	}
	w.snap, w.top = s, b.ID
	w.stack = append(w.stack, frame{kind: rec.KindSnapshot, refs: append([]byte(nil), b.Refs...)})
	return w.told(w.sink.Snapshot(b.ID, s))
}

// node takes a page or index page that was opened. first is the key that the parent
// gives it, nil for the root.
func (w *walker) node(b *rec.Blob, plain []byte, first *page.Key) error {
	n, err := readNode(b, plain, first)
	if err != nil {
		return err
	}
	if n.keys != nil {
		w.stack = append(w.stack, frame{id: b.ID, kind: b.Kind, refs: n.refs, keys: n.keys})
		return nil
	}
	entries, err := w.accept(n)
	if err != nil {
		return err
	}
	if entries, err = content.Choose(w.o.Choose, entries); err != nil {
		return w.told(err)
	}
	p := content.NewPage(entries, n.refs)
	if err := w.told(w.sink.Page(p)); err != nil {
		return err
	}
	refs := n.refs
	if w.meta {
		refs = nil
	}
	w.stack = append(w.stack, frame{id: b.ID, kind: b.Kind, refs: refs, page: p})
	return nil
}

// accept checks a page's entries. Behind a gap it drops orphans and puts in
// directories that were lost.
func (w *walker) accept(n *node) ([]*rec.Entry, error) {
	good := n.entries[:0:0]
	take := func(e *rec.Entry) error { good = append(good, e); return nil }
	orphan := func(e *rec.Entry) error { return w.told(w.sink.Orphan(e)) }
	for _, e := range n.entries {
		if err := admit(&w.check, e, n.id, w.snap.Time, take, orphan); err != nil {
			return nil, err
		}
	}
	return good, nil
}

// openData opens a data blob and hands it to the sink.
func (w *walker) openData(d *datum) (*datum, error) {
	defer d.blob.Free()
	buf, ok := w.plain.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	plain, err := w.open.Open((*buf)[:0], rec.KindData, d.blob.ID, d.blob.SID, nil, d.blob.Data)
	switch {
	case isLoss(err):
		return d, w.sink.Missing(d.page, d.ref, Loss{ID: d.blob.ID, Why: first(d.why, err)})
	case err != nil:
		return d, fmt.Errorf("data blob %s of %s: %w", d.blob.ID.Short(), d.page.Where(d.ref), err)
	}
	err = d.page.Give(w.sink, d.ref, plain)
	*buf = plain
	w.plain.Put(buf)
	return d, err
}

// missing goes on without a blob.
func (w *walker) missing(i id.ID) error {
	if w.snap == nil {
		return noSnapshot(Loss{ID: i, Why: ErrMissing})
	}
	if err := w.unwind(id.ID{}); err != nil {
		return err
	}
	want, _, f, ok := w.expect()
	if !ok || want != i {
		return fmt.Errorf("%w: blob %s is reported missing out of turn", ErrUnexpected, i.Short())
	}
	ref := f.next
	f.next++
	return w.lose(f, ref, Loss{ID: i, Why: ErrMissing})
}

// nextKey is the key of the next page that is due.
func (w *walker) nextKey() *page.Key {
	for n := len(w.stack) - 1; n >= 0; n-- {
		if f := w.stack[n]; f.keys != nil && f.next < len(f.keys) {
			return &f.keys[f.next]
		}
	}
	return nil
}

// finish checks what must be true at the end record.
func (w *walker) finish() error {
	if w.snap == nil {
		return fmt.Errorf("%w: not even the snapshot", ErrIncomplete)
	}
	if err := w.unwind(id.ID{}); err != nil {
		return err
	}
	if i, _, _, more := w.expect(); more {
		return fmt.Errorf("%w: blob %s is due", ErrIncomplete, i.Short())
	}
	if w.gaps {
		return nil
	}
	return whole(&w.check, w.snap, false)
}
