package remote

import (
	"errors"
	"fmt"
	"os/exec"
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
	return a.run(env, nil, name, words...)
}

// run is Run; with a feed it is that which passes stdin on.
func (a Address) run(env *tool.Env, f *feed, name string, words ...string) error {
	argv := a.Command(name, env.Talk(), words...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout = env.Blocking(), env.Stdout
	began := func() {}
	if f != nil {
		var err error
		if began, err = f.into(cmd); err != nil {
			return fmt.Errorf("repository %s: run %s: %w", a, argv[0], err)
		}
	}
	err := wait(env, cmd, began)
	if f != nil {
		if why := f.ended(); why != nil {
			return fmt.Errorf("repository %s: %w", a, why)
		}
	}
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

// maxAnswer is more bytes than an answer of lines has: pv-put names what is missing.
const maxAnswer = 1 << 30

// Answer is Run of a question whose answer is lines of text, at most 1 GiB: they are printed
// escaped.
func (a Address) Answer(env *tool.Env, name string, words ...string) error {
	return a.answer(env, nil, maxAnswer, name, words...)
}

// Feed is Answer of a tool that takes stdin. It gives it up when it takes nothing for stall, or does not
// end within answer after it has got everything: whoever runs it over there may keep it so for ever.
func (a Address) Feed(env *tool.Env, stall, answer time.Duration, name string, words ...string) error {
	return a.answer(env, &feed{stall: stall, answer: answer}, maxAnswer, name, words...)
}

// LongAnswer is Answer of any length.
func (a Address) LongAnswer(env *tool.Env, name string, words ...string) error {
	return a.answer(env, nil, 0, name, words...)
}

func (a Address) answer(env *tool.Env, f *feed, most int64, name string, words ...string) error {
	out := env.Stdout
	lines := &tool.Lines{Out: out, Strict: true, Most: most}
	env.Stdout = lines
	defer func() { lines.Flush(); env.Stdout = out }()
	err := a.run(env, f, name, words...)
	if lines.Over() {
		err = fmt.Errorf("repository %s: %w %d bytes", a, tool.ErrTooMuch, most)
	}
	return err
}

// Wait starts a command, prints what it writes on stderr as this run's messages are
// printed, line by line and escaped, and waits for it. A signal that ends this run ends it.
func Wait(env *tool.Env, cmd *exec.Cmd) error { return wait(env, cmd, func() {}) }

// wait is Wait, and calls began when the command runs.
func wait(env *tool.Env, cmd *exec.Cmd, began func()) error {
	lines := &tool.Lines{Out: env.Stderr}
	defer lines.Flush()
	cmd.Stderr, cmd.WaitDelay = lines, grace
	if err := cmd.Start(); err != nil {
		return err
	}
	began()
	defer env.OnExit(func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // it may have ended
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it has ended well; what it started still holds its stderr
	}
	return err
}
