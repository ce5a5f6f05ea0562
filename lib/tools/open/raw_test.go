package open

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/visible"
)

// TestNoRawText: whatever a snapshot, and the store, say of it, no list, choice or message has a
// character that does not show.
func TestNoRawText(t *testing.T) {
	const raw = "\x1b]0;owned\x07\r\x1b[2K\u009b1m\u202etxt.exe\u200b\xff\ttab\nline"
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	named := func(label string, prev id.ID) *rec.Blob {
		b := s.Snapshot(p, snap.Snapshot{
			Label: label, Host: raw, User: raw, Prev: prev, Tags: []string{raw}, Chunker: snap.Snapshot{}.Chunker, Entries: 1,
			Warnings: 1, Warned: []string{raw}, Roots: []rec.Root{{Dir: "/" + strings.ReplaceAll(raw, "\x00", ""), Path: raw}},
		})
		s.Put(&rec.Stored{ID: b.ID, As: raw}, b)
		return b
	}
	named(raw, id.ID{1})
	last := named("home", id.ID{2})
	s.Put(&rec.Missing{ID: id.ID{3}}, &rec.End{Status: 3, Warnings: 1, Warned: []string{raw}})
	for _, args := range [][]string{
		{"-l"}, {}, {"--pick", "latest", "-l"}, {"--pick", "home", "-l"}, {"--pick", raw, "-l"}, {"--pick", raw + "not", "-l"}, {"--pick", last.ID.String()[:9], "-l"},
	} {
		for _, key := range []string{"list", "cut"} {
			out, said, _ := run(s.Out.Bytes(), append([]string{"-k", sealtest.KeyFile(key), "--snapshots"}, args...)...)
			if out == "" && said == "" {
				t.Errorf("%q with a %s key: nothing", args, key)
			}
			for _, r := range out + said {
				if r != '\n' && !visible.Rune(r) && !(r == '\t' && len(args) == 3) {
					t.Errorf("%q with a %s key: %q in\n%q\n%q", args, key, r, out, said)
					break
				}
			}
		}
	}
}

