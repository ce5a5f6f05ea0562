package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// A restoration is one restore into a tree that is there.
type restoration struct {
	name string
	into Into
	// deny is the calls that fail once, as they do where modes or flags forbid them: what,
	// name and error.
	deny map[[2]string]unix.Errno
	// no is the calls that always fail.
	no map[string]unix.Errno
}

var restorations = []restoration{
	{name: "into a new directory", into: Into{}},
	{name: "what has changed", into: Into{Overwrite: Changed, Delete: true}},
	{name: "everything", into: Into{Overwrite: Always, Delete: true}},
	{name: "in place", into: Into{Overwrite: Always, InPlace: true}},
	{name: "what is not there", into: Into{Overwrite: Never}},
	{name: "without hard links", into: Into{Overwrite: Changed}, no: map[string]unix.Errno{"linkat": unix.EPERM}},
	{name: "where modes forbid it", into: Into{Overwrite: Always, Delete: true, InPlace: true}, deny: map[[2]string]unix.Errno{
		{"openat", "locked"}: unix.EACCES, {"openat", "gone"}: unix.EACCES, {"openat", "large"}: unix.EACCES,
		{"unlinkat", "extra"}: unix.EPERM, {"renameat", "f"}: unix.EPERM, {"unlinkat", "room"}: unix.EPERM, {"openat", "f"}: unix.EACCES,
	}},
}

// entries is what is restored.
func (r *restoration) entries() (es []*rec.Entry, content string) {
	content = strings.Repeat("new content ", 100_000)
	owned := func(e *rec.Entry) *rec.Entry {
		e.UID, e.GID, e.MTime = uint32(os.Geteuid()), uint32(os.Getegid()), when
		return e
	}
	file := func(path string, size int) *rec.Entry { return owned(fileEntry(path, content[:size])) }
	leader := file("a/leader", 10)
	leader.Links = 3
	leader.XAttrs = []rec.XAttr{{Name: "user.x", Value: []byte("y")}}
	frozen := file("a/frozen", 10)
	frozen.Links, frozen.Flags = 2, inode.FlagImmutable
	fifo := owned(&rec.Entry{Path: "b", Type: rec.Fifo, Mode: 0o640})
	es = []*rec.Entry{
		owned(dirEntry("")),
		owned(dirEntry("a")), file("a/f", 9), frozen, file("a/large", len(content)), leader,
		owned(&rec.Entry{Path: "a/room", Type: rec.Symlink, Mode: 0o777, Target: "to"}), file("a/same", 9),
		fifo, owned(dirEntry("d")),
	}
	for path := "d"; len(path) < 2*20; {
		path += "/d"
		es = append(es, owned(dirEntry(path)), file(path+"/a", 3))
	}
	// The directories above are closed by now.
	es = append(es, file("d/z", 4),
		owned(dirEntry("locked")), file("locked/f", 5),
		&rec.Entry{Path: "m", Type: rec.HardLink, Leader: "a/leader"}, &rec.Entry{Path: "n", Type: rec.HardLink, Leader: "a/leader"},
		&rec.Entry{Path: "o", Type: rec.HardLink, Leader: "a/frozen"}, owned(&rec.Entry{Path: "s", Type: rec.Socket, Mode: 0o600}),
		owned(&rec.Entry{Path: "t", Type: rec.Fifo, Mode: 0o600}))
	return es, content
}

// prepare makes the tree that is there, and the one outside.
func (r *restoration) prepare(t *testing.T, dir, outside string) {
	treetest.Write(t, filepath.Join(outside, "f"), "precious")
	treetest.Write(t, filepath.Join(outside, "d/f"), "precious")
	treetest.Write(t, filepath.Join(outside, "d/extra"), "precious")
	treetest.Must(t, os.Mkdir(filepath.Join(outside, "d/d"), 0o750))
	treetest.Must(t, os.WriteFile(filepath.Join(outside, "large"), []byte(strings.Repeat("precious", 1<<18)), 0o600))
	if r.into.Overwrite == Nothing {
		return
	}
	for _, p := range []string{"a/f", "a/leader", "a/room/x", "b", "d/d/a", "d/d/d/x/y", "extra", "gone/x", "gone/y/z", "locked/f", "m", "s"} {
		treetest.Write(t, filepath.Join(dir, p), "old content")
	}
	_, content := r.entries()
	treetest.Must(t, os.WriteFile(filepath.Join(dir, "a/large"), []byte(strings.Repeat("old", 500_000)), 0o600))
	treetest.Must(t, os.WriteFile(filepath.Join(dir, "a/same"), []byte(content[:9]), 0o600))
	at(t, filepath.Join(dir, "a/same"), when)
	treetest.Must(t, os.RemoveAll(filepath.Join(dir, "a/room/x")))
	treetest.Must(t, unix.Mkfifo(filepath.Join(dir, "t"), 0o644))
	treetest.Must(t, os.Chmod(filepath.Join(dir, "locked"), 0o500))
	treetest.Must(t, os.Chmod(filepath.Join(dir, "gone"), 0o500))
	// A restore has died here.
	mark := filepath.Join(dir, tempPrefix+"0123456789abcdef-"+markName)
	treetest.Write(t, mark, markText+markBoot+"another\n")
	at(t, mark, rec.Time{Sec: 4_000_000_000}) // what is there is older
	treetest.Write(t, filepath.Join(dir, "a", tempPrefix+"0123456789abcdef-1"), "half")
}

