package inode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// The inode flags of linux/fs.h that a restore can set.
const (
	flagSecureDelete = 0x00000001
	flagUndelete     = 0x00000002
	FlagCompress     = 0x00000004
	flagSync         = 0x00000008
	FlagImmutable    = 0x00000010
	FlagAppend       = 0x00000020
	FlagNoDump       = 0x00000040
	FlagNoAtime      = 0x00000080
	flagNoCompress   = 0x00000400
	flagJournalData  = 0x00004000
	flagNoTail       = 0x00008000
	flagDirSync      = 0x00010000
	flagTopDir       = 0x00020000
	FlagNoCOW        = 0x00800000
	flagProjInherit  = 0x20000000
)

// SettableFlags are the inode flags that an entry carries: those that chattr
// can set and clear. The others describe how a file system stores the file
// (extents, inline data, an index) or are set in other ways (verity, encryption,
// DAX, case folding).
const SettableFlags = flagSecureDelete | flagUndelete | FlagCompress | flagSync | FlagImmutable | FlagAppend |
	FlagNoDump | FlagNoAtime | flagNoCompress | flagJournalData | flagNoTail | flagDirSync | flagTopDir | FlagNoCOW | flagProjInherit

// flagNames are those of chattr(1), for messages.
var flagNames = []struct {
	bit  uint32
	name string
}{
	{flagSecureDelete, "s"}, {flagUndelete, "u"}, {FlagCompress, "c"}, {flagSync, "S"}, {FlagImmutable, "i"},
	{FlagAppend, "a"}, {FlagNoDump, "d"}, {FlagNoAtime, "A"}, {flagNoCompress, "m"}, {flagJournalData, "j"}, {flagNoTail, "t"},
	{flagDirSync, "D"}, {flagTopDir, "T"}, {FlagNoCOW, "C"}, {flagProjInherit, "P"},
}

