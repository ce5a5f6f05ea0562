package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

// TestDeepAndWide deletes a tree that is deeper than any path may be long.
func TestDeepAndWide(t *testing.T) {
	t.Parallel()
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "out/x/y"), "")
	treetest.Deep(t, filepath.Join(dir, "out/x"), strings.Repeat("d", 200), 300)
	for i := range 5000 {
		treetest.Write(t, filepath.Join(dir, "out", fmt.Sprint(i)), "")
	}
	tg, warnings := into(t, filepath.Join(dir, "out"), Into{Overwrite: Changed, Delete: true})
	treetest.Must(t, putAll(t, tg, "", &rec.Entry{Type: rec.Dir, Mode: 0o755}, fileEntry("77", "")))
	if got := listNames(t, filepath.Join(dir, "out")); !slices.Equal(got, []string{"77"}) || warnings() != "" {
		t.Errorf("%q, %s", got, warnings())
	}
	if c := tg.Counts().Done[Delete]; c != 4999+300+3 {
		t.Errorf("%d deleted", c)
	}
}

// TestSpared looks for everything that --delete must not delete.
func TestSpared(t *testing.T) {
	treetest.NeedRoot(t)
	top := treetest.Tmp(t)
	dir := filepath.Join(top, "out")
	for _, p := range []string{"above/other", "above/src/extra", "lost/extra", "config/packs/x", "mounted/keep", "lost+found/x", "err/extra", "cache/" + inode.CacheMarker} {
		treetest.Write(t, filepath.Join(dir, p), p)
	}
	treetest.Must(t, os.Mkdir(filepath.Join(top, "elsewhere"), 0o755))
	treetest.Write(t, filepath.Join(top, "elsewhere/keep"), "x")
	treetest.Must(t, os.MkdirAll(filepath.Join(dir, "extra/mnt"), 0o755))
	for _, at := range []string{"mounted", "extra/mnt"} { // a bind mount has the same device number
		at := filepath.Join(dir, at)
		if err := unix.Mount(filepath.Join(top, "elsewhere"), at, "", unix.MS_BIND, ""); err != nil {
			t.Skip("cannot mount here: ", err)
		}
		t.Cleanup(func() { treetest.Must(t, unix.Unmount(at, unix.MNT_DETACH)) })
	}
	for _, repo := range []string{"repo", "extra/repo"} {
		for _, n := range []string{"packs", "index", "snapshots"} {
			treetest.Must(t, os.MkdirAll(filepath.Join(dir, repo, n), 0o755))
		}
		treetest.Write(t, filepath.Join(dir, repo, "config"), "\x81\xa8preserve")
	}
	es := []*rec.Entry{dirEntry(""), dirEntry("above"), dirEntry("above/src"), dirEntry("cache"), dirEntry("config"), dirEntry("err"), dirEntry("mounted"), dirEntry("repo")}
	es[1].Way, es[5].Err = true, "permission denied"
	tg, warnings := into(t, dir, Into{Overwrite: Changed, Delete: true})
	treetest.Must(t, putAll(t, tg, "", es...))
	got := treetest.Paths(treetest.SlowWalk(t, dir))
	got = slices.DeleteFunc(got, func(p string) bool {
		return strings.HasSuffix(p, "repo/index") || strings.HasSuffix(p, "repo/packs") || strings.HasSuffix(p, "repo/snapshots")
	})
	want := []string{"", "above", "above/other", "above/src", "cache", "cache/" + inode.CacheMarker, "config", "err", "err/extra", "extra", "extra/mnt",
		"extra/mnt/keep", "extra/repo", "extra/repo/config", "lost+found", "lost+found/x", "mounted", "mounted/keep", "repo", "repo/config"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\n%q", got, want)
	}
	for _, w := range []string{"extra/mnt: delete: another file system", "extra/repo: delete: it is a repository", "cache: delete what", "mounted: delete what", "repo: delete what"} {
		if !strings.Contains(warnings(), w) {
			t.Errorf("%s is not in\n%s", w, warnings())
		}
	}
	// After a loss nothing is deleted at all.
	treetest.Write(t, filepath.Join(dir, "above/src/extra"), "x")
	tg, _ = into(t, dir, Into{Overwrite: Changed, Delete: true})
	_, err := tg.Begin(dirEntry(""))
	treetest.Must(t, err)
	tg.Spare()
	treetest.Must(t, putAll(t, tg, "", es[1:3]...))
	if _, err := os.Lstat(filepath.Join(dir, "above/src/extra")); err != nil {
		t.Error(err)
	}
}