// run restores, and shows each call to see.
func (r *restoration) run(t *testing.T, dir string, see func(*treetest.Call) unix.Errno) {
	denied := map[[2]string]bool{}
	treetest.Calls(t, func(c *treetest.Call) unix.Errno {
		if errno := see(c); errno != 0 {
			return errno
		}
		key := [2]string{c.What, c.Name}
		if errno, is := r.deny[key]; is && !denied[key] && c.Flags&unix.O_PATH == 0 {
			denied[key] = true
			return errno
		}
		return r.no[c.What]
	}, func() {
		tg, err := OpenTarget(dir, r.into)
		if err != nil {
			return
		}
		defer tg.Abandon()
		tg.Warn = func(*Warning) {}
		es, content := r.entries()
		for _, e := range es {
			n, err := tg.Begin(e)
			if err != nil || n == nil {
				continue
			}
			if e.Type != rec.File {
				_ = n.Make()
				continue
			}
			o, err := n.Create()
			if err != nil {
				continue
			}
			if _, err = o.WriteAt([]byte(content[:e.Size]), 0); err != nil {
				o.Abort()
				continue
			}
			_ = o.Finish(e)
		}
		_ = tg.Close()
	})
}

// fewDirs lets a Target close directories early.
func fewDirs(t *testing.T) {
	had := maxDirs
	maxDirs = 4
	t.Cleanup(func() { maxDirs = had })
}

// TestFollowsNoLink: of all calls with a name that a restore makes there is none by which the
// system would follow a link below the target, in the last place of the name or before it.
func TestFollowsNoLink(t *testing.T) {
	fewDirs(t)
	bothWays(t, func(t *testing.T) {
		for _, r := range restorations {
			top := treetest.Tmp(t)
			dir := filepath.Join(top, "out")
			r.prepare(t, dir, filepath.Join(top, "outside"))
			thaw(t, dir)
			calls := 0
			r.run(t, dir, func(c *treetest.Call) unix.Errno {
				given := c.Name == dir && c.Dir == unix.AT_FDCWD // the target itself is the user's
				open := strings.HasPrefix(c.Name, "/proc/")      // what is open already
				if calls++; c.Follows() && !given && !open && c.Name != "/" {
					t.Errorf("%s: %s", r.name, c)
				}
				return 0
			})
			if calls < 100 {
				t.Errorf("%s: %d calls were seen", r.name, calls)
			}
		}
	})
}

// TestLinkAtEveryCall puts, at each kind of call with a name that a restore makes (what it is, the
// name and the flags), a link in the place of that name right before the first such call: to a file
// outside, to a directory outside, or to nothing. Whatever comes of the restore, nothing outside is touched.
func TestLinkAtEveryCall(t *testing.T) {
	fewDirs(t)
	for _, r := range restorations {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			kinds := []string{""} // of the first run, without a link: it says which there are
			known := map[string]bool{}
			for len(kinds) > 0 {
				kind := kinds[0]
				kinds = kinds[1:]
				top := treetest.Tmp(t)
				dir, outside := filepath.Join(top, "out"), filepath.Join(top, "outside")
				r.prepare(t, dir, outside)
				thaw(t, dir)
				before := all(t, outside)
				planted := false
				r.run(t, dir, func(c *treetest.Call) unix.Errno {
					switch is := kindOf(c); {
					case c.Dir < 0 || c.Name == "" || strings.Contains(c.Name, "/"):
					case kind == "" && !known[is] && c.What != "statx" && c.What != "readlinkat":
						known[is] = true
						kinds = append(kinds, is)
					case kind == is && !planted:
						planted = true
						plant(c, outside)
					}
					return 0
				})
				if after := all(t, outside); after != before {
					t.Errorf("a link at %s: outside was\n%s\nand is\n%s", kind, before, after)
				}
				if kind != "" && !planted {
					t.Errorf("no call %s", kind)
				}
			}
			if len(known) < 10 {
				t.Errorf("%d kinds of calls", len(known))
			}
		})
	}
}

// kindOf names a call, whatever its directory and whatever a temporary name is.
func kindOf(c *treetest.Call) string {
	name := c.Name
	if strings.HasPrefix(name, tempPrefix) {
		name = tempPrefix
	}
	return fmt.Sprintf("%s %q %#x", c.What, name, c.Flags)
}

// plant puts a link in the place of what a call names.
func plant(c *treetest.Call, outside string) {
	var st inode.Stat
	to := filepath.Join(outside, "new")
	switch err := inode.StatAt(c.Dir, c.Name, &st); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return
	case st.Type == rec.Dir:
		to = filepath.Join(outside, "d")
	case c.Name == "large":
		to = filepath.Join(outside, "large")
	default:
		to = filepath.Join(outside, "f")
	}
	_ = unix.Renameat(c.Dir, c.Name, c.Dir, "."+c.Name) // if there is nothing, nothing is in the way
	_ = unix.Symlinkat(to, c.Dir, c.Name)
}

// all is what is to be seen of everything in a directory, with the times of change: whoever touches it
// changes them.
func all(t *testing.T, dir string) (text string) {
	treetest.Must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		text += fmt.Sprintf("%s: %.60s %v\n", strings.TrimPrefix(p, dir), describe(t, p), ctimeOf(t, p))
		return err
	}))
	return text
}
