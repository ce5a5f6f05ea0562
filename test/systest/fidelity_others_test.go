//go:build system

package systest

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// othersFile keeps what other programs gave, so that the table can be made
// without them: their versions in the first lines, then a line for each cell.
const othersFile = "testdata/others.txt"

// An other is another program: how it is asked for its version, stores the
// directory src and restores it into the working directory, each with all that
// it can keep.
type other struct{ name, version, store, restore string }

// In these, REPO is a directory of its own. What lies where is the environment's
// business: the words are those that a user would say.
var others = []other{
	{"restic", "restic version | cut -d ' ' -f 1,2",
		"export RESTIC_PASSWORD=x; restic -q -r $REPO init && restic -q -r $REPO backup src",
		"export RESTIC_PASSWORD=x; restic -q -r $REPO restore latest --target . $(restic restore --help | grep -o -e '--sparse')"},
	{"borg", "borg --version",
		"borg init -e none $REPO && borg create --sparse --numeric-ids $REPO::a src",
		"borg extract --sparse --numeric-ids $REPO::a"},
	{"GNU tar", "tar --version | head -n 1",
		"mkdir $REPO && tar -c --format=posix --sparse --xattrs --xattrs-include='*' --acls --numeric-owner -f $REPO/tar src",
		"tar -x -p --same-owner --xattrs --xattrs-include='*' --acls --numeric-owner -f $REPO/tar"},
}

// othersOn are the file systems on which the others are measured: between them
// they hold every cell but one or two.
var othersOn = []string{"ext4", "btrfs"}

// others runs the cells through other programs, from each of othersOn to the same.
func (b *bench) others(cells []*cell, before map[string]judgements) {
	b.Helper()
	var text strings.Builder
	verdicts := map[string][]string{}
	for i, o := range others {
		version := b.ok("LC_ALL=C.UTF-8 " + o.version)
		fmt.Fprintf(&text, "# %s\t%s\n", o.name, version)
		worst := map[string]string{}
		for _, fs := range othersOn {
			repo, out := b.path(fmt.Sprintf("other-%d-%s", i, fs)), b.path("fs/"+fs+"/other")
			said, said2, status := b.sh(fmt.Sprintf("export LC_ALL=C.UTF-8 REPO=%s BORG_BASE_DIR=%s; cd fs/%s && %s", repo, b.path("borg"), fs, o.store))
			said3, said4, status2 := b.sh(fmt.Sprintf("export LC_ALL=C.UTF-8 REPO=%s BORG_BASE_DIR=%s; mkdir %s && cd %s && %s", repo, b.path("borg"), out, out, o.restore))
			all := said + said2 + said3 + said4
			b.Logf("%s on %s: status %d, %d\n%.3000s", version, fs, status, status2, all)
			after := b.judge(out + "/src")
			for _, c := range cells {
				v := otherVerdict(c, before[fs][c.name], after[c.name], all)
				if v == lost || v == reported {
					b.Logf("%s: %s: %s\n%.1000s\n%.500s", o.name, c.name, v, difference(before[fs][c.name], after[c.name]), mentions(c, all))
				}
				if slices.Index(badness, v) > slices.Index(badness, worst[c.name]) {
					worst[c.name] = v
				}
			}
			b.ok(fmt.Sprintf("find %s -xdev \\( -type d -o -type f \\) -print0 | xargs -0 chattr -f -ia; rm -rf %s %s", out, out, repo))
		}
		for name, v := range worst {
			verdicts[name] = append(verdicts[name], v)
		}
	}
	for _, c := range cells {
		fmt.Fprintf(&text, "%s\t%s\n", c.name, strings.Join(verdicts[c.name], "\t"))
	}
	if err := os.WriteFile(othersFile, []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
}

// badness orders verdicts, the worst last.
var badness = []string{"", none, kept, reported, lost}

// otherVerdict is verdict, for programs that may well be able to store what
// Preserve is not.
func otherVerdict(c *cell, before, after, said string) string {
	switch {
	case before == "":
		return none
	case before == after:
		return kept
	case strings.Contains(said, c.name):
		return reported
	}
	return lost
}

// readOthers reads othersFile: the programs' names and versions, and what they
// gave for each cell.
func readOthers() (names, versions []string, verdicts map[string][]string, err error) {
	text, err := os.ReadFile(othersFile)
	verdicts = map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		name, rest, _ := strings.Cut(line, "\t")
		if head, ok := strings.CutPrefix(name, "# "); ok {
			names, versions = append(names, head), append(versions, rest)
		} else {
			verdicts[name] = strings.Split(rest, "\t")
		}
	}
	return names, versions, verdicts, err
}
