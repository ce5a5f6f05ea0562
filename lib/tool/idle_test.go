package tool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// pipes returns an Env whose stdin and stdout are pipes, and their other ends.
func pipes(t *testing.T) (e *Env, in, out *os.File) {
	t.Helper()
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{stdin, in, out, stdout} {
			_ = f.Close()
		}
	})
	return NewEnv("pv-get", nil, stdin, stdout, io.Discard), in, out
}

const idleFor = 200 * time.Millisecond

func TestIdleRead(t *testing.T) {
	t.Parallel()
	e, in, _ := pipes(t)
	e.Idle(idleFor)
	if _, err := in.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := e.Stdin.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	begin := time.Now()
	if _, err := e.Stdin.Read(b); !errors.Is(err, ErrIdle) || time.Since(begin) < idleFor {
		t.Fatalf("%v after %v", err, time.Since(begin))
	}
	// There is time for last words.
	if _, err := io.WriteString(e.Stdout, "fail"); err != nil {
		t.Fatal(err)
	}
}

// Whoever takes what was asked for is not idle.
func TestIdleWhileTaking(t *testing.T) {
	t.Parallel()
	e, in, out := pipes(t)
	e.Idle(idleFor)
	done := make(chan error)
	go func() {
		_, err := e.Stdin.Read(make([]byte, 8))
		done <- err
	}()
	taken := make([]byte, 1)
	for begin := time.Now(); time.Since(begin) < 3*idleFor; time.Sleep(idleFor / 20) {
		if _, err := e.Stdout.Write(taken); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, taken); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A write that nobody takes ends the run, to stderr as to stdout.
func TestIdleWrite(t *testing.T) {
	t.Parallel()
	for _, stderr := range []bool{false, true} {
		e, _, out := pipes(t)
		ended := make(chan time.Time, 9)
		if stderr {
			e.Stdout, e.Stderr = io.Discard, e.Stdout
		}
		begin := time.Now()
		e.idle(idleFor, nil, func() { ended <- time.Now(); _ = out.Close() })
		w := e.Stdout
		if stderr {
			w = e.Stderr
		}
		if _, err := w.Write(make([]byte, 4<<20)); err == nil {
			t.Fatal("written")
		}
		if at := <-ended; at.Sub(begin) < idleFor {
			t.Fatalf("after %v", at.Sub(begin))
		}
	}
}

// Without a limit nothing is wrapped; what is no pipe does not let wait.
func TestIdleOfFiles(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e := NewEnv("pv-get", nil, bytes.NewReader([]byte("x")), &out, io.Discard)
	e.Idle(0)
	if e.Stdout != &out {
		t.Fatal("wrapped")
	}
	e.Idle(idleFor)
	if b, err := io.ReadAll(e.Stdin); string(b) != "x" || err != nil {
		t.Fatal(b, err)
	}
	if _, err := e.Stdout.Write([]byte("y")); err != nil || out.String() != "y" {
		t.Fatal(err)
	}
}
