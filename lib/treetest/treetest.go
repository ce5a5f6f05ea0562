// Package treetest makes odd trees and looks at them, for tests of inode, source, scan and target. No program
// imports it.
package treetest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// Told is a Reporter that keeps what it hears.
type Told struct{ Warnings, Gone, Skips []string }

func (r *Told) Warn(path string, err error) { r.Warnings = append(r.Warnings, path+": "+err.Error()) }

func (r *Told) Vanished(path string) { r.Gone = append(r.Gone, path) }

func (r *Told) Skipped(path, why string) { r.Skips = append(r.Skips, path+": "+why) }

// Clone makes an entry independent of the walk.
func Clone(e *rec.Entry) *rec.Entry {
	c := *e
	c.XAttrs = slices.Clone(e.XAttrs)
	return &c
}

func Paths(es []*rec.Entry) []string {
	var ps []string
	for _, e := range es {
		ps = append(ps, e.Path)
	}
	return ps
}

func Find(es []*rec.Entry, path string) *rec.Entry {
	for _, e := range es {
		if e.Path == path {
			return e
		}
	}
	return nil
}

// Tmp returns an empty directory whose path has no links in it.
func Tmp(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	Must(t, err)
	t.Cleanup(func() { // or an ordinary user could not remove it
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return dir
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func Write(t testing.TB, path, content string) {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	Must(t, os.WriteFile(path, []byte(content), 0o644))
}

// IsRoot reports whether the tests are run by root, not by one that has power
// only in a user namespace.
func IsRoot() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return os.Geteuid() == 0 && err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}

func NeedRoot(t testing.TB) {
	t.Helper()
	if !IsRoot() {
		t.Skip("needs root")
	}
}

// Stripped is what must be equal in two trees.
func Stripped(es []*rec.Entry) []string {
	var out []string
	for _, e := range es {
		c := *e
		c.CTime, c.BTime, c.Ino, c.Dev = rec.Time{}, rec.Time{}, 0, 0
		out = append(out, fmt.Sprintf("%+v", c))
	}
	return out
}

// enter changes into a directory below dirfd by one name, making it first.
func enter(t testing.TB, dirfd int, name string) int {
	t.Helper()
	Must(t, unix.Mkdirat(dirfd, name, 0o755))
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	Must(t, err)
	return fd
}

// Deep makes a chain of n directories of that name below dir and a file at its
// end, and removes them when the test ends, which the system's own way of removing
// may not manage.
func Deep(t testing.TB, dir, name string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	Must(t, err)
	for range n {
		next := enter(t, fd, name)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "end", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	Must(t, err)
	_, err = unix.Write(f, []byte("the end"))
	Must(t, err)
	unix.Close(f)
	unix.Close(fd)
}
