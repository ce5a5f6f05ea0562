package walk

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/rec"
)

const (
	// maxFlight is how many wants are sent and not yet answered.
	maxFlight = 256
	// maxHeld bounds the sealed pages that came before their turn. One that finds
	// no room is let go, and asked for again in its turn.
	maxHeld = 16 << 20
	// maxIdle is how many records that answer nothing may come in a row. A peer
	// sends at most a session before each blob, and a tick in ten seconds.
	maxIdle = 1000
)

// ErrNoAnswer ends the walk with a peer that talks and does not answer.
var ErrNoAnswer = errors.New("the other side sends signs of life and no blobs")

// maxCopies is how many copies of a blob are asked for, if none of them opens.
const maxCopies = 1000

// A Peer is what answers wants: pv-get REPO --blobs -, somewhere. Wants are lines: an id,
// 64 hex digits, and behind a space the number of the copy that is wanted, if it
// is not the first. The answers are a sealed stream in order asked.
type Peer struct {
	Answers *rec.Reader
	Wants   io.WriteCloser
	// Stop makes reading and writing return at once. It is called when the walk
	// has failed, and may be called again.
	Stop func()
}

// A want is a blob that was asked for.
type want struct {
	id        id.ID
	low, high uint8 // the kinds that it may have
	uses      []use // of a data blob: who waits for it
	copy      int   // which one is asked for; see refuse
	why       error // it is lost, or why its first copy does not do

	// Of a page.
	urgent  bool // the walk can do nothing without it
	done    bool
	blob    *rec.Blob // nil: it cannot be had
	dropped bool      // it came before its turn and found no room
}

// An asker sends wants and takes the answers. Its three parts, a writer, a
// reader and whoever asks, never wait in a ring: the reader goes on reading
// while there are answers to come, whether a want can be sent or not.
type asker struct {
	peer Peer
	open *box.Opener
	give func(*want, *rec.Blob) error // takes the data blobs, from the reader

	mu      sync.Mutex
	changed *sync.Cond // any of what follows
	data    []*want    // not yet sent; they go before the pages
	pages   []*want
	flight  []*want // sent, in order, and not yet answered
	held    int64   // bytes of pages that came before their turn
	lost    []*want // data blobs
	closing bool    // nothing more will be asked for
	shut    bool    // and no more is sent
	end     *rec.End
	ended   bool  // the stream is at its end
	err     error // the first
}

func newAsker(p Peer, open *box.Opener, give func(*want, *rec.Blob) error) *asker {
	a := &asker{peer: p, open: open, give: give}
	a.changed = sync.NewCond(&a.mu)
	return a
}

// start starts the writer and the reader, which end when the stream has ended or
// anything has failed; after a failure only when Peer.Stop was called.
func (a *asker) start(wg *sync.WaitGroup) {
	wg.Go(a.write)
	wg.Go(func() {
		err := a.read()
		a.mu.Lock()
		a.ended = true
		a.mu.Unlock()
		a.fail(err)
	})
}

// fail keeps the first error.
func (a *asker) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
	a.changed.Broadcast()
}

// ask puts a want into its queue. Zeros name no blob: that is missing without a
// word. With a.mu held.
func (a *asker) ask(w *want) {
	if w.id.IsZero() {
		a.gone(w, ErrMissing)
	} else if w.high == rec.KindData {
		a.data = append(a.data, w)
	} else {
		a.pages = append(a.pages, w)
	}
	a.changed.Broadcast()
}

// write sends wants. When it cannot, it is the stream of answers that says why.
func (a *asker) write() {
	defer a.peer.Wants.Close()
	var lines []byte
	for {
		batch := a.batch()
		if len(batch) == 0 {
			return
		}
		lines = lines[:0]
		for _, w := range batch {
			lines = append(lines, w.id.String()...)
			if w.copy > 0 {
				lines = strconv.AppendInt(append(lines, ' '), int64(w.copy), 10)
			}
			lines = append(lines, '\n')
		}
		if _, err := a.peer.Wants.Write(lines); err != nil {
			return
		}
	}
}

// batch waits until something can be sent and takes it into flight, data first.
// It returns nothing when nothing more will be.
func (a *asker) batch() (batch []*want) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil && !(a.closing && len(a.data)+len(a.pages) == 0) {
		for _, queue := range []*[]*want{&a.data, &a.pages} {
			n := min(len(*queue), maxFlight-len(a.flight))
			batch = append(batch, (*queue)[:n]...)
			a.flight = append(a.flight, (*queue)[:n]...)
			*queue = (*queue)[n:]
		}
		if len(batch) > 0 {
			a.changed.Broadcast()
			return batch
		}
		a.changed.Wait()
	}
	a.shut = true
	a.changed.Broadcast()
	return nil
}

