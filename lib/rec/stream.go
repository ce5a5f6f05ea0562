package rec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"preserve/lib/wire"
)

// Magic follows the first byte of every stream: a head's map of at most 15
// pairs begins {"t": "head", "preserve": …}.
const Magic = "\xa1t\xa4head\xa8preserve"

// magicFail begins the stream of a stage that failed before its head.
const magicFail = "\xa1t\xa4fail"

// A buffer is pooled memory of a large record. A nil buffer is freed by
// nobody.
type buffer struct {
	b    []byte
	pool *sync.Pool
}

// Sizes of pooled buffers: close above what chunks and blobs commonly take, so
// that little of a buffer is wasted.
var sizes = [...]int{64 << 10, 256 << 10, 512 << 10, 768 << 10, 1<<20 + 4<<10, 2<<20 + 4<<10, 4<<20 + 4<<10, 8<<20 + 4<<10, MaxRecord + 4<<10}

var pools [len(sizes)]sync.Pool

func getBuffer(n int) *buffer {
	class := 0
	for class < len(sizes)-1 && sizes[class] < n {
		class++
	}
	p := &pools[class]
	if b, ok := p.Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, max(n, sizes[class])), p}
}

func (b *buffer) free() {
	if b != nil {
		b.pool.Put(b)
	}
}

// NewChunk returns a chunk with room for n bytes of Data, from the pool that
// Free gives to.
func NewChunk(n int) *Chunk {
	buf := getBuffer(n)
	return &Chunk{Data: buf.b[:n], buf: buf}
}

// A Reader reads one stream. It checks the grammar: what may come in a stream
// of this kind, head first, an end at the end. It is not safe for concurrent use.
type Reader struct {
	s       *wire.Scanner
	c       *wire.Cursor
	kind    Kind
	or      Kind // that will do too; empty: none
	strict  bool
	loose   bool // more heads may follow
	head    *Head
	n       int // records read
	at      int64
	ended   bool
	buf     *buffer // memory of the record being read
	small   []byte
	err     error
	waiting atomic.Bool
	stall   time.Duration
	idle    time.Duration
	sign    bool      // the last record was a sign of life, and no more
	until   time.Time // when reading gives up; zero for never
	gaveUp  error     // ErrStall or ErrLate
	src     io.Reader
}

// NewReader returns a Reader of a stream of the given kind.
func NewReader(r io.Reader, kind Kind) *Reader {
	rd := &Reader{kind: kind, c: wire.NewCursor(nil, false), small: make([]byte, 0, 4096), src: r}
	rd.s = wire.NewScanner(readFunc(rd.read))
	rd.s.Grow = rd.grow
	return rd
}

// Several allows further streams behind the end of the first: a concatenation
// of packs. Their heads are returned by Next.
func (r *Reader) Several() { r.loose = true }

// Or takes a stream of another kind too; the head says which one came.
func (r *Reader) Or(kind Kind) { r.or = kind }

// Strict insists on canonical records: the form that every Writer writes and
// that objects in a repository must have.
func (r *Reader) Strict() { r.strict = true }

// ErrStall is returned when nothing arrives for longer than SetStall allows.
var ErrStall = errors.New("nothing arrived for too long: the stage before hangs or the connection is dead")

// SetStall lets reading give up when nothing arrives for d. It works for
// sources with a SetReadDeadline.
func (r *Reader) SetStall(d time.Duration) { r.stall = d }

// ErrLate is returned when reading goes on for longer than SetUntil allows.
var ErrLate = errors.New("the time for reading is over")

// SetUntil lets reading give up at a time, whatever arrives, also inside a record: who sends it
// a byte at a time never stalls. It ends a read that waits as SetStall does.
func (r *Reader) SetUntil(t time.Time) { r.until = t }

// ErrIdle is returned when only signs of life arrive for longer than SetIdle allows.
var ErrIdle = errors.New("the peer is alive but sends no data")

// SetIdle lets reading give up when for d nothing arrives but ticks and notes, or parts of a record, while Next
// waits. Whoever calls Next later than that does not lose by it. It is not for a Reader with SetUntil.
func (r *Reader) SetIdle(d time.Duration) { r.idle = d }

// await lets the peer have its time.
func (r *Reader) await() {
	if r.idle > 0 && !r.sign {
		r.until = time.Now().Add(r.idle)
	}
}

