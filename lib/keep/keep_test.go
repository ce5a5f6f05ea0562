package keep

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/id"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if v, err := time.Parse(layout, s); err == nil {
			return v
		}
	}
	t.Fatalf("%q is no time", s)
	return time.Time{}
}

// What a policy keeps of a list: days and times are those of receipt. Behind each kept
// time are the rules that keep it.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		p    Policy
		list string // "TIME [TAG,…]; …"
		want string
	}{
		{"the first of a day, not the last", Policy{Daily: 1}, "2026-03-01 01:00; 2026-03-01 02:00; 2026-03-01 03:00",
			"2026-03-01 01:00 daily; 2026-03-01 03:00 newest of its group"},
		{"days without a snapshot do not count", Policy{Daily: 2}, "2026-01-01; 2026-02-01; 2026-03-01",
			"2026-02-01 00:00 daily; 2026-03-01 00:00 daily, newest of its group"},
		{"last is days, and all of each", Policy{Last: 2}, "2026-01-01 01:00; 2026-01-03 01:00; 2026-01-03 02:00; 2026-01-09 05:00; 2026-01-09 05:01",
			"2026-01-03 01:00 last; 2026-01-03 02:00 last; 2026-01-09 05:00 last; 2026-01-09 05:01 last, newest of its group"},
		{"hours", Policy{Hourly: 2}, "2026-01-01 00:10; 2026-01-01 01:10; 2026-01-01 01:50; 2026-01-01 23:59",
			"2026-01-01 01:10 hourly; 2026-01-01 23:59 hourly, newest of its group"},
		{"weeks begin on Monday", Policy{Weekly: 3}, "2026-01-04 10:00; 2026-01-05 00:00; 2026-01-11 23:59; 2026-01-12 00:00; 2026-01-13",
			"2026-01-04 10:00 weekly; 2026-01-05 00:00 weekly; 2026-01-12 00:00 weekly; 2026-01-13 00:00 newest of its group"},
		{"a week over new year is one", Policy{Weekly: 9}, "2025-12-29; 2025-12-31; 2026-01-01; 2026-01-04",
			"2025-12-29 00:00 weekly; 2026-01-04 00:00 newest of its group"},
		{"months and years", Policy{Monthly: 2, Yearly: 2}, "2024-05-05; 2025-06-06; 2025-06-07; 2026-01-01; 2026-02-02; 2026-02-03",
			"2025-06-06 00:00 yearly; 2026-01-01 00:00 monthly, yearly; 2026-02-02 00:00 monthly; 2026-02-03 00:00 newest of its group"},
		{"unlimited", Policy{Yearly: All}, "2020-05-05; 2025-06-06; 2025-06-07",
			"2020-05-05 00:00 yearly; 2025-06-06 00:00 yearly; 2025-06-07 00:00 newest of its group"},
		{"within begins at the newest", Policy{Within: Span{Days: 2}}, "2026-01-01 12:00; 2026-01-08 12:00; 2026-01-08 12:01; 2026-01-10 12:00",
			"2026-01-08 12:01 within; 2026-01-10 12:00 within, newest of its group"},
		{"within a month", Policy{Within: Span{Months: 1, Hours: 1}}, "2026-02-10 10:59; 2026-02-10 11:00; 2026-02-10 11:01; 2026-03-10 12:00",
			"2026-02-10 11:01 within; 2026-03-10 12:00 within, newest of its group"},
		{"within does not begin at one that came late", Policy{Within: Span{Days: 2}}, "2026-01-01; 2026-01-02; 2099-01-01 late",
			"2026-01-01 00:00 within; 2026-01-02 00:00 within; 2099-01-01 00:00 within, newest of its group"},
		{"within keeps all if all came late", Policy{Within: Span{Days: 2}}, "2026-01-01 late; 2026-05-02 late",
			"2026-01-01 00:00 within; 2026-05-02 00:00 within, newest of its group"},
		{"tags", Policy{Tags: [][]string{{"a", "b"}, {"c"}}}, "2026-01-01 a; 2026-01-02 b,a; 2026-01-03 c; 2026-01-04",
			"2026-01-02 00:00 tag; 2026-01-03 00:00 tag; 2026-01-04 00:00 newest of its group"},
		{"what counts for nothing takes no place", Policy{Daily: 1}, "2026-01-01 10:00; 2026-01-02 aside; 2026-01-01 09:00 aside",
			"2026-01-01 09:00 aside; 2026-01-01 10:00 daily, newest of its group; 2026-01-02 00:00 aside"},
		{"groups do not compete", Policy{Daily: 1}, "2026-01-01 group; 2026-01-02; 2026-01-03",
			"2026-01-01 00:00 daily, newest of its group; 2026-01-03 00:00 daily, newest of its group"},
		{"nothing", Policy{Daily: 1}, "", ""},
	} {
		var list []Snapshot
		for _, one := range strings.Split(c.list, "; ") {
			when, word := one, ""
			if k := strings.LastIndexByte(one, ' '); k > 0 && !strings.Contains(one[k:], ":") {
				when, word = one[:k], one[k+1:]
			}
			if when == "" {
				continue
			}
			s := Snapshot{ID: sha256.Sum256([]byte(one)), Received: at(t, when)}
			switch word {
			case "late":
				s.Late = true
			case "aside":
				s.Aside = "aside"
			case "group":
				s.Group[0] = 1
			default:
				s.Tags = strings.Split(word, ",")
			}
			list = append(list, s)
		}
		c.p.Decide(list)
		var got []string
		for _, s := range list {
			if why := s.Stays.String() + s.Aside; why != "" {
				got = append(got, s.Received.Format("2006-01-02 15:04")+" "+why)
			}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, strings.Join(got, "; "), c.want)
		}
	}
}

