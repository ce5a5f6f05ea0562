package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// A verdict is what a collector has decided and seen: an object in gc. Its name is the SHA-256 of its
// bytes. What counts are all verdicts that no other one replaces.
type verdict struct {
	Made     rec.Time // by the store's clock
	Replaces []id.ID  // verdicts, whose content this one has taken over
	Drops    []drop   // in order of Since
	Seen     []sighting
}

// A drop is what one collector has let go.
type drop struct {
	Since    rec.Time
	Packs    []id.ID // on whose rows nobody relies any more
	Segments []id.ID // index segments that do not count any more
}

// What is seen. A sighting is that of one moment.
const (
	seenCheckpoint = "checkpoint" // that is no snapshot
	seenForgotten  = "forgotten"  // a mark
	seenSegment    = "segment"
	seenSnapshot   = "snapshot"
)

var sightings = []string{seenCheckpoint, seenForgotten, seenSegment, seenSnapshot}

// A sighting says when a collector first saw something.
type sighting struct {
	Kind string
	At   rec.Time
	IDs  []id.ID
}

const (
	// maxVerdict bounds a verdict's bytes: two million ids.
	maxVerdict = 64 << 20
	// maxGroups bounds its drops, and its sightings.
	maxGroups = 1 << 16
)

var errVerdict = errors.New("not a valid verdict of a collector")

func compareIDs(a, b id.ID) int { return bytes.Compare(a[:], b[:]) }

func compareTimes(a, b rec.Time) int {
	return cmp.Or(cmp.Compare(a.Sec, b.Sec), cmp.Compare(a.Nsec, b.Nsec))
}

// tidy brings v into its canonical order.
func (v *verdict) tidy() {
	sorted := func(list *[]id.ID) {
		slices.SortFunc(*list, compareIDs)
		*list = slices.Compact(*list)
	}
	sorted(&v.Replaces)
	slices.SortStableFunc(v.Drops, func(a, b drop) int { return compareTimes(a.Since, b.Since) })
	var drops []drop
	for _, d := range v.Drops {
		if n := len(drops); n > 0 && drops[n-1].Since == d.Since {
			drops[n-1].Packs = slices.Concat(drops[n-1].Packs, d.Packs)
			drops[n-1].Segments = slices.Concat(drops[n-1].Segments, d.Segments)
		} else {
			drops = append(drops, d)
		}
	}
	for k := range drops {
		sorted(&drops[k].Packs)
		sorted(&drops[k].Segments)
	}
	v.Drops = slices.DeleteFunc(drops, func(d drop) bool { return len(d.Packs)+len(d.Segments) == 0 })
	slices.SortStableFunc(v.Seen, func(a, b sighting) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), compareTimes(a.At, b.At)) })
	var seen []sighting
	for _, s := range v.Seen {
		if n := len(seen); n > 0 && seen[n-1].Kind == s.Kind && seen[n-1].At == s.At {
			seen[n-1].IDs = slices.Concat(seen[n-1].IDs, s.IDs)
		} else {
			seen = append(seen, s)
		}
	}
	for k := range seen {
		sorted(&seen[k].IDs)
	}
	v.Seen = slices.DeleteFunc(seen, func(s sighting) bool { return len(s.IDs) == 0 })
}

// encode returns the canonical form of a tidy verdict: {preserve: 1, made: [s, ns], replaces: ids, drops: [{since, packs,
// segments}…], seen: [{kind, at, ids}…], crc: n}. The checksum is the CRC-32C over all bytes before
// the key crc.
func (v *verdict) encode() []byte {
	w := wire.NewWriter()
	at := func(t rec.Time) {
		w.Array(2)
		w.Int(t.Sec)
		w.Uint(uint64(t.Nsec))
	}
	list := func(ids []id.ID) {
		w.BinLen(len(ids) * id.Size)
		for _, i := range ids {
			w.Raw(i[:])
		}
	}
	w.Map(6)
	w.Str("preserve")
	w.Uint(Format)
	w.Str("made")
	at(v.Made)
	w.Str("replaces")
	list(v.Replaces)
	w.Str("drops")
	w.Array(len(v.Drops))
	for _, d := range v.Drops {
		w.Map(3)
		w.Str("since")
		at(d.Since)
		w.Str("packs")
		list(d.Packs)
		w.Str("segments")
		list(d.Segments)
	}
	w.Str("seen")
	w.Array(len(v.Seen))
	for _, s := range v.Seen {
		w.Map(3)
		w.Str("kind")
		w.Str(s.Kind)
		w.Str("at")
		at(s.At)
		w.Str("ids")
		list(s.IDs)
	}
	sum := crc32.Checksum(w.Bytes(), castagnoli)
	w.Str("crc")
	w.Uint(uint64(sum))
	return w.Take()
}

