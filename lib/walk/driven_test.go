package walk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// A peer answers wants out of what a maker has made, unless answer does.
type peer struct {
	blobs map[id.ID]*rec.Blob
	box   *box.Sealer
	asked []id.ID
	// copies are those behind the first.
	copies map[id.ID][]*rec.Blob
	// sessions are sent besides that of box.
	sessions [][]byte
	// answer may answer a want itself: then it reports true.
	answer func(w *rec.Writer, i id.ID) bool
	// end writes the stream's end; nil: as it should be.
	end func(w *rec.Writer)
}

func (m *maker) peer(blobs ...*rec.Blob) *peer {
	p := &peer{blobs: map[id.ID]*rec.Blob{}, box: m.box}
	for _, b := range blobs {
		p.blobs[b.ID] = b
	}
	return p
}

// serve is pv-get REPO --blobs -.
func (p *peer) serve(in io.Reader, out io.Writer) {
	w := rec.NewWriter(out)
	put := func(r rec.Record) { _, _ = w.Write(r), w.Flush() } // who reads may have gone
	put(&rec.Head{Kind: rec.Sealed, Order: rec.Asked})
	put(&rec.Session{Data: p.box.Session()})
	for _, data := range p.sessions {
		put(&rec.Session{Data: data})
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text, copy, _ := strings.Cut(lines.Text(), " ")
		i, err := id.Parse(text)
		if err != nil {
			panic(err)
		}
		if copy != "" {
			n, err := strconv.Atoi(copy)
			switch {
			case err != nil || n < 1:
				panic(lines.Text())
			case n > len(p.copies[i]):
				put(&rec.Missing{ID: i})
			default:
				again := *p.copies[i][n-1]
				put(&again)
			}
			continue
		}
		p.asked = append(p.asked, i)
		switch b := p.blobs[i]; {
		case p.answer != nil && p.answer(w, i):
		case b == nil:
			put(&rec.Missing{ID: i})
		default:
			again := *b // the reader frees it
			put(&again)
		}
	}
	if p.end != nil {
		p.end(w)
		return
	}
	put(&rec.End{})
}

// drive walks through pipes that hold nothing: each write waits for its reader.
func (p *peer) drive(t testing.TB, m *maker, o Options, sink Sink) error {
	open, err := box.NewOpener(m.master)
	if err != nil {
		t.Fatal(err)
	}
	wantsR, wantsW := io.Pipe()
	answersR, answersW := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		p.serve(wantsR, answersW)
		_, _ = wantsR.Close(), answersW.Close()
	})
	defer wg.Wait()
	return Drive(Peer{
		Answers: rec.NewReader(answersR, rec.Sealed),
		Wants:   wantsW,
		Stop:    func() { _, _ = wantsR.Close(), answersR.Close() },
	}, open, o, sink)
}

// driven drives and returns what the sink was told.
func (p *peer) driven(t testing.TB, m *maker, o Options) ([]string, error) {
	var r recorder
	err := p.drive(t, m, o, &r)
	return r.log, err
}

func (t *tree) all() []*rec.Blob { return []*rec.Blob{t.d1, t.d2, t.p1, t.p2, t.root, t.snap} }

