package tree

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// TestFixedNames meets immutable and append-only files that have names elsewhere:
// those keep content and flags, and the name is replaced or removed all the same.
func TestFixedNames(t *testing.T) {
	needRoot(t)
	for _, o := range []Into{{Overwrite: Changed}, {Overwrite: Always, InPlace: true}, {Overwrite: Always, Delete: true}} {
		for _, flag := range []uint32{flagImmutable, flagAppend} {
			dir := tmp(t)
			p := func(n string) string { return filepath.Join(dir, n) }
			thaw(t, dir)
			var linked []string
			for _, n := range []string{"dir", "extra/file", "file", "link"} {
				elsewhere := p("elsewhere-" + base(n))
				if n == "extra/file" {
					elsewhere = p("elsewhere-extra")
				}
				write(t, elsewhere, oldContent)
				must(t, os.MkdirAll(filepath.Dir(p("out/"+n)), 0o755))
				must(t, os.Link(elsewhere, p("out/"+n)))
				setTestFlags(t, elsewhere, flag)
				linked = append(linked, elsewhere)
			}
			write(t, p("out/own"), oldContent)
			setTestFlags(t, p("out/own"), flag)

			tg, warnings := into(t, p("out"), o)
			must(t, putAll(t, tg, newContent, dirEntry(""), dirEntry("dir"), largeEntry("file"), &rec.Entry{Path: "link", Type: rec.Symlink, Target: "x"}, largeEntry("own")))
			for _, l := range linked {
				if flagsOf(t, l)&flag == 0 {
					t.Errorf("%+v: %s lost its flag", o, base(l))
				}
				if content(t, l) != oldContent {
					t.Errorf("%+v: %s was written to", o, base(l))
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
	fd, err := openAt(unix.AT_FDCWD, p, openFile)
	must(t, err)
	defer closeFD(fd)
	all, err := allFlags(fd)
	must(t, err)
	return all
}