// due waits until an answer, or the end, is to come. It is false after a failure.
func (a *asker) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil && len(a.flight) == 0 && !a.shut {
		a.changed.Wait()
	}
	return a.err == nil
}

// read takes the stream of answers, to its end.
func (a *asker) read() error {
	if !a.due() {
		return nil
	}
	in := a.peer.Answers
	head, err := in.Head()
	if err != nil {
		return err
	}
	if head.Order != rec.Asked {
		return &OrderError{head.Order, fmt.Sprintf("answers have order %q: the output of pv-get REPO --blobs -", rec.Asked)}
	}
	for idle := 0; a.due(); {
		v, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if idle++; idle > maxIdle {
			return ErrNoAnswer
		}
		switch v := v.(type) {
		case *rec.Session:
			err = addSession(a.open, v.Data)
		case *rec.Blob:
			idle, err = 0, a.blob(v)
		case *rec.Missing:
			idle, err = 0, a.missing(v.ID)
		case *rec.End:
			err = a.last(v)
		case *rec.Stored, *rec.Toc:
			err = fmt.Errorf("%w: a record of a pack", ErrUnexpected)
		case *rec.Checkpoint:
			err = fmt.Errorf("%w: a checkpoint", ErrUnexpected)
		}
		if err != nil {
			return in.Wrap(err)
		}
	}
	return nil
}

// answered takes the oldest want out of flight, which must be for i.
func (a *asker) answered(i id.ID) (*want, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.flight) == 0 {
		return nil, fmt.Errorf("%w: blob %s, which nobody asked for", ErrUnexpected, i.Short())
	}
	w := a.flight[0]
	if w.id != i {
		return nil, fmt.Errorf("%w: blob %s where %s is due", ErrUnexpected, i.Short(), w.id.Short())
	}
	a.flight = a.flight[1:]
	a.changed.Broadcast()
	return w, nil
}

func (a *asker) blob(b *rec.Blob) error {
	w, err := a.answered(b.ID)
	if err != nil {
		b.Free()
		return err
	}
	if w.low <= b.Kind && b.Kind <= w.high && b.Kind == rec.KindData {
		return a.give(w, b)
	}
	var other error
	if b.Kind < w.low || b.Kind > w.high { // somebody stored something else under this id
		if other, err = otherKind(a.open, b, w.high); err != nil {
			b.Free()
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if other != nil {
		a.refuse(w, other)
		b.Free()
		return nil
	}
	w.done = true
	if size := int64(len(b.Data)); w.urgent || a.held+size <= maxHeld {
		a.held += size
		w.blob = b
	} else {
		w.dropped = true
		b.Free()
	}
	a.changed.Broadcast()
	return nil
}

func (a *asker) missing(i id.ID) error {
	w, err := a.answered(i)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.why == nil { // else it is another copy that there is none of
		w.why = ErrMissing
	}
	a.gone(w, w.why)
	return nil
}

// refuse asks for the next copy of a blob of which one came that does not do: perhaps
// somebody has stored something else under its id. What was wrong with the first one is
// kept. With a.mu held.
func (a *asker) refuse(w *want, why error) {
	if w.why == nil {
		w.why = why
	}
	if w.copy++; w.copy == maxCopies {
		a.gone(w, w.why)
		return
	}
	w.done = false
	a.ask(w)
}

// gone ends a want whose blob cannot be had. With a.mu held.
func (a *asker) gone(w *want, why error) {
	if w.done, w.why = true, why; w.high == rec.KindData {
		a.lost = append(a.lost, w)
	}
	a.changed.Broadcast()
}

// last takes the end record.
func (a *asker) last(e *rec.End) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.flight) > 0 || !a.shut {
		return fmt.Errorf("%w: the stream of answers has ended before we asked for its end", ErrIncomplete)
	}
	a.end = e
	return nil
}

// take returns the page that came for w, nil if none did; the caller frees it. With a.mu held,
// and w done.
func (a *asker) take(w *want) (b *rec.Blob) {
	if b, w.blob = w.blob, nil; b != nil {
		a.held -= int64(len(b.Data))
	}
	return b
}
