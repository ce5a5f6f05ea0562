package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
	"preserve/lib/vectors"
)

var update = flag.Bool("update", false, "write the vectors anew")

func compare(t *testing.T, name, comment string, good int, cases []vectors.Fields) {
	t.Helper()
	text := vectors.Render(comment, cases)
	text.Compare(t, "repository/"+name, *update)
	if n := strings.Count(text.String(), "\nerror ="); n != len(cases)-good {
		t.Fatalf("%d errors:\n%s", n, text)
	}
}

func configCase(what string, data []byte) vectors.Fields {
	c := vectors.Fields{{Name: "case", Value: what}, {Name: "config", Value: data}}
	config, err := parseConfig(data)
	switch {
	case errors.Is(err, ErrNewer):
		return append(c, vectors.Field{Name: "error", Value: "newer"})
	case err != nil:
		return append(c, vectors.Field{Name: "error", Value: "damaged"})
	}
	return append(c, vectors.Field{Name: "repository", Value: config.ID[:]})
}

func TestConfigVectors(t *testing.T) {
	c := Config{ID: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}
	good := c.encode()
	with := func(change func(*Config)) []byte {
		x := c
		change(&x)
		return x.encode()
	}
	replace := func(old, repl string) []byte { return bytes.Replace(good, []byte(old), []byte(repl), 1) }
	compare(t, "config.txt", "Config files: docs/format/repository.md, \"config\".\n", 1, []vectors.Fields{
		configCase("version 1", good),
		configCase("version 2, and nothing else that is known", []byte("\x82\xa8preserve\x02\xa3abc\xc3")),
		configCase("a feature that nobody knows", with(func(c *Config) { c.Needs = []string{"teleport"} })),
		configCase("a bit of the id flipped", replace("\x07", "\x06")),
		configCase("version 0", replace("preserve\x01", "preserve\x00")),
		configCase("a long form of a number", replace("preserve\x01", "preserve\xcc\x01")),
		configCase("another key", replace("needs", "neets")),
		configCase("an id of 15 bytes", replace("\xc4\x10\x00", "\xc4\x0f")),
		configCase("a byte behind its end", append(slices.Clone(good), 0)),
		configCase("cut off", good[:len(good)-1]),
		configCase("empty", nil),
	})
}

func verdictCase(what string, data []byte) vectors.Fields {
	c := vectors.Fields{{Name: "case", Value: what}, {Name: "object", Value: data}}
	v, err := parseVerdict(data)
	switch {
	case errors.Is(err, ErrNewer):
		return append(c, vectors.Field{Name: "error", Value: "newer"})
	case err != nil:
		return append(c, vectors.Field{Name: "error", Value: "damaged"})
	}
	join := func(ids []id.ID) (b []byte) {
		for _, i := range ids {
			b = append(b, i[:]...)
		}
		return b
	}
	var packs, segments, seen []id.ID
	for _, d := range v.Drops {
		packs, segments = append(packs, d.Packs...), append(segments, d.Segments...)
	}
	for _, s := range v.Seen {
		seen = append(seen, s.IDs...)
	}
	name := sha256.Sum256(data)
	return append(c,
		vectors.Field{Name: "name", Value: name[:]},
		vectors.Field{Name: "made", Value: fmt.Sprintf("%d.%09d", v.Made.Sec, v.Made.Nsec)},
		vectors.Field{Name: "replaces", Value: join(v.Replaces)},
		vectors.Field{Name: "packs", Value: join(packs)},
		vectors.Field{Name: "segments", Value: join(segments)},
		vectors.Field{Name: "seen", Value: join(seen)})
}

func TestVerdictVectors(t *testing.T) {
	good := sampleVerdict().encode()
	with := func(change func(*verdict)) []byte {
		v := sampleVerdict()
		change(v)
		return v.encode()
	}
	replace := func(old, repl string) []byte { return bytes.Replace(good, []byte(old), []byte(repl), 1) }
	compare(t, "gc.txt", "What collectors have decided: docs/format/repository.md, \"gc\".\n", 2, []vectors.Fields{
		verdictCase("drops, and what was seen", good),
		verdictCase("nothing", (&verdict{}).encode()),
		verdictCase("version 2, and nothing else that is known", []byte("\x82\xa8preserve\x02\xa3abc\xc3")),
		verdictCase("packs out of order", with(func(v *verdict) { slices.Reverse(v.Drops[1].Packs) })),
		verdictCase("a pack twice", with(func(v *verdict) { v.Drops[1].Packs[1] = v.Drops[1].Packs[0] })),
		verdictCase("drops out of order", with(func(v *verdict) { slices.Reverse(v.Drops) })),
		verdictCase("two drops of one time", with(func(v *verdict) { v.Drops[1].Since = v.Drops[0].Since })),
		verdictCase("a drop of nothing", with(func(v *verdict) { v.Drops[0].Packs = nil })),
		verdictCase("sightings out of order", with(func(v *verdict) { slices.Reverse(v.Seen) })),
		verdictCase("a sighting of something unknown", with(func(v *verdict) { v.Seen[0].Kind = "ghost" })),
		verdictCase("a bit of an id flipped", replace("\x66\x00", "\x67\x00")),
		verdictCase("a billion nanoseconds", with(func(v *verdict) { v.Made.Nsec = 1_000_000_000 })),
		verdictCase("another key", replace("drops", "drips")),
		verdictCase("a byte behind its end", append(slices.Clone(good), 0)),
		verdictCase("cut off", good[:len(good)-1]),
		verdictCase("empty", nil),
	})
}

