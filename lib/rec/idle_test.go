package rec

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"preserve/lib/id"
)

// slow is a stream that comes in pieces, each after a while; it has no end.
type slow struct {
	first, piece []byte
	every        time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.first) == 0 {
		time.Sleep(s.every)
		s.first = s.piece
	}
	n := copy(p, s.first)
	s.first = s.first[n:]
	return n, nil
}

// TestSetIdle: a peer that sends signs of life, or a record without end, byte by byte, is given up. One that
// sends records is not, nor one that has to wait for whoever calls Next.
func TestSetIdle(t *testing.T) {
	encode := func(rs ...Record) []byte {
		var out bytes.Buffer
		w := NewWriter(&out)
		for _, r := range rs {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	head := &Head{Kind: Sealed, Order: Loose}
	begin := encode(head)
	after := func(r Record) []byte { return bytes.TrimPrefix(encode(head, r), begin) }
	for name, c := range map[string]struct {
		first, piece []byte
		every        time.Duration
		after        int // records that come
		err          error
	}{
		"ticks":                 {begin, after(&Tick{Files: 1}), 10 * time.Second, 360, ErrIdle},
		"notes":                 {begin, after(&Note{Tool: "a", Text: "b"}), time.Minute, 60, ErrIdle},
		"a record byte by byte": {append(bytes.Clone(begin), 0x82, 0xa1, 't', 0xa7, 's', 'e', 's', 's', 'i', 'o', 'n', 0xa4, 'd', 'a', 't', 'a', 0xc6, 0, 0xff, 0xff, 0xff), []byte{0}, time.Minute, 0, ErrIdle},
		"no head":               {nil, []byte{}, time.Minute, 0, ErrIdle},
		"half a head":           {begin[:9], []byte{}, time.Minute, 0, ErrIdle},
		"records":               {begin, after(&Missing{ID: id.ID{1}}), 59 * time.Minute, 100, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := NewReader(&slow{c.first, c.piece, c.every}, Sealed)
			r.SetIdle(time.Hour)
			begun := time.Now()
			if _, err := r.Head(); len(c.first) < len(begin) {
				if took := time.Since(begun); !errors.Is(err, c.err) || took > 2*time.Hour {
					t.Errorf("%s: %v after %v", name, err, took)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			n, err := 0, error(nil)
			for n < 100_000 && (c.err != nil || n < c.after) {
				if _, err = r.Next(); err != nil {
					break
				}
				n++
			}
			if took := time.Since(begun); n > c.after+1 || n < c.after-1 || !errors.Is(err, c.err) || c.err != nil && took > 2*time.Hour {
				t.Errorf("%s: %d records in %v: %v", name, n, took, err)
			}
		})
	}
	// What has come waits for whoever calls Next.
	synctest.Test(t, func(t *testing.T) {
		r := NewReader(io.MultiReader(bytes.NewReader(encode(head, &Missing{ID: id.ID{1}}, &Missing{ID: id.ID{1}}, &Tick{}, &Missing{ID: id.ID{1}}, &End{}))), Sealed)
		r.SetIdle(time.Hour)
		for n := range 6 {
			if _, err := r.Next(); err != nil {
				t.Fatalf("record %d: %v", n, err)
			}
			if n != 3 {
				time.Sleep(3 * time.Hour)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Error(err)
		}
	})
}
