package target

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// TestFixedNames meets immutable and append-only files that have names elsewhere:
// those keep content and flags, and the name is replaced or removed all the same.
func TestFixedNames(t *testing.T) {
	treetest.NeedRoot(t)
	for _, o := range []Into{{Overwrite: Changed}, {Overwrite: Always, InPlace: true}, {Overwrite: Always, Delete: true}} {
		for _, flag := range []uint32{inode.FlagImmutable, inode.FlagAppend} {
			dir := treetest.Tmp(t)
			p := func(n string) string { return filepath.Join(dir, n) }
			thaw(t, dir)
			var linked []string
			for _, n := range []string{"dir", "extra/file", "file", "link"} {
				elsewhere := p("elsewhere-" + inode.Base(n))
				if n == "extra/file" {
					elsewhere = p("elsewhere-extra")
				}
				treetest.Write(t, elsewhere, oldContent)
				treetest.Must(t, os.MkdirAll(filepath.Dir(p("out/"+n)), 0o755))
				treetest.Must(t, os.Link(elsewhere, p("out/"+n)))
				treetest.SetTestFlags(t, elsewhere, flag)
				linked = append(linked, elsewhere)
			}
			treetest.Write(t, p("out/own"), oldContent)
			treetest.SetTestFlags(t, p("out/own"), flag)

			tg, warnings := into(t, p("out"), o)
			treetest.Must(t, putAll(t, tg, newContent, dirEntry(""), dirEntry("dir"), largeEntry("file"), &rec.Entry{Path: "link", Type: rec.Symlink, Target: "x"}, largeEntry("own")))
			for _, l := range linked {
				if flagsOf(t, l)&flag == 0 {
					t.Errorf("%+v: %s lost its flag", o, inode.Base(l))
				}
				if content(t, l) != oldContent {
					t.Errorf("%+v: %s was written to", o, inode.Base(l))
				}
			}
			if warnings() != "" {
				t.Errorf("%+v: %s", o, warnings())
			}
			if content(t, p("out/file")) != newContent || !exists(p("out/dir/.")) || !exists(p("out/extra/file")) != o.Delete {
				t.Errorf("%+v: not all was replaced or removed", o)
			}
			if content(t, p("out/own")) != newContent {
				t.Errorf("%+v: a file with one name was not replaced", o)
			}
			noTemps(t, p("out"))
		}
	}
}

func exists(p string) bool { _, err := os.Lstat(p); return err == nil }

func flagsOf(t testing.TB, p string) uint32 {
	t.Helper()
	fd, err := inode.OpenAt(unix.AT_FDCWD, p, inode.OpenFile)
	treetest.Must(t, err)
	defer inode.Close(fd)
	all, err := inode.AllFlags(fd)
	treetest.Must(t, err)
	return all
}
