package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"sync"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// Kinds is a range of kinds, both ends included.
type Kinds struct{ Low, High uint8 }

// Ranges of kinds.
var (
	AnyBlob     = Kinds{rec.KindData, rec.KindSnapshot}
	rootKinds   = Kinds{rec.KindPage, rec.KindIndexMax}
	sessionOnly = Kinds{pack.KindSession, pack.KindSession}
)

// Just is the range of one kind.
func Just(kind uint8) Kinds { return Kinds{kind, kind} }

// Has reports whether kind lies in the range.
func (k Kinds) Has(kind uint8) bool { return k.Low <= kind && kind <= k.High }

// buffers has a pool for each power of two from 4 KiB to 32 MiB.
var buffers [14]sync.Pool

func getBuffer(n int) []byte {
	class := max(0, bits.Len(uint(n-1))-12)
	if b, ok := buffers[class].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<(12+class))
}

func putBuffer(b []byte) {
	if cap(b) == 0 {
		return
	}
	b = b[:cap(b)]
	buffers[bits.Len(uint(len(b)-1))-12].Put(&b)
}

// An Item is a blob that was read, with the session that it is sealed under. The
// blob's slices are valid until Free; the session is shared and not to be
// changed.
type Item struct {
	Blob    *rec.Blob
	Session *rec.Session
	Next    int // the number of the copy behind this one; 0 if there is none
	raw     []byte
}

// Free gives the item's memory back.
func (i *Item) Free() {
	putBuffer(i.raw)
	i.Blob, i.raw = nil, nil
}

// read reads the record that a row points to and checks that it is what the row
// says, with a checksum that holds: a *rec.Blob or a *rec.Session, whose slices
// are parts of raw, which the caller gives back with putBuffer. Damage is
// ErrDamaged, a pack that is gone fs.ErrNotExist.
func (r *Repo) read(row Row) (v rec.Record, raw []byte, err error) {
	if row.Length > rec.MaxRecord {
		return nil, nil, fmt.Errorf("a record of %d bytes: %w", row.Length, ErrDamaged)
	}
	raw = getBuffer(int(row.Length))
	n, err := r.o.ReadAt(packName(row.Pack), raw, int64(row.Offset))
	switch {
	case n == len(raw):
		v, err = pack.ParseRecord(raw, row.ID, row.Kind)
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("the pack ends before the record does: %w", ErrDamaged)
	}
	if err != nil {
		putBuffer(raw)
		return nil, nil, fmt.Errorf("pack %s at byte %d: %w", row.Pack, row.Offset, err)
	}
	return v, raw, nil
}

// readBlob is read, of a row that is a blob's.
func (r *Repo) readBlob(row Row) (*rec.Blob, []byte, error) {
	v, raw, err := r.read(row)
	if err != nil {
		return nil, nil, err
	}
	return v.(*rec.Blob), raw, nil
}

// A found is a record that was read.
type found struct {
	rec.Record
	raw []byte
	// next is the number of the copy behind this one; 0 if there is none.
	next int
}

// fetch reads the first good copy of a record, of those from number from on; see
// copies. If there is none from 0 on, it looks for what other programs have listed
// meanwhile, and then for packs that no segment lists. Then it is ErrMissing, with
// the reasons.
func (r *Repo) fetch(i id.ID, want Kinds, from int) (found, error) {
	v, err := r.current()
	if err != nil {
		return found{}, err
	}
	for {
		f, err := r.fetchFrom(v, i, want, from)
		if err == nil || !errors.Is(err, ErrMissing) || from > 0 {
			return f, err
		}
		newer, nerr := r.newer(v)
		if nerr != nil {
			return found{}, nerr
		}
		if newer == v {
			return found{}, err
		}
		v = newer
	}
}

// fetchFrom is fetch in one view.
func (r *Repo) fetchFrom(v *view, i id.ID, want Kinds, from int) (found, error) {
	rows, other := r.copies(v, i, want)
	var why error
	switch {
	case len(rows) > 0 && from >= len(rows):
		why = errors.New("there is no other copy")
	case other != nil:
		why = fmt.Errorf("the index has it as kind %d", *other)
	default:
		why = errors.New("not in the index")
	}
	for n := from; n < min(len(rows), from+maxTried); n++ {
		record, raw, err := r.read(rows[n])
		if err != nil {
			if why = err; errors.Is(err, fs.ErrNotExist) {
				why = errors.New("its pack is gone")
			}
			continue
		}
		f := found{record, raw, 0}
		if n > from {
			r.opts.Note("%s: %v: another copy was used", i, why)
		}
		if n+1 < len(rows) {
			f.next = n + 1
		}
		return f, nil
	}
	return found{}, fmt.Errorf("%w: %w", ErrMissing, why)
}

// Get reads a blob of one of the given kinds and its session, from the oldest copy
// that is not damaged. What cannot be given is ErrMissing, with the reason. The
// caller frees the item.
func (r *Repo) Get(i id.ID, want Kinds) (*Item, error) { return r.Copy(i, want, 0) }

// Copy is Get of the copies from number n on: 0 is the oldest one, 1 the youngest, and so on by
// turns; Item.Next is the one behind that which was read.
func (r *Repo) Copy(i id.ID, want Kinds, n int) (*Item, error) {
	return r.withSession(func(n int) (found, error) { return r.fetch(i, want, n) }, n)
}

// copyFrom is Copy in one view.
func (r *Repo) copyFrom(v *view, i id.ID, want Kinds, n int) (*Item, error) {
	return r.withSession(func(n int) (found, error) { return r.fetchFrom(v, i, want, n) }, n)
}

// item reads the copy in one place, and its session.
func (r *Repo) item(row Row) (*Item, error) {
	b, raw, err := r.readBlob(row)
	if err != nil {
		return nil, err
	}
	s, err := r.session(b.SID)
	if err != nil {
		putBuffer(raw)
		return nil, err
	}
	return &Item{Blob: b, Session: s, raw: raw}, nil
}

// withSession takes the first copy whose session can be had.
func (r *Repo) withSession(fetch func(n int) (found, error), n int) (*Item, error) {
	for {
		f, err := fetch(n)
		if err != nil {
			return nil, err
		}
		b := f.Record.(*rec.Blob)
		s, err := r.session(b.SID)
		if err == nil {
			return &Item{Blob: b, Session: s, Next: f.next, raw: f.raw}, nil
		}
		putBuffer(f.raw)
		if n = f.next; n == 0 {
			return nil, fmt.Errorf("its session %s is %w", b.SID, err)
		}
	}
}

// maxSessions is how many sessions are kept.
const maxSessions = 64

// session reads a session, or returns it from memory.
func (r *Repo) session(sid id.ID) (*rec.Session, error) {
	r.smu.Lock()
	s := r.sessions[sid]
	r.smu.Unlock()
	if s != nil {
		return s, nil
	}
	f, err := r.fetch(sid, sessionOnly, 0)
	if err != nil {
		return nil, err
	}
	s = f.Record.(*rec.Session) // its data is a copy
	putBuffer(f.raw)
	r.smu.Lock()
	if r.sessions == nil || len(r.sessions) >= maxSessions {
		r.sessions = map[id.ID]*rec.Session{}
	}
	r.sessions[sid] = s
	r.smu.Unlock()
	return s, nil
}
