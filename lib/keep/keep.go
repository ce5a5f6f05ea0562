// Package keep decides which snapshots a retention policy keeps. It knows no
// repository and no file: it is given a list and returns it with reasons.
//
// Times are those at which the store received a snapshot. A bucket (an hour, a
// day, …) keeps the first snapshot that was received in it: one that arrives
// later never takes the place of one that is there. The last snapshot of a group
// always stays.
package keep

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"preserve/lib/id"
)

// A Snapshot is one line of a list.
type Snapshot struct {
	ID       id.ID
	Received time.Time // in the time zone whose hours and days count
	Group    [16]byte  // snapshots of one group compete with each other only
	Tags     []string
	// Late says that the snapshot was received long after it was made: it was copied
	// from elsewhere, or a clock was wrong. Within does not count from it.
	Late bool
	// Aside says why the snapshot counts for nothing: it takes no place of
	// another's, and it stays. Empty if it counts.
	Aside string
	// Stays is set by Decide: why the policy keeps the snapshot. 0 if it does not.
	Stays Reason
}

// A Policy says what is kept. A rule of 0 keeps nothing; All keeps every bucket.
type Policy struct {
	Last                                   int // days on which something was received; all of each
	Hourly, Daily, Weekly, Monthly, Yearly int
	Within                                 Span
	Tags                                   [][]string // each a list of tags that a snapshot must have
}

// All is a number that no list reaches.
const All = 1 << 30

// Empty reports whether the policy has no rule.
func (p *Policy) Empty() bool {
	return p.Last == 0 && p.Hourly == 0 && p.Daily == 0 && p.Weekly == 0 && p.Monthly == 0 && p.Yearly == 0 &&
		p.Within == Span{} && len(p.Tags) == 0
}

// A Reason is a set of rules that keep a snapshot.
type Reason uint16

// Reasons.
const (
	Last Reason = 1 << iota
	Hourly
	Daily
	Weekly
	Monthly
	Yearly
	Within
	Tag
	Newest
)

var reasons = []string{"last", "hourly", "daily", "weekly", "monthly", "yearly", "within", "tag", "newest of its group"}

// String returns the names of the rules, with commas.
func (r Reason) String() string {
	var names []string
	for n, name := range reasons {
		if r&(1<<n) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// bucket names the period of a rule that t lies in.
type bucket func(t time.Time) [4]int

func hour(t time.Time) [4]int {
	_, offset := t.Zone() // when clocks are put back an hour comes twice
	return [4]int{t.Year(), t.YearDay(), t.Hour(), offset}
}
func day(t time.Time) [4]int   { return [4]int{t.Year(), t.YearDay()} }
func week(t time.Time) [4]int  { y, w := t.ISOWeek(); return [4]int{y, w} }
func month(t time.Time) [4]int { return [4]int{t.Year(), int(t.Month())} }
func year(t time.Time) [4]int  { return [4]int{t.Year()} }

// Decide sorts list by time received and sets Stays of each snapshot that counts.
// What is let go is what has neither Stays nor Aside. A list that lacks snapshots
// lets none go that the whole list would keep.
func (p *Policy) Decide(list []Snapshot) {
	slices.SortFunc(list, func(a, b Snapshot) int {
		return cmp.Or(a.Received.Compare(b.Received), bytes.Compare(a.ID[:], b.ID[:]))
	})
	groups := map[[16]byte][]*Snapshot{}
	for i := range list {
		s := &list[i]
		if s.Stays = 0; s.Aside == "" {
			groups[s.Group] = append(groups[s.Group], s)
		}
	}
	for _, g := range groups {
		p.group(g)
	}
}

// group decides about a group, which is sorted and not empty.
func (p *Policy) group(g []*Snapshot) {
	newest := g[len(g)-1]
	newest.Stays |= Newest
	if days := starts(g, day); p.Last > 0 {
		for _, s := range g[days[max(0, len(days)-p.Last)]:] {
			s.Stays |= Last
		}
	}
	for _, rule := range []struct {
		n      int
		of     bucket
		reason Reason
	}{{p.Hourly, hour, Hourly}, {p.Daily, day, Daily}, {p.Weekly, week, Weekly}, {p.Monthly, month, Monthly}, {p.Yearly, year, Yearly}} {
		first := starts(g, rule.of)
		for _, at := range first[max(0, len(first)-rule.n):] {
			g[at].Stays |= rule.reason
		}
	}
	since := p.Within.before(last(g))
	for _, s := range g {
		if p.Within != (Span{}) && s.Received.After(since) {
			s.Stays |= Within
		}
		if slices.ContainsFunc(p.Tags, func(all []string) bool {
			return !slices.ContainsFunc(all, func(tag string) bool { return !slices.Contains(s.Tags, tag) })
		}) {
			s.Stays |= Tag
		}
	}
}

// last returns when the newest snapshot that is not late was received; if all are, a time
// before all others: then Within keeps all.
func last(g []*Snapshot) (t time.Time) {
	for _, s := range g {
		if !s.Late {
			t = s.Received
		}
	}
	return t
}

// starts returns the places of the first snapshot of each bucket.
func starts(g []*Snapshot, of bucket) (first []int) {
	var last [4]int
	for at, s := range g {
		if b := of(s.Received); at == 0 || b != last {
			first, last = append(first, at), b
		}
	}
	return first
}
