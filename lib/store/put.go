package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

// How much may be stored before it is made durable and listed: what a broken
// run can lose, and what it keeps in memory.
const (
	barrierTime  = 10 * time.Minute
	barrierBytes = 64 << 30
	barrierRows  = 256 << 10
	// maxChecked bounds what is remembered of the metadata of a run; what is
	// forgotten is checked again.
	maxChecked = 1 << 18
	// maxMisses bounds the misses that are told one by one.
	maxMisses = 1 << 20
)

// Errors of Put; match them with errors.Is.
var (
	ErrChecksum = errors.New("arrived damaged: its checksum does not hold")
	ErrConflict = errors.New("the same id for different blobs")
	ErrOrder    = errors.New("out of order")
)

// A Put stores one stream. Its methods are for one goroutine, but for Abort.
type Put struct {
	r    *Repo
	view *view
	o    PutOptions

	w          objects.Writer
	open       [2]*openPack // data, metadata
	slots      chan struct{}
	background sync.WaitGroup

	mu      sync.Mutex // guards these two
	failed  error      // first error in the background
	settled []pack.List

	sessions    map[id.ID]*rec.Session // of this stream, the last ones
	recent      Recent
	data        id.Set           // data blobs since the last segment
	meta        map[id.ID]uint64 // metadata that was checked: kind and a hash of the references
	seed        maphash.Seed
	last        last
	just        id.ID            // of the blob that came last
	copies      map[copyKey]bool // that came in order loose since the last segment
	missing     id.Set
	deep        int    // how deep checkRefs is below what was received
	trial       bool   // several copies are tried: see wholeCopy
	saved       id.Set // what was copied for that since the last look
	retired     *view  // while what a collector lets go is saved: see secure
	lacking     id.Set // of which no copy was whole; bounded by maxMisses
	base        []id.ID
	snapshot    *Snapshot // received, and named by no checkpoint
	committed   bool      // it was
	journal     *journal  // nil where no log is kept
	logged      id.ID     // the segment of the last event of the log
	pendingRows int
	owed        int64     // bytes still to be written for what was appended: see rowCost
	quota       quota     // what the repository may have
	room        int64     // that may be written before the free space is asked for
	since       time.Time // of the last segment
	checkpoint  time.Time // of the last checkpoint; zero before the first
	sinceBytes  uint64

	// Count says what was done so far.
	Count Count
}

// A Count says what a put did.
type Count struct {
	New, Had uint64 // blobs
	NewBytes uint64 // of sealed data
	HadBytes uint64
	Packs    int // that are durable and listed
	// Checkpoints that were written, and that were passed over.
	Checkpoints, Passed int
	// Adopted packs: those of puts that were killed before they had listed them.
	Adopted int
}

// PutOptions of a put.
type PutOptions struct {
	// As is the label that the repository gives the client.
	As string
	// MaxBytes is how large the repository may become: the bytes of all its files, each in
	// whole blocks of 4 KiB. 0 is no limit. Puts at the same time may exceed it by
	// recountMin each, if they are fewer than 64.
	MaxBytes int64
	// CheckpointEvery is how much time must pass between two checkpoints; what comes
	// sooner is passed over. 0 is none.
	CheckpointEvery time.Duration
	// Log lets the repository keep a log of puts, in which Client is where the client is.
	Log    bool
	Client string
	// collector: it is one, which needs no reserve.
	collector bool
	// Missing is told each id that something refers to and that is not there,
	// once, when it is seen. An error ends the put.
	Missing func(id.ID) error
}

