package store

import (
	"encoding/binary"
	"errors"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// Against a slow list.
func TestRecent(t *testing.T) {
	t.Parallel()
	var r Recent
	var list []int
	in := map[int]bool{}
	x := uint32(1)
	for range 200_000 {
		x = x*1664525 + 1013904223
		n := int(x>>8) % (maxSent + maxSent/8)
		fresh, gone := r.Add(id.ID(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(n+1))))
		if fresh == in[n] {
			t.Fatal(n, fresh)
		}
		if !fresh {
			continue
		}
		in[n] = true
		want := id.ID{}
		if list = append(list, n); len(list) > maxSent {
			want = id.ID(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(list[0]+1)))
			delete(in, list[0])
			list = list[1:]
		}
		if gone != want {
			t.Fatal(n, gone, want)
		}
	}
}

// A snapshot may rest on more runs than a stream's reader remembers, whether somebody has made it so
// or it is years old: it is copied all the same, if sessions are sent again.
func TestManySessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const runs = maxSent + 100
	m := storetest.New(1)
	own := m.Session
	var sent Recent
	p := mustPut(t, mustCreate(t, dir), nil)
	send := func(b *rec.Blob, s *rec.Session) {
		t.Helper()
		var err error
		if fresh, _ := sent.Add(b.SID); fresh {
			err = p.Session(s)
		}
		if err = errors.Join(err, p.Blob(b)); err != nil {
			t.Fatal(err)
		}
	}
	data := m.Data(1, 20)[0]
	send(data, own)
	var pages []*rec.Blob
	for n := range runs {
		page := m.Blob(rec.KindPage, 20, data)
		s := &rec.Session{Data: binary.BigEndian.AppendUint64(make([]byte, rec.SessionSize-8), uint64(n))}
		page.SID = storetest.SID(s)
		page.CRC = page.Sum()
		send(page, s)
		pages = append(pages, page)
	}
	if n := len(p.sessions); n != maxSent {
		t.Errorf("%d sessions are remembered", n)
	}
	lost := *data
	lost.ID[0]++
	lost.CRC = lost.Sum()
	if err := p.Blob(&lost); !errors.Is(err, ErrOrder) { // its session was long ago
		t.Error(err)
	}
	root := m.Blob(2, 20, pages...)
	snapshot := m.Blob(rec.KindSnapshot, 20, root)
	send(root, own)
	send(snapshot, own)
	if _, err := p.Commit(); err != nil {
		t.Fatal(err)
	}
}
