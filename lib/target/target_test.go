package target

import (
	"errors"
	"fmt"
	"io/fs"
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

func TestRoundTrip(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.OddTree(t, dir)
	if treetest.IsRoot() {
		treetest.SpecialTree(t, dir)
	}
	bothWays(t, func(t *testing.T) {
		for _, workers := range []int{1, 8} {
			out := filepath.Join(treetest.Tmp(t), "out")
			thaw(t, out)
			roots := []rec.Root{{Dir: dir}}
			w, left := copyTree(t, roots, walk(t, roots, true), out, workers)
			if len(w) > 0 || left != (Left{}) {
				t.Fatalf("%q %+v", w, left)
			}
			sameTrees(t, dir, out)
			judge(t, dir, out)
		}
	})
}

// judge asks a program that knows nothing of this package.
func judge(t testing.TB, a, b string) {
	t.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Log("no rsync here")
		return
	}
	cmd := exec.Command("rsync", "-aHAXni", "--delete", "--checksum", "--numeric-ids", "--modify-window=-1", a+"/", b+"/")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("rsync: %v\n%s", err, out)
	}
}

// target returns a new Target and a function that returns its warnings.
func target(t testing.TB) (tg *Target, dir string, warnings func() []string) {
	t.Helper()
	dir = filepath.Join(treetest.Tmp(t), "out")
	tg, err := NewTarget(dir)
	treetest.Must(t, err)
	t.Cleanup(tg.Abandon)
	var ws []string
	tg.Warn = func(w *Warning) { ws = append(ws, w.Path+": "+w.Error()) }
	return tg, dir, func() []string { return ws }
}

func dirEntry(path string) *rec.Entry { return &rec.Entry{Path: path, Type: rec.Dir, Mode: 0o755} }

func fileEntry(path, content string) *rec.Entry {
	return &rec.Entry{Path: path, Type: rec.File, Mode: 0o644, Size: uint64(len(content))}
}

// create begins and writes one entry; of a file with its path as content.
func create(tg *Target, e *rec.Entry) error {
	n, err := tg.Begin(e)
	if n == nil || err != nil {
		return err
	}
	if e.Type != rec.File {
		return n.Make()
	}
	o, err := n.Create()
	if err != nil {
		return err
	}
	if _, err := o.WriteAt([]byte(e.Path), 0); err != nil {
		o.Abort()
		return err
	}
	e.Size = uint64(len(e.Path))
	return o.Finish(e)
}

// noTemps finds temporary files that are left. The mark of a restore that did
// not end is none.
func noTemps(t testing.TB, dir string) {
	t.Helper()
	for _, e := range walk(t, []rec.Root{{Dir: dir}}, false) {
		if strings.HasPrefix(inode.Base(e.Path), tempPrefix) && !strings.HasSuffix(e.Path, "-"+markName) {
			t.Errorf("%s is left", e.Path)
		}
	}
}

func TestNewTarget(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "full/x"), "")
	treetest.Write(t, filepath.Join(dir, "file"), "")
	treetest.Must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	treetest.Must(t, os.MkdirAll(filepath.Join(dir, "disk/lost+found"), 0o700))
	treetest.Must(t, os.Mkdir(filepath.Join(dir, "pointed"), 0o755))
	treetest.Must(t, os.Symlink("pointed", filepath.Join(dir, "link")))
	for name, want := range map[string]error{
		"new": nil, "empty": nil, "disk": nil, "link": nil, "full": inode.ErrNotEmpty, "file": unix.ENOTDIR, "none/new": fs.ErrNotExist,
	} {
		tg, err := NewTarget(filepath.Join(dir, name))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err != nil {
			continue
		}
		treetest.Must(t, create(tg, dirEntry("d")))
		if name == "disk" {
			e := dirEntry("lost+found")
			e.Mode = 0o711
			treetest.Must(t, create(tg, e))
		}
		treetest.Must(t, tg.Close())
		if err := tg.Close(); !errors.Is(err, inode.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "disk/lost+found")); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("lost+found: %v, %v", st, err)
	}
}

// TestLinksWait makes hard links before their first name is there.
func TestLinksWait(t *testing.T) {
	tg, dir, warnings := target(t)
	lead := func(path string) *Out {
		e := fileEntry(path, "abc")
		e.Links = 3
		n, err := tg.Begin(e)
		treetest.Must(t, err)
		o, err := n.Create()
		treetest.Must(t, err)
		_, err = o.WriteAt([]byte("abc"), 0)
		treetest.Must(t, err)
		return o
	}
	link := func(path, leader string) {
		treetest.Must(t, create(tg, &rec.Entry{Path: path, Type: rec.HardLink, Leader: leader}))
	}
	treetest.Must(t, create(tg, dirEntry("a")))
	one, two := lead("a/1"), lead("a/2")
	treetest.Must(t, create(tg, dirEntry("b")))
	link("b/1", "a/1")
	link("b/2", "a/2")
	if err := create(tg, &rec.Entry{Path: "b/3", Type: rec.HardLink, Leader: "a/3"}); !errors.Is(err, inode.ErrLeader) {
		t.Error(err)
	}
	treetest.Must(t, create(tg, dirEntry("c")))
	link("c/1", "a/1")
	treetest.Must(t, one.Finish(fileEntry("", "abc")))
	two.Abort()
	treetest.Must(t, tg.Close())
	es := walk(t, []rec.Root{{Dir: dir}}, false)
	if got := treetest.Paths(es); !slices.Equal(got, []string{"", "a", "a/1", "b", "b/1", "c", "c/1"}) || treetest.Find(es, "a/1").Links != 3 {
		t.Errorf("%q", got)
	}
	if w := warnings(); len(w) != 1 || !strings.Contains(w[0], "b/2: create hard link to a/2: "+inode.ErrLeader.Error()) {
		t.Errorf("%q", w)
	}
}