// NewPut begins to store a stream that rests on the given snapshots or
// checkpoints. One that is not there or forgotten is ErrMissing or ErrForgotten.
func (r *Repo) NewPut(base []id.ID, o PutOptions) (*Put, error) {
	for _, b := range base {
		if _, err := r.where(b); err != nil {
			return nil, r.whereError(fmt.Sprintf("the stream rests on snapshot %s, which", b), err)
		}
	}
	v, err := r.current()
	if err == nil && len(v.state.damaged) > 0 && !o.collector {
		// What is retired there would be relied on.
		err = fmt.Errorf("gc/%s is %w: nothing can be stored until a collector has replaced it (pv-gc collect)", v.state.damaged[0], ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	so := "what they held is stored again where it comes again, and older snapshots may lack it"
	if o.collector {
		so = "" // it says by itself what snapshots lack
	}
	r.checkPacks(v, so)
	p := &Put{
		r: r, view: v, o: o,
		base:     base,
		w:        r.o.Writer(),
		slots:    make(chan struct{}, syncing),
		sessions: map[id.ID]*rec.Session{},
		meta:     map[id.ID]uint64{},
		seed:     maphash.MakeSeed(),
	}
	p.w.Sweep()
	p.mark()
	p.quota.max = o.MaxBytes
	if o.Log {
		p.journal = newJournal()
	}
	if err := p.checkRoom(0); err != nil {
		return nil, err
	}
	if err := p.adopt(); err != nil {
		return nil, err
	}
	return p, nil
}

// mark begins the count towards the next barrier.
func (p *Put) mark() {
	p.since, p.sinceBytes, p.pendingRows, p.owed = time.Now(), p.Count.NewBytes, 0, 0
}

// Abort removes the temporaries and stops all writing. It may be called at any
// time, by any goroutine, also after Commit.
func (p *Put) Abort() { p.w.Abort() }

// Close is Abort, and waits for what goes on in the background.
func (p *Put) Close() {
	p.Abort()
	p.background.Wait()
	for i, o := range p.open {
		if o != nil {
			p.drop(o)
			p.open[i] = nil
		}
	}
}

// NextStream forgets the sessions: in a concatenation of streams each brings its
// own.
func (p *Put) NextStream() { p.sessions, p.recent = map[id.ID]*rec.Session{}, Recent{} }

// Session notes a session for the blobs behind it, until maxSent others have come.
func (p *Put) Session(s *rec.Session) error {
	sid := pack.SID(s)
	if fresh, gone := p.recent.Add(sid); fresh {
		delete(p.sessions, gone)
		p.sessions[sid] = s
	}
	return nil
}

// accept checks what a blob itself must be.
func (p *Put) accept(b *rec.Blob) error {
	switch {
	case b.Sum() != b.CRC:
		return fmt.Errorf("blob %s %w", b.ID, ErrChecksum)
	case p.sessions[b.SID] == nil:
		return fmt.Errorf("blob %s before its session %s: %w", b.ID, b.SID, ErrOrder)
	case b.Kind != rec.KindData && len(b.Data) > MaxMeta:
		return fmt.Errorf("blob %s of kind %d has %d bytes, over the limit of %d", b.ID, b.Kind, len(b.Data), MaxMeta)
	case len(distinct(b.Refs)) != b.NRefs():
		return fmt.Errorf("blob %s refers twice to the same: %w", b.ID, rec.ErrBad)
	}
	return nil
}

// Blob stores a blob of a stream in order up, unless it is had, and checks that
// all that it refers to is there. The blob remains the caller's. Errors other
// than of the disk: ErrChecksum, ErrConflict, ErrOrder.
func (p *Put) Blob(b *rec.Blob) error {
	if err := p.accept(b); err != nil {
		return err
	}
	had, err := p.had(b)
	if err != nil {
		return err
	}
	if b.Kind == rec.KindSnapshot {
		if err := p.takeSnapshot(b); err != nil {
			return err
		}
	}
	if err := p.checkRefs(b.ID, b.Kind, b.Refs); err != nil {
		return err
	}
	return p.store(b, had)
}

// store appends a blob that is not had and notes it as received.
func (p *Put) store(b *rec.Blob, had bool) error {
	if had {
		p.Count.Had++
		p.Count.HadBytes += uint64(len(b.Data))
	} else {
		if err := p.append(b); err != nil {
			return err
		}
		if b.Kind == rec.KindData {
			p.data.Add(b.ID)
		}
		if p.last.id != b.ID {
			p.last = last{}
		}
		p.last.copyKey = copyKey{b.ID, b.CRC}
		p.last.copies++
	}
	if b.Kind != rec.KindData {
		p.meta[b.ID] = p.shape(b.Kind, b.Refs) | received
	}
	p.just = b.ID
	return p.Turn()
}

// Turn makes what was stored durable and lists it, if that is due.
func (p *Put) Turn() error {
	p.logLong()
	if p.pendingRows == 0 && len(p.meta) > maxChecked {
		p.meta = map[id.ID]uint64{}
	}
	if p.pendingRows == 0 || p.pendingRows < barrierRows && len(p.meta) <= maxChecked &&
		p.Count.NewBytes-p.sinceBytes < barrierBytes && time.Since(p.since) < barrierTime {
		return nil
	}
	return p.barrier()
}

// Keep makes durable and lists what is whole, after a stream that ended badly or
// a disk that is full: the next run need not send it again. It returns the first
// error, after which as much as possible was kept.
func (p *Put) Keep() error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	open := p.open
	p.open = [2]*openPack{}
	for i, o := range open {
		if o != nil && o.broken { // first: it makes room
			p.drop(o)
			open[i] = nil
		}
	}
	for _, o := range open {
		if o != nil {
			note(p.finish(o))
		}
	}
	p.background.Wait()
	note(p.publish())
	return first
}
