package walk

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/rec"
)

// A distant peer hears and speaks over a long line: it answers what it has
// heard when, for a while, nothing more comes; that is a round.
type distant struct {
	*peer
	rounds, most int
}

func (p *distant) drive(t *testing.T, m *maker, o Options, sink Sink) error {
	open, err := box.NewOpener(m.master)
	if err != nil {
		t.Fatal(err)
	}
	wantsR, wantsW := io.Pipe()
	answersR, answersW := io.Pipe()
	heard := make(chan string, 10000)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(heard)
		for lines := bufio.NewScanner(wantsR); lines.Scan(); {
			heard <- lines.Text()
		}
	})
	wg.Go(func() {
		near, far := io.Pipe() // to serve, want by want
		done := make(chan struct{})
		go func() { defer close(done); p.serve(near, answersW); _ = answersW.Close() }()
		for line, open := <-heard; open; {
			all := line + "\n"
			n := 1
			for quiet := false; !quiet && open; {
				select {
				case line, open = <-heard:
					if open {
						all += line + "\n"
						n++
					}
				case <-time.After(20 * time.Millisecond):
					quiet = true
				}
			}
			p.rounds++
			p.most = max(p.most, n)
			_, _ = io.WriteString(far, all)
			if open {
				line, open = <-heard
			}
		}
		_ = far.Close()
		<-done
	})
	err = Drive(Peer{rec.NewReader(answersR, rec.Sealed), wantsW, func() { _, _ = wantsR.Close(), answersR.Close() }}, open, o, sink)
	wg.Wait()
	return err
}

// woods is a tree of n small files, a blob each, in pages of 50, and a large one
// of 500 blobs.
func (m *maker) woods(n int) (*peer, id.ID) {
	var es []*rec.Entry
	for d := range n / 100 {
		es = append(es, dir(fmt.Sprintf("%03d", d)))
		for f := range 100 {
			es = append(es, file(fmt.Sprintf("%03d/%03d", d, f)))
		}
	}
	large := file("z")
	large.Size = 500
	return m.forest(50, 16, append(es, large)...)
}

// A walk over a long line waits for few rounds, however many the blobs.
func TestDriveRounds(t *testing.T) {
	m := newMaker(t, 1)
	near, snap := m.woods(2000)
	p := &distant{peer: near}
	var r recorder
	if err := p.drive(t, m, Options{Want: snap}, &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d wants in %d rounds, at most %d in one", len(p.asked), p.rounds, p.most)
	if len(p.asked) < 2500 || p.rounds > 60 || p.most > maxFlight {
		t.Errorf("%d wants in %d rounds, at most %d in one", len(p.asked), p.rounds, p.most)
	}
}

// What waits for data is bounded, and so is what came before its turn: what finds
// no room is asked for again.
func TestDriveBounds(t *testing.T) {
	m := newMaker(t, 1)
	noise := rand.NewChaCha8([32]byte{})
	var es []*rec.Entry
	for n := range 60 {
		e := file(fmt.Sprintf("%03d", n))
		value := make([]byte, 900_000)
		_, _ = noise.Read(value)
		e.XAttrs = []rec.XAttr{{Name: "user.x", Value: value}}
		es = append(es, e)
	}
	near, snap := m.forest(2, 100, es...)
	p := &distant{peer: near}
	s := &watcher{}
	if err := p.drive(t, m, Options{Want: snap}, s); err != nil || s.files != 60 || s.done != 60 {
		t.Fatal(err, s.files, s.done)
	}
	if s.most > maxWaiting/1_800_000+1 {
		t.Errorf("%d pages wait for data", s.most)
	}
	if wants := 2 + 30 + 60; len(p.asked) <= wants {
		t.Errorf("%d wants: all 30 pages were kept", len(p.asked))
	}
}

// A watcher counts the pages that wait for data.
type watcher struct {
	recorder
	mu          sync.Mutex
	now, most   int
	files, done int
}

func (s *watcher) Page(p *Page) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files += len(p.Entries)
	s.now++
	s.most = max(s.most, s.now)
	return nil
}

func (s *watcher) Data(p *Page, ref int, _ []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done++; s.done%2 == 0 {
		s.now--
	}
	return nil
}

func TestCache(t *testing.T) {
	c := newCache[string](10)
	for _, s := range strings.Fields("aaa bbb ccc") {
		c.put(id.ID{s[0]}, s, 3)
	}
	_, _ = c.get(id.ID{'a'})
	c.put(id.ID{'d'}, "dddd", 4)
	c.put(id.ID{'e'}, "too heavy", 11)
	for k, want := range map[byte]bool{'a': true, 'b': false, 'c': true, 'd': true, 'e': false} {
		if _, ok := c.get(id.ID{k}); ok != want {
			t.Errorf("%c: %v", k, ok)
		}
	}
}
