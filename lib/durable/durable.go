// Package durable makes files that are there, whole, after power loss, and that
// never replace another.
//
// The order is always the same: write under a temporary name in the same
// directory, sync the file, give it its name without replacing anything, sync
// the directory. A crash leaves the whole file, or none, and perhaps a name that
// begins with TempPrefix.
//
// All functions may be called by many goroutines.
package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the name of every temporary file of WriteFile. What bears it
// and is older than any running writer may be removed.
const TempPrefix = ".tmp-"

// WriteFile makes the file path with data in it and returns when both it and its
// name are durable. perm is used before umask, as in os.WriteFile. If path is
// there already, in any form, it is left alone and the error is fs.ErrExist.
//
// After an error of the last step, the sync of the directory, the file is there
// and whole, but may not outlive a crash. After any other error it is not there.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	return WriteFileAs(path, data, perm, nil)
}

// WriteFileAs is WriteFile, and calls fit, if it is not nil, on the file before it has its
// name, to set owner and mode. Its error is returned, and there is no file.
func WriteFileAs(path string, data []byte, perm os.FileMode, fit func(*os.File) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	tmp := filepath.Join(filepath.Dir(path), TempPrefix+rand.Text())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if fit != nil {
		err = fit(f)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = Publish(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // should it stay, it bears TempPrefix
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Publish renames tmp to final, which must be on the same file system. If final
// is there already, in any form, both stay as they are and the error is
// fs.ErrExist. The caller has synced the file, and syncs the directory.
//
// BUG: on a file system that has neither a rename that replaces nothing nor hard links
// (sshfs without hard links, some network storage), final is looked for and then replaced
// by a plain rename: of two that publish one name within that moment, the later wins.
func Publish(tmp, final string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		return publishByLink(tmp, final)
	}
	return &os.LinkError{Op: "rename", Old: tmp, New: final, Err: err}
}

// publishByLink is Publish where the file system or the kernel cannot rename
// without replacing. A crash between its two steps leaves both names.
func publishByLink(tmp, final string) error {
	err := os.Link(tmp, final)
	switch {
	case err == nil, sameFile(tmp, final):
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		return publishByRename(tmp, final)
	default:
		return err
	}
	if err := os.Remove(tmp); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// publishByRename is Publish where there are no hard links either.
func publishByRename(tmp, final string) error {
	_, err := os.Lstat(final)
	switch {
	case err == nil:
		return &os.LinkError{Op: "rename", Old: tmp, New: final, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(tmp, final)
}

// sameFile tells a link that was made although it failed: over NFS the reply to
// the first try may be lost, and the second then finds the name taken.
func sameFile(a, b string) bool {
	x, errX := os.Lstat(a)
	y, errY := os.Lstat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// PublishAndSync is Publish, and returns when the new name is durable.
func PublishAndSync(tmp, final string) error {
	if err := Publish(tmp, final); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(final))
}

// SyncDir returns when the names in the directory path are durable. Where the
// file system knows no such operation there is nothing to wait for, and it
// returns nil.
func SyncDir(path string) error {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReplaceFile is WriteFile for a file that may be there: what was there is
// replaced, whole, or stays as it was.
func ReplaceFile(path string, data []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, TempPrefix+rand.Text())
	if err := WriteFile(tmp, data, perm); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp) // should it stay, it bears TempPrefix
		return err
	}
	return SyncDir(dir)
}
