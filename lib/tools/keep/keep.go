// Package keep is the command pv-keep: a list of snapshots in, the ids of those that a
// retention policy lets go out.
//
// It needs no key and no repository: the list says what a list or read key has verified.
package keep

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"preserve/lib/confine"
	"preserve/lib/keep"
	"preserve/lib/tool"
)

const usage = `usage: pv-keep RULE... [--group-by LIST] <snapshots >ids

  pv-get REPO --snapshots | pv-open -k KEY --snapshots | pv-keep RULE... >ids

Reads a list of snapshots as JSON lines and prints the ids of those that no rule
keeps. Times are those at which the repository received a snapshot.

  --last N         all that was received on the last N days with a snapshot
  --hourly N, --daily N, --weekly N, --monthly N, --yearly N
                   the first snapshot of each of the last N hours, days, ... with
                   a snapshot; N may be "unlimited"
  --within SPAN    all within SPAN of the newest, as in 1y5m7d2h
  --tag TAG[,TAG]  all that have these tags; may be repeated
  --group-by LIST  apply the rules to each group of the same as, writer, host,
                   label, sources, tags: "as,writer,sources" by default; ""
                   for one group
  -v               say why each snapshot stays
  -q               say only errors and warnings

The newest snapshot of each group always stays. Snapshots that are not signed
by a writer of the key's master count for nothing, and stay.
`

// Run is pv-keep.
func Run(env *tool.Env) error {
	env.DropKey()
	p, g, err := parse(env)
	if err != nil {
		return err
	}
	_, _ = time.Now().Zone() // reads the local time zone, which is out of reach from here on
	env.Confine(confine.Limits{})
	in, err := env.Input()
	if err != nil {
		return err
	}
	list, err := readList(in, g, len(p.Tags) > 0)
	if err != nil {
		return err
	}
	snapshots := list.snapshots
	p.Decide(snapshots)
	list.notices(env)
	out := bufio.NewWriter(env.Stdout)
	for i := range snapshots {
		s := &snapshots[i]
		why := s.Stays.String()
		if s.Aside != "" {
			why = s.Aside + ": it counts for nothing"
		}
		if why != "" {
			env.Log.Debug(fmt.Sprintf("%s, received %s, stays: %s", s.ID.Short(), stamp(s.Received), why))
			continue
		}
		env.Log.Debug(fmt.Sprintf("%s, received %s, is let go", s.ID.Short(), stamp(s.Received)))
		if _, err := out.WriteString(s.ID.String() + "\n"); err != nil {
			return err
		}
	}
	return out.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.Format(time.DateTime)
}

// parse reads the command line.
func parse(env *tool.Env) (*keep.Policy, grouping, error) {
	p := &keep.Policy{}
	fs := env.Flags()
	for _, rule := range []struct {
		name string
		n    *int
	}{{"last", &p.Last}, {"hourly", &p.Hourly}, {"daily", &p.Daily}, {"weekly", &p.Weekly}, {"monthly", &p.Monthly}, {"yearly", &p.Yearly}} {
		fs.Func(rule.name, "", func(s string) (err error) {
			*rule.n, err = number(s)
			return err
		})
	}
	fs.Func("within", "", func(s string) (err error) {
		p.Within, err = keep.ParseSpan(s)
		return err
	})
	fs.Func("tag", "", func(s string) error {
		tags := strings.Split(s, ",")
		for _, tag := range tags {
			if tag == "" {
				return fmt.Errorf("an empty tag")
			}
		}
		p.Tags = append(p.Tags, tags)
		return nil
	})
	by := fs.String("group-by", "as,writer,sources", "")
	words, err := env.Parse(fs, usage)
	if err != nil {
		return nil, 0, err
	}
	if len(words) > 0 {
		return nil, 0, tool.Usagef("unexpected argument %q", words[0])
	}
	if p.Empty() {
		return nil, 0, tool.Usagef("give a rule: --last, --hourly, --daily, --weekly, --monthly, --yearly, --within or --tag")
	}
	g, err := parseGrouping(*by)
	return p, g, err
}

// number reads how many buckets a rule keeps.
func number(s string) (int, error) {
	if s == "unlimited" {
		return keep.All, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > keep.All {
		return 0, fmt.Errorf("not a number from 1, or unlimited")
	}
	return n, nil
}