// awaited looks at what has come.
func (r *Reader) awaited(v Record, err error) error {
	switch v.(type) {
	case *Tick, *Note:
		r.sign = true
	default:
		r.sign = false
	}
	if r.idle > 0 && errors.Is(err, ErrLate) {
		return fmt.Errorf("%w for %v", ErrIdle, r.idle)
	}
	return err
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func (r *Reader) read(p []byte) (int, error) {
	bounded, now := !r.until.IsZero(), time.Now()
	if bounded && now.After(r.until) {
		r.gaveUp = ErrLate
		return 0, r.gaveUp
	}
	if f, ok := r.src.(interface{ SetReadDeadline(time.Time) error }); ok && (bounded || r.stall > 0) {
		deadline := r.until
		if at := now.Add(r.stall); r.stall > 0 && (!bounded || at.Before(deadline)) {
			deadline = at
		}
		_ = f.SetReadDeadline(deadline) // a file or terminal has none: it cannot stall so
	}
	r.waiting.Store(true)
	n, err := r.src.Read(p)
	r.waiting.Store(false)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if err = ErrStall; bounded && !time.Now().Before(r.until) {
			err = ErrLate
		}
		r.gaveUp = err
	}
	return n, err
}

func (r *Reader) grow(b []byte, n int) []byte {
	old := r.buf
	r.buf = getBuffer(n)
	copy(r.buf.b, b)
	old.free()
	return r.buf.b
}

// Pos names the last record read, for messages.
func (r *Reader) Pos() string { return fmt.Sprintf("record %d at byte %d", r.n, r.at) }

// Wrap puts the position of the last record read in front of err.
func (r *Reader) Wrap(err error) error { return r.Place().Wrap(err) }

// A Place is the position of a record.
type Place struct{ n, at int64 }

// Place returns where the last record read stands.
func (r *Reader) Place() Place { return Place{int64(r.n), int64(r.at)} }

// Wrap puts the position in front of err.
func (p Place) Wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("record %d at byte %d: %w", p.n, p.at, err)
}

// Head reads the head. It returns ErrEmpty, ErrNotOurs, ErrVersion or ErrKind
// with an explanation when the input is something else.
func (r *Reader) Head() (*Head, error) {
	if r.head != nil || r.err != nil {
		return r.head, r.err
	}
	r.await()
	if err := r.checkMagic(); err != nil {
		r.err = r.awaited(nil, err)
		return nil, r.err
	}
	v, err := r.next()
	if err != nil {
		r.err = r.awaited(nil, err)
		return nil, r.err
	}
	r.head = v.(*Head)
	return r.head, nil
}

// checkMagic looks at the first bytes, so that a login banner is called what it
// is.
func (r *Reader) checkMagic() error {
	b := r.s.Peek(1 + len(Magic))
	switch {
	case len(b) < 1+len(Magic) && r.gaveUp != nil:
		return r.gaveUp
	case len(b) == 0:
		if _, err := r.s.Next(nil, 1); err != nil && err != io.EOF {
			return err
		}
		return ErrEmpty
	case b[0]&0xf0 == 0x80 && bytes.HasPrefix([]byte(Magic), b[1:]) && len(b) < 1+len(Magic):
		return ErrCut
	case b[0]&0xf0 == 0x80 && (string(b[1:]) == Magic || bytes.HasPrefix(b[1:], []byte(magicFail))):
		return nil
	case recordType(b) != "" && recordType(b) != "head":
		return fmt.Errorf("%w: it begins with a record of type %q where the head belongs (did a filter drop the head?)", ErrNotOurs, recordType(b))
	case isText(b):
		// No more than the line: who waits for an answer sends nothing behind it.
		line, whole := b, false
		for n := len(b); !whole && n <= len(b)+200; n++ {
			line, _, whole = bytes.Cut(r.s.Peek(n), []byte{'\n'})
		}
		return fmt.Errorf("%w: it begins with the text %q (a login script that prints something, or a wrong command?)", ErrNotOurs, line)
	}
	return fmt.Errorf("%w: it begins with the bytes % x", ErrNotOurs, b)
}

// recordType returns the type of the record that b begins with, and nothing if b does
// not begin as a record does.
func recordType(b []byte) string {
	switch {
	case len(b) > 3 && b[0] == 0xde: // a map of more than 15 pairs
		b = b[3:]
	case len(b) > 1 && b[0]&0xf0 == 0x80:
		b = b[1:]
	}
	b, ok := bytes.CutPrefix(b, []byte("\xa1t"))
	if !ok || len(b) == 0 || b[0]&0xe0 != 0xa0 || len(b) < 1+int(b[0]&0x1f) {
		return ""
	}
	name := b[1 : 1+b[0]&0x1f]
	if bytes.ContainsFunc(name, func(c rune) bool { return c < 'a' || c > 'z' }) {
		return ""
	}
	return string(name)
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < 0x20 || c == 0x7f) && c != '\n' && c != '\r' && c != '\t' && c != 0x1b {
			return false
		}
	}
	return true
}

