package test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"preserve/lib/bounds"
	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/tools/chunk"
	"preserve/lib/tools/get"
	"preserve/lib/tools/put"
	"preserve/lib/tools/scan"
	"preserve/lib/tools/seal"
	"preserve/lib/walk"
	"preserve/lib/wire"
)

var everyFlip = flag.Bool("flips.all", false, "TestFlips and the like: flip every bit in every way, which takes minutes")

// A flipped is a small repository, made by the tools, of which bits are flipped.
type flipped struct {
	t      *testing.T
	dir    string // the repository
	read   *key.Key
	snap   id.ID
	stream []byte // what pv-get gives
	open   *box.Opener
	whole  map[string]bool // what a reader takes from it
}

// tools runs the stages of a pipe, one behind the other, and returns what the last
// one wrote.
func tools(t *testing.T, stages ...any) []byte {
	t.Helper()
	var in []byte
	for len(stages) > 0 {
		run := stages[0].(func(*tool.Env) error)
		var out, said bytes.Buffer
		if err := run(tool.NewEnv("test", stages[1].([]string), bytes.NewReader(in), &out, &said)); err != nil {
			t.Fatalf("%q: %v %s", stages[1], err, &said)
		}
		in, stages = out.Bytes(), stages[2:]
	}
	return in
}

