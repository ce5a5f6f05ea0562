package target

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/treetest"
)

// TestSwapped has somebody put links into an existing target while it is being
// restored into.
func TestSwapped(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		top := treetest.Tmp(t)
		dir, outside := filepath.Join(top, "out"), filepath.Join(top, "outside")
		treetest.Write(t, filepath.Join(outside, "f"), "precious")
		treetest.Write(t, filepath.Join(outside, "d/f"), "precious")
		for _, p := range []string{"a/f", "a/extra", "a/d/f", "b/f", "c/f", "e/d/f"} {
			treetest.Write(t, filepath.Join(dir, p), "old")
		}
		tg, _ := into(t, dir, Into{Overwrite: Always, Delete: true})
		plant := func(path, to string) {
			treetest.Must(t, os.Rename(filepath.Join(dir, path), filepath.Join(dir, path+".old")))
			treetest.Must(t, os.Symlink(to, filepath.Join(dir, path)))
		}
		_, err := tg.Begin(dirEntry(""))
		treetest.Must(t, err)
		// A directory that is entered already: what is made goes to the one that was
		// there.
		treetest.Must(t, create(tg, dirEntry("a")))
		plant("a", outside)
		treetest.Must(t, create(tg, fileEntry("a/f", "")))
		// One that is not: the link is replaced.
		plant("b", outside)
		treetest.Must(t, create(tg, dirEntry("b")))
		treetest.Must(t, create(tg, fileEntry("b/f", "")))
		// A file between looking and finishing.
		treetest.Must(t, create(tg, dirEntry("c")))
		n, err := tg.Begin(fileEntry("c/f", "new"))
		treetest.Must(t, err)
		o, err := n.Create()
		treetest.Must(t, err)
		plant("c/f", filepath.Join(outside, "f"))
		_, err = o.WriteAt([]byte("new"), 0)
		treetest.Must(t, err)
		treetest.Must(t, o.Finish(fileEntry("", "new")))
		// A directory that is to make room for a file.
		treetest.Must(t, create(tg, dirEntry("e")))
		n, err = tg.Begin(&rec.Entry{Path: "e/d", Type: rec.Fifo})
		treetest.Must(t, err)
		plant("e/d", filepath.Join(outside, "d"))
		var w *Warning
		if err := n.Make(); !errors.As(err, &w) {
			t.Errorf("room: %v", err)
		}
		treetest.Must(t, tg.Close())
		for _, p := range []string{"f", "d/f"} {
			if b, err := os.ReadFile(filepath.Join(outside, p)); err != nil || string(b) != "precious" {
				t.Errorf("outside/%s: %q, %v", p, b, err)
			}
		}
		if es := walk(t, []rec.Root{{Dir: outside}}, false); len(es) != 4 {
			t.Errorf("outside: %q", treetest.Paths(es))
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "c/f")); string(b) != "new" {
			t.Errorf("c/f: %q", b)
		}
		noTemps(t, dir)
	})
}

// TestPlantedName has somebody make a further name of a file elsewhere in the
// place of an entry, with the size and the time that it should have: the file
// elsewhere is not touched in any mode.
func TestPlantedName(t *testing.T) {
	for _, o := range []Into{{Overwrite: Changed}, {Overwrite: Always}, {Overwrite: Always, InPlace: true}, {Overwrite: Changed, InPlace: true}} {
		top := treetest.Tmp(t)
		dir, secret := filepath.Join(top, "out"), filepath.Join(top, "secret")
		treetest.Must(t, os.Mkdir(dir, 0o755))
		content := strings.Repeat("s", 2<<20)
		treetest.Write(t, secret, content)
		treetest.Must(t, unix.Chmod(secret, 0o600))
		at(t, secret, when)
		want := describe(t, secret)
		e := fileEntry("f", content)
		e.Mode, e.MTime, e.Links = 0o666, when, 2
		e.UID, e.GID = uint32(os.Getuid())+1, uint32(os.Getgid()) // who could write it into a backup
		if o.InPlace && !treetest.IsRoot() {
			continue
		}
		treetest.Must(t, os.Link(secret, filepath.Join(dir, "f")))
		tg, warnings := into(t, dir, o)
		treetest.Must(t, putAll(t, tg, strings.Repeat("n", len(content)), e, &rec.Entry{Path: "g", Type: rec.HardLink, Leader: "f"}))
		if got := describe(t, secret); got != want || warnings() != "" {
			t.Errorf("%+v: %.60s became %.60s: %s", o, want, got, warnings())
		}
		if got := describe(t, filepath.Join(dir, "f")); !strings.HasPrefix(got, "file 666 ") || inodeIn(got) != inodeIn(describe(t, filepath.Join(dir, "g"))) {
			t.Errorf("%+v: f is %.60s", o, got)
		}
	}
}

