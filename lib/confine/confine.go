// Package confine takes from this process what the rest of its work does not need, by
// Landlock (Linux 5.19 and later): whoever takes it over, by input that it cannot cope
// with, has no more than that.
//
// It is a second wall, and not what anything rests on: where the kernel cannot build it
// the work goes on without. It does not keep from changing owners, modes, times and
// attributes of files that can be reached, and does not concern what is open already.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the kernel, or the way in which this program was built (with
// cgo), cannot confine.
var ErrUnsupported = errors.New("no Landlock (the kernel lacks it, or the program was built with cgo)")

// Limits are what the process may still do. No program may be run and, from Linux 6.7 on,
// no TCP connection be made or taken (MPTCP and UDP the kernel leaves out).
type Limits struct {
	// Write are directories in which, with all below them, everything may be done but
	// run programs. They are opened now, links followed. Those that are not there are
	// left out.
	Write []string
	// Read are files and directories that may be read, as Write may.
	Read []string
	// ReadAll allows reading everywhere.
	ReadAll bool
}

const (
	readRights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// fileRights are those that a file can have.
	fileRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	writeRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	network = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
)

// The versions of the kernel's interface that brought a right.
const (
	withRefer    = 2
	withTruncate = 3
	withNetwork  = 4
)

// To confines the whole process, all its threads, and all that it starts. It cannot be
// taken back. Errors: ErrUnsupported, or those of the system; then nothing has changed
// but that the process gains no privileges by running programs.
func To(l Limits) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	// Before it there was no moving of files between directories.
	if errno != 0 || version < withRefer {
		return ErrUnsupported
	}
	handled := uint64(unix.LANDLOCK_ACCESS_FS_EXECUTE | readRights | writeRights)
	if version < withTruncate {
		handled &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if l.ReadAll {
		handled &^= readRights
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	if version >= withNetwork {
		attr.Handled_access_net = network
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("confine: make the rules: %w", errno)
	}
	rules := int(fd)
	defer unix.Close(rules)
	for _, path := range l.Write {
		if err := allow(rules, path, handled&(readRights|writeRights)); err != nil {
			return err
		}
	}
	for _, path := range l.Read {
		if err := allow(rules, path, handled&readRights); err != nil {
			return err
		}
	}
	return enforce(rules)
}

// allow adds a rule.
func allow(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || rights == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("confine: open %q: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("confine: look at %q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("confine: allow %q: %w", path, errno)
	}
	return nil
}

// enforce lets the rules bind every thread; those that come later inherit them.
func enforce(rules int) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == 0 {
		_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0)
	}
	switch {
	case errno == unix.ENOTSUP: // with cgo there are threads that the runtime does not know
		return ErrUnsupported
	case errno != 0:
		return fmt.Errorf("confine: %w", errno)
	}
	return nil
}