// Next returns the next record. After the end record, which it returns, the
// error is io.EOF. A fail record is returned as a *FailError; a stream that
// stops without end or fail as ErrCut. Other errors carry record number and
// byte offset. The caller frees chunks and blobs.
func (r *Reader) Next() (Record, error) {
	if r.head == nil {
		return r.Head()
	}
	if r.err != nil {
		return nil, r.err
	}
	r.await()
	v, err := r.next()
	if err = r.awaited(v, err); err != nil {
		r.err = err
	}
	return v, err
}

func (r *Reader) next() (Record, error) {
	if r.ended && r.loose && r.s.Peek(1) != nil && len(r.s.Peek(1)) > 0 {
		r.ended = false
		if err := r.checkMagic(); err != nil {
			return nil, err
		}
		r.n++
		r.at = r.s.Offset()
		return r.take("head")
	}
	if r.ended && r.loose && r.gaveUp != nil {
		return nil, r.gaveUp
	}
	if r.ended {
		if len(r.s.Peek(1)) > 0 {
			return nil, r.Wrap(ErrAfter)
		}
		return nil, io.EOF
	}
	r.n++
	r.at = r.s.Offset()
	if r.n == 1 {
		return r.take("head")
	}
	return r.take("")
}

func (r *Reader) take(only string) (Record, error) {
	raw, err := r.s.Next(r.small[:0], MaxRecord)
	if err == nil && r.buf == nil {
		r.small = raw[:0]
	}
	var v Record
	if err == nil {
		v, err = r.decode(raw, only)
	}
	keep := false
	switch v := v.(type) {
	case *Chunk:
		keep = true
		v.buf = r.own(raw, &v.Data)
	case *Blob:
		keep = true
		if r.buf == nil {
			v.Refs, v.Data, v.Sig = bytes.Clone(v.Refs), bytes.Clone(v.Data), bytes.Clone(v.Sig)
		}
		v.buf, r.buf = r.buf, nil
	case *Toc:
		v.Rows = bytes.Clone(v.Rows)
	}
	if !keep || err != nil {
		r.buf.free()
		r.buf = nil
	}
	switch {
	case err == nil:
		if f, ok := v.(*Fail); ok {
			return nil, &FailError{f.Tool, f.Text}
		}
		if _, ok := v.(*End); ok {
			r.ended = true
		}
		return v, nil
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrCut
	case errors.Is(err, ErrStall), errors.Is(err, ErrLate):
		return nil, err
	}
	return nil, r.Wrap(err)
}

// own makes sure that data outlives the reader's next record.
func (r *Reader) own(raw []byte, data *[]byte) *buffer {
	if r.buf == nil {
		*data = bytes.Clone(*data)
	}
	b := r.buf
	r.buf = nil
	return b
}

// decode makes a record of raw. Its slices are parts of raw.
func (r *Reader) decode(raw []byte, only string) (Record, error) {
	name, err := typeOf(r.c, raw)
	if err != nil {
		return nil, err
	}
	v := newRecord(name)
	switch {
	case v == nil:
		return nil, fmt.Errorf("record type %q: %w", name, ErrUnknown)
	case only != "" && name != only && name != "fail":
		return nil, fmt.Errorf("record type %q where the head belongs: %w", name, ErrNotOurs)
	case only == "" && name == "head":
		return nil, fmt.Errorf("a second head: %w", ErrTwice)
	case !r.kind.belongs(name):
		return nil, fmt.Errorf("record type %q in a %s stream: %w", name, r.kind, ErrUnknown)
	case len(raw) > limitOf(name):
		return nil, fmt.Errorf("%s record of %d bytes: %w of %d", name, len(raw), wire.ErrLimit, limitOf(name))
	}
	r.c.Reset(raw, r.strict)
	if err := Decode(r.c, v, r.strict); err != nil {
		return nil, fmt.Errorf("%s record: %w", name, err)
	}
	if e, ok := v.(*End); ok && !e.Unchanged.IsZero() && (r.head == nil || !slices.Contains(r.head.Base, e.Unchanged)) {
		return nil, fmt.Errorf("unchanged since snapshot %s, which the head does not name as a base: %w", e.Unchanged, ErrBad)
	}
	if h, ok := v.(*Head); ok && h.Kind == r.or {
		r.kind = r.or
	}
	if h, ok := v.(*Head); ok && h.Kind != r.kind {
		return nil, fmt.Errorf("%w: this is a %s stream, but a %s stream belongs here%s", ErrKind, h.Kind, r.kind, hint(h.Kind, r.kind))
	}
	return v, nil
}

// hint names the tool that makes one kind of stream of another.
func hint(have, want Kind) string {
	switch {
	case have == Tree && want == Content:
		return " (is pv-chunk missing in between?)"
	case have == Content && want == Sealed:
		return " (is pv-seal missing in between?)"
	case have == Sealed && want != Sealed:
		return " (is pv-open missing in between?)"
	case have == Tree && want == Sealed:
		return " (are pv-chunk and pv-seal missing in between?)"
	}
	return ""
}