// TestLateDirectories finishes files long after Begin has left their directory,
// whose time must still be the recorded one.
func TestLateDirectories(t *testing.T) {
	tg, dir, _ := target(t)
	var outs []*Out
	for i := range 20 {
		e := dirEntry(fmt.Sprintf("%02d", i))
		e.MTime, e.Mode = rec.Time{Sec: int64(i), Nsec: 5}, 0o500
		treetest.Must(t, create(tg, e))
		n, err := tg.Begin(fileEntry(e.Path+"/f", ""))
		treetest.Must(t, err)
		o, err := n.Create()
		treetest.Must(t, err)
		outs = append(outs, o)
	}
	for _, o := range outs {
		treetest.Must(t, o.Finish(fileEntry("", "")))
	}
	treetest.Must(t, tg.Close())
	for _, e := range walk(t, []rec.Root{{Dir: dir}}, false) {
		if i := 0; e.Type == rec.Dir && e.Path != "" {
			if _, err := fmt.Sscanf(e.Path, "%d", &i); err != nil || e.MTime != (rec.Time{Sec: int64(i), Nsec: 5}) || e.Mode != 0o500 {
				t.Errorf("%+v", e)
			}
		}
	}
}

func TestCleanup(t *testing.T) {
	tg, dir, _ := target(t)
	treetest.Must(t, create(tg, dirEntry("d")))
	var nodes []*Node
	var outs []*Out
	for i := range 6 {
		n, err := tg.Begin(fileEntry(fmt.Sprintf("d/%d", i), "x"))
		treetest.Must(t, err)
		if i < 4 {
			o, err := n.Create()
			treetest.Must(t, err)
			outs = append(outs, o)
		} else {
			nodes = append(nodes, n)
		}
	}
	treetest.Must(t, outs[0].Finish(fileEntry("", "")))
	tg.Cleanup()
	noTemps(t, dir)
	if _, err := nodes[0].Create(); !errors.Is(err, inode.ErrClosed) {
		t.Errorf("create: %v", err)
	}
	if err := outs[1].Finish(fileEntry("", "")); err == nil {
		t.Error("finish: no error")
	}
	if _, err := tg.Begin(fileEntry("e", "")); !errors.Is(err, inode.ErrClosed) {
		t.Errorf("begin: %v", err)
	}
	tg.Abandon()
	outs[2].Abort()
	nodes[1].Skip()
	if err := outs[3].Finish(fileEntry("", "")); err == nil {
		t.Error("finish after abandon: no error")
	}
	if err := tg.Close(); !errors.Is(err, inode.ErrClosed) {
		t.Errorf("close: %v", err)
	}
	if got := treetest.Paths(walk(t, []rec.Root{{Dir: dir}}, false)); !slices.Equal(got, []string{"", tg.prefix + markName, "d", "d/0"}) {
		t.Errorf("%q", got)
	}
}

// TestUnprivileged restores as a user what that user cannot own.
func TestUnprivileged(t *testing.T) { testUnprivileged(t, treetest.AsUser) }

// TestUserNamespace does the same as one who is root in a user namespace only.
func TestUserNamespace(t *testing.T) { testUnprivileged(t, asMapped) }

