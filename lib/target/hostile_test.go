package target

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

func TestTargetRefuses(t *testing.T) {
	tg, dir, _ := target(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	treetest.Must(t, os.Mkdir(outside, 0o755))
	for _, c := range []struct {
		e    *rec.Entry
		want error
	}{
		{dirEntry("a"), nil},
		{fileEntry("a/f", ""), nil},
		{fileEntry("a/f", ""), inode.ErrTwice},
		{&rec.Entry{Path: "a/f", Type: rec.File, Off: 1}, inode.ErrTwice},
		{fileEntry("a/f/x", ""), inode.ErrParent},
		{fileEntry("a/a", ""), rec.ErrOrder},
		{dirEntry(""), rec.ErrOrder},
		{&rec.Entry{Path: "a/l", Type: rec.Symlink, Target: outside}, nil},
		{fileEntry("a/l/x", ""), inode.ErrParent},
		{dirEntry("a/l/y"), inode.ErrParent},
		{dirEntry("a/l/y/z"), inode.ErrParent},
		{fileEntry("a/none/x", ""), inode.ErrParent},
		{fileEntry("..", ""), rec.ErrPath},
		{fileEntry("a/../../outside/x", ""), rec.ErrPath},
		{fileEntry("/etc/x", ""), rec.ErrPath},
		{fileEntry("b/./x", ""), rec.ErrPath},
		{fileEntry("b\x00", ""), rec.ErrPath},
		{&rec.Entry{Path: "h", Type: rec.HardLink, Leader: "a/x"}, inode.ErrLeader},
		{&rec.Entry{Path: "i", Type: rec.HardLink, Leader: "a/f"}, inode.ErrLeader}, // not said to have several names
		{&rec.Entry{Path: "j", Type: rec.HardLink, Leader: "a"}, inode.ErrLeader},
		{&rec.Entry{Path: "k", Type: rec.HardLink, Leader: "../outside"}, rec.ErrPath},
		{fileEntry("l", ""), nil},
	} {
		if err := create(tg, c.e); !errors.Is(err, c.want) {
			t.Errorf("%s %q: %v, want %v", c.e.Type, c.e.Path, err, c.want)
		}
	}
	treetest.Must(t, tg.Close())
	if es := treetest.Paths(walk(t, []rec.Root{{Dir: filepath.Dir(dir)}}, false)); !slices.Equal(es,
		[]string{"", "out", "out/a", "out/a/f", "out/a/l", "out/l", "outside"}) {
		t.Fatalf("%q", es)
	}
}

// TestTargetPlanted puts links into the target while it is being written.
func TestTargetPlanted(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tg, dir, _ := target(t)
		outside := filepath.Join(filepath.Dir(dir), "outside")
		treetest.Must(t, os.Mkdir(outside, 0o755))
		plant := func(path string) {
			treetest.Must(t, os.Rename(filepath.Join(dir, path), filepath.Join(dir, path+".old")))
			treetest.Must(t, os.Symlink(outside, filepath.Join(dir, path)))
		}
		treetest.Must(t, create(tg, dirEntry("a")))
		treetest.Must(t, create(tg, dirEntry("a/b")))
		plant("a/b")
		treetest.Must(t, create(tg, fileEntry("a/b/A", ""))) // goes to the directory that was made
		deep := "a/b"
		for range maxDirs + 10 { // so many that a/b is closed
			deep += "/d"
			treetest.Must(t, create(tg, dirEntry(deep)))
		}
		if err := create(tg, fileEntry("a/b/z", "")); !errors.Is(err, inode.ErrReplaced) {
			t.Errorf("a directory replaced by a link: %v", err)
		}
		if err := tg.Close(); !errors.Is(err, inode.ErrReplaced) {
			t.Errorf("close: %v", err)
		}
		if es := walk(t, []rec.Root{{Dir: outside}}, false); len(es) != 1 {
			t.Errorf("outside: %q", treetest.Paths(es))
		}
		noTemps(t, dir)
	})
}

// TestTargetTaken finds links where it wants to create something.
func TestTargetTaken(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tg, dir, _ := target(t)
		outside := filepath.Join(filepath.Dir(dir), "outside")
		treetest.Must(t, os.Mkdir(outside, 0o755))
		treetest.Must(t, os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, "file")))
		treetest.Must(t, os.Symlink(outside, filepath.Join(dir, "dir")))
		if err := create(tg, dirEntry("dir")); !errors.Is(err, inode.ErrExists) {
			t.Errorf("a link in the place of a directory: %v", err)
		}
		if err := create(tg, fileEntry("dir/x", "")); !errors.Is(err, inode.ErrParent) {
			t.Errorf("below it: %v", err)
		}
		if err := create(tg, fileEntry("file", "")); !errors.Is(err, inode.ErrExists) {
			t.Errorf("a link in the place of a file: %v", err)
		}
		if err := create(tg, &rec.Entry{Path: "file", Type: rec.Fifo}); !errors.Is(err, inode.ErrTwice) {
			t.Error(err)
		}
		treetest.Must(t, tg.Close())
		if es := walk(t, []rec.Root{{Dir: outside}}, false); len(es) != 1 {
			t.Errorf("outside: %q", treetest.Paths(es))
		}
		noTemps(t, dir)
	})
}

// FuzzTarget makes entries of bytes. Whatever they say, nothing outside the
// target changes, and Close returns.
func FuzzTarget(f *testing.F) {
	f.Add([]byte("da\x00fa/b\x00la/c\x00fa/c/d\x00"))
	f.Add([]byte("f..\x00f../x\x00f/etc/x\x00d\x00"))
	f.Add([]byte("la\x00fa/x\x00da\x00fa/y\x00ha\x00"))
	f.Add([]byte("da\x00da/b\x00fa/b/c\x00hd\x00fe\x00pf\x00sg\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := treetest.Tmp(t)
		tg, err := NewTarget(filepath.Join(top, "out"))
		treetest.Must(t, err)
		types := map[byte]rec.Type{'d': rec.Dir, 'f': rec.File, 'l': rec.Symlink, 'p': rec.Fifo, 's': rec.Socket, 'h': rec.HardLink}
		for i, word := range strings.Split(string(b), "\x00") {
			if word == "" {
				continue
			}
			e := &rec.Entry{Path: word[1:], Type: types[word[0]], Mode: uint32(i) * 0o111 & 0o7777}
			switch e.Type {
			case rec.Symlink:
				e.Target = ".."
			case rec.HardLink:
				e.Leader = "a/b"
			case rec.File:
				e.Links = uint32(i % 3)
			}
			_ = create(tg, e) // mostly refused
		}
		_ = tg.Close()
		names, err := os.ReadDir(top)
		treetest.Must(t, err)
		if len(names) != 1 {
			t.Fatalf("%q made %v", b, names)
		}
	})
}
