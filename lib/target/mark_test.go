package target

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/treetest"
)

const (
	earlierPrefix = ".pv-tmp-0123456789abcdef-"
	usersPrefix   = ".pv-tmp-fedcba9876543210-"
)

// TestTidyMarked removes only what has the prefix of a restore whose mark is
// there, and only when the restore completes that one.
func TestTidyMarked(t *testing.T) {
	for _, c := range []struct {
		into  Into
		whole bool
	}{
		{Into{Overwrite: Never}, false},
		{Into{Overwrite: Changed, Part: true}, false},
		{Into{Overwrite: Always, Part: true}, false},
		{Into{Overwrite: Changed}, true},
		{Into{Overwrite: Always}, true},
		{Into{Overwrite: Changed, Plan: func(Act, string) {}}, false},
	} {
		dir := treetest.Tmp(t)
		p := func(n string) string { return filepath.Join(dir, n) }
		treetest.Write(t, p(earlierPrefix+"0"), markText+markBoot+bootID()+"\n")
		users := []string{usersPrefix + "0", usersPrefix + "1", "d/" + usersPrefix + "7z"}
		left := []string{earlierPrefix + "1", "d/" + earlierPrefix + "7z"}
		for _, n := range append(users, left...) {
			treetest.Write(t, p(n), "x")
		}
		tg, warnings := into(t, dir, c.into)
		es := largeEntry("d/f")
		if tg.planning() {
			_, err := tg.Begin(dirEntry("d"))
			treetest.Must(t, err)
			treetest.Must(t, tg.Close())
		} else {
			treetest.Must(t, putAll(t, tg, newContent, dirEntry("d"), es))
		}
		if warnings() != "" {
			t.Errorf("%+v: %s", c.into, warnings())
		}
		for _, n := range users {
			if !exists(p(n)) {
				t.Errorf("%+v: %s was removed, though no restore made it", c.into, n)
			}
		}
		for _, n := range append(left, earlierPrefix+"0") {
			if exists(p(n)) == c.whole {
				t.Errorf("%+v: %s: is there: %v", c.into, n, exists(p(n)))
			}
		}
		noOtherMarks(t, dir)
	}
}

// TestCutMark removes the mark of a restore that was killed while it wrote it, and
// takes nothing for spoilt because of it.
func TestCutMark(t *testing.T) {
	for _, text := range []string{"", "A", markText[:len(markText)-1], markText} {
		dir := treetest.Tmp(t)
		mark := filepath.Join(dir, earlierPrefix+"0")
		treetest.Write(t, mark, text)
		tg, warnings := into(t, dir, Into{Overwrite: Changed})
		es := largeEntry("d/f")
		treetest.Must(t, putAll(t, tg, newContent, dirEntry("d"), es))
		if exists(mark) || warnings() != "" {
			t.Errorf("a mark of %d bytes: is left: %v, warned %q", len(text), exists(mark), warnings())
		}
		if spoilt := tg.since != nil; spoilt != (text == markText) {
			t.Errorf("a mark of %d bytes: what came after it is spoilt: %v", len(text), spoilt)
		}
	}
}

// noOtherMarks looks for marks beside those that the test made.
func noOtherMarks(t testing.TB, dir string) {
	t.Helper()
	for _, n := range listNames(t, dir) {
		if isTemp(n) && n != earlierPrefix+"0" && n != earlierPrefix+"1" && n != usersPrefix+"0" && n != usersPrefix+"1" {
			t.Errorf("%s is left", n)
		}
	}
}

// TestForeignMark does not believe a mark that somebody else made.
func TestForeignMark(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.Tmp(t)
	mark, left := filepath.Join(dir, earlierPrefix+"0"), filepath.Join(dir, earlierPrefix+"1")
	treetest.Write(t, mark, markText+markBoot+bootID()+"\n")
	treetest.Must(t, os.Chown(mark, 1000, 1000))
	treetest.Write(t, left, "x")
	tg, _ := into(t, dir, Into{Overwrite: Changed})
	treetest.Must(t, putAll(t, tg, "new!", fileEntry("f", "new!")))
	if !exists(mark) || !exists(left) {
		t.Error("what another user's mark names was removed")
	}
}

// TestMarkInPlace has a mark while files are patched in place, and none later.
func TestMarkInPlace(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "f"), oldContent)
	tg, _ := into(t, dir, Into{Overwrite: Changed, InPlace: true})
	n, err := tg.Begin(largeEntry("f"))
	treetest.Must(t, err)
	o, err := n.Create()
	treetest.Must(t, err)
	if !o.inPlace || !exists(filepath.Join(dir, tg.prefix+markName)) {
		t.Error("it is patched without a mark")
	}
	_, err = o.WriteAt([]byte(newContent), 0)
	treetest.Must(t, err)
	treetest.Must(t, o.Finish(largeEntry("f")))
	treetest.Must(t, tg.Close())
	noOtherMarks(t, dir)
}

// TestHalfNamed names what is patched in place when the restore is given up, once,
// and only if something was written; and nothing is written later.
func TestHalfNamed(t *testing.T) {
	dir := treetest.Tmp(t)
	p := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"clean", "done", "half"} {
		treetest.Write(t, p(n), oldContent)
		at(t, p(n), when)
	}
	tg, warnings := into(t, dir, Into{Overwrite: Always, InPlace: true})
	outs := map[string]*Out{}
	for _, name := range []string{"clean", "done", "half"} {
		n, err := tg.Begin(largeEntry(name))
		treetest.Must(t, err)
		outs[name], err = n.Create()
		treetest.Must(t, err)
	}
	_, err := outs["done"].WriteAt([]byte(newContent), 0)
	treetest.Must(t, err)
	treetest.Must(t, outs["done"].Finish(largeEntry("done")))
	_, err = outs["half"].WriteAt([]byte(newContent[:8192]), 0)
	treetest.Must(t, err)
	tg.Cleanup()
	if want := "half: restore: " + errHalf.Error(); warnings() != want {
		t.Errorf("said %q", warnings())
	}
	var st inode.Stat
	treetest.Must(t, inode.StatAt(unix.AT_FDCWD, p("half"), &st))
	if st.MTime == when {
		t.Error("the time of what is neither says that it is complete")
	}
	for _, name := range []string{"clean", "half"} {
		if _, err := outs[name].WriteAt([]byte(newContent), 0); err == nil {
			t.Errorf("%s: was written to after the end", name)
		}
	}
	if content(t, p("clean")) != oldContent {
		t.Error("clean was changed")
	}
	if err := outs["half"].Finish(largeEntry("half")); err == nil {
		t.Error("half was finished after the end")
	}
	outs["clean"].Abort()
	tg.Abandon()
	if want := "half: restore: " + errHalf.Error(); warnings() != want {
		t.Errorf("said %q", warnings())
	}
}
