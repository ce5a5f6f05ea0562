package target

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

var (
	oldContent = strings.Repeat("old!", inPlaceMin/4)
	newContent = strings.Repeat("new!", inPlaceMin/4)
)

func largeEntry(path string) *rec.Entry {
	return &rec.Entry{Path: path, Type: rec.File, Mode: 0o600, Size: inPlaceMin, MTime: when, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

func inodeOf(t testing.TB, p string) uint64 {
	t.Helper()
	var st inode.Stat
	treetest.Must(t, inode.StatAt(unix.AT_FDCWD, p, &st))
	return st.Ino
}

func content(t testing.TB, p string) string {
	t.Helper()
	b, err := os.ReadFile(p)
	treetest.Must(t, err)
	return string(b)
}

// TestInPlaceNames patches in place only what has one name: neither a file
// elsewhere nor another entry changes with it.
func TestInPlaceNames(t *testing.T) {
	dir := treetest.Tmp(t)
	p := func(n string) string { return filepath.Join(dir, n) }
	treetest.Write(t, p("elsewhere"), oldContent)
	treetest.Write(t, p("out/alone"), oldContent)
	treetest.Write(t, p("out/kept"), oldContent)
	at(t, p("out/kept"), when)
	treetest.Must(t, unix.Chmod(p("out/kept"), 0o600))
	treetest.Must(t, os.Link(p("out/kept"), p("out/twin")))
	treetest.Must(t, os.Link(p("elsewhere"), p("out/name")))
	alone := inodeOf(t, p("out/alone"))
	tg, warnings := into(t, p("out"), Into{Overwrite: Changed, InPlace: true})
	treetest.Must(t, putAll(t, tg, newContent, largeEntry("alone"), largeEntry("kept"), largeEntry("name"), largeEntry("twin")))
	if warnings() != "" {
		t.Error(warnings())
	}
	if content(t, p("elsewhere")) != oldContent || content(t, p("out/kept")) != oldContent {
		t.Error("a file was written to through another name of it")
	}
	for _, n := range []string{"out/alone", "out/name", "out/twin"} {
		if content(t, p(n)) != newContent {
			t.Errorf("%s is not restored", n)
		}
	}
	if inodeOf(t, p("out/alone")) != alone {
		t.Error("a file with one name was not patched in place")
	}
}

// TestInPlacePower builds what gets power anew: somebody may have the old file open.
func TestInPlacePower(t *testing.T) {
	dir := treetest.Tmp(t)
	setuid, setgid, was, able := largeEntry("setuid"), largeEntry("setgid"), largeEntry("was"), largeEntry("able")
	setuid.Mode, setgid.Mode = 0o4700, 0o2700
	es := []*rec.Entry{setgid, setuid, was}
	if treetest.IsRoot() {
		able.XAttrs = []rec.XAttr{{Name: inode.XAttrCapability, Value: []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}
		es = append([]*rec.Entry{able}, es...)
	}
	inodes := map[string]uint64{}
	var held []*os.File // so that no number is given again
	for _, e := range es {
		p := filepath.Join(dir, e.Path)
		treetest.Write(t, p, oldContent)
		if e == was {
			treetest.Must(t, unix.Chmod(p, 0o4700))
		}
		f, err := os.Open(p)
		treetest.Must(t, err)
		held = append(held, f)
		inodes[e.Path] = inodeOf(t, p)
	}
	tg, warnings := into(t, dir, Into{Overwrite: Always, InPlace: true})
	treetest.Must(t, putAll(t, tg, newContent, es...))
	if warnings() != "" {
		t.Error(warnings())
	}
	for _, e := range es {
		p := filepath.Join(dir, e.Path)
		if content(t, p) != newContent || inodeOf(t, p) == inodes[e.Path] {
			t.Errorf("%s is not a new file with the new content", e.Path)
		}
	}
	for _, f := range held {
		f.Close()
	}
}