// When clocks are put back an hour comes twice: it is two.
func TestHourTwice(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no table of time zones here")
	}
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC).In(zone) // 02:30
	list := []Snapshot{{ID: id.ID{1}, Received: first}, {ID: id.ID{2}, Received: first.Add(time.Hour)}, {ID: id.ID{3}, Received: first.Add(90 * time.Minute)}}
	(&Policy{Hourly: 2}).Decide(list)
	if list[0].Stays != 0 || list[1].Stays != Hourly || list[2].Stays != Hourly|Newest {
		t.Errorf("%v, %v, %v", list[0].Stays, list[1].Stays, list[2].Stays)
	}
}

// random makes a list of some weeks to some years, and a policy.
func random(r *rand.Rand) ([]Snapshot, Policy) {
	start := time.Date(2024, 2, 20, 0, 0, 0, 0, time.UTC)
	span := time.Duration(1+r.IntN(1000)) * 24 * time.Hour
	list := make([]Snapshot, 1+r.IntN(60))
	for i := range list {
		s := Snapshot{Received: start.Add(time.Duration(r.Int64N(int64(span)))), Late: r.IntN(9) == 0}
		s.ID = sha256.Sum256(fmt.Append(nil, i, s.Received))
		s.Group[0] = byte(r.IntN(2))
		s.Tags = []string{string(rune('a' + r.IntN(5)))}
		if r.IntN(20) == 0 {
			s.Aside = "aside"
		}
		list[i] = s
	}
	n := func() int { return max(0, r.IntN(12)-4) }
	p := Policy{Last: n(), Hourly: n(), Daily: n(), Weekly: n(), Monthly: n(), Yearly: n()}
	if r.IntN(3) == 0 {
		p.Within = Span{Days: 1 + r.IntN(90)}
	}
	if r.IntN(4) == 0 {
		p.Tags = [][]string{{"a"}}
	}
	return list, p
}

func letGo(p Policy, list []Snapshot) map[id.ID]bool {
	list = slices.Clone(list)
	p.Decide(list)
	gone := map[id.ID]bool{}
	for _, s := range list {
		if s.Stays == 0 && s.Aside == "" {
			gone[s.ID] = true
		}
	}
	return gone
}

// A listing that lacks some snapshots must not let go what the whole one keeps.
func TestShortListLetsNoneGo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	checked := 0
	for range 5000 {
		list, p := random(r)
		whole := letGo(p, list)
		short := slices.DeleteFunc(slices.Clone(list), func(Snapshot) bool { return r.IntN(3) == 0 })
		for i := range letGo(p, short) {
			checked++
			if !whole[i] {
				t.Fatalf("%+v: %s is let go by a list of %d, and kept by the whole one of %d", p, i.Short(), len(short), len(list))
			}
		}
	}
	if checked < 1000 {
		t.Errorf("only %d were let go", checked)
	}
}

// Who can add snapshots, but not in the past, gains no more by a thousand within an hour
// than by one.
func TestFloodPushesOutNoMoreThanOne(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		list, p := random(r)
		end := time.Time{}
		for _, s := range list {
			if s.Received.After(end) {
				end = s.Received
			}
		}
		end = end.Truncate(time.Hour).Add(time.Hour)
		flood := slices.Clone(list)
		for i := range 50 {
			flood = append(flood, Snapshot{ID: sha256.Sum256(fmt.Append(nil, "flood", i)), Received: end.Add(time.Duration(i) * time.Minute)})
		}
		one := append(slices.Clone(list), flood[len(list)])
		with := letGo(p, one)
		for i := range letGo(p, flood) {
			if slices.ContainsFunc(list, func(s Snapshot) bool { return s.ID == i }) && !with[i] && p.Within == (Span{}) {
				t.Fatalf("%+v: a flood pushes out %s", p, i.Short())
			}
		}
	}
}

// Every group that had a snapshot that counts has its newest one afterwards.
func TestNewestStays(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		list, p := random(r)
		p.Decide(list)
		last := map[[16]byte]*Snapshot{}
		for i := range list {
			if list[i].Aside == "" {
				last[list[i].Group] = &list[i]
			}
		}
		for _, s := range last {
			if s.Stays&Newest == 0 {
				t.Fatalf("%+v: %s", p, s.ID.Short())
			}
		}
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]Span{"1y5m7d2h": {1, 5, 7, 2}, "30d": {Days: 30}, "2h1y": {Years: 1, Hours: 2}, "007d": {Days: 7}} {
		if got, err := ParseSpan(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "1d2", "1d1d", "-1d", "1w", "0d", "0y0h", "1 d", "9999999d", "99999999999999999999d"} {
		if got, err := ParseSpan(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