// someSource makes a tree with a large file, files of noise, empty ones, links, and
// with names that the keys of k let begin pages and index pages.
func someSource(t *testing.T, k *key.Key, dir string) {
	t.Helper()
	cut, _ := k.Cut()
	b := bounds.New(cut.Group().Bytes(), cut.Page().Bytes(), nil)
	names := map[string][]byte{"a": noise(900), "b": noise(40), "empty": nil, "z": bytes.Repeat([]byte("a large file, of which little is left\n"), 8000)}
	var pages, indexes int
	for n := 0; pages < 4 || indexes < 1; n++ {
		name := fmt.Sprintf("f%06d", n)
		switch {
		case indexes < 1 && b.IndexBegins(1, name):
			indexes++
		case pages < 4 && b.PageBegins(name):
			pages++
		default:
			continue
		}
		names[name], names[name+"-"] = noise(1500+n%64), []byte(name)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	errs := []error{os.MkdirAll(at("d"), 0o755), os.Symlink("../b", at("d/link"))}
	for name, content := range names {
		errs = append(errs, os.WriteFile(at(name), content, 0o644), os.Chtimes(at(name), time.Time{}, time.Unix(1_700_000_000, 0)))
	}
	errs = append(errs, os.Link(at("a"), at("d/hard link")))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// noise returns n bytes that do not compress; the same each time.
func noise(n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for len(b) < n {
		h := sha256.Sum256(append([]byte{byte(n)}, b...))
		b = append(b, h[:]...)
	}
	return b[:n]
}

func newFlipped(t *testing.T) *flipped {
	t.Helper()
	dir := t.TempDir()
	m, err := key.FromMaster([key.SecretSize]byte(noise(key.SecretSize)))
	if err != nil {
		t.Fatal(err)
	}
	write, err1 := m.Derive(key.Write, "laptop")
	read, err2 := m.Derive(key.Read, "")
	keyFile := filepath.Join(dir, "write.key")
	f := &flipped{t: t, dir: filepath.Join(dir, "repo"), read: read}
	source := filepath.Join(dir, "source")
	if err := errors.Join(err1, err2, write.Save(keyFile), os.Mkdir(source, 0o755)); err != nil {
		t.Fatal(err)
	}
	someSource(t, m, source)
	said := tools(t, scan.Run, []string{source}, chunk.Run, []string{"-k", keyFile}, seal.Run, []string{"-k", keyFile}, put.Run, []string{f.dir})
	f.snap, err = id.Parse(strings.TrimSpace(string(said)))
	if err != nil {
		t.Fatal(err)
	}
	f.stream = tools(t, get.Run, []string{f.dir, f.snap.String()})
	if f.open, err = box.NewOpener(read); err != nil {
		t.Fatal(err)
	}
	got, err := f.walk(f.stream)
	if err != nil || got.lost || len(got.log) < 20 {
		t.Fatalf("unchanged: %v\n%s", err, strings.Join(slices.Sorted(maps.Keys(got.log)), "\n"))
	}
	f.whole = got.log
	return f
}

// A taker is a Sink that writes down every bit that it takes.
type taker struct {
	mu   sync.Mutex
	log  map[string]bool
	lost bool // something was named as missing
}

func (k *taker) note(format string, args ...any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log[fmt.Sprintf(format, args...)] = true
	return nil
}

func (k *taker) missing() error { k.mu.Lock(); defer k.mu.Unlock(); k.lost = true; return nil }

func (k *taker) Snapshot(i id.ID, s *snap.Snapshot) error { return k.note("snapshot %s %+v", i, *s) }

// invented is what a reader puts in the place of a directory whose page is lost.
const invented = "directory in place of "

func (k *taker) Page(p *walk.Page) error {
	for _, e := range p.Entries {
		if k.lost && e.Type == rec.Dir && e.Mode == 0o700 && e.UID == 0 && len(e.XAttrs) == 0 {
			_ = k.note(invented+"%q", e.Path)
			continue
		}
		w := wire.NewWriter()
		page.Encode(w, []*rec.Entry{e})
		_ = k.note("entry %q %x", e.Path, w.Bytes())
	}
	return nil
}

func (k *taker) Data(p *walk.Page, ref int, plain []byte) error {
	for _, u := range p.Uses[ref] {
		_ = k.note("data %q %d %x", p.Entries[u.Entry].Path, u.At, sha256.Sum256(plain[u.Off:u.Off+u.Len]))
	}
	return nil
}

func (k *taker) Missing(*walk.Page, int, walk.Loss) error { return k.missing() }
func (k *taker) Gap(page.Key, *page.Key, walk.Loss) error { return k.missing() }
func (k *taker) Orphan(*rec.Entry) error                  { return k.missing() }
func (k *taker) End(*rec.End) error                       { return nil }

// walk takes what a stream says of the snapshot.
func (f *flipped) walk(stream []byte) (*taker, error) {
	k := &taker{log: map[string]bool{}}
	open, err := box.NewOpener(f.read) // one that knows no session yet
	if err != nil {
		f.t.Fatal(err)
	}
	err = walk.Run(rec.NewReader(bytes.NewReader(stream), rec.Sealed), open, walk.Options{Want: f.snap}, k)
	return k, err
}

// An outcome of a flip. There is a fourth, which ends the test.
type outcome string

const (
	isRefused outcome = "refused"
	isMissing outcome = "named as missing"
	isSame    outcome = "without effect"
)

// judge says what a flip led to. Whatever was taken must be what was stored.
func (f *flipped) judge(what string, k *taker, err error) outcome {
	for line := range k.log {
		name, made := strings.CutPrefix(line, invented)
		if !f.whole[line] && !(made && f.has("entry "+name+" ")) {
			f.t.Fatalf("%s: accepted as something else: %s", what, line)
		}
	}
	switch {
	case err != nil:
		return isRefused
	case k.lost:
		return isMissing
	case len(k.log) != len(f.whole):
		f.t.Fatalf("%s: %d of %d lines were taken, and that was all", what, len(k.log), len(f.whole))
	}
	return isSame
}

func (f *flipped) has(prefix string) bool {
	for line := range f.whole {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// A tally counts outcomes by what was flipped.
type tally map[string]map[outcome]int

func (y tally) count(what string, o outcome) {
	if y[what] == nil {
		y[what] = map[outcome]int{}
	}
	y[what][o]++
}

// report tells the counts, and compares those that are without effect with what
// they must be: a negative number is any.
func (y tally) report(t *testing.T, least int, harmless map[string]int) {
	t.Helper()
	all := 0
	for _, what := range slices.Sorted(maps.Keys(y)) {
		n := 0
		for _, c := range y[what] {
			n += c
		}
		all += n
		t.Logf("%-28s %7d flips: %6d refused, %6d named as missing, %6d without effect", what, n, y[what][isRefused], y[what][isMissing], y[what][isSame])
		if want := harmless[what]; want >= 0 && y[what][isSame] != want {
			t.Errorf("%s: %d flips had no effect, want %d", what, y[what][isSame], want)
		}
	}
	t.Logf("%d flips in all", all)
	if all < least {
		t.Errorf("%d flips are too few: at least %d", all, least)
	}
}

// A span is one record of a stream.
type span struct {
	v        rec.Record
	at, end  int
	from, to int // of a blob's sealed bytes
}

func spans(t *testing.T, stream []byte) (all []span) {
	t.Helper()
	s := wire.NewScanner(bytes.NewReader(stream))
	in := rec.NewReader(bytes.NewReader(stream), rec.Sealed)
	for at := 0; ; {
		v, err := in.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.Next(nil, rec.MaxRecord)
		if err != nil {
			t.Fatal(err)
		}
		x := span{v: v, at: at, end: at + len(raw)}
		if b, ok := v.(*rec.Blob); ok {
			x.from = at + bytes.Index(raw, b.Data)
			x.to = x.from + len(b.Data)
		}
		all = append(all, x)
		at = x.end
	}
}

// partOf names what a byte of a record belongs to.
func (s *span) partOf(at int) string {
	switch v := s.v.(type) {
	case *rec.Session:
		if at >= s.end-len(v.Data) {
			return "session"
		}
		return "session, around it"
	case *rec.Blob:
		if at >= s.from && at < s.to {
			return fmt.Sprintf("blob of kind %d, sealed", v.Kind)
		}
		return fmt.Sprintf("blob of kind %d, its record", v.Kind)
	}
	return "head and end"
}

// TestFlips flips each bit of what a store sends of a small snapshot: what is sealed
// is never taken for anything else. A reader with a key looks at no checksum, so that
// what has no effect is the checksums, and what the store says itself.
func TestFlips(t *testing.T) {
	f := newFlipped(t)
	y := tally{}
	kinds := map[uint8]int{}
	for _, s := range spans(t, f.stream) {
		if v, ok := s.v.(*rec.Session); ok {
			if _, err := f.open.AddSession(v.Data); err != nil {
				t.Fatal(err)
			}
		}
		b, _ := s.v.(*rec.Blob)
		if b != nil { // unchanged, it opens
			kinds[b.Kind]++
			if _, err := f.open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, f.stream[s.from:s.to]); err != nil {
				t.Fatal(err)
			}
		}
		for bit := 8 * s.at; bit < 8*s.end; bit++ {
			f.stream[bit/8] ^= 1 << (bit % 8)
			part := s.partOf(bit / 8)
			what := fmt.Sprintf("%s, bit %d", part, bit)
			switch {
			case part == "session" && bit%128 > 0 && !*everyFlip:
				if _, err := f.open.AddSession(f.stream[s.end-box.SessionSize : s.end]); err == nil {
					t.Fatalf("%s: it opens", what)
				}
				y.count(part, isRefused)
			case b != nil && bit >= 8*s.from && bit < 8*s.to && bit%97 > 0 && !*everyFlip:
				// What opens is what the walk goes on with.
				if got, err := f.open.Open(nil, b.Kind, b.ID, b.SID, b.Refs, f.stream[s.from:s.to]); err == nil || len(got) > 0 {
					t.Fatalf("%s: it opens", what)
				}
				y.count(part, isRefused)
			default:
				got, err := f.walk(f.stream)
				y.count(part, f.judge(what, got, err))
			}
			f.stream[bit/8] ^= 1 << (bit % 8)
		}
	}
	if want := []uint8{0, 1, 2, 3, 9}; !slices.Equal(slices.Sorted(maps.Keys(kinds)), want) {
		t.Errorf("kinds of blobs are %v, want %v", slices.Sorted(maps.Keys(kinds)), want)
	}
	harmless := map[string]int{"head and end": -1}
	for k, n := range kinds {
		harmless[fmt.Sprintf("blob of kind %d, its record", k)] = 32 * n // its checksum
	}
	y.report(t, 100_000, harmless)
}
