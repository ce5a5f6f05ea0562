package treetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// SlowWalk is what Walk must return, by the standard library.
func SlowWalk(t testing.TB, dir string) []*rec.Entry {
	t.Helper()
	var es []*rec.Entry
	Must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		Must(t, err)
		info, err := os.Lstat(p)
		Must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		rel, err := filepath.Rel(dir, p)
		Must(t, err)
		if rel == "." {
			rel = ""
		}
		e := &rec.Entry{Path: rel, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Ino: st.Ino, Dev: st.Dev,
			MTime: rec.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}, CTime: rec.Time{Sec: st.Ctim.Sec, Nsec: uint32(st.Ctim.Nsec)}}
		switch m := info.Mode().Type(); {
		case m == 0:
			e.Type, e.Size = rec.File, uint64(st.Size)
		case m == fs.ModeDir:
			e.Type = rec.Dir
		case m == fs.ModeSymlink:
			e.Type = rec.Symlink
			e.Target, err = os.Readlink(p)
			Must(t, err)
		case m == fs.ModeNamedPipe:
			e.Type = rec.Fifo
		case m == fs.ModeSocket:
			e.Type = rec.Socket
		case m&fs.ModeDevice != 0:
			e.Type = rec.Block
			if m&fs.ModeCharDevice != 0 {
				e.Type = rec.Char
			}
			e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		}
		if st.Nlink > 1 && e.Type != rec.Dir {
			e.Links = uint32(st.Nlink)
		}
		es = append(es, e)
		return nil
	}))
	slices.SortFunc(es, func(a, b *rec.Entry) int { return rec.ComparePaths(a.Path, b.Path) })
	first := map[uint64]string{}
	for i, e := range es {
		if e.Links == 0 {
			continue
		}
		if leader := first[e.Ino]; leader != "" {
			es[i] = &rec.Entry{Path: e.Path, Type: rec.HardLink, Leader: leader, CTime: e.CTime, Ino: e.Ino, Dev: e.Dev}
		} else {
			first[e.Ino] = e.Path
		}
	}
	return es
}
