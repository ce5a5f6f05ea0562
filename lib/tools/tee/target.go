package tee

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// queueBytes bounds what waits for one command.
const queueBytes = 16 << 20

// maxLine bounds a line of a command's stdout.
const maxLine = 64 << 10

// failed is the exit status that is reported of a command that did not take the
// whole stream, or was killed.
const failed = 1

// A target is one command.
type target struct {
	env    *tool.Env
	out    *lines
	n      int
	text   string
	stall  time.Duration
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *os.File
	errs   *tool.Lines
	said   chan struct{} // closed when its stdout has ended

	mu     sync.Mutex
	change *sync.Cond
	queue  [][]byte
	queued int
	taken  int64  // bytes, ever
	closed bool   // no more will come
	gone   string // why it was given up
	idle   bool   // the writer has ended
	// killed and ended guard its number: it may be another process's when it has
	// ended and was waited for.
	killed, ended atomic.Bool
}

// start runs a command.
func start(env *tool.Env, out *lines, n int, text string, stall time.Duration) (*target, error) {
	t := &target{env: env, out: out, n: n, text: text, stall: stall, said: make(chan struct{}), cmd: exec.Command("sh", "-c", text)}
	t.change = sync.NewCond(&t.mu)
	t.errs = &tool.Lines{Out: env.Stderr} // it may come from another machine
	t.cmd.Stderr = t.errs
	t.cmd.WaitDelay = grace
	// A group of its own, so that what sh has started ends with it.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if t.stdin, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// Not StdoutPipe: whoever it left behind may hold its stdout for ever, and
	// Wait would cut off what it said last.
	stdout, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t.cmd.Stdout = w
	err = t.cmd.Start()
	_ = w.Close() // the command has its own
	if err != nil {
		_ = stdout.Close()
		return nil, err
	}
	t.stdout = stdout
	go t.write()
	go t.listen(stdout)
	return t, nil
}

// give queues a block, and waits for room. It reports whether the command is
// alive.
func (t *target) give(block []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.gone == "" && t.queued > 0 && t.queued+len(block) > queueBytes {
		if !t.waitForChange() {
			t.giveUp(fmt.Sprintf("has taken nothing for %v", t.stall))
		}
	}
	if t.gone != "" {
		return false
	}
	t.queue = append(t.queue, block)
	t.queued += len(block)
	t.change.Broadcast()
	return true
}

// waitForChange waits until the writer has moved, with t.mu held, and returns
// false if that takes too long.
func (t *target) waitForChange() bool {
	before := t.taken
	late := false
	timer := time.AfterFunc(t.stall, func() {
		t.mu.Lock()
		late = true
		t.mu.Unlock()
		t.change.Broadcast()
	})
	defer timer.Stop()
	for t.taken == before && t.gone == "" && !t.idle && !late {
		t.change.Wait()
	}
	return t.taken != before || t.gone != "" || t.idle
}

// giveUp ends a command before its time, with t.mu held.
func (t *target) giveUp(why string) {
	if t.gone != "" {
		return
	}
	t.gone = why
	t.queue, t.queued = nil, 0
	t.env.Warn("command %d, %s: %s: it is given up", t.n, rec.Quote(t.text), why)
	t.change.Broadcast()
	t.kill()
}

// write is the goroutine that feeds the command.
func (t *target) write() {
	for {
		t.mu.Lock()
		for len(t.queue) == 0 && !t.closed && t.gone == "" {
			t.change.Wait()
		}
		if t.gone != "" || len(t.queue) == 0 {
			t.idle = true
			_ = t.stdin.Close() // whether it took everything its exit status says
			t.change.Broadcast()
			t.mu.Unlock()
			return
		}
		block := t.queue[0]
		t.queue[0] = nil
		t.queue = t.queue[1:]
		t.mu.Unlock()
		for len(block) > 0 {
			// In parts, so that a slow command is seen to move.
			n, err := t.stdin.Write(block[:min(len(block), 64<<10)])
			block = block[n:]
			t.mu.Lock()
			t.queued -= n
			t.taken += int64(n)
			if err != nil {
				t.giveUp("ended before it had read everything")
				block = nil
			}
			t.change.Broadcast()
			t.mu.Unlock()
		}
	}
}

// listen passes the command's stdout on, line by line.
func (t *target) listen(stdout io.Reader) {
	defer close(t.said)
	in := bufio.NewReaderSize(stdout, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			t.out.print(t.n, strings.TrimSuffix(string(line), "\n"))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// end says that nothing more will come.
func (t *target) end() {
	t.mu.Lock()
	t.closed = true
	t.change.Broadcast()
	t.mu.Unlock()
}

// wait waits until the command has ended, and returns its exit status. What hangs
// is ended.
func (t *target) wait() int {
	t.mu.Lock()
	for !t.idle && t.gone == "" {
		if !t.waitForChange() {
			t.giveUp(fmt.Sprintf("has taken nothing for %v", t.stall))
		}
	}
	t.mu.Unlock()
	timer := time.AfterFunc(t.stall, func() {
		t.mu.Lock()
		t.giveUp(fmt.Sprintf("has not ended for %v since it got everything", t.stall))
		t.mu.Unlock()
	})
	err := t.cmd.Wait()
	t.errs.Flush()
	t.ended.Store(true)
	timer.Stop()
	// What it said is in the pipe. Who still holds that is not waited for.
	_ = t.stdout.SetReadDeadline(time.Now().Add(grace))
	<-t.said
	_ = t.stdout.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	status := t.cmd.ProcessState.ExitCode()
	switch {
	case t.gone != "":
		if status <= 0 || status == 3 {
			status = failed
		}
	case status < 0: // by a signal
		t.env.Warn("command %d, %s: %v", t.n, rec.Quote(t.text), err)
		status = failed
	case status > 0 && status != 3:
		t.env.Warn("command %d, %s: exit status %d", t.n, rec.Quote(t.text), status)
	}
	return status
}

// kill ends the command and all that it started.
func (t *target) kill() {
	if t.ended.Load() || !t.killed.CompareAndSwap(false, true) {
		return
	}
	pid := t.cmd.Process.Pid
	_ = syscall.Kill(-pid, syscall.SIGTERM) // if it has ended, so much the better
	_ = syscall.Kill(-pid, syscall.SIGCONT) // what was stopped would not see that it is to end
	time.AfterFunc(grace, func() {
		if !t.ended.Load() {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	})
}

// grace is how long a command has to remove its temporaries.
const grace = 5 * time.Second
