//go:build system

package systest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The rules of pv-keep that have the names of restic's keep the same hours, days, weeks,
// months and years as restic forget: of 1,000 random lists under 40 random policies. They
// differ in which snapshot of each they keep, so that the periods are compared; what is
// kept by --within and --tag is the same.
func TestKeepAgainstRestic(t *testing.T) {
	b := newBench(t)
	b.need(false, "restic", "python3")
	forge, err := filepath.Abs("testdata/restic_snapshots.py")
	if err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "TZ=UTC", "RESTIC_PASSWORD=x", "RESTIC_CACHE_DIR="+b.path("cache"))
	b.ok("restic -q init --repository-version 1 -r repo")
	const policies, lists = 40, 25
	r := rand.New(rand.NewPCG(7, 8))
	b.write("all", b.forge(r, policies, lists))
	b.ok("python3 " + forge + " repo <all")
	compared := 0
	for p := range policies {
		args, theirs := policy(r)
		var hosts []string
		for l := range lists {
			hosts = append(hosts, fmt.Sprintf("--host p%dl%d", p, l))
		}
		said := b.ok("restic -q -r repo forget --no-lock --dry-run --json --group-by host " + theirs + " " + strings.Join(hosts, " "))
		var groups []struct {
			Host    string
			Reasons []struct {
				Snapshot struct {
					Username string // its number
				}
				Matches []string
			}
		}
		if err := json.Unmarshal([]byte(said), &groups); err != nil || len(groups) != lists {
			t.Fatal(err, said)
		}
		for _, g := range groups {
			want := map[string]bool{}
			for _, one := range g.Reasons {
				for _, match := range one.Matches {
					match = strings.TrimPrefix(match, "oldest ")
					rule, _, _ := strings.Cut(match, " ")
					if rule == "has" || strings.HasPrefix(match, "tag") {
						rule = "tag"
					}
					want[rule+" "+period(t, rule, one.Snapshot.Username)] = true
				}
			}
			_, why, status := b.sh("pv-keep -v --group-by '' " + args + " <" + g.Host)
			if status != 0 {
				t.Fatal(why)
			}
			got := map[string]bool{}
			for line := range strings.Lines(why) {
				head, rules, stays := strings.Cut(strings.TrimSpace(line), " stays: ")
				if !stays {
					continue
				}
				at := strings.TrimSuffix(head[strings.Index(head, "received ")+9:], ",")
				for rule := range strings.SplitSeq(rules, ", ") {
					if rule != "newest of its group" {
						got[rule+" "+period(t, rule, at)] = true
					}
				}
			}
			if compared++; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s, %s:\nours   %v\nrestic %v", g.Host, args, got, want)
			}
		}
	}
	if compared != policies*lists {
		t.Errorf("only %d lists were compared", compared)
	}
}

// forge writes a list for each host, for pv-keep, and returns all for restic.
func (b *bench) forge(r *rand.Rand, policies, lists int) string {
	b.Helper()
	var all strings.Builder
	// Not in the future: restic does not count --keep-within from there.
	start := time.Date(2018, 12, 20, 0, 0, 0, 0, time.UTC).Unix()
	for p := range policies {
		for l := range lists {
			host := fmt.Sprintf("p%dl%d", p, l)
			var list strings.Builder
			span := int64(1+r.IntN(40)*r.IntN(40)) * 24 * 3600
			times := map[int64]bool{} // all different
			for range 1 + r.IntN(24) {
				times[start+r.Int64N(span)] = true
			}
			for n := range times {
				at := time.Unix(n, 0).UTC()
				var tags []string
				for _, tag := range []string{"a", "b", "c"} {
					if r.IntN(3) == 0 {
						tags = append(tags, tag)
					}
				}
				text, err := json.Marshal(tags)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Fprintf(&all, `{"time":%q,"tree":"%064x","paths":["/x"],"hostname":%q,"username":%q,"tags":%s}`+"\n",
					at.Format(time.RFC3339), 1, host, at.Format(time.DateTime), text)
				fmt.Fprintf(&list, `{"id":"%064x","received":%q,"time":%q,"writer_key":"00","tags":%s}`+"\n",
					n, at.Format(time.RFC3339), at.Format(time.RFC3339), text)
			}
			b.write(host, list.String())
		}
	}
	return all.String()
}

func (b *bench) write(name, text string) {
	b.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// policy returns a random policy for pv-keep and for restic.
func policy(r *rand.Rand) (ours, theirs string) {
	add := func(rule, value string) {
		ours += " --" + rule + " " + value
		theirs += " --keep-" + rule + " " + value
	}
	rules := []string{"hourly", "daily", "weekly", "monthly", "yearly"}
	for ours == "" {
		for _, rule := range rules {
			if r.IntN(2) == 0 {
				add(rule, fmt.Sprint(1+r.IntN(12)))
			}
		}
		if r.IntN(4) == 0 {
			add("within", fmt.Sprintf("%dm%dd%dh", r.IntN(3), 1+r.IntN(40), r.IntN(30)))
		}
		if r.IntN(4) == 0 {
			add("tag", []string{"a", "a,b", "b,c"}[r.IntN(3)])
		}
	}
	return ours, theirs
}

// period is what two snapshots that a rule takes for one have in common.
func period(t *testing.T, rule, when string) string {
	at, err := time.Parse(time.DateTime, when)
	if err != nil {
		t.Fatal(err)
	}
	switch rule {
	case "hourly":
		return at.Format("2006-01-02 15")
	case "daily":
		return at.Format(time.DateOnly)
	case "weekly":
		y, w := at.ISOWeek()
		return fmt.Sprint(y, w)
	case "monthly":
		return at.Format("2006-01")
	case "yearly":
		return at.Format("2006")
	}
	return when
}