func snapshotCase(what string, data []byte, want id.ID) vectors.Fields {
	c := vectors.Fields{{Name: "case", Value: what}, {Name: "id", Value: want[:]}, {Name: "object", Value: data}}
	s, err := parseSnapshot(data, want)
	if err != nil {
		return append(c, vectors.Field{Name: "error", Value: "damaged"})
	}
	root := s.Blob.Ref(0)
	return append(c,
		vectors.Field{Name: "received", Value: fmt.Sprintf("%d.%09d", s.Received.Sec, s.Received.Nsec)},
		vectors.Field{Name: "as", Value: s.As},
		vectors.Field{Name: "root", Value: root[:]},
		vectors.Field{Name: "data", Value: s.Blob.Data})
}

func TestSnapshotVectors(t *testing.T) {
	session := &rec.Session{Data: make([]byte, rec.SessionSize)}
	for i := range session.Data {
		session.Data[i] = byte(i % 251)
	}
	blob := &rec.Blob{ID: id.ID(bytes.Repeat([]byte{0x5a}, 32)), Kind: 9, SID: pack.SID(session), Refs: bytes.Repeat([]byte{0x9a}, 32), Data: []byte("sealed snapshot"), Sig: bytes.Repeat([]byte{0x51}, 64)}
	blob.CRC = blob.Sum()
	encode := func(change func(*Snapshot)) []byte {
		b := *blob
		s := &Snapshot{rec.Stored{ID: blob.ID, Received: rec.Time{Sec: 1700000000, Nsec: 5}, As: "nas"}, session, &b}
		change(s)
		data, err := s.encode([16]byte{0, 1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := encode(func(*Snapshot) {})
	replace := func(old, repl string) []byte { return bytes.Replace(good, []byte(old), []byte(repl), 1) }
	compare(t, "snapshots.txt", "Snapshot objects: docs/format/repository.md, \"Snapshot objects\".\n", 2, []vectors.Fields{
		snapshotCase("a snapshot", good, blob.ID),
		snapshotCase("no label", encode(func(s *Snapshot) { s.As = "" }), blob.ID),
		snapshotCase("under another name", good, id.ID{1}),
		snapshotCase("stored says another id", encode(func(s *Snapshot) { s.ID = id.ID{1} }), blob.ID),
		snapshotCase("a flipped bit in the time", replace("\xce\x65\x53\xf1\x00\x05", "\xce\x65\x53\xf1\x00\x04"), blob.ID),
		snapshotCase("another label", replace("nas", "nat"), blob.ID),
		snapshotCase("a flipped bit in the blob", replace("sealed snapshot", "sealed snapshou"), blob.ID),
		snapshotCase("another session", encode(func(s *Snapshot) { s.Session = &rec.Session{Data: make([]byte, rec.SessionSize)} }), blob.ID),
		snapshotCase("a page in its place", encode(func(s *Snapshot) {
			s.Blob.Kind, s.Blob.Sig = 1, nil
			s.Blob.CRC = s.Blob.Sum()
		}), blob.ID),
		snapshotCase("another status", replace("status\x00", "status\x03"), blob.ID),
		snapshotCase("order up", replace("\xa5loose", "\xa2up"), blob.ID),
		snapshotCase("a byte behind its end", append(slices.Clone(good), 0), blob.ID),
		snapshotCase("cut off", good[:len(good)-1], blob.ID),
	})
}

func FuzzSnapshot(f *testing.F) {
	m := storetest.New(1)
	b := m.Blob(9, 20, m.Blob(1, 5))
	data, err := (&Snapshot{rec.Stored{ID: b.ID, As: "x"}, m.Session, b}).encode([16]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSnapshot(data, b.ID)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if s.ID != b.ID || s.Blob.ID != b.ID || s.Blob.Sum() != s.Blob.CRC {
			t.Fatal("another snapshot was accepted")
		}
	})
}