// FlagNames writes inode flags in the letters of chattr(1).
func FlagNames(flags uint32) string {
	var b strings.Builder
	for _, f := range flagNames {
		if flags&f.bit != 0 {
			b.WriteString(f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		fmt.Fprintf(&b, "+%#x", flags)
	}
	return b.String()
}

// Unsupported reports whether err says that the file system has no such thing.
func Unsupported(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS)
}

// An inode is a file whose extended attributes are read or set: open itself, or
// if only its place is known (O_PATH) through /proc.
type Handle struct {
	FD   int
	Proc string // "" if fd is open itself
}

func OfPath(fd int) Handle { return Handle{fd, "/proc/self/fd/" + strconv.Itoa(fd)} }

func (i Handle) list(buf []byte) (int, error) {
	if i.Proc == "" {
		return unix.Flistxattr(i.FD, buf)
	}
	return unix.Listxattr(i.Proc, buf)
}

func (i Handle) Get(name string, buf []byte) (int, error) {
	if i.Proc == "" {
		return unix.Fgetxattr(i.FD, name, buf)
	}
	return unix.Getxattr(i.Proc, name, buf)
}

func (i Handle) Set(name string, value []byte) error {
	if i.Proc == "" {
		return unix.Fsetxattr(i.FD, name, value, 0)
	}
	return unix.Setxattr(i.Proc, name, value, 0)
}

func (i Handle) Remove(name string) error {
	if i.Proc == "" {
		return unix.Fremovexattr(i.FD, name)
	}
	return unix.Removexattr(i.Proc, name)
}

var errNoProc = errors.New("list extended attributes: of links, fifos, sockets and devices that needs /proc")

// XAttrNames returns the names of the extended attributes in order; none where the
// file system has none.
func (i Handle) XAttrNames() ([]string, error) {
	var small [512]byte // nearly every file has few or none: the system buys as much memory as it is offered
	buf := small[:]
	n, err := i.list(buf)
	for size := 8 << 10; err == unix.ERANGE && size <= rec.MaxXAttrs; size *= 4 {
		buf = make([]byte, size)
		n, err = i.list(buf)
	}
	switch {
	case Unsupported(err), err == nil && n == 0:
		return nil, nil
	case err == unix.ENOENT && i.Proc != "":
		return nil, errNoProc
	case err != nil:
		return nil, Op("list extended attributes", err)
	}
	names := splitNames(buf[:n])
	slices.Sort(names)
	return slices.Compact(withoutViews(names)), nil
}

// xfs shows to root each access list a second time, in a form of its own. To
// restore that too would undo what a mapping of owners made of the list.
var xfsViews = map[string]string{
	"trusted.SGI_ACL_FILE":    "system.posix_acl_access",
	"trusted.SGI_ACL_DEFAULT": XAttrDefaultACL,
}

func withoutViews(names []string) []string {
	for view, list := range xfsViews {
		if i := slices.Index(names, view); i >= 0 && slices.Contains(names, list) {
			names = slices.Delete(names, i, i+1)
		}
	}
	return names
}

// splitNames cuts a list of names, each with a NUL behind it.
func splitNames(list []byte) []string {
	var names []string
	for len(list) > 0 {
		name, rest, _ := bytes.Cut(list, []byte{0})
		if len(name) > 0 && len(name) <= rec.MaxName {
			names = append(names, string(name))
		}
		list = rest
	}
	return names
}

// XAttrs returns the extended attributes in order of name but for those that o leaves alone, at most
// rec.MaxXAttrs bytes of them, else ErrAttributes. The error is the first; those that can be read
// are returned, and the names of the others.
func (i Handle) XAttrs(o *Omit) (a Attributes, err error) {
	if o != nil && o.All {
		return UnknownAttributes(), nil
	}
	names, err := i.XAttrNames()
	if err != nil {
		return UnknownAttributes(), err
	}
	total := 0
	for _, name := range names {
		var value []byte
		left := o.Out(name)
		if !left {
			var verr error
			value, verr = i.xattr(name)
			if verr == unix.ENODATA || Unsupported(verr) {
				continue // removed meanwhile, or only a name
			}
			if left = verr != nil; left && err == nil {
				err = Op("read extended attribute "+rec.Quote(name), verr)
			}
		}
		if total += len(name) + len(value); total > rec.MaxXAttrs {
			return UnknownAttributes(), ErrAttributes
		}
		if left {
			a.Omitted = append(a.Omitted, name)
		} else {
			a.XAttrs = append(a.XAttrs, rec.XAttr{Name: name, Value: value})
		}
	}
	return a, err
}

func (i Handle) xattr(name string) ([]byte, error) {
	var small [256]byte
	n, err := i.Get(name, small[:])
	if err == nil {
		return slices.Clone(small[:n]), nil
	}
	for size := 4 << 10; err == unix.ERANGE && size <= rec.MaxXAttrs; size *= 4 {
		buf := make([]byte, size)
		if n, err = i.Get(name, buf); err == nil {
			return slices.Clip(buf[:n]), nil
		}
	}
	if err == unix.ERANGE {
		err = ErrAttributes
	}
	return nil, err
}

// Flags returns the settable inode flags of an open file or directory.
func Flags(fd int) (uint32, error) {
	all, err := AllFlags(fd)
	return all & SettableFlags, err
}

func AllFlags(fd int) (uint32, error) {
	n, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	switch {
	case Unsupported(err), err == unix.EINVAL:
		return 0, nil
	case err != nil:
		return 0, Op("read inode flags", err)
	}
	return n, nil
}

// ReadAttributes reads what statx does not tell of an open file or directory. With an error the rest is returned.
func ReadAttributes(fd int, o *Omit) (Attributes, error) {
	a, err := Handle{FD: fd}.XAttrs(o)
	flags, ferr := Flags(fd)
	a.Flags = flags
	if err == nil {
		err = ferr
	}
	return a, err
}

// ReadAttributesAt is attributes of a name below dirfd of any type, which open
// opens with the flags it is given.
func ReadAttributesAt(open func(dirfd int, path string, flags int) (int, error), dirfd int, path string, typ rec.Type, o *Omit) (a Attributes, err error) {
	if typ != rec.File && typ != rec.Dir && o != nil && o.All {
		return UnknownAttributes(), nil // they have no flags
	}
	var fd int
	switch typ {
	case rec.File:
		fd, err = OpenLeased(open, dirfd, path)
	case rec.Dir:
		fd, err = openInPlace(open, dirfd, path)
	default:
		fd, err = open(dirfd, path, OpenPath)
	}
	if err != nil {
		return UnknownAttributes(), Op("open", err)
	}
	defer Close(fd)
	if typ == rec.File || typ == rec.Dir {
		return ReadAttributes(fd, o)
	}
	return OfPath(fd).XAttrs(o)
}

// openInPlace opens a directory by its place first: opened by its name, it would
// be mounted where something waits for that.
func openInPlace(open func(dirfd int, path string, flags int) (int, error), dirfd int, path string) (int, error) {
	place, err := open(dirfd, path, OpenPath)
	if err != nil {
		return -1, err
	}
	defer Close(place)
	fd, err := Quietly(OpenAt, place, ".", OpenDir)
	if err == unix.EACCES { // it can be read, but not searched
		fd, err = Quietly(open, dirfd, path, OpenDir)
	}
	return fd, err
}

// The extended attributes that need care.
const (
	XAttrCapability = "security.capability"
	XAttrDefaultACL = "system.posix_acl_default"
	XAttrAccessACL  = "system.posix_acl_access"
)

// NoID is the user or group id that chown takes for "leave it": no file can
// have it.
const NoID = 1<<32 - 1

func WriteFlags(fd int, flags uint32) error {
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags))
}
