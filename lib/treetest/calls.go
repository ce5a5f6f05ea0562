package treetest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Call is a system call that takes a name.
type Call struct {
	What string
	Dir  int    // below which the name is; unix.AT_FDCWD: the working directory
	Name string // as the caller wrote it; empty: Dir itself
	// Flags are those that the call has; of openat2 Resolve too.
	Flags   int
	Resolve uint64
}

// named is the calls that are seen: in which argument the directory is, the name, and the flags; -1: none. Those with
// two names stand twice.
var named = []struct {
	number           int
	what             string
	dir, name, flags int
}{
	{unix.SYS_OPENAT, "openat", 0, 1, 2},
	{unix.SYS_OPENAT2, "openat2", 0, 1, -1},
	{unix.SYS_STATX, "statx", 0, 1, 2},
	{unix.SYS_MKDIRAT, "mkdirat", 0, 1, -1},
	{unix.SYS_MKNODAT, "mknodat", 0, 1, -1},
	{unix.SYS_SYMLINKAT, "symlinkat", 1, 2, -1},
	{unix.SYS_LINKAT, "linkat", 0, 1, 4},
	{unix.SYS_LINKAT, "linkat to", 2, 3, -1},
	{unix.SYS_UNLINKAT, "unlinkat", 0, 1, -1},
	{unix.SYS_RENAMEAT, "renameat", 0, 1, -1},
	{unix.SYS_RENAMEAT, "renameat to", 2, 3, -1},
	{unix.SYS_RENAMEAT2, "renameat2", 0, 1, -1},
	{unix.SYS_RENAMEAT2, "renameat2 to", 2, 3, -1},
	{unix.SYS_READLINKAT, "readlinkat", 0, 1, -1},
	{unix.SYS_FCHMODAT, "fchmodat", 0, 1, -1},
	{unix.SYS_FCHMODAT2, "fchmodat2", 0, 1, 3},
	{unix.SYS_FCHOWNAT, "fchownat", 0, 1, 4},
	{unix.SYS_UTIMENSAT, "utimensat", 0, 1, 3},
	{unix.SYS_SETXATTR, "setxattr", -1, 0, -1},
	{unix.SYS_LSETXATTR, "lsetxattr", -1, 0, -1},
	{unix.SYS_GETXATTR, "getxattr", -1, 0, -1},
	{unix.SYS_LGETXATTR, "lgetxattr", -1, 0, -1},
	{unix.SYS_LISTXATTR, "listxattr", -1, 0, -1},
	{unix.SYS_LLISTXATTR, "llistxattr", -1, 0, -1},
	{unix.SYS_REMOVEXATTR, "removexattr", -1, 0, -1},
	{unix.SYS_LREMOVEXATTR, "lremovexattr", -1, 0, -1},
	{unix.SYS_TRUNCATE, "truncate", -1, 0, -1},
}

// Follows reports whether the last name of the call may be a link that the system would follow,
// or its other names.
func (c *Call) Follows() bool {
	slash := strings.Contains(c.Name, "/")
	switch c.What {
	case "openat":
		const created = unix.O_CREAT | unix.O_EXCL
		return slash || c.Flags&unix.O_NOFOLLOW == 0 && c.Flags&created != created
	case "openat2":
		return c.Resolve&unix.RESOLVE_NO_SYMLINKS == 0
	case "statx", "fchownat", "utimensat", "fchmodat2":
		return slash || c.Flags&unix.AT_SYMLINK_NOFOLLOW == 0 && c.Name != ""
	case "linkat":
		return slash || c.Flags&unix.AT_SYMLINK_FOLLOW != 0
	case "fchmodat", "setxattr", "getxattr", "listxattr", "removexattr", "truncate":
		return true
	}
	return slash
}

func (c *Call) String() string { return fmt.Sprintf("%s %d %q %#x", c.What, c.Dir, c.Name, c.Flags) }

// Calls runs fn, on a thread of its own, and shows see each call with a name that this thread makes,
// before the system sees it. Whatever see does then is done before. It returns the error that the call
// is to have, or 0 for the call to be made. What other threads do for fn is not seen. The test is
// skipped where the kernel has no such thing (Linux 5.5, seccomp).
func Calls(t testing.TB, see func(*Call) unix.Errno, fn func()) {
	t.Helper()
	listener, done := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := listen()
		if err != nil {
			listener <- -1
			return
		}
		listener <- fd
		fn()
	}()
	fd := <-listener
	if fd < 0 {
		if os.Getenv("PV_NO_SKIP") == "1" {
			t.Fatal("the kernel does not show system calls")
		}
		t.Skip("the kernel does not show system calls (seccomp)")
	}
	defer unix.Close(fd)
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 20); err != nil && err != unix.EINTR {
			t.Fatal(err)
		} else if n > 0 && ready[0].Revents&unix.POLLIN != 0 {
			answer(t, fd, see)
			continue
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// listen lets the kernel ask about calls of this thread, and returns the descriptor for that.
func listen() (int, error) {
	numbers := map[int]bool{}
	for _, c := range named {
		numbers[c.number] = true
	}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}
	for n := range numbers {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(n), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// A notice is what the kernel says of a call, and a reply what it is told: seccomp(2).
type notice struct {
	ID         uint64
	Pid, Flags uint32
	Number     int32
	Arch       uint32
	IP         uint64
	Args       [6]uint64
}

type reply struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

// goOn is SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const goOn = 1

// answer takes one notice.
func answer(t testing.TB, fd int, see func(*Call) unix.Errno) {
	var n notice
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return // a signal has ended the call
	}
	r := reply{ID: n.ID, Flags: goOn}
	for _, k := range named {
		if k.number != int(n.Number) || r.Error != 0 {
			continue
		}
		c := &Call{What: k.what, Dir: unix.AT_FDCWD, Name: text(n.Args[k.name])}
		if k.dir >= 0 {
			c.Dir = int(int32(n.Args[k.dir]))
		}
		if k.flags >= 0 {
			c.Flags = int(n.Args[k.flags])
		}
		if k.number == unix.SYS_OPENAT2 {
			var how unix.OpenHow
			memory(n.Args[2], unsafe.Slice((*byte)(unsafe.Pointer(&how)), unsafe.Sizeof(how)))
			c.Flags, c.Resolve = int(how.Flags), how.Resolve
		}
		if errno := see(c); errno != 0 {
			r.Error, r.Flags = -int32(errno), 0
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r))); errno != 0 && errno != unix.ENOENT {
		t.Error("seccomp:", errno)
	}
}

// text reads a string that ends with a zero byte from the memory of this process.
func text(at uint64) string {
	var all []byte
	for at != 0 && len(all) < 64<<10 {
		b := make([]byte, 4096-at%4096) // to the end of the page
		memory(at, b)
		head, _, ended := strings.Cut(string(b), "\x00")
		all = append(all, head...)
		if ended {
			break
		}
		at += uint64(len(b))
	}
	return string(all)
}

func memory(at uint64, into []byte) {
	local := []unix.Iovec{{Base: &into[0]}}
	local[0].SetLen(len(into))
	_, _ = unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(into)}}, 0) // what is not there reads as zeros
}
