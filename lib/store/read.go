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
	n, err := r.files.readAt(r.packPath(row.Pack), raw, int64(row.Offset))
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

func (r *Repo) packPath(name id.ID) string {
	hex := name.String()
	return r.path("packs", hex[:2], hex)
}

// fetch reads any good copy of a record. If no row leads to one and the list of
// segments has changed, it tries the new rows: a collector may have moved the
// blob. Then it is ErrMissing, with the reasons.
func (r *Repo) fetch(i id.ID, want Kinds) (rec.Record, []byte, error) {
	v, err := r.current()
	if err != nil {
		return nil, nil, err
	}
	for {
		record, raw, err := r.fetchFrom(v, i, want)
		if err == nil || !errors.Is(err, ErrMissing) {
			return record, raw, err
		}
		newer, rerr := r.reload(v)
		if rerr != nil {
			return nil, nil, rerr
		}
		if !newer {
			return nil, nil, err
		}
		if v, rerr = r.current(); rerr != nil {
			return nil, nil, rerr
		}
	}
}

// maxTried bounds how many copies are tried: a session has one in each pack of
// its run.
const maxTried = 64

func (r *Repo) fetchFrom(v *view, i id.ID, want Kinds) (rec.Record, []byte, error) {
	var why error
	tried := 0
	for row := range v.lookup(i, r.badSegment) {
		if !want.Has(row.Kind) {
			if why == nil {
				why = fmt.Errorf("the index has it as kind %d", row.Kind)
			}
			continue
		}
		record, raw, err := r.read(row)
		if err == nil {
			if tried > 0 {
				r.opts.Note("%s: %v: another copy was used", i, why)
			}
			return record, raw, nil
		}
		why = err
		if tried++; tried == maxTried {
			break
		}
	}
	switch {
	case why == nil:
		why = errors.New("not in the index")
	case errors.Is(why, fs.ErrNotExist):
		why = errors.New("its pack is gone")
	}
	return nil, nil, fmt.Errorf("%w: %w", ErrMissing, why)
}

// Get reads a blob of one of the given kinds and its session, from any copy
// that is not damaged. What cannot be given is ErrMissing, with the reason. The
// caller frees the item.
func (r *Repo) Get(i id.ID, want Kinds) (*Item, error) {
	record, raw, err := r.fetch(i, want)
	return r.withSession(record, raw, err)
}

// getFrom is Get in one view.
func (r *Repo) getFrom(v *view, i id.ID, want Kinds) (*Item, error) {
	record, raw, err := r.fetchFrom(v, i, want)
	return r.withSession(record, raw, err)
}

func (r *Repo) withSession(record rec.Record, raw []byte, err error) (*Item, error) {
	if err != nil {
		return nil, err
	}
	b := record.(*rec.Blob)
	s, err := r.session(b.SID)
	if err != nil {
		putBuffer(raw)
		return nil, fmt.Errorf("its session %s is %w", b.SID, err)
	}
	return &Item{Blob: b, Session: s, raw: raw}, nil
}

// maxSessions is how many sessions are kept.
const maxSessions = 64

// session reads a session, or returns it from memory.
func (r *Repo) session(sid id.ID) (*rec.Session, error) {
	r.mu.Lock()
	s := r.sessions[sid]
	r.mu.Unlock()
	if s != nil {
		return s, nil
	}
	record, raw, err := r.fetch(sid, sessionOnly)
	if err != nil {
		return nil, err
	}
	s = record.(*rec.Session) // its data is a copy
	putBuffer(raw)
	r.mu.Lock()
	if r.sessions == nil || len(r.sessions) >= maxSessions {
		r.sessions = map[id.ID]*rec.Session{}
	}
	r.sessions[sid] = s
	r.mu.Unlock()
	return s, nil
}