// typeOf finds a record's "t", wherever it stands.
func typeOf(c *wire.Cursor, raw []byte) (string, error) {
	c.Reset(raw, false)
	for n := c.Map(1024); n > 0 && c.Err() == nil; n-- {
		if string(c.Str(256)) == "t" {
			t := c.Str(64)
			return string(t), c.Err()
		}
		c.Raw()
	}
	if err := c.Err(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("record type: %w", ErrAbsent)
}

// TickEvery is how long a Writer is silent before it sends a tick.
const TickEvery = 10 * time.Second

// A Writer writes one stream. Its methods may be called from several
// goroutines; records are written whole.
type Writer struct {
	mu     sync.Mutex
	w      *bufio.Writer
	enc    *wire.Writer
	err    error
	closed bool
	muted  bool
	stop   chan struct{}
	off    int64
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 64<<10), enc: wire.NewWriter()}
}

// Offset returns the number of bytes written.
func (w *Writer) Offset() int64 { w.mu.Lock(); defer w.mu.Unlock(); return w.off }

// Write writes a record and, after an end or fail record, flushes. Records that
// are not what Check and the limits allow are refused.
func (w *Writer) Write(v Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if _, tick := v.(*Tick); tick && w.closed {
		return nil // a tick that comes late: nothing may stand behind the end
	}
	w.enc.Reset()
	payload, err := encode(w.enc, v)
	if err == nil {
		if n := w.enc.Len() + len(payload); n > limitOf(v.name()) {
			err = fmt.Errorf("%s record of %d bytes: %w of %d", v.name(), n, wire.ErrLimit, limitOf(v.name()))
		}
	}
	if err != nil {
		return err
	}
	w.put(w.enc.Bytes())
	if payload != nil {
		w.put(payload)
	}
	switch v.(type) {
	case *End, *Fail:
		w.closed = true
		w.flush()
	}
	return w.err
}

func (w *Writer) put(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
		w.off += int64(len(b))
	}
}

func (w *Writer) flush() {
	if w.err == nil {
		w.err = w.w.Flush()
	}
}

// Flush sends what is buffered.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// Tick sends a tick whenever nothing was written for TickEvery, until the
// stream is closed, while the stage is at work: not while it waits for in, which
// may be nil. Then the ticks of the stage before are the ones to pass on.
func (w *Writer) Tick(in *Reader, progress func() (files, bytes uint64)) {
	w.stop = make(chan struct{})
	go func(stop chan struct{}) {
		t := time.NewTicker(TickEvery / 4)
		defer t.Stop()
		off, last := int64(-1), time.Now() // how far the stream had come, and when that was seen
		for {
			select {
			case <-stop:
				return
			case <-t.C:
			}
			if in != nil && in.waiting.Load() {
				continue
			}
			w.mu.Lock()
			if w.off != off {
				off, last = w.off, time.Now()
			}
			quiet := !w.closed && w.err == nil && time.Since(last) >= TickEvery
			w.mu.Unlock()
			if quiet {
				_ = w.Pulse(progress()) // the error stays in w
			}
		}
	}(w.stop)
}

// Pulse sends a tick at once: a stage that hears from the one before passes the
// sign of life on.
func (w *Writer) Pulse(files, bytes uint64) error {
	if err := w.Write(&Tick{files, bytes}); err != nil {
		return err
	}
	return w.Flush()
}

// Mute keeps texts out of the stream's fail record: they can name files, and
// the stage behind may belong to somebody else.
func (w *Writer) Mute() { w.muted = true }

// Refused returns a stream of nothing but a fail record: what a stage sends that refuses
// its command line. The stage behind it then fails without a further message.
func Refused(tool string) []byte {
	w := wire.NewWriter()
	if err := Append(w, &Fail{Tool: tool, Text: "wrong command line"}); err != nil {
		return nil // nothing of ours: the name is short
	}
	return w.Take()
}

// Close ends the stream after the stage's work returned err: it flushes what is
// whole and, if the work failed, sends a fail record in place of the end. It
// returns what the stage is to return: a *FailError if the failure was told
// already by another stage.
func (w *Writer) Close(tool string, err error) error {
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
	w.mu.Lock()
	werr, closed := w.err, w.closed
	w.mu.Unlock()
	if werr != nil {
		return werr
	}
	if err == nil || closed {
		if ferr := w.Flush(); err == nil {
			err = ferr
		}
		return err
	}
	fail := &Fail{Tool: tool, Text: Text(err.Error())}
	var told *FailError
	if errors.As(err, &told) {
		fail.Tool, fail.Text = told.Tool, told.Text
	}
	if w.muted {
		fail.Text = "see its own message"
	}
	_ = w.Write(fail) // if nobody reads it, the error at hand still matters more
	return err
}
