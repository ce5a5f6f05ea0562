// Package storetest makes sealed streams for tests of what handles them without
// a key: blobs of random bytes under random ids, whose references are
// consistent. No program imports it.
package storetest

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// A Maker makes blobs under one session. The same seed makes the same blobs.
type Maker struct {
	rnd     *rand.ChaCha8
	Session *rec.Session
	sid     id.ID
}

// New returns a Maker.
func New(seed byte) *Maker {
	m := &Maker{rnd: rand.NewChaCha8([32]byte{seed})}
	m.Session = &rec.Session{Data: m.Bytes(rec.SessionSize)}
	m.sid = SID(m.Session)
	return m
}

// SID is the name of a session.
func SID(s *rec.Session) id.ID { return sha256.Sum256(s.Data) }

// Bytes returns n random bytes.
func (m *Maker) Bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = m.rnd.Read(b) // it has no errors
	return b
}

// Blob makes a blob of a kind over references, with size bytes of data.
func (m *Maker) Blob(kind uint8, size int, refs ...*rec.Blob) *rec.Blob {
	b := &rec.Blob{ID: id.ID(m.Bytes(id.Size)), Kind: kind, SID: m.sid, Data: m.Bytes(size)}
	for _, r := range refs {
		b.Refs = append(b.Refs, r.ID[:]...)
	}
	if kind == rec.KindSnapshot {
		b.Sig = m.Bytes(rec.SigSize)
	}
	b.CRC = b.Sum()
	return b
}

// Data makes n data blobs of size bytes each.
func (m *Maker) Data(n, size int) []*rec.Blob {
	var all []*rec.Blob
	for range n {
		all = append(all, m.Blob(rec.KindData, size))
	}
	return all
}

// A Tree is a snapshot and all that it reaches, children first.
type Tree struct {
	Session *rec.Session
	Blobs   []*rec.Blob
}

// Snapshot returns the last blob.
func (t *Tree) Snapshot() *rec.Blob { return t.Blobs[len(t.Blobs)-1] }

// Tree makes a snapshot over pages, each over perPage data blobs of size bytes,
// below as many index pages of at most fan children as it takes.
func (m *Maker) Tree(pages, perPage, fan, size int) *Tree {
	t := &Tree{Session: m.Session}
	add := func(b *rec.Blob) *rec.Blob { t.Blobs = append(t.Blobs, b); return b }
	var level []*rec.Blob
	for range pages {
		data := m.Data(perPage, size)
		for _, d := range data {
			add(d)
		}
		level = append(level, add(m.Blob(rec.KindPage, 300, data...)))
	}
	m.above(t, level, fan)
	return t
}

// above adds index pages over pages, at most fan children each, and a snapshot.
func (m *Maker) above(t *Tree, level []*rec.Blob, fan int) {
	for kind := uint8(2); len(level) > 1; kind++ {
		var up []*rec.Blob
		for len(level) > 0 {
			n := min(fan, len(level))
			up = append(up, m.Blob(kind, 200, level[:n]...))
			level = level[n:]
		}
		t.Blobs = append(t.Blobs, up...)
		level = up
	}
	t.Blobs = append(t.Blobs, m.Blob(rec.KindSnapshot, 400, level[0]))
}

// A Run is what one backup sends that makes checkpoints.
type Run struct {
	// Trees are those of the checkpoints, and last the whole one.
	Trees []*Tree
	// Records are all that lies between head and end.
	Records []rec.Record
}

// Run makes a tree as Tree does that comes with a checkpoint before every page but
// the first.
func (m *Maker) Run(pages, perPage, fan, size int) *Run {
	r := &Run{Records: []rec.Record{m.Session}}
	send := func(blobs ...*rec.Blob) {
		for _, b := range blobs {
			r.Records = append(r.Records, b)
		}
	}
	var below, level []*rec.Blob
	for n := range pages {
		data := m.Data(perPage, size)
		page := m.Blob(rec.KindPage, 300, data...)
		below = append(append(below, data...), page)
		level = append(level, page)
		t := &Tree{Session: m.Session, Blobs: slices.Clone(below)}
		m.above(t, level, fan)
		r.Trees = append(r.Trees, t)
		send(data...)
		send(page)
		send(t.Blobs[len(below):]...)
		if n < pages-1 {
			r.Records = append(r.Records, &rec.Checkpoint{ID: t.Snapshot().ID})
		}
	}
	return r
}

// Stream returns the records of a whole stream in order up.
func (r *Run) Stream(base ...id.ID) []rec.Record {
	rs := append([]rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up, Base: base}}, r.Records...)
	return append(rs, &rec.End{})
}

// Records returns a tree as the records of a stream in order up.
func (t *Tree) Records(base ...id.ID) []rec.Record {
	rs := []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Up, Base: base}, t.Session}
	for _, b := range t.Blobs {
		rs = append(rs, b)
	}
	return append(rs, &rec.End{})
}

// Loose returns blobs as the records of a stream in order loose.
func Loose(s *rec.Session, blobs ...*rec.Blob) []rec.Record {
	rs := []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Loose}, s}
	for _, b := range blobs {
		rs = append(rs, b)
	}
	return append(rs, &rec.End{})
}

// Encode returns the bytes of a stream and where each record begins.
func Encode(rs []rec.Record) (stream []byte, at []int, err error) {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, r := range rs {
		at = append(at, b.Len())
		if err := w.Write(r); err != nil {
			return nil, nil, err
		}
		if err := w.Flush(); err != nil {
			return nil, nil, err
		}
	}
	return b.Bytes(), at, nil
}