// TestTimesThatNobodyHas: a list can be read, whatever times the writer of a snapshot and the store say; and
// what lies between keeps its order.
func TestTimesThatNobodyHas(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	times := []rec.Time{
		{Sec: math.MinInt64}, {Sec: -62167219201, Nsec: 999_999_999}, {Sec: -62167219200}, {Sec: -1, Nsec: 5}, {}, {Sec: 1_700_000_000, Nsec: 7},
		{Sec: 253402300799, Nsec: 999_999_999}, {Sec: 253402300800}, {Sec: math.MaxInt64 - 62135596801, Nsec: 999_999_999},
	}
	for n, at := range times {
		b := s.Snapshot(p, snap.Snapshot{Time: at, Entries: uint64(n)})
		s.Put(&rec.Stored{ID: b.ID, Received: at}, b)
	}
	s.Put(&rec.End{})
	out, said, status := run(s.Out.Bytes(), "-k", sealtest.KeyFile("list"), "--snapshots")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if status != 0 || said != "" || len(lines) != len(times) {
		t.Fatal(status, said, out)
	}
	var last time.Time
	for n, text := range lines {
		var line struct {
			Time, Received time.Time
			Entries        int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil || !line.Time.Equal(line.Received) || line.Entries != n || n > 0 && line.Time.Before(last) {
			t.Errorf("%s: %+v, %v", text, line, err)
		}
		if in := times[n].Std(); n > 1 && n < 7 && !line.Time.Equal(in) {
			t.Errorf("%s: not %v", text, in)
		}
		last = line.Time
	}
	if out, said, status = run(s.Out.Bytes(), "-k", sealtest.KeyFile("list"), "--snapshots", "-l"); status != 0 || said != "" || strings.Count(out, "\n") != len(times) {
		t.Error(status, said, out)
	}
}

// TestOldestIsSigned: a store that says of a snapshot that it arrived first does not silence that the one
// before it is gone.
func TestOldestIsSigned(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	a := s.Snapshot(p, snap.Snapshot{Label: "home", Time: rec.Time{Sec: 100}})
	b := s.Snapshot(p, snap.Snapshot{Label: "home", Time: rec.Time{Sec: 200}, Prev: id.ID{5}})
	_, said, status := run(listOf(s, []*rec.Blob{b, a}), "-q", "-k", sealtest.KeyFile("list"), "--snapshots")
	if status != 0 || !strings.Contains(said, "snapshot "+b.ID.Short()+" of ") || !strings.Contains(said, "which is not here") {
		t.Errorf("%d %s", status, said)
	}
}

// TestManyReasons: of the reasons why snapshots do not open there are no more than a bound.
func TestManyReasons(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	b := s.Snapshot(s.Page([]*rec.Entry{dir("a")}), snap.Snapshot{})
	for n := range maxReasons + 5 {
		session := s.Box.Session()
		binary.BigEndian.PutUint32(session[5:], uint32(n)) // in the key id
		fake := *b
		fake.ID, fake.SID = id.ID{byte(n), byte(n >> 8), 1}, sha256.Sum256(session)
		fake.CRC = fake.Sum()
		s.Put(&rec.Session{Data: session}, &rec.Stored{ID: fake.ID}, &fake)
	}
	s.Put(&rec.End{})
	out, _, status := run(s.Out.Bytes(), "-k", sealtest.KeyFile("list"), "--snapshots")
	if status != 0 || strings.Count(out, `"unread":"the key does not open it"`) != 5 || strings.Count(out, "\n") != maxReasons+5 {
		t.Errorf("status %d, %d lines, %d without a reason", status, strings.Count(out, "\n"), strings.Count(out, `"unread":"the key does not open it"`))
	}
}

// TestListLimits: a list without end is given up.
func TestListLimits(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	b := s.Snapshot(s.Page([]*rec.Entry{dir("a")}), snap.Snapshot{})
	for name, next := range map[string]func(w *rec.Writer, i id.ID) error{
		"marks": func(w *rec.Writer, i id.ID) error { return w.Write(&rec.Missing{ID: i}) },
		"snapshots": func(w *rec.Writer, i id.ID) error {
			c := *b
			c.ID = i
			c.CRC = c.Sum()
			return errors.Join(w.Write(&rec.Stored{ID: i}), w.Write(&c))
		},
	} {
		in, out := io.Pipe()
		written := make(chan int, 1)
		go func() {
			n := 0
			w := rec.NewWriter(out)
			err := errors.Join(w.Write(&rec.Head{Kind: rec.Sealed, Order: rec.Loose}), w.Write(&rec.Session{Data: s.Box.Session()}))
			for ; err == nil && n < 2*maxListed; n++ {
				var i id.ID
				binary.BigEndian.PutUint32(i[:], uint32(n+1))
				err = next(w, i)
			}
			written <- n
			out.Close() // always nil
		}()
		var stdout, said bytes.Buffer
		env := tool.NewEnv("pv-open", []string{"--snapshots"}, in, &stdout, &said)
		status := env.Status(Run(env))
		env.Cleanup()
		in.Close()
		if n := <-written; status != 1 || !strings.Contains(said.String(), "more than 1048576 ") || n < maxListed || n > maxListed+10_000 {
			t.Errorf("%s: %d after %d: %s", name, status, n, said.String())
		}
	}
}

// TestListedUnderAnotherID: what is listed under an id is that snapshot, and nothing else.
func TestListedUnderAnotherID(t *testing.T) {
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	a, b := s.Snapshot(p, snap.Snapshot{Label: "old"}), s.Snapshot(p, snap.Snapshot{Label: "new"})
	session := &rec.Session{Data: s.Box.Session()}
	for name, rs := range map[string][]rec.Record{
		"another's":         {&rec.Stored{ID: a.ID}, b},
		"none":              {b},
		"two of one":        {&rec.Stored{ID: a.ID}, a, b},
		"a page":            {&rec.Stored{ID: p.ID}, p},
		"another behind it": {&rec.Stored{ID: a.ID}, &rec.Stored{ID: b.ID}, a},
	} {
		s := sealtest.New(t, rec.Loose)
		s.Put(session).Put(rs...).Put(&rec.End{})
		for _, args := range [][]string{{}, {"-k", sealtest.KeyFile("list")}, {"-k", sealtest.KeyFile("list"), "--pick", "latest"}} {
			out, said, status := run(s.Out.Bytes(), append([]string{"--snapshots"}, args...)...)
			if status != 1 || out != "" || !strings.Contains(said, "in a list of snapshots") {
				t.Errorf("%s, %q: %d %q %s", name, args, status, out, said)
			}
		}
	}
}