func testUnprivileged(t *testing.T, as func(*testing.T, string, func())) {
	dir, child := treetest.UserDir(t)
	as(t, dir, func() {
		tg, err := NewTarget(filepath.Join(dir, "out"))
		treetest.Must(t, err)
		var warnings []string
		tg.Warn = func(w *Warning) { warnings = append(warnings, w.Path+": "+w.What) }
		foreign := func(path string, typ rec.Type, mode uint32) *rec.Entry {
			return &rec.Entry{Path: path, Type: typ, Mode: mode, UID: 4242, GID: 4242}
		}
		treetest.Must(t, create(tg, foreign("a", rec.Dir, 0o2055)))
		lead := foreign("a/f", rec.File, 0o6711)
		lead.Links = 2
		lead.XAttrs = []rec.XAttr{{Name: inode.XAttrCapability, Value: make([]byte, 20)}, {Name: "trusted.x", Value: nil}, {Name: "user.x", Value: []byte("u")}}
		treetest.Must(t, create(tg, lead))
		treetest.Must(t, create(tg, foreign("a/zero", rec.File, 0)))
		treetest.Must(t, create(tg, dirEntry("b")))
		treetest.Must(t, create(tg, &rec.Entry{Path: "b/link", Type: rec.HardLink, Leader: "a/f"})) // nobody may look into a by then
		var w *Warning
		dev := foreign("dev", rec.Char, 0o666)
		dev.Major, dev.Minor = 1, 3
		if err := create(tg, dev); !errors.As(err, &w) || !errors.Is(err, unix.EPERM) {
			t.Errorf("device: %v", err)
		}
		// The one that needs no privilege.
		if err := create(tg, foreign("dev0", rec.Char, 0o666)); !errors.As(err, &w) || !errors.Is(err, inode.ErrOwner) {
			t.Errorf("whiteout: %v", err)
		}
		treetest.Must(t, create(tg, foreign("fifo", rec.Fifo, 0o4600)))
		treetest.Must(t, create(tg, foreign("none", rec.Socket, 0o666)))
		sym := &rec.Entry{Path: "sym", Type: rec.Symlink, Target: "x", UID: 1<<32 - 1, GID: 1<<32 - 1}
		treetest.Must(t, create(tg, sym))
		treetest.Must(t, tg.Close())
		want := Left{Owners: 6, SetID: 3, Capabilities: 1}
		if os.Geteuid() != 0 {
			want.Owners++ // b
		}
		if left := tg.Left(); left != want {
			t.Errorf("%+v", left)
		}
		if want := []string{"a/f: set extended attribute trusted.x"}; !slices.Equal(warnings, want) {
			t.Errorf("%q", warnings)
		}
	})
	if child || !treetest.IsRoot() {
		return
	}
	es := treetest.SlowWalk(t, filepath.Join(dir, "out"))
	for path, mode := range map[string]uint32{"a": 0o055, "a/f": 0o711, "a/zero": 0, "fifo": 0o600, "none": 0o666} {
		if e := treetest.Find(es, path); e == nil || e.Mode != mode {
			t.Errorf("%s: %+v", path, e)
		}
	}
	if e := treetest.Find(es, "b/link"); e == nil || e.Leader != "a/f" {
		t.Errorf("link: %+v", e)
	}
}

// TestInherited restores into a directory that gives everything in it a group, an
// ACL and flags.
func TestInherited(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.Tmp(t)
	treetest.OddTree(t, filepath.Join(dir, "src"))
	treetest.SpecialTree(t, filepath.Join(dir, "src"))
	out := filepath.Join(dir, "out")
	treetest.Must(t, os.Mkdir(out, 0o755))
	treetest.Must(t, os.Chown(out, 77, 78))
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	treetest.Must(t, unix.Setxattr(out, "system.posix_acl_access", acl, 0))
	treetest.Must(t, unix.Setxattr(out, inode.XAttrDefaultACL, acl, 0))
	treetest.Must(t, unix.Setxattr(out, "user.own", []byte("x"), 0))
	treetest.Must(t, unix.Chmod(out, 0o2775))
	treetest.SetTestFlags(t, out, inode.FlagNoDump|inode.FlagNoAtime)
	thaw(t, out)
	src := []rec.Root{{Dir: filepath.Join(dir, "src")}}
	if w, left := copyTree(t, src, walk(t, src, true), out, 2); len(w) > 0 || left != (Left{}) {
		t.Fatalf("%q %+v", w, left)
	}
	sameTrees(t, src[0].Dir, out)
	judge(t, src[0].Dir, out)
}

// TestPoorFileSystem restores into a file system that has neither extended
// attributes nor flags.
func TestPoorFileSystem(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.Tmp(t)
	if err := unix.Mount("none", dir, "ramfs", 0, ""); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	t.Cleanup(func() { treetest.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	tg, err := NewTarget(filepath.Join(dir, "out"))
	treetest.Must(t, err)
	var warnings []string
	tg.Warn = func(w *Warning) { warnings = append(warnings, w.Path+": "+w.Error()) }
	e := fileEntry("f", "")
	e.XAttrs = []rec.XAttr{{Name: "user.x", Value: []byte("1")}}
	e.Flags = inode.FlagNoDump | inode.FlagImmutable
	treetest.Must(t, create(tg, e))
	treetest.Must(t, tg.Close())
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0], "f: set extended attribute user.x: ") || !strings.HasPrefix(warnings[1], "f: set inode flags id: ") {
		t.Fatalf("%q", warnings)
	}
	if es := walk(t, []rec.Root{{Dir: dir}}, true); treetest.Find(es, "out/f") == nil {
		t.Fatal("no file")
	}
}

// TestClampedTime restores a time that ext4 and xfs cannot hold.
func TestClampedTime(t *testing.T) {
	tg, dir, warnings := target(t)
	e := fileEntry("f", "")
	e.MTime = rec.Time{Sec: 1 << 50}
	treetest.Must(t, create(tg, e))
	treetest.Must(t, tg.Close())
	kept := treetest.Find(walk(t, []rec.Root{{Dir: dir}}, false), "f").MTime == e.MTime
	if kept != (len(warnings()) == 0) {
		t.Fatalf("kept %v, %q", kept, warnings())
	}
}
