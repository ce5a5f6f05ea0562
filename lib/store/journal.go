package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/visible"
)

// Events of the log of puts (docs/format/repository.md, "The log of puts").
const (
	eventBegin = "begin" // before anything is stored
	eventAdopt = "adopt" // before packs are listed that a killed put has left
	eventStore = "store" // before packs are listed, and before a snapshot or checkpoint
	eventEnd   = "end"
)

// An event is one object of the log: a line of JSON.
type event struct {
	Time       string   `json:"time"`
	Put        string   `json:"put"`
	Event      string   `json:"event"`
	As         string   `json:"as"`
	Client     string   `json:"client"`
	Segment    string   `json:"segment,omitempty"`
	Packs      []string `json:"packs,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
	Snapshot   string   `json:"snapshot,omitempty"`
	Blobs      uint64   `json:"blobs,omitempty"`
	Bytes      uint64   `json:"bytes,omitempty"`
	Status     *int     `json:"status,omitempty"`
	Error      string   `json:"error,omitempty"`
}

const (
	logDir = "log"
	// logAfter is how long a put may go on without an entry.
	logAfter = 10 * time.Minute
	// maxName and maxText bound the texts that come from outside.
	maxName = 255
	maxText = 1 << 10
	// eventSize is no less than an event without packs takes, whatever of its texts is
	// escaped, and eventPack than one pack.
	eventSize = 10<<10 + block
	eventPack = 2*id.Size + 3
)

// A journal writes the log of one put. A put that stores nothing has no entry, unless it goes
// on for longer than logAfter: it holds the repository's lock.
type journal struct {
	put   string
	start time.Time
	began bool
	n     int
	// root is the snapshot or checkpoint that what is stored next is for.
	root event
}

// newJournal begins a log, of which nothing is written yet.
func newJournal() *journal {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it has no errors
	return &journal{put: hex.EncodeToString(b[:]), start: time.Now()}
}

// logLong begins the log of a put that goes on for long. On a full disk, or beyond the quota, it
// does not.
func (p *Put) logLong() {
	j := p.journal
	if j == nil || j.began || time.Since(j.start) < logAfter {
		return
	}
	j.start = time.Now() // if it fails, try again later
	err := p.checkRoom(1)
	if err == nil {
		err = p.logBegin()
	}
	if err != nil {
		p.r.opts.Note("this run is not in the log of puts yet: %v", err)
	}
}

// shown bounds a text, and escapes what does not show.
func shown(s string, most int) string { return visible.Text(s[:min(len(s), most)]) }

// logBegin writes the first event, unless that is there.
func (p *Put) logBegin() error {
	if p.journal == nil || p.journal.began {
		return nil
	}
	p.journal.began = true
	err := p.log(event{Event: eventBegin})
	if err != nil {
		p.journal.began = false
	}
	return err
}

// logOwed returns the bytes of events that are still to be written, but for the packs in
// them.
func (p *Put) logOwed() int64 {
	switch {
	case p.journal == nil:
		return 0
	case p.journal.began:
		return 2 * eventSize // store, end
	}
	return 3 * eventSize
}

// log writes an event, and the first one of the put before it. Where no log is kept it
// does nothing.
func (p *Put) log(e event) error {
	if p.journal == nil {
		return nil
	}
	if err := p.logBegin(); err != nil {
		return err
	}
	j := p.journal
	now := time.Now().UTC()
	e.Time, e.Put, e.As, e.Client = now.Format("2006-01-02T15:04:05.000Z"), j.put, shown(p.o.As, maxName), shown(p.o.Client, maxName)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&e); err != nil {
		return err
	}
	j.n++
	return p.write(fmt.Sprintf("%s/%s-%s-%06d", logDir, now.Format("20060102T150405.000Z"), j.put, j.n), b.Bytes())
}

// logLists writes which packs a segment is about to list, and for which snapshot or
// checkpoint, if it is for one.
func (p *Put) logLists(what string, segment id.ID, lists []pack.List) error {
	if p.journal == nil {
		return nil
	}
	e := event{}
	if what == eventStore {
		e, p.journal.root = p.journal.root, event{}
	}
	e.Event, e.Segment = what, segment.String()
	for _, l := range lists {
		e.Packs = append(e.Packs, l.Pack.Name.String())
	}
	return p.log(e)
}

// logRoot writes which snapshot or checkpoint is about to be written, unless logLists has
// done so.
func (p *Put) logRoot() error {
	if p.journal == nil {
		return nil
	}
	e := p.journal.root
	if p.journal.root = (event{}); e.Checkpoint == "" && e.Snapshot == "" {
		return nil
	}
	e.Event = eventStore
	return p.log(e)
}

// LogEnd writes into the log how the put has ended: its exit status, and the text of the
// error, if there was one. It does nothing if the put has stored nothing.
func (p *Put) LogEnd(status int, text string) error {
	if p.journal == nil || !p.journal.began {
		return nil
	}
	e := event{Event: eventEnd, Blobs: p.Count.New, Bytes: p.Count.NewBytes, Status: &status, Error: shown(text, maxText)}
	if p.committed {
		e.Snapshot = p.snapshot.ID.String()
	}
	return p.log(e)
}
