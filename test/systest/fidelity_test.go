//go:build system

package systest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fidelityWrite  = flag.Bool("fidelity.write", false, "write the table of docs/fidelity.md anew, instead of comparing it")
	fidelityOthers = flag.Bool("fidelity.others", false, "run the cells through other programs too, and keep what they gave in testdata/others.txt")
)

// The ways of a tree: from a file system to the same, and to one that holds
// other things.
var routes = []struct{ from, to string }{
	{"ext4", "ext4"}, {"xfs", "xfs"}, {"btrfs", "btrfs"}, {"tmpfs", "tmpfs"},
	{"ext4", "tmpfs"}, {"tmpfs", "ext4"}, {"btrfs", "ext4"}, {"ext4", "xfs"},
}

// Verdicts, as they stand in the table.
const (
	kept     = "yes"  // the judges see no difference
	none     = "–"    // the file system that the tree lies on cannot hold it
	reported = "said" // it differs, and the user was told so with its name
	lost     = "lost" // it differs without a word
)

// TestFidelity makes all cells on each file system, backs them up and restores
// them, and lets foreign programs say of each whether it is the same.
func TestFidelity(t *testing.T) {
	b := newBench(t)
	b.need(true, "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "getfattr", "setfacl", "getfacl", "lsattr", "python3")
	b.mounts("ext4", "xfs", "btrfs", "tmpfs")
	cells := fidelityCells()
	verdicts := map[string][]string{} // of each cell, a word for each route
	before := map[string]judgements{}
	for _, fs := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		before[fs] = b.cells(fs, cells)
	}
	for _, r := range routes {
		for name, verdict := range b.route(r.from, r.to, cells, before[r.from]) {
			verdicts[name] = append(verdicts[name], verdict)
		}
	}
	if *fidelityOthers {
		b.others(cells, before)
	}
	checkTable(t, cells, verdicts)
}

// mounts makes and mounts a file system of each kind, below fs.
func (b *bench) mounts(kinds ...string) {
	b.Helper()
	for _, kind := range kinds {
		dir := b.path("fs/" + kind)
		b.ok("mkdir -p " + dir)
		switch kind {
		case "tmpfs":
			b.ok("mount -t tmpfs -o size=1g,mode=755 tmpfs " + dir)
		default:
			quiet := map[string]string{"ext4": "-q -F -b 4096", "xfs": "-q -f", "btrfs": "-q -f"}[kind]
			b.ok(fmt.Sprintf("truncate -s 32G %s.image && mkfs.%s %s %s.image && mount -o loop %s.image %s", dir, kind, quiet, dir, dir, dir))
		}
		b.Cleanup(func() { b.ok("umount " + dir) })
	}
}

// judgements is what the judges say of each cell: "" where the file system
// cannot hold it.
type judgements map[string]string

// cells makes the cells on a file system, below src, and has them judged.
func (b *bench) cells(fs string, cells []*cell) judgements {
	b.Helper()
	src := b.path("fs/" + fs + "/src")
	for _, c := range cells {
		dir := filepath.Join(src, c.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := c.make(dir); err != nil {
			b.Logf("%s: %s: %v", fs, c.name, err)
			b.ok("rm -rf " + quote(dir))
		}
	}
	all := b.judge(src)
	held := 0
	for _, c := range cells {
		switch text := all[c.name]; {
		case text == "":
		case !regexp.MustCompile(c.show).MatchString(text):
			b.Logf("%s does not hold %s", fs, c.name)
			all[c.name] = ""
		default:
			held++
		}
	}
	b.Logf("%s holds %d of %d cells", fs, held, len(cells))
	if held < 150 {
		b.Errorf("%s: only %d cells", fs, held)
	}
	return all
}

// judge lets the judges look at a tree of cells.
func (b *bench) judge(tree string) judgements {
	b.Helper()
	out, err := os.MkdirTemp(b.dir, "judged")
	if err != nil {
		b.Fatal(err)
	}
	judge, err := filepath.Abs("testdata/judge.py")
	if err != nil {
		b.Fatal(err)
	}
	b.ok(fmt.Sprintf("python3 %s %s %s", quote(judge), quote(tree), out))
	files, err := os.ReadDir(out)
	if err != nil {
		b.Fatal(err)
	}
	all := judgements{}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			b.Fatal(err)
		}
		all[f.Name()] = string(text)
	}
	return all
}

// route backs the cells of one file system up, restores them on another, and
// judges each.
func (b *bench) route(from, to string, cells []*cell, before judgements) map[string]string {
	b.Helper()
	repo, out := b.path("repo-"+from), b.path("fs/"+to+"/out")
	_, backup, status := b.sh(fmt.Sprintf("cd fs/%s && pv-backup -v -r %s -k %s src >%s.id", from, repo, b.path("write.key"), repo))
	if status != 0 && status != 3 {
		b.Fatalf("backup of %s: status %d\n%s", from, status, backup)
	}
	_, restore, status := b.sh(fmt.Sprintf("pv-restore -v -r %s -k read.key $(cat %s.id) %s", repo, repo, out))
	if status != 0 && status != 3 {
		b.Fatalf("restore of %s on %s: status %d\n%s", from, to, status, restore)
	}
	after := b.judge(out + "/src")
	verdicts := map[string]string{}
	told := false // by the restore
	for _, c := range cells {
		v := verdict(c, before[c.name], after[c.name], backup+restore)
		verdicts[c.name] = v
		told = told || v == reported && mentions(c, restore) != ""
		if want := expected(c, from, to); v == lost || v == reported && !want {
			b.Errorf("%s to %s: %s: %s\n%s\n%s", from, to, c.name, v, difference(before[c.name], after[c.name]), mentions(c, backup+restore))
		}
	}
	if told != (status == 3) {
		b.Errorf("%s to %s: status %d\n%s", from, to, status, restore)
	}
	b.ok(fmt.Sprintf("find %s -type d -print0 | xargs -0 chattr -f -ia; find %s -type f -print0 | xargs -0 chattr -f -ia; rm -rf %s", out, out, out))
	return verdicts
}

// expected says whether a cell may be lost on the way, if the user is told: what
// cannot be stored, and, elsewhere, what the other file system cannot hold.
func expected(c *cell, from, to string) bool { return c.unstorable || from != to }

func verdict(c *cell, before, after, stderr string) string {
	switch {
	case before == "":
		return none
	case before == after && !c.unstorable:
		return kept
	case strings.Contains(stderr, "src/"+c.name+"/"):
		return reported
	}
	return lost
}

// difference shows the lines that differ.
func difference(before, after string) string {
	x, y := strings.Split(before, "\n"), strings.Split(after, "\n")
	var d []string
	for _, l := range x {
		if !slices.Contains(y, l) {
			d = append(d, "- "+l)
		}
	}
	for _, l := range y {
		if !slices.Contains(x, l) {
			d = append(d, "+ "+l)
		}
	}
	if len(d) > 10 {
		d = d[:10]
	}
	return fmt.Sprintf("%.4000s", strings.Join(d, "\n"))
}

func mentions(c *cell, stderr string) string {
	var found []string
	for _, l := range strings.Split(stderr, "\n") {
		if strings.Contains(l, c.name) {
			found = append(found, l)
		}
	}
	return strings.Join(found, "\n")
}
