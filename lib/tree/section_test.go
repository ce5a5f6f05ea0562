package tree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"preserve/lib/rec"
)

// TestSection makes two runs of entries that meet in directories and in names.
func TestSection(t *testing.T) {
	dir := filepath.Join(tmp(t), "out")
	tg, err := OpenTarget(dir, Into{Sections: true})
	must(t, err)
	defer tg.Abandon()
	thaw(t, dir)
	lead := func(path string) *rec.Entry {
		e := fileEntry(path, "")
		e.Links = 2
		return e
	}
	late := dirEntry("a")
	late.Mode, late.MTime, late.Flags = 0o500, rec.Time{Sec: 7, Nsec: 7}, flagNoAtime
	frozen := dirEntry("b")
	if isRoot() {
		frozen.Flags = flagImmutable
	}
	// The file is still being made when the next section comes.
	must(t, create(tg, dirEntry("a")))
	n, err := tg.Begin(fileEntry("a/slow", ""))
	must(t, err)
	must(t, create(tg, fileEntry("a/x", "")))
	must(t, create(tg, frozen))
	must(t, create(tg, lead("b/x")))
	must(t, create(tg, fileEntry("c", "")))
	must(t, create(tg, dirEntry("d")))

	tg.Section()
	must(t, create(tg, late))
	var w *Warning
	twice := func(e *rec.Entry) {
		t.Helper()
		if err := create(tg, e); !errors.As(err, &w) || !errors.Is(err, ErrTwice) {
			t.Errorf("%s: %v", e.Path, err)
		}
	}
	twice(&rec.Entry{Path: "a/x", Type: rec.Symlink, Target: "x"})
	must(t, create(tg, fileEntry("a/y", "")))
	must(t, create(tg, frozen))
	twice(lead("b/x"))
	must(t, create(tg, fileEntry("b/y", "")))
	twice(dirEntry("c"))
	twice(fileEntry("d", ""))
	// Which of the two is meant nobody knows.
	if err := create(tg, &rec.Entry{Path: "e", Type: rec.HardLink, Leader: "b/x"}); !errors.Is(err, ErrLeader) {
		t.Error(err)
	}

	tg.Section()
	must(t, create(tg, dirEntry("0")))
	must(t, create(tg, late))
	o, err := n.Create()
	must(t, err)
	must(t, o.Finish(fileEntry("", "")))
	must(t, tg.Close())
	es := walk(t, []rec.Root{{Dir: dir}}, true)
	if got := paths(es); !slices.Equal(got, []string{"", "0", "a", "a/slow", "a/x", "a/y", "b", "b/x", "b/y", "c", "d"}) {
		t.Errorf("%q", got)
	}
	if e := find(es, "a"); e.Mode != late.Mode || e.MTime != late.MTime {
		t.Errorf("%+v", e)
	}
	if e := find(es, "b"); isRoot() && e.Flags != 0 && e.Flags != frozen.Flags {
		t.Errorf("%+v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a/x")); err != nil || string(b) != "a/x" {
		t.Errorf("%q, %v", b, err)
	}
}