// TestNoPowerForTheOld has somebody make a file with the size and the time of one
// that is to run with the power of its owner.
func TestNoPowerForTheOld(t *testing.T) {
	treetest.NeedRoot(t)
	for _, e := range []*rec.Entry{
		{Mode: 0o4755}, {Mode: 0o2755, GID: 5}, {Mode: 0o755, XAttrs: []rec.XAttr{{Name: inode.XAttrCapability, Value: []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}},
	} {
		e.Path, e.Type, e.Size, e.MTime = "f", rec.File, 4, when
		dir := treetest.Tmp(t)
		treetest.Write(t, filepath.Join(dir, "f"), "evil")
		treetest.Must(t, os.Lchown(filepath.Join(dir, "f"), 12345, 12345))
		treetest.Must(t, unix.Chmod(filepath.Join(dir, "f"), e.Mode))
		at(t, filepath.Join(dir, "f"), when)
		tg, _ := into(t, dir, Into{Overwrite: Changed})
		treetest.Must(t, putAll(t, tg, "good", e))
		if got := describe(t, filepath.Join(dir, "f")); !strings.HasSuffix(got, `"good"`) {
			t.Errorf("%o: %s", e.Mode, got)
		}
	}
}

// TestMark resumes a restore that died, of the same run of the system and of
// one that a power failure ended.
func TestMark(t *testing.T) {
	for _, power := range []bool{false, true} {
		dir := filepath.Join(treetest.Tmp(t), "out")
		tg, err := NewTarget(dir)
		treetest.Must(t, err)
		treetest.Must(t, create(tg, dirEntry("d")))
		treetest.Must(t, create(tg, fileEntry("d/f", "")))
		n, err := tg.Begin(fileEntry("d/g", "d/g"))
		treetest.Must(t, err)
		_, err = n.Create()
		treetest.Must(t, err)
		if _, err := OpenTarget(dir, Into{Overwrite: Changed}); !errors.Is(err, ErrBusy) {
			t.Errorf("a second restore: %v", err)
		}
		// It dies: nothing is tidied up.
		treetest.Must(t, unix.Flock(tg.root.fd, unix.LOCK_UN))
		mark := filepath.Join(dir, tg.prefix+markName)
		text, err := os.ReadFile(mark)
		treetest.Must(t, err)
		if power {
			var st inode.Stat
			treetest.Must(t, inode.StatAt(unix.AT_FDCWD, mark, &st))
			treetest.Must(t, os.WriteFile(mark, bytes.Replace(text, []byte(bootID()), []byte("another"), 1), 0o600))
			at(t, mark, st.MTime)
			// That looks complete.
			treetest.Must(t, os.WriteFile(filepath.Join(dir, "d/f"), []byte("\x00\x00\x00"), 0o644))
			at(t, filepath.Join(dir, "d/f"), rec.Time{})
		}
		before := describe(t, filepath.Join(dir, "d/f"))
		part, _ := into(t, dir, Into{Overwrite: Changed, Part: true})
		treetest.Must(t, putAll(t, part, "", dirEntry("d"), dirEntry("e")))
		if _, err := os.Lstat(mark); err != nil {
			t.Errorf("power %v: after a restore of a part the mark: %v", power, err)
		}
		again, warnings := into(t, dir, Into{Overwrite: Changed})
		content := fileEntry("d/f", "d/f")
		treetest.Must(t, putAll(t, again, "d/f", dirEntry("d"), content))
		after := describe(t, filepath.Join(dir, "d/f"))
		if !strings.HasSuffix(after, `"d/f"`) || (before == after) == power || warnings() != "" {
			t.Errorf("power %v: %s became %s: %s", power, before, after, warnings())
		}
		if got := treetest.Paths(walk(t, []rec.Root{{Dir: dir}}, false)); !slices.Equal(got, []string{"", "d", "d/f", "e"}) {
			t.Errorf("%q", got)
		}
	}
}

func TestTempNames(t *testing.T) {
	for name, want := range map[string]bool{
		".pv-tmp-0123456789abcdef-0": true, ".pv-tmp-0123456789abcdef-zz9": true, ".pv-tmp-0123456789abcdef-": false,
		".pv-tmp-0123456789abcdef": false, ".pv-tmp-0123456789abcde-00": false, ".pv-tmp-0123456789ABCDEF-0": false,
		".pv-tmp-0123456789abcdef-0.txt": false, "x.pv-tmp-0123456789abcdef-0": false, ".pv-tmp-0123456789abcdef_0": false,
		".pv-tmp-0123456789abcdef-0123456789abcd": false, "": false,
	} {
		if isTemp(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestPatch makes a large file of another, in the ways that there are, and asks
// what was written.
func TestPatch(t *testing.T) {
	t.Parallel()
	for _, o := range []Into{{Overwrite: Changed}, {Overwrite: Changed, InPlace: true}} {
		for _, oldSize := range []int{3 << 20, 4<<20 + 17, 6 << 20} {
			dir := treetest.Tmp(t)
			f, twin := filepath.Join(dir, "f"), filepath.Join(dir, "twin")
			r := rand.New(rand.NewPCG(1, uint64(oldSize)))
			old := make([]byte, oldSize)
			for i := range old {
				old[i] = byte(r.Uint32())
			}
			treetest.Must(t, os.WriteFile(f, old, 0o600))
			if o.InPlace {
				twin = "" // what has one is not patched in place
			} else {
				treetest.Must(t, os.Link(f, twin))
			}
			content := slices.Clone(old[:min(oldSize, 4<<20)])
			content = append(content, bytes.Repeat([]byte("tail"), 1<<18)...)
			copy(content[1<<20+5:], "changed")
			clear(content[2<<20 : 2<<20+1<<19]) // a hole
			clear(content[3<<20:][:8192])       // zeros that are none
			e := fileEntry("f", string(content))
			e.UID, e.GID = uint32(os.Getuid()), uint32(os.Getgid())
			before := describe(t, f)
			tg, warnings := into(t, dir, o)
			n, err := tg.Begin(e)
			treetest.Must(t, err)
			out, err := n.Create()
			treetest.Must(t, err)
			for off := len(content); off > 0; { // backwards
				end := off
				off = max(0, off-300_000)
				for _, part := range [][2]int{{off, min(end, 2<<20)}, {max(off, 2<<20+1<<19), end}} {
					if part[0] < part[1] {
						_, err := out.WriteAt(content[part[0]:part[1]], int64(part[0]))
						treetest.Must(t, err)
					}
				}
			}
			treetest.Must(t, out.Hole(2<<20, 1<<19))
			treetest.Must(t, out.Finish(e))
			treetest.Must(t, tg.Close())
			got, err := os.ReadFile(f)
			treetest.Must(t, err)
			if !bytes.Equal(got, content) || warnings() != "" {
				t.Fatalf("%+v: the content is wrong; %s", o, warnings())
			}
			src, err := source.OpenRoots([]rec.Root{{Dir: dir}})
			treetest.Must(t, err)
			if _, where := contentOf(t, src, "f"); !strings.HasPrefix(where, "0-2097152 2621440-") {
				t.Errorf("%+v: data is at %s", o, where)
			}
			src.Close()
			same := inodeIn(before) == inodeIn(describe(t, f))
			if alone := twin == ""; same != (o.InPlace && alone) {
				t.Errorf("%+v: the same inode: %v", o, same)
			} else if alone {
				continue
			}
			if b, _ := os.ReadFile(twin); !bytes.Equal(b, old) {
				t.Errorf("%+v: what the other name has was changed", o)
			}
		}
	}
}

// TestHalf gives up a file that is patched in place.
func TestHalf(t *testing.T) {
	dir := treetest.Tmp(t)
	content := strings.Repeat("x", 2<<20)
	treetest.Write(t, filepath.Join(dir, "f"), content)
	treetest.Write(t, filepath.Join(dir, "g"), content)
	tg, warnings := into(t, dir, Into{Overwrite: Always, InPlace: true})
	for i, name := range []string{"f", "g"} {
		e := fileEntry(name, content)
		e.UID, e.GID = uint32(os.Getuid()), uint32(os.Getgid())
		n, err := tg.Begin(e)
		treetest.Must(t, err)
		o, err := n.Create()
		treetest.Must(t, err)
		_, err = o.WriteAt([]byte("xy"[i:i+1]), 5)
		treetest.Must(t, err)
		o.Abort()
	}
	treetest.Must(t, tg.Close())
	if w := warnings(); strings.Count(w, "\n") != 0 || !strings.HasPrefix(w, "g: restore: it was patched in place") {
		t.Errorf("%q", w)
	}
}

// TestUserRestores restores as one who owns some of what is there.
func TestUserRestores(t *testing.T) {
	dir, child := treetest.UserDir(t)
	out := filepath.Join(dir, "out")
	if !child {
		for _, p := range []string{"mine/f", "closed/in/f"} {
			treetest.Write(t, filepath.Join(out, p), "old")
		}
		treetest.Write(t, filepath.Join(out, "same"), "same")
		for p, mode := range map[string]uint32{"closed/in": 0, "closed": 0o500} {
			treetest.Must(t, unix.Chmod(filepath.Join(out, p), mode))
		}
		at(t, filepath.Join(out, "same"), when)
	}
	treetest.AsUser(t, dir, func() {
		tg, warnings := into(t, out, Into{Overwrite: Changed})
		own := func(e *rec.Entry) *rec.Entry {
			e.UID, e.GID, e.MTime = uint32(os.Geteuid()), uint32(os.Getegid()), when
			return e
		}
		closed, in := own(dirEntry("closed")), own(dirEntry("closed/in"))
		closed.Mode, in.Mode = 0o500, 0
		foreign := own(fileEntry("same", "same"))
		foreign.UID = 4242
		treetest.Must(t, putAll(t, tg, "new", closed, in, own(fileEntry("closed/in/f", "new")), own(dirEntry("mine")), own(fileEntry("mine/f", "new")), foreign))
		if warnings() != "" {
			t.Error(warnings())
		}
		if left := tg.Left(); left.Owners != 1 {
			t.Errorf("%+v", left)
		}
	})
	if child || !treetest.IsRoot() {
		return
	}
	es := treetest.SlowWalk(t, out)
	for path, mode := range map[string]uint32{"closed": 0o500, "closed/in": 0, "closed/in/f": 0o644, "mine/f": 0o644} {
		e := treetest.Find(es, path)
		if e == nil || e.Mode != mode || e.MTime != when {
			t.Errorf("%s: %+v", path, e)
		}
	}
	for _, p := range []string{"closed/in/f", "mine/f"} {
		if b, err := os.ReadFile(filepath.Join(out, p)); err != nil || string(b) != "new" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
}

func TestForeignChild(t *testing.T) {
	dir := os.Getenv("PV_TEST_FOREIGN")
	if dir == "" {
		return // part of the test above
	}
	tg, warnings := into(t, dir, Into{Overwrite: Always})
	treetest.Must(t, putAll(t, tg, "new", dirEntry("ours"), fileEntry("ours/f", "new"), fileEntry("root", "new"), dirEntry("theirs"), fileEntry("theirs/f", "new")))
	for _, w := range []string{"root: create: create file: ", "theirs/f: create: create file: "} {
		if !strings.Contains(warnings(), w) {
			t.Errorf("%s is not in\n%s", w, warnings())
		}
	}
}

// FuzzInto makes a tree of bytes and restores into it what other bytes say, in
// some mode. Nothing outside changes, and Close returns; a plan changes nothing
// at all.
func FuzzInto(f *testing.F) {
	f.Add(byte(0), []byte("da\x00fa/b\x00la/c\x00"), []byte("da\x00fa/b\x00fa/c\x00"))
	f.Add(byte(1), []byte("la\x00lb\x00"), []byte("da\x00fa/secret\x00fb\x00"))
	f.Add(byte(2), []byte("da\x00da/b\x00fa/b/c\x00pd\x00"), []byte("fa\x00dd\x00hd/a\x00"))
	f.Add(byte(3), []byte("fa\x00hb\x00hc\x00"), []byte("fa\x00fb\x00lc\x00"))
	f.Fuzz(func(t *testing.T, mode byte, there, b []byte) {
		top := treetest.Tmp(t)
		dir, secret := filepath.Join(top, "out"), filepath.Join(top, "secret")
		treetest.Write(t, secret, "precious")
		want := describe(t, secret)
		restore := func(o Into, words []byte) {
			tg, err := OpenTarget(dir, o)
			treetest.Must(t, err)
			types := map[byte]rec.Type{'d': rec.Dir, 'f': rec.File, 'l': rec.Symlink, 'p': rec.Fifo, 's': rec.Socket, 'h': rec.HardLink}
			for i, word := range strings.Split(string(words), "\x00") {
				if word == "" {
					continue
				}
				e := &rec.Entry{Path: word[1:], Type: types[word[0]], Mode: uint32(i) * 0o111 & 0o777, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
				switch e.Type {
				case rec.Symlink:
					e.Target = ".."
				case rec.HardLink:
					e.Leader = "a"
				case rec.File:
					e.Links = uint32(i % 3)
				}
				_ = create(tg, e) // mostly refused
			}
			_ = tg.Close()
		}
		restore(Into{}, there)
		_ = os.Link(secret, filepath.Join(dir, "b")) // it may be there
		o := Into{Overwrite: Never + Overwrite(mode%3), Delete: mode&4 != 0, InPlace: mode&8 != 0, Sections: mode&16 != 0}
		before := stateOf(t, dir)
		plan := o
		plan.Plan = func(Act, string) {}
		restore(plan, b)
		if after := stateOf(t, dir); !slices.Equal(before, after) {
			t.Errorf("a plan changed\n%s\ninto\n%s", before, after)
		}
		restore(o, b)
		got := describe(t, secret)
		if names := listNames(t, top); len(names) != 2 || got != want {
			t.Fatalf("%q into %q made %v, %s", b, there, names, got)
		}
	})
}

// TestForeignDirectory restores as one who may not write where others live, and
// goes on.
func TestForeignDirectory(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.Tmp(t)
	out := filepath.Join(dir, "out")
	for _, p := range []string{"theirs/f", "ours/f", "root"} {
		treetest.Write(t, filepath.Join(out, p), "old")
	}
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		treetest.Must(t, os.Chmod(p, 0o755))
	}
	for _, p := range []string{"ours", "ours/f"} {
		treetest.Must(t, os.Lchown(filepath.Join(out, p), 12345, 12345))
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestForeignChild$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	cmd.Env = append(os.Environ(), "PV_TEST_FOREIGN="+out)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	for p, want := range map[string]string{"theirs/f": "old", "ours/f": "new", "root": "old"} {
		if b, err := os.ReadFile(filepath.Join(out, p)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
}
