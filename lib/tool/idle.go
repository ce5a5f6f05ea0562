package tool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrIdle is the error of reads and writes after Idle.
var ErrIdle = errors.New("the peer neither asks nor takes anything")

// idleRest is how long the last words may take, when the peer has been idle for too long.
const idleRest = 10 * time.Second

// Idle lets reads from stdin and writes to stdout fail with ErrIdle when they wait for
// longer than d: a read if nothing was written either. It works for pipes and sockets;
// with a d of 0 it does nothing. It is called before stdin and stdout are used.
func (e *Env) Idle(d time.Duration) {
	if d == 0 {
		return
	}
	i := &idle{in: e.Stdin, out: e.Stdout, told: d}
	i.d.Store(int64(d))
	i.read, _ = e.Stdin.(interface{ SetReadDeadline(time.Time) error })
	if f, ok := e.Stdout.(*os.File); ok && isPipe(f) && !e.sharesStderr(f) {
		Widen(f)
		if f.SetWriteDeadline(time.Time{}) != nil {
			fd := int(f.Fd())
			if unix.SetNonblock(fd, true) == nil {
				i.file = f // it closes the descriptor when it is collected
				f = os.NewFile(uintptr(fd), f.Name())
			}
		}
		i.out, i.write = f, f
	}
	e.Stdin, e.Stdout = idleReader{i}, idleWriter{i}
}

// sharesStderr reports whether stderr is the same pipe: what writes to that cannot wait
// for room, if the pipe does not.
func (e *Env) sharesStderr(f *os.File) bool {
	other, ok := e.Stderr.(*os.File)
	if !ok {
		return false
	}
	a, err := f.Stat()
	b, berr := other.Stat()
	return err != nil || berr != nil || os.SameFile(a, b)
}

type idle struct {
	in    io.Reader
	out   io.Writer
	read  interface{ SetReadDeadline(time.Time) error } // nil for none
	write interface{ SetWriteDeadline(time.Time) error }
	file  *os.File
	told  time.Duration
	d     atomic.Int64
}

func (i *idle) deadline() time.Time { return time.Now().Add(time.Duration(i.d.Load())) }

// err makes an ErrIdle of a deadline that has passed.
func (i *idle) err(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	i.d.Store(int64(min(i.told, idleRest)))
	return fmt.Errorf("%w for %v", ErrIdle, i.told)
}

type idleReader struct{ i *idle }

func (r idleReader) Read(p []byte) (int, error) {
	if r.i.read != nil {
		_ = r.i.read.SetReadDeadline(r.i.deadline()) // a file has none, and does not let wait
	}
	n, err := r.i.in.Read(p)
	return n, r.i.err(err)
}

type idleWriter struct{ i *idle }

func (w idleWriter) Write(p []byte) (int, error) {
	if w.i.write != nil {
		_ = w.i.write.SetWriteDeadline(w.i.deadline()) // as above
	}
	n, err := w.i.out.Write(p)
	if err == nil && w.i.read != nil {
		_ = w.i.read.SetReadDeadline(w.i.deadline()) // as above
	}
	return n, w.i.err(err)
}
