package tool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrIdle is the error of reads after Idle.
var ErrIdle = errors.New("the peer neither asks nor takes anything")

// idleRest is how long the last word may take.
const idleRest = time.Second

// Idle lets a read from stdin fail with ErrIdle when it waits for longer than d, and nothing
// was written meanwhile; stdin must be a pipe or socket. It is also IdleOutput. With a d of
// 0 it does nothing. It is called before stdin and stdout are used.
func (e *Env) Idle(d time.Duration) {
	if d == 0 {
		return
	}
	in, _ := e.Stdin.(interface{ SetReadDeadline(time.Time) error })
	e.idle(d, in, endSelf)
	e.Stdin = idleReader{idle{d, in}, e.Stdin}
}

// IdleOutput ends the run as SIGTERM does when a write to stdout or stderr waits for longer
// than d: nothing else ends such a write, whatever stdout is. With a d of 0 it does nothing.
func (e *Env) IdleOutput(d time.Duration) {
	if d != 0 {
		e.idle(d, nil, endSelf)
	}
}

func endSelf() { _ = unix.Kill(unix.Getpid(), unix.SIGTERM) } // we may signal ourselves

func (e *Env) idle(d time.Duration, in interface{ SetReadDeadline(time.Time) error }, end func()) {
	if f, ok := e.Stdout.(*os.File); ok {
		Widen(f)
	}
	last := sync.OnceFunc(func() {
		told := make(chan struct{})
		go func() {
			e.Say("the peer takes nothing for %v", d)
			close(told)
		}()
		select {
		case <-told:
		case <-time.After(idleRest):
		}
		end()
	})
	e.Stdout = idleWriter{idle{d, in}, e.Stdout, last}
	e.Stderr = idleWriter{idle{d, in}, e.Stderr, last}
}

type idle struct {
	d     time.Duration
	input interface{ SetReadDeadline(time.Time) error } // nil for none
}

// begin lets reading wait from now on.
func (i idle) begin() {
	if i.input != nil {
		_ = i.input.SetReadDeadline(time.Now().Add(i.d)) // a file has none, and does not let wait
	}
}

type idleReader struct {
	idle
	r io.Reader
}

func (r idleReader) Read(p []byte) (int, error) {
	r.begin()
	n, err := r.r.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w for %v", ErrIdle, r.d)
	}
	return n, err
}

type idleWriter struct {
	idle
	w    io.Writer
	last func()
}

func (w idleWriter) Write(p []byte) (int, error) {
	defer time.AfterFunc(w.d, w.last).Stop()
	n, err := w.w.Write(p)
	w.begin()
	return n, err
}