// parseVerdict is the inverse of encode, and takes nothing else. A newer version is ErrNewer, all else
// that is wrong ErrDamaged.
func parseVerdict(b []byte) (*verdict, error) {
	bad := func(err error) (*verdict, error) { return nil, fmt.Errorf("%w: %w", ErrDamaged, err) }
	r := wire.NewCursor(b, true)
	key := func(want string) {
		if got := r.Str(64); r.Err() == nil && string(got) != want {
			r.Fail(fmt.Errorf("key %q where %q belongs: %w", got, want, errVerdict))
		}
	}
	fields := func(n int, want int) {
		if r.Err() == nil && n != want {
			r.Fail(errVerdict)
		}
	}
	at := func() (t rec.Time) {
		fields(r.Array(2), 2)
		t.Sec = r.Int()
		t.Nsec = uint32(r.Uint(999_999_999))
		return t
	}
	list := func() (ids []id.ID) {
		raw := r.Bin(maxVerdict)
		if len(raw)%id.Size != 0 {
			r.Fail(errVerdict)
			return nil
		}
		for ; len(raw) > 0; raw = raw[id.Size:] {
			ids = append(ids, id.ID(raw[:id.Size]))
		}
		return ids
	}
	v := &verdict{}
	n := r.Map(64)
	key("preserve")
	version := r.Uint(math.MaxUint32)
	switch {
	case r.Err() != nil:
		return bad(r.Err())
	case version > Format:
		return nil, fmt.Errorf("format %d: %w", version, ErrNewer)
	case version != Format || n != 6:
		return bad(errVerdict)
	}
	key("made")
	v.Made = at()
	key("replaces")
	v.Replaces = list()
	key("drops")
	for n := r.Array(maxGroups); n > 0 && r.Err() == nil; n-- {
		var d drop
		fields(r.Map(3), 3)
		key("since")
		d.Since = at()
		key("packs")
		d.Packs = list()
		key("segments")
		d.Segments = list()
		v.Drops = append(v.Drops, d)
	}
	key("seen")
	for n := r.Array(maxGroups); n > 0 && r.Err() == nil; n-- {
		var s sighting
		fields(r.Map(3), 3)
		key("kind")
		s.Kind = string(r.Str(64))
		key("at")
		s.At = at()
		key("ids")
		s.IDs = list()
		if r.Err() == nil && !slices.Contains(sightings, s.Kind) {
			r.Fail(fmt.Errorf("a sighting of a %q: %w", s.Kind, errVerdict))
		}
		v.Seen = append(v.Seen, s)
	}
	before := r.Pos()
	key("crc")
	sum := uint32(r.Uint(math.MaxUint32))
	if err := r.Finish(); err != nil {
		return bad(err)
	}
	if sum != crc32.Checksum(b[:before], castagnoli) {
		return bad(errors.New("checksum mismatch"))
	}
	again := &verdict{v.Made, slices.Clone(v.Replaces), slices.Clone(v.Drops), slices.Clone(v.Seen)}
	if again.tidy(); !bytes.Equal(again.encode(), b) {
		return bad(errors.New("not in canonical form"))
	}
	return v, nil
}

// A state is what all verdicts together say.
type state struct {
	epoch    []id.ID        // the names in gc, in order
	current  []id.ID        // of them, those that no other one replaces
	retired  map[id.ID]bool // packs
	replaced map[id.ID]bool // segments
	drops    []drop
	made     rec.Time                      // the last one
	seen     map[string]map[id.ID]rec.Time // by kind: when it was seen first
	damaged  []id.ID                       // verdicts
}

// readState reads all verdicts. One that is damaged is named, and left out: what it retired counts again,
// until a collector lets it go once more. Errors: ErrNewer, explained.
func (r *Repo) readState() (*state, error) {
	for tries := 0; ; tries++ {
		s, again, err := r.tryState()
		if err != nil {
			return nil, err
		}
		if !again {
			return s, nil
		}
		if tries > 100 {
			return nil, errRestless
		}
	}
}

// tryState is readState. again: an object went away meanwhile.
func (r *Repo) tryState() (s *state, again bool, err error) {
	s = &state{retired: map[id.ID]bool{}, replaced: map[id.ID]bool{}, seen: map[string]map[id.ID]rec.Time{}}
	for _, kind := range sightings {
		s.seen[kind] = map[id.ID]rec.Time{}
	}
	if s.epoch, err = r.names("gc"); err != nil {
		return nil, false, err
	}
	all := map[id.ID]*verdict{}
	superseded := map[id.ID]bool{}
	for _, name := range s.epoch {
		v, err := r.readVerdict(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, true, nil
		case errors.Is(err, ErrDamaged):
			s.damaged = append(s.damaged, name)
			continue
		case err != nil:
			return nil, false, err
		}
		all[name] = v
		for _, old := range v.Replaces {
			superseded[old] = true
		}
	}
	for _, name := range s.epoch {
		if v := all[name]; v != nil && !superseded[name] {
			s.current = append(s.current, name)
			s.take(v)
		}
	}
	return s, false, nil
}

func (r *Repo) readVerdict(name id.ID) (*verdict, error) {
	b, err := readAll(r.o, object("gc", name), maxVerdict)
	if err == nil && id.ID(sha256.Sum256(b)) != name {
		err = fmt.Errorf("content does not match its name: %w", ErrDamaged)
	}
	var v *verdict
	if err == nil {
		v, err = parseVerdict(b)
	}
	switch {
	case errors.Is(err, ErrNewer):
		return nil, fmt.Errorf("%q was collected by a newer version of Preserve: upgrade (%w)", r, err)
	case err != nil:
		return nil, fmt.Errorf("gc/%s: %w", name, err)
	}
	return v, nil
}

func (s *state) take(v *verdict) {
	if compareTimes(v.Made, s.made) > 0 {
		s.made = v.Made
	}
	for _, d := range v.Drops {
		s.drops = append(s.drops, d)
		for _, p := range d.Packs {
			s.retired[p] = true
		}
		for _, i := range d.Segments {
			s.replaced[i] = true
		}
	}
	for _, g := range v.Seen {
		for _, i := range g.IDs {
			if was, ok := s.seen[g.Kind][i]; !ok || compareTimes(g.At, was) < 0 {
				s.seen[g.Kind][i] = g.At
			}
		}
	}
}
