package snap

import (
	"bytes"
	"reflect"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
)

func sample() *Snapshot {
	return &Snapshot{WriterKey: make([]byte, 32), WriterName: "laptop", WriterCert: make([]byte, 64), Label: "home",
		Time: rec.Time{Sec: -1, Nsec: 5}, Prev: id.ID{1}, Partial: true, Host: "h", User: "u", Roots: []rec.Root{{Dir: "/", Path: "a\xff"}},
		Tags: []string{"t"}, Chunker: rec.Chunker{Name: "gear1", Min: 1, Avg: 2, Max: 3}, Entries: 9, Bytes: 8, Warnings: 1,
		Warned: []string{"w"}, Users: []rec.Name{{ID: 0, Name: "root"}}, Groups: []rec.Name{{ID: 5, Name: "g"}}}
}

func TestRoundTrip(t *testing.T) {
	for _, s := range []*Snapshot{sample(), {WriterKey: []byte{}, WriterCert: []byte{}}} {
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, s)
		}
		for n := range b {
			if _, err := Decode(b[:n]); err == nil {
				t.Fatalf("decodes when cut to %d of %d bytes", n, len(b))
			}
		}
		if _, err := Decode(append(bytes.Clone(b), 0)); err == nil {
			t.Fatal("trailing byte accepted")
		}
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	s := sample()
	s.Tags = make([]string, MaxTags+1)
	if _, err := s.Encode(); err == nil {
		t.Fatal("encoded")
	}
	s = sample()
	s.Users = []rec.Name{{ID: 2, Name: "a"}, {ID: 1, Name: "b"}}
	if _, err := s.Encode(); err == nil {
		t.Fatal("encoded")
	}
}

func FuzzSnapshot(f *testing.F) {
	for _, s := range []*Snapshot{sample(), {}} {
		b, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		out, err := s.Encode()
		if err != nil || !bytes.Equal(out, b) {
			t.Fatalf("decoded, encoded otherwise: %v\n%x\n%x", err, b, out)
		}
	})
}