func TestDrive(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	p := m.peer(tr.all()...)
	got, err := p.driven(t, m, Options{Want: tr.snap.ID})
	slices.Sort(got)
	want := []string{"a/b at 0: hello", "a/c at 0: world", "a/d at 0: another", "e/f at 0: hello", "e/f at 8: d",
		"entry a", "entry a/b", "entry a/c", "entry a/d", "entry e", "entry e/f", "snapshot"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
	// A blob that two pages use was asked for once.
	if len(p.asked) != 6 {
		t.Errorf("%d wants for 6 blobs", len(p.asked))
	}
	p = m.peer(tr.all()...)
	if got, err := p.driven(t, m, Options{Want: tr.snap.ID, MetaOnly: true}); err != nil || len(got) != 7 || len(p.asked) != 4 {
		t.Errorf("metadata only: %v %q, %d wants", err, got, len(p.asked))
	}
}

// What a walk has opened, the next one neither asks for nor gives to its sink; it still checks that
// each page needs no more of it than there is. What could not be had is asked for again.
func TestDriveChecked(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	var checked Checked
	o := Options{Want: tr.snap.ID, Checked: &checked}
	p := m.peer(tr.d1, tr.p1, tr.p2, tr.root, tr.snap)
	if _, err := p.driven(t, m, o); err != nil || len(p.asked) != 6 {
		t.Fatalf("%v, %d wants", err, len(p.asked))
	}
	p = m.peer(tr.all()...)
	got, err := p.driven(t, m, o)
	if err != nil || len(p.asked) != 5 || slices.Contains(p.asked, tr.d1.ID) || !slices.Contains(p.asked, tr.d2.ID) || slices.Contains(got, "a/b at 0: hello") {
		t.Errorf("%v, %d wants, %q", err, len(p.asked), got)
	}
	p = m.peer(tr.all()...)
	if got, err := p.driven(t, m, o); err != nil || len(p.asked) != 4 || len(got) != 7 {
		t.Errorf("all were opened: %v, %d wants, %q", err, len(p.asked), got)
	}
	checked.add(tr.d1.ID, 1)
	if _, err := m.peer(tr.all()...).driven(t, m, o); !errors.Is(err, page.ErrPage) {
		t.Errorf("a blob that is too short: %v", err)
	}
}

// A pick is a Chooser of paths and all that is below them, with their parents.
type pick []string

func (c pick) Choose(e *rec.Entry) ([]*rec.Entry, error) {
	for _, p := range c {
		if rec.Below(e.Path, p) || e.Type == rec.Dir && rec.Below(p, e.Path) {
			return []*rec.Entry{e}, nil
		}
	}
	return nil, nil
}

func (c pick) Reaches(first page.Key, next *page.Key) bool {
	for _, p := range c {
		for up := p; ; up = rec.Parent(up) {
			if k := (page.Key{Path: up}); k.Compare(first) >= 0 && (next == nil || k.Compare(*next) < 0) {
				return true
			}
			if up == "" {
				break
			}
		}
		end := below(p)
		if (next == nil || next.Compare(page.Key{Path: p}) > 0) && first.Compare(end) < 0 {
			return true
		}
	}
	return false
}

// Only the pages and the data that the choice needs are asked for.
func TestDrivePrunes(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	p := m.peer(tr.all()...)
	got, err := p.driven(t, m, Options{Want: tr.snap.ID, Choose: pick{"a/c"}})
	if want := []string{"snapshot", "entry a", "entry a/c", "a/c at 0: world"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
	if want := []id.ID{tr.snap.ID, tr.root.ID, tr.p1.ID, tr.d1.ID}; !slices.Equal(p.asked, want) {
		t.Errorf("asked for %v", p.asked)
	}
	// The second page only: what it rests on, a/d's parent, is seen in the first.
	p = m.peer(tr.all()...)
	got, err = p.driven(t, m, Options{Want: tr.snap.ID, Choose: pick{"e"}})
	if want := []string{"snapshot", "entry e", "entry e/f", "e/f at 0: hello", "e/f at 8: d"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
	if want := []id.ID{tr.snap.ID, tr.root.ID, tr.p2.ID, tr.d1.ID}; !slices.Equal(p.asked, want) {
		t.Errorf("asked for %v", p.asked)
	}
}

// What the repository cannot give is told as Run tells it.
func TestDriveMissing(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	p := m.peer(tr.d2, tr.p1, tr.p2, tr.root, tr.snap)
	got, err := p.driven(t, m, Options{Want: tr.snap.ID})
	if err != nil || !slices.Contains(got, "missing a/b") || !slices.Contains(got, "missing e/f") || !slices.Contains(got, "a/d at 0: another") {
		t.Errorf("data: %v %q", err, got)
	}
	p = m.peer(tr.d1, tr.d2, tr.p2, tr.root, tr.snap)
	got, err = p.driven(t, m, Options{Want: tr.snap.ID})
	slices.Sort(got)
	if want := []string{"a/d at 0: another", "e/f at 0: hello", "e/f at 8: d", "entry a", "entry a/d", "entry e", "entry e/f", "gap a a/d", "snapshot"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("page: %v\n%s", err, strings.Join(got, "\n"))
	}
	for name, p := range map[string]*peer{"snapshot": m.peer(), "root": m.peer(tr.snap)} {
		if _, err := p.driven(t, m, Options{Want: tr.snap.ID}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("no %s: %v", name, err)
		}
	}
	// Zeros are the id of no blob, and nobody is asked for them.
	pg := m.page([]id.ID{{}}, file("z", x(0, 0, 5)))
	sn := m.snapshot(pg.ID, 1, 5)
	p = m.peer(pg, sn)
	if got, err := p.driven(t, m, Options{Want: sn.ID}); err != nil || !slices.Contains(got, "missing z") || len(p.asked) != 2 {
		t.Errorf("zeros: %v %q", err, got)
	}
}

// A peer may do what it likes: the walk ends, with a verdict.
func TestDriveRefuses(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	other := newMaker(t, 2)
	foreign := other.tree()
	badFirst := m.index(2, []page.Key{{Path: "a"}, {Path: "a/e"}}, tr.p1.ID, tr.p2.ID)
	badLast := m.index(2, []page.Key{{Path: "a"}, {Path: "a/c"}}, tr.p1.ID, tr.p2.ID)
	badSnap, lastSnap, miscounted := m.snapshot(badFirst.ID, 6, 26), m.snapshot(badLast.ID, 6, 26), m.snapshot(tr.root.ID, 7, 26)
	short := m.page([]id.ID{tr.d1.ID}, file("s", x(0, 0, 11)))
	shortSnap := m.snapshot(short.ID, 1, 11)
	climbs := m.page(nil, &rec.Entry{Path: "a", Type: rec.Symlink, Target: "/etc"}, dir("a/b"))
	climbSnap := m.snapshot(climbs.ID, 2, 0)
	write := func(w *rec.Writer, rs ...rec.Record) bool {
		for _, r := range rs {
			if b, ok := r.(*rec.Blob); ok {
				again := *b
				r = &again
			}
			_ = w.Write(r)
		}
		_ = w.Flush()
		return true
	}
	ticks := func(w *rec.Writer) {
		for w.Pulse(1, 1) == nil {
		}
	}
	for name, c := range map[string]struct {
		snap   *rec.Blob
		answer func(w *rec.Writer, i id.ID) bool
		end    func(w *rec.Writer)
		want   error
	}{
		"another blob":      {answer: func(w *rec.Writer, i id.ID) bool { return i == tr.p1.ID && write(w, tr.p2) }, want: ErrUnexpected},
		"wrong order":       {answer: func(w *rec.Writer, i id.ID) bool { return i == tr.p1.ID || i == tr.p2.ID && write(w, tr.p2, tr.p1) }, want: ErrUnexpected},
		"extra blobs":       {answer: func(w *rec.Writer, i id.ID) bool { return i == tr.p1.ID && write(w, tr.p1, tr.p1) }, want: ErrUnexpected},
		"extra at the end":  {end: func(w *rec.Writer) { write(w, tr.d1, &rec.End{}) }, want: ErrUnexpected},
		"missing unasked":   {end: func(w *rec.Writer) { write(w, &rec.Missing{ID: tr.d1.ID}, &rec.End{}) }, want: ErrUnexpected},
		"ends early":        {answer: func(w *rec.Writer, i id.ID) bool { return i == tr.p1.ID && write(w, &rec.End{}) }, want: ErrIncomplete},
		"no end":            {end: func(*rec.Writer) {}, want: rec.ErrCut},
		"fails":             {end: func(w *rec.Writer) { write(w, &rec.Fail{Tool: "t", Text: "x"}) }},
		"ticks for ever":    {answer: func(w *rec.Writer, i id.ID) bool { ticks(w); return true }, want: ErrNoAnswer},
		"ticks at the end":  {end: ticks, want: ErrNoAnswer},
		"record of a pack":  {answer: func(w *rec.Writer, i id.ID) bool { return write(w, &rec.Stored{ID: i}) }, want: ErrUnexpected},
		"foreign snapshot":  {snap: foreign.snap, want: box.ErrNoSession},
		"page for snapshot": {snap: tr.p1, want: ErrUnexpected},
		"first key differs": {snap: badSnap, want: page.ErrPage},
		"beyond its place":  {snap: lastSnap, want: page.ErrPage},
		"miscounted":        {snap: miscounted, want: ErrCounts},
		"blob too short":    {snap: shortSnap, want: page.ErrPage},
		"climbs out":        {snap: climbSnap, want: page.ErrPage},
	} {
		p := m.peer(append(tr.all(), badFirst, badLast, badSnap, lastSnap, miscounted, short, shortSnap, climbs, climbSnap, foreign.snap)...)
		p.answer, p.end = c.answer, c.end
		o := Options{Want: tr.snap.ID}
		if c.snap != nil {
			o.Want = c.snap.ID
		}
		if _, err := p.driven(t, m, o); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A session of another master key matters only when a blob needs it.
func TestForeignSession(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	p := m.peer(tr.all()...)
	other := newMaker(t, 2)
	p.answer = func(w *rec.Writer, i id.ID) bool {
		_ = w.Write(&rec.Session{Data: other.box.Session()})
		return false
	}
	if _, err := p.driven(t, m, Options{Want: tr.snap.ID}); err != nil {
		t.Error(err)
	}
}

// Whatever is cut off, it is not taken for the whole.
func TestDriveCut(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	var whole bytes.Buffer
	m.peer(tr.all()...).serve(strings.NewReader(fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%s\n", tr.snap.ID, tr.root.ID, tr.p1.ID, tr.p2.ID, tr.d1.ID, tr.d2.ID)), &whole)
	for n := 0; n < whole.Len(); n += 97 {
		open, _ := box.NewOpener(m.master)
		wantsR, wantsW := io.Pipe()
		go func() { _, _ = io.Copy(io.Discard, wantsR) }()
		err := Drive(Peer{rec.NewReader(bytes.NewReader(whole.Bytes()[:n]), rec.Sealed), wantsW, func() { _ = wantsR.Close() }}, open, Options{Want: tr.snap.ID}, &recorder{})
		if !errors.Is(err, rec.ErrCut) && !errors.Is(err, rec.ErrEmpty) && !errors.Is(err, ErrUnexpected) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// Another snapshot's stream, or a stream in another order, is told apart.
func TestDriveOrder(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	m.add(tr.snap)
	open, _ := box.NewOpener(m.master)
	wantsR, wantsW := io.Pipe()
	err := Drive(Peer{rec.NewReader(bytes.NewReader(m.stream()), rec.Sealed), wantsW, func() { _ = wantsR.Close() }}, open, Options{Want: tr.snap.ID}, &recorder{})
	if !errors.Is(err, ErrOrder) {
		t.Error(err)
	}
}

// An error of the sink ends the walk, wherever it comes from.
func TestDriveSinkFails(t *testing.T) {
	m := newMaker(t, 1)
	tr := m.tree()
	bad := errors.New("no room")
	for _, what := range []string{"snapshot", "entry a/d", "a/b at 0: hello", "missing a/d", "e/f at 8: d"} {
		p := m.peer(tr.d1, tr.p1, tr.p2, tr.root, tr.snap)
		if err := p.drive(t, m, Options{Want: tr.snap.ID}, &recorder{fail: map[string]error{what: bad}}); !errors.Is(err, bad) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever a peer answers, a walk ends with a verdict.
func FuzzDrive(f *testing.F) {
	m := newMaker(f, 1)
	tr := m.tree()
	var whole bytes.Buffer
	m.peer(tr.all()...).serve(strings.NewReader(fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%s\n", tr.snap.ID, tr.root.ID, tr.p1.ID, tr.p2.ID, tr.d1.ID, tr.d2.ID)), &whole)
	f.Add(whole.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		open, err := box.NewOpener(m.master)
		if err != nil {
			t.Fatal(err)
		}
		wantsR, wantsW := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, wantsR) })
		_ = Drive(Peer{rec.NewReader(bytes.NewReader(b), rec.Sealed), wantsW, func() { _ = wantsR.Close() }}, open, Options{Want: tr.snap.ID}, &recorder{})
		wg.Wait()
	})
}
