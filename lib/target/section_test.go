package target

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// TestSection makes two runs of entries that meet in directories and in names.
func TestSection(t *testing.T) {
	dir := filepath.Join(treetest.Tmp(t), "out")
	tg, err := OpenTarget(dir, Into{Sections: true})
	treetest.Must(t, err)
	defer tg.Abandon()
	thaw(t, dir)
	lead := func(path string) *rec.Entry {
		e := fileEntry(path, "")
		e.Links = 2
		return e
	}
	late := dirEntry("a")
	late.Mode, late.MTime, late.Flags = 0o500, rec.Time{Sec: 7, Nsec: 7}, inode.FlagNoAtime
	frozen := dirEntry("b")
	if treetest.IsRoot() {
		frozen.Flags = inode.FlagImmutable
	}
	// The file is still being made when the next section comes.
	treetest.Must(t, create(tg, dirEntry("a")))
	n, err := tg.Begin(fileEntry("a/slow", ""))
	treetest.Must(t, err)
	treetest.Must(t, create(tg, fileEntry("a/x", "")))
	treetest.Must(t, create(tg, frozen))
	treetest.Must(t, create(tg, lead("b/x")))
	treetest.Must(t, create(tg, fileEntry("c", "")))
	treetest.Must(t, create(tg, dirEntry("d")))

	tg.Section()
	treetest.Must(t, create(tg, late))
	var w *Warning
	twice := func(e *rec.Entry) {
		t.Helper()
		if err := create(tg, e); !errors.As(err, &w) || !errors.Is(err, inode.ErrTwice) {
			t.Errorf("%s: %v", e.Path, err)
		}
	}
	twice(&rec.Entry{Path: "a/x", Type: rec.Symlink, Target: "x"})
	treetest.Must(t, create(tg, fileEntry("a/y", "")))
	treetest.Must(t, create(tg, frozen))
	twice(lead("b/x"))
	treetest.Must(t, create(tg, fileEntry("b/y", "")))
	twice(dirEntry("c"))
	twice(fileEntry("d", ""))
	// Which of the two is meant nobody knows.
	if err := create(tg, &rec.Entry{Path: "e", Type: rec.HardLink, Leader: "b/x"}); !errors.Is(err, inode.ErrLeader) {
		t.Error(err)
	}

	tg.Section()
	treetest.Must(t, create(tg, dirEntry("0")))
	treetest.Must(t, create(tg, late))
	o, err := n.Create()
	treetest.Must(t, err)
	treetest.Must(t, o.Finish(fileEntry("", "")))
	treetest.Must(t, tg.Close())
	es := walk(t, []rec.Root{{Dir: dir}}, true)
	if got := treetest.Paths(es); !slices.Equal(got, []string{"", "0", "a", "a/slow", "a/x", "a/y", "b", "b/x", "b/y", "c", "d"}) {
		t.Errorf("%q", got)
	}
	if e := treetest.Find(es, "a"); e.Mode != late.Mode || e.MTime != late.MTime {
		t.Errorf("%+v", e)
	}
	if e := treetest.Find(es, "b"); treetest.IsRoot() && e.Flags != 0 && e.Flags != frozen.Flags {
		t.Errorf("%+v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a/x")); err != nil || string(b) != "a/x" {
		t.Errorf("%q, %v", b, err)
	}
}
