package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// onFileSystems runs a test on an ext4 in a loop device and on a tmpfs, or where
// that takes more than we have, in the directory for temporaries.
func onFileSystems(t *testing.T, fn func(t *testing.T, dir string)) {
	t.Run("here", func(t *testing.T) { fn(t, treetest.Tmp(t)) })
	for name, mount := range map[string]string{
		"tmpfs": "mount -t tmpfs -o size=200m none disk",
		"ext4":  "truncate -s 64M image && mkfs.ext4 -q -F -b 4096 image && mount -o loop image disk",
	} {
		t.Run(name, func(t *testing.T) {
			treetest.NeedRoot(t)
			top := treetest.Tmp(t)
			treetest.Must(t, os.Mkdir(filepath.Join(top, "disk"), 0o755))
			cmd := exec.Command("sh", "-c", mount)
			cmd.Dir = top
			cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("cannot mount here: %v %s", err, out)
			}
			disk := filepath.Join(top, "disk")
			t.Cleanup(func() { treetest.Must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
			dir := filepath.Join(disk, "dir")
			treetest.Must(t, os.Mkdir(dir, 0o755))
			fn(t, dir)
		})
	}
}

// into opens a target that exists; the acts and warnings that come from it are
// written down in order of path.
func into(t testing.TB, dir string, o Into) (tg *Target, warnings func() string) {
	t.Helper()
	tg, err := OpenTarget(dir, o)
	treetest.Must(t, err)
	t.Cleanup(tg.Abandon)
	var ws []string
	tg.Warn = func(w *Warning) { ws = append(ws, w.Path+": "+w.Error()) }
	return tg, func() string { return strings.Join(ws, "\n") }
}

var when = rec.Time{Sec: 1_500_000_000, Nsec: 123_456_789}

// An existing thing, and what makes it.
type thing struct {
	name string
	make func(t *testing.T, p string)
}

func at(t testing.TB, p string, m rec.Time) {
	t.Helper()
	ts := unix.Timespec{Sec: m.Sec, Nsec: int64(m.Nsec)}
	treetest.Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

func things() []thing {
	file := func(content string, m rec.Time) func(t *testing.T, p string) {
		return func(t *testing.T, p string) {
			treetest.Write(t, p, content)
			treetest.Must(t, unix.Chmod(p, 0o644))
			at(t, p, m)
		}
	}
	link := func(target string) func(t *testing.T, p string) {
		return func(t *testing.T, p string) {
			treetest.Must(t, os.Symlink(target, p))
			at(t, p, when)
		}
	}
	all := []thing{
		{"nothing", func(*testing.T, string) {}},
		{"same file", file("old!", when)},
		{"other size", file("older", when)},
		{"other time", file("old!", rec.Time{Sec: 5})},
		{"same link", link("x")},
		{"link to a file", link("../outside/file")},
		{"link to a directory", link("../outside")},
		{"fifo", func(t *testing.T, p string) { treetest.Must(t, unix.Mkfifo(p, 0o644)) }},
		{"socket", func(t *testing.T, p string) { treetest.Must(t, unix.Mknod(p, unix.S_IFSOCK|0o644, 0)) }},
		{"empty directory", func(t *testing.T, p string) { treetest.Must(t, os.Mkdir(p, 0o755)) }},
		{"full directory", func(t *testing.T, p string) {
			treetest.Write(t, p+"/in/deep", "x")
			treetest.Must(t, os.Symlink("../../outside", p+"/in/out"))
		}},
		{"link to itself", link("thing")},
		{"another's name", func(t *testing.T, p string) {
			treetest.Must(t, os.Link(filepath.Join(filepath.Dir(p), "../outside/file"), p))
		}},
	}
	if treetest.IsRoot() {
		all = append(all, thing{"device", func(t *testing.T, p string) {
			treetest.Must(t, unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
		}}, thing{"immutable file", func(t *testing.T, p string) {
			treetest.Write(t, p, "fixed")
			treetest.SetTestFlags(t, p, inode.FlagImmutable)
		}}, thing{"append-only file", func(t *testing.T, p string) {
			treetest.Write(t, p, "fixed")
			treetest.SetTestFlags(t, p, inode.FlagAppend)
		}})
	}
	return all
}

func newEntries() []*rec.Entry {
	es := []*rec.Entry{
		{Type: rec.File, Mode: 0o640, Size: 4},
		{Type: rec.Dir, Mode: 0o755},
		{Type: rec.Symlink, Target: "x"},
		{Type: rec.Fifo, Mode: 0o600},
		{Type: rec.Socket, Mode: 0o600},
		{Type: rec.HardLink, Leader: "leader"},
	}
	if treetest.IsRoot() {
		es = append(es, &rec.Entry{Type: rec.Char, Mode: 0o600, Major: 1, Minor: 3}, &rec.Entry{Type: rec.Block, Mode: 0o600, Major: 7, Minor: 1})
	}
	for _, e := range es {
		e.Path = "thing"
		if e.Type != rec.HardLink {
			e.MTime, e.UID, e.GID = when, uint32(os.Getuid()), uint32(os.Getgid())
		}
	}
	return es
}

// putAll gives a target all entries; of a regular file the content is new.
func putAll(t testing.TB, tg *Target, content string, es ...*rec.Entry) (err error) {
	t.Helper()
	for _, e := range es {
		var n *Node
		if n, err = tg.Begin(e); err != nil || n == nil {
			if w := (*Warning)(nil); errors.As(err, &w) {
				tg.Warn(w)
				continue
			}
			treetest.Must(t, err)
			continue
		}
		if e.Type != rec.File {
			if err = n.Make(); err != nil {
				tg.Warn(&Warning{Path: e.Path, What: "make", Err: err})
			}
			continue
		}
		o, cerr := n.Create()
		if cerr != nil {
			tg.Warn(&Warning{Path: e.Path, What: "create", Err: cerr})
			continue
		}
		_, err = o.WriteAt([]byte(content[:e.Size]), 0)
		treetest.Must(t, err)
		if err = o.Finish(e); err != nil {
			tg.Warn(&Warning{Path: e.Path, What: "finish", Err: err})
		}
	}
	treetest.Must(t, tg.Close())
	return nil
}

// TestEveryMode puts every type of entry where everything is, in every mode,
// and looks at what is there then. A plan says the same and does nothing.
func TestEveryMode(t *testing.T) {
	t.Parallel()
	onFileSystems(t, func(t *testing.T, dir string) {
		outside := filepath.Join(dir, "outside")
		treetest.Write(t, filepath.Join(outside, "file"), "precious")
		treetest.Must(t, unix.Chmod(filepath.Join(outside, "file"), 0o604))
		n := 0
		for _, mode := range []Into{{Overwrite: Never}, {Overwrite: Changed}, {Overwrite: Always}, {Overwrite: Changed, Delete: true},
			{Overwrite: Always, InPlace: true, Delete: true}} {
			for _, old := range things() {
				for _, e := range newEntries() {
					n++
					into := filepath.Join(dir, fmt.Sprint("d", n))
					treetest.Must(t, os.Mkdir(into, 0o755))
					old.make(t, filepath.Join(into, "thing"))
					name := fmt.Sprintf("%s%s over %s, %s", overwrites[mode.Overwrite], map[bool]string{true: ", delete"}[mode.Delete], old.name, e.Type)
					oneMode(t, name, into, mode, old, e)
				}
			}
		}
		if b, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(b) != "precious" {
			t.Errorf("outside: %q, %v", b, err)
		}
		if es := walk(t, []rec.Root{{Dir: outside}}, false); len(es) != 2 || es[1].Mode != 0o604 {
			t.Errorf("outside: %q", treetest.Paths(es))
		}
		noTemps(t, dir)
	})
}

func oneMode(t *testing.T, name, dir string, mode Into, old thing, e *rec.Entry) {
	t.Helper()
	thing := filepath.Join(dir, "thing")
	leader := &rec.Entry{Path: "leader", Type: rec.File, Mode: 0o600, Size: 3, Links: 2, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	entries := []*rec.Entry{leader, e}
	if mode.Delete {
		entries = slices.Insert(entries, 0, &rec.Entry{Type: rec.Dir, Mode: 0o755, MTime: when})
	}
	before := describe(t, thing)

	// First a plan, which changes nothing.
	var plan []string
	planned := mode
	planned.Plan = func(a Act, path string) { plan = append(plan, a.String()+" "+path) }
	names, ctime := listNames(t, dir), ctimeOf(t, dir)
	tg, _ := into(t, dir, planned)
	for _, e := range entries {
		if _, err := tg.Begin(e); err != nil && !errors.As(err, new(*Warning)) {
			t.Errorf("%s: plan: %v", name, err)
		}
	}
	treetest.Must(t, tg.Close())
	if got := listNames(t, dir); !slices.Equal(got, names) || ctimeOf(t, dir) != ctime || describe(t, thing) != before {
		t.Fatalf("%s: the plan changed %q into %q, %s into %s", name, names, got, before, describe(t, thing))
	}

	tg, warnings := into(t, dir, mode)
	treetest.Must(t, putAll(t, tg, "new!", entries...))
	after := describe(t, thing)
	kept, made := after == before, isMade(t, thing, e)
	taken := old.name == "full directory" && e.Type != rec.Dir && !mode.Delete
	conflict := mode.Overwrite == Never && old.name != "nothing" && !(e.Type == rec.Dir && strings.HasSuffix(old.name, "directory") && !strings.HasPrefix(old.name, "link"))
	// A link in a directory's place is replaced only if everything is.
	conflict = conflict || mode.Overwrite == Changed && e.Type == rec.Dir && (strings.HasPrefix(old.name, "link") || old.name == "same link")
	same := mode.Overwrite == Changed && e.Type == rec.File && old.name == "same file"
	switch {
	case taken, conflict:
		if !kept {
			t.Errorf("%s: %s became %s", name, before, after)
		}
	case same:
		if !strings.Contains(after, `"old!"`) || !strings.HasPrefix(after, "file 640 ") || inodeIn(before) != inodeIn(after) {
			t.Errorf("%s: %s became %s", name, before, after)
		}
	case mode.Overwrite == Never && e.Type == rec.Dir && old.name != "nothing": // merged, and its metadata is its own
	default:
		if !made {
			t.Errorf("%s: %s became %s (%s)", name, before, after, warnings())
		}
	}
	unhappy := taken && mode.Overwrite != Never || conflict && e.Type == rec.Dir
	if unhappy != (warnings() != "") {
		t.Errorf("%s: said %q", name, warnings())
	}
	if c := tg.Counts(); (c.Conflicts > 0) != conflict && !(conflict && e.Type == rec.Dir) {
		t.Errorf("%s: %+v", name, c)
	} else if said := countPlan(plan); said != c.Done && !taken {
		t.Errorf("%s: the plan said %q, and that was done: %v", name, plan, c.Done)
	}
	if e.Type == rec.File || strings.Contains(old.name, "file") {
		if f := thawFile(unix.AT_FDCWD, thing); f != nil {
			f.keep()
		}
	}
}

func countPlan(plan []string) (n [acts]uint64) {
	for _, line := range plan {
		for a := Create; a < acts; a++ {
			if strings.HasPrefix(line, a.String()+" ") {
				n[a]++
			}
		}
	}
	return n
}

func listNames(t testing.TB, dir string) (names []string) {
	list, err := os.ReadDir(dir)
	treetest.Must(t, err)
	for _, d := range list {
		names = append(names, d.Name())
	}
	return names
}

func ctimeOf(t testing.TB, p string) rec.Time {
	var st inode.Stat
	treetest.Must(t, inode.StatAt(unix.AT_FDCWD, p, &st))
	return st.CTime
}

// describe is all that is to be seen of one thing and what is in it.
func describe(t testing.TB, p string) string {
	var st inode.Stat
	if err := inode.StatAt(unix.AT_FDCWD, p, &st); err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%s %o %d.%d ino %d", st.Type, st.Mode, st.MTime.Sec, st.MTime.Nsec, st.Ino)
	switch st.Type {
	case rec.File:
		b, err := os.ReadFile(p)
		treetest.Must(t, err)
		text += fmt.Sprintf(" %q", b)
	case rec.Symlink:
		to, err := os.Readlink(p)
		treetest.Must(t, err)
		text += " " + to
	case rec.Dir:
		text += fmt.Sprint(" ", listNames(t, p))
	}
	return text
}

func inodeIn(text string) string {
	_, rest, _ := strings.Cut(text, " ino ")
	ino, _, _ := strings.Cut(rest, " ")
	return ino
}

// isMade reports whether a thing is as its entry says.
func isMade(t testing.TB, p string, e *rec.Entry) bool {
	var st, leader inode.Stat
	if inode.StatAt(unix.AT_FDCWD, p, &st) != nil {
		return false
	}
	switch e.Type {
	case rec.HardLink:
		treetest.Must(t, inode.StatAt(unix.AT_FDCWD, filepath.Join(filepath.Dir(p), "leader"), &leader))
		return st.SameFile(&leader) && st.Links == 2
	case rec.File:
		if st.Type != rec.File {
			return false
		}
		b, err := os.ReadFile(p)
		if err != nil || string(b) != "new!" || st.Links != 1 {
			return false
		}
	case rec.Symlink:
		to, err := os.Readlink(p)
		return err == nil && to == e.Target && st.MTime == e.MTime
	}
	return st.Type == e.Type && st.Mode == e.Mode && st.MTime == e.MTime && st.Major == e.Major && st.Minor == e.Minor
}

// TestAgain restores a tree with one of everything into itself and into what an
// earlier restore made of it: nothing is touched.
func TestAgain(t *testing.T) {
	dir := treetest.Tmp(t)
	src, out := filepath.Join(dir, "src"), filepath.Join(dir, "out")
	treetest.OddTree(t, src)
	if treetest.IsRoot() {
		treetest.SpecialTree(t, src)
	}
	thaw(t, out)
	roots := []rec.Root{{Dir: src}}
	es := walk(t, roots, true)
	if w, _ := copyTree(t, roots, es, out, 2); len(w) > 0 {
		t.Fatalf("%q", w)
	}
	want := stateOf(t, out)
	for _, o := range []Into{{Overwrite: Changed}, {Overwrite: Changed, Delete: true, InPlace: true}, {Overwrite: Never}} {
		tg, warnings := into(t, out, o)
		for _, e := range es {
			n, err := tg.Begin(treetest.Clone(e))
			treetest.Must(t, err)
			if n != nil && e.Type != rec.HardLink {
				t.Errorf("%s is made again", e.Path)
			}
			if n != nil {
				treetest.Must(t, n.Make())
			}
		}
		treetest.Must(t, tg.Close())
		if c := tg.Counts(); c.Done != ([acts]uint64{}) || warnings() != "" {
			t.Errorf("%+v: %+v, %s", o, c, warnings())
		}
		if got := stateOf(t, out); !slices.Equal(got, want) {
			t.Errorf("%+v: something was touched", o)
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s\n%s", want[i], got[i])
				}
			}
		}
	}
	sameTrees(t, src, out)
	judge(t, src, out)
}

// stateOf is the inode and the time of change of everything.
func stateOf(t testing.TB, dir string) (all []string) {
	for _, e := range walk(t, []rec.Root{{Dir: dir}}, false) {
		all = append(all, fmt.Sprintf("%q %d %d %v %v", e.Path, e.Ino, e.Links, e.CTime, e.MTime))
	}
	return all
}

// TestAligned restores over a tree whose metadata, links and content have been
// changed in every way.
func TestAligned(t *testing.T) {
	treetest.NeedRoot(t)
	for _, o := range []Into{{Overwrite: Changed, Delete: true}, {Overwrite: Always, Delete: true}, {Overwrite: Always, Delete: true, InPlace: true}} {
		dir := treetest.Tmp(t)
		src, out := filepath.Join(dir, "src"), filepath.Join(dir, "out")
		treetest.OddTree(t, src)
		treetest.SpecialTree(t, src)
		thaw(t, out)
		roots := []rec.Root{{Dir: src}}
		es := walk(t, roots, true)
		if w, _ := copyTree(t, roots, es, out, 2); len(w) > 0 {
			t.Fatalf("%q", w)
		}
		p := func(n string) string { return filepath.Join(out, n) }
		for _, n := range []string{"special/immutable", "special/append", "special/frozen"} {
			treetest.SetTestFlags(t, p(n), 0)
		}
		treetest.Must(t, os.Remove(p("zlink")))
		treetest.Must(t, os.Remove(p("links/two")))
		treetest.Write(t, p("links/two"), "not shared any more")
		treetest.Must(t, os.Remove(p("names/a")))
		treetest.Must(t, os.Link(p("names/a-b"), p("names/a"))) // two files are one
		treetest.Must(t, os.Lchown(p("longlink"), 5, 6))
		treetest.Must(t, os.Lchown(p("special/null"), 5, 6))
		treetest.Must(t, unix.Chmod(p("special"), 0o4700))
		treetest.Must(t, unix.Lsetxattr(p("special/link"), "trusted.more", []byte("x"), 0))
		treetest.Must(t, unix.Lremovexattr(p("special/file"), "trusted.t"))
		treetest.Must(t, unix.Setxattr(p("special/setuid"), inode.XAttrCapability, []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
		treetest.Must(t, unix.Removexattr(p("special/dir"), inode.XAttrDefaultACL))
		treetest.Must(t, os.Truncate(p("holes"), 17<<20))
		f, err := os.OpenFile(p("holes"), os.O_WRONLY, 0)
		treetest.Must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte("garbage!"), 1<<17), 3<<20)
		treetest.Must(t, err)
		f.Close()
		treetest.Write(t, p("extra/deep/er"), "x")
		treetest.Must(t, os.Symlink(src, p("empty/link")))
		treetest.SetTestFlags(t, p("special/sync"), inode.FlagImmutable)
		treetest.SetTestFlags(t, p("special/immutable"), inode.FlagImmutable)
		w, left := copyTreeInto(t, roots, es, out, 4, o)
		if len(w) > 0 || left != (Left{}) {
			t.Errorf("%+v: %q %+v", o, w, left)
		}
		sameTrees(t, src, out)
		judge(t, src, out)
	}
}
