package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"preserve/lib/tool"
)

// grace is how long what a command has left behind may hold its stderr: an ssh that
// keeps a connection open for others does so for good.
const grace = 2 * time.Second

// Run runs a tool on the machine of a remote address, with this run's stdin and stdout as its
// own, and returns when it has ended. Its exit status is this run's: 0 is nil, 3
// tool.ErrPartial; the rest are errors, which its messages have explained, but for a
// connection that failed.
func (a Address) Run(env *tool.Env, name string, words ...string) error {
	argv := a.Command(name, env.Talk(), words...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout = env.Blocking(), env.Stdout
	err := Wait(env, cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("repository %s: run %s: %w", a, argv[0], err)
	case exit.ExitCode() == 3:
		return tool.ErrPartial
	case exit.ExitCode() == 255:
		return fmt.Errorf("repository %s: the connection failed or broke", a)
	case exit.ExitCode() < 0:
		return fmt.Errorf("repository %s: %s: %w", a, argv[0], err)
	case exit.ExitCode() > 128: // as a shell says it
		return fmt.Errorf("repository %s: %s there, or the way there, was ended by signal %d", a, name, exit.ExitCode()-128)
	case exit.ExitCode() == 126, exit.ExitCode() == 127:
		return &tool.Hint{Err: fmt.Errorf("repository %s: %s does not run there", a, name), Text: name + " must be on the PATH that commands have on " + a.Host}
	}
	return tool.ErrTold
}

// Wait starts a command, prints what it writes on stderr as this run's messages are
// printed, line by line and escaped, and waits for it. A signal that ends this run ends it.
func Wait(env *tool.Env, cmd *exec.Cmd) error {
	lines := &masked{out: env.Stderr}
	defer lines.flush()
	cmd.Stderr, cmd.WaitDelay = lines, grace
	if err := cmd.Start(); err != nil {
		return err
	}
	defer env.OnExit(func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // it may have ended
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it has ended well; what it started still holds its stderr
	}
	return err
}

// maxLine bounds a line of another's messages.
const maxLine = 4096

// masked passes lines on, escaped.
type masked struct {
	mu  sync.Mutex
	out io.Writer
	buf []byte
}

func (m *masked) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buf = append(m.buf, p...)
	for {
		at := bytes.IndexByte(m.buf, '\n')
		if at < 0 && len(m.buf) < maxLine {
			return len(p), nil
		}
		if at < 0 || at > maxLine {
			m.print(m.buf[:maxLine])
			m.buf = m.buf[maxLine:]
			continue
		}
		m.print(m.buf[:at])
		m.buf = m.buf[at+1:]
	}
}

func (m *masked) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.buf) > 0 {
		m.print(m.buf)
		m.buf = nil
	}
}

// print writes one line; nobody may be listening.
func (m *masked) print(line []byte) {
	_, _ = io.WriteString(m.out, tool.Mask(strings.TrimSuffix(string(line), "\r"))+"\n")
}
