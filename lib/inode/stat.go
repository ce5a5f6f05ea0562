// Package inode is what the system has: files and directories by descriptor, their metadata, extended
// attributes, inode flags and names, the accounts of this machine. It knows no sources and no restores.
//
// All calls work relative to open directories, so that paths longer than the system's limit for
// one call are as good as short ones, and none follows a link unless it says so.
package inode

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// Errors of this package; match them with errors.Is. Errors of the system are
// wrapped as they are: errors.Is(err, fs.ErrNotExist) works.
var (
	// ErrReplaced is returned by File.Same, and by Target when somebody put
	// something in the place of a file or directory that it made.
	ErrReplaced = errors.New("replaced by something else meanwhile")
	// ErrAttributes is the error for more than rec.MaxXAttrs bytes of extended
	// attributes.
	ErrAttributes = errors.New("more extended attributes than an entry can hold")
	// ErrNotEmpty is returned by NewTarget.
	ErrNotEmpty = errors.New("not empty")
	// ErrParent is returned by Target for an entry whose parent this restore
	// did not make as a directory.
	ErrParent = errors.New("its parent is not a directory of this restore")
	// ErrLeader is returned by Target for a hard link to a file that this
	// restore did not write.
	ErrLeader = errors.New("the first name of this file was not restored")
	// ErrTwice is returned by Target for a path that it had already.
	ErrTwice = errors.New("given twice")
	// ErrExists is returned by Target when somebody else made the entry.
	ErrExists = errors.New("something else is in its place")
	// ErrClosed is returned by Target after Abandon or Cleanup.
	ErrClosed = errors.New("the restore was given up")
	// ErrOwner says that a device was not made since its owner could not be
	// set.
	ErrOwner = errors.New("a device is made only together with its owner")
)

// Exhausted reports whether an error says that this process or the system has
// run out of something: nothing about the file at hand.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// Join puts a name behind the path of its directory.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// Base returns the last name of a path.
func Base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Op puts what was tried in front of a system's error.
func Op(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

// Stat is the metadata that the system keeps of a file.
type Stat struct {
	Type         rec.Type // rec.None if it is of no known type
	Mode         uint32   // permissions, setuid, setgid, sticky
	UID, GID     uint32
	Links        uint32
	Size         uint64 // of a regular file; else 0
	Blocks       uint64 // of 512 bytes each
	MTime, CTime rec.Time
	BTime        rec.Time // zero where the file system has none
	Ino, Dev     uint64
	Mount        uint64 // the mount's id; 0 where the system tells none (before Linux 5.8)
	Major, Minor uint32 // of a device
}

// statMask is all that a walk asks for. The mount's id costs nothing: it comes
// from the system's memory, whatever the file system. Asked for both kinds of it,
// the system gives the one that it never gives to a second mount, if it has that.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | mountMask

// Set takes over what statx said.
func (s *Stat) Set(x *unix.Statx_t) {
	*s = Stat{
		Type:   typeOf(x.Mode),
		Mode:   uint32(x.Mode) & 0o7777,
		UID:    x.Uid,
		GID:    x.Gid,
		Links:  x.Nlink,
		Blocks: x.Blocks,
		MTime:  timeOf(x.Mtime),
		CTime:  timeOf(x.Ctime),
		Ino:    x.Ino,
		Dev:    unix.Mkdev(x.Dev_major, x.Dev_minor),
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.BTime = timeOf(x.Btime)
	}
	if x.Mask&mountMask != 0 {
		s.Mount = x.Mnt_id
	}
	switch s.Type {
	case rec.File:
		s.Size = min(x.Size, rec.MaxSize)
	case rec.Char, rec.Block:
		s.Major, s.Minor = x.Rdev_major, x.Rdev_minor
	}
}

// Entry fills in an entry of that metadata; path, target and leader are left to
// the caller.
func (s *Stat) Entry(e *rec.Entry) {
	*e = rec.Entry{
		Type: s.Type, Mode: s.Mode, UID: s.UID, GID: s.GID, MTime: s.MTime, Size: s.Size,
		Major: s.Major, Minor: s.Minor,
		CTime: s.CTime, BTime: s.BTime, Ino: s.Ino, Dev: s.Dev,
	}
	if s.Links > 1 && s.Type != rec.Dir {
		e.Links = s.Links
	}
}

// timeOf converts a time stamp. A damaged file system can hold nanoseconds
// beyond a second.
func timeOf(t unix.StatxTimestamp) rec.Time {
	return rec.Time{Sec: t.Sec, Nsec: min(t.Nsec, 999_999_999)}
}

func typeOf(mode uint16) rec.Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return rec.File
	case unix.S_IFDIR:
		return rec.Dir
	case unix.S_IFLNK:
		return rec.Symlink
	case unix.S_IFIFO:
		return rec.Fifo
	case unix.S_IFSOCK:
		return rec.Socket
	case unix.S_IFCHR:
		return rec.Char
	case unix.S_IFBLK:
		return rec.Block
	}
	return rec.None
}

// Same reports whether st is of the file that the walk saw: of the same type
// and, where the entry has them, inode and device. Else the error is
// ErrReplaced and says what is there now.
func (st *Stat) Same(e *rec.Entry) error {
	switch {
	case st.Type != e.Type:
		return fmt.Errorf("%w: a %s where the scan saw a %s", ErrReplaced, st.Type, e.Type)
	case e.Ino != 0 && st.Ino != e.Ino, e.Dev != 0 && st.Dev != e.Dev:
		return fmt.Errorf("%w: another %s than the scan saw", ErrReplaced, st.Type)
	}
	return nil
}

type ID struct{ Dev, Ino uint64 }

// SameFile reports whether two stats are of one inode.
func (s *Stat) SameFile(o *Stat) bool { return s.Ino == o.Ino && s.Dev == o.Dev }

// mountMask asks statx for the id of a file's mount.
const mountMask = unix.STATX_MNT_ID | unix.STATX_MNT_ID_UNIQUE
