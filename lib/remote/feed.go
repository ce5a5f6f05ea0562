package remote

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/tool"
)

// ErrStuck is a command that takes nothing more, or does not end.
var ErrStuck = errors.New("the other side is stuck")

// A feed passes a file or pipe on to a command, by splice: the bytes are not copied. What stdin is else
// the command reads as usual, without limits of time.
type feed struct {
	stall, answer time.Duration

	in      *os.File
	out     *os.File // to the command
	command *exec.Cmd
	why     atomic.Pointer[error]
}

// into makes the command read from the feed. The function that it returns is to be called when the
// command runs.
func (f *feed) into(cmd *exec.Cmd) (began func(), err error) {
	in, is := cmd.Stdin.(*os.File)
	if !is {
		return func() {}, nil
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	tool.Widen(ours)
	f.in, f.out, f.command, cmd.Stdin = in, ours, cmd, theirs
	return func() {
		_ = theirs.Close() // the command has its own
		go f.pass()
	}, nil
}

// pass passes everything on, and lets the command have its time.
func (f *feed) pass() {
	err := f.all()
	_ = f.out.Close() // what was passed on is in the pipe
	switch {
	case errors.Is(err, unix.EPIPE): // it has ended, and says why
	case err != nil:
		f.giveUp(err)
	default:
		time.AfterFunc(f.answer, func() {
			f.giveUp(fmt.Errorf("%w: it has not ended for %v since it got everything", ErrStuck, f.answer))
		})
	}
}

// all passes everything on. Errors: EPIPE, ErrStuck, and those of stdin.
func (f *feed) all() (err error) {
	in, out := int(f.in.Fd()), int(f.out.Fd())
	for {
		if _, err := ready(in, unix.POLLIN, -1); err != nil {
			return err
		}
		switch can, err := ready(out, unix.POLLOUT, f.stall); {
		case err != nil:
			return err
		case !can:
			return fmt.Errorf("%w: it has taken nothing for %v", ErrStuck, f.stall)
		}
		switch n, err := unix.Splice(in, nil, out, nil, 1<<20, unix.SPLICE_F_NONBLOCK); {
		case err == unix.EINTR, err == unix.EAGAIN:
		case err == unix.EINVAL: // of a terminal, say
			_, err = io.Copy(f.out, f.in)
			return err
		case err != nil:
			return err
		case n == 0:
			return nil
		}
	}
}

// ready waits until a descriptor can be read or written, for at most d; a negative one is no limit.
func ready(fd int, what int16, d time.Duration) (bool, error) {
	end := time.Now().Add(d)
	for {
		left := -1
		if d >= 0 {
			left = int(max(0, time.Until(end).Milliseconds()))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: what}}, left)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// giveUp ends the command.
func (f *feed) giveUp(why error) {
	f.why.CompareAndSwap(nil, &why)
	_ = f.command.Process.Signal(syscall.SIGTERM) // it may have ended
	time.AfterFunc(grace, func() { _ = f.command.Process.Kill() })
}

// ended returns why the command was given up, if it was.
func (f *feed) ended() error {
	if why := f.why.Load(); why != nil {
		return *why
	}
	return nil
}
