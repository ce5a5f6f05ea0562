package unseal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"preserve/lib/box"
	"preserve/lib/content"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/remote"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// linger is how long a command may take to end once it has nothing more to say.
const linger = 5 * time.Second

// grace is how long what the command has left behind may hold its stderr: an ssh that keeps
// a connection open for others does so for good.
const grace = 2 * time.Second

// A driven snapshot is asked for, blob by blob, of a command that answers as
// pv-get REPO --blobs - does.
type driven struct {
	env     *tool.Env
	command string
	follow  bool
	unshare bool
	open    *box.Opener
	choose  *reading.Chooser
}

func (d driven) walk(o walk.Options, s content.Sink) error {
	o.Unshare = d.unshare
	if d.choose.Picks() {
		o.Look = d.look
	}
	if d.follow {
		o.Follow = func(e *rec.Entry, why error) {
			d.env.Warn("%s: stays a link to %s: %s", rec.Quote(e.Path), rec.Quote(e.Target), why)
		}
	}
	c, err := d.start()
	if err != nil {
		return fmt.Errorf("--from: start sh: %w", err)
	}
	defer d.env.OnExit(c.stop)()
	in := newReader(c.answers)
	err = walk.Drive(walk.Peer{Answers: in, Wants: c.wants, Stop: c.hangUp}, d.open, o, s)
	how := c.wait()
	if errors.Is(err, rec.ErrCut) || errors.Is(err, rec.ErrEmpty) {
		return fmt.Errorf("--from: %w (the command: %s)", err, how)
	}
	// Behind the end record it does not matter how the command ended: what it
	// left out is said there.
	d.env.Log.Debug(fmt.Sprintf("--from: the command: %s", how))
	return err
}

// look lets the user's words stand for paths of the snapshot. One of which nobody knows whether it is
// a path is named: what it was to choose, or to leave out, may be something else than it does as a pattern.
func (d driven) look(has func(path string) (bool, error)) error {
	return d.choose.Look(func(path string) (bool, error) {
		is, err := has(path)
		if errors.Is(err, walk.ErrLost) {
			d.env.Warn("%s: taken as a pattern: whether it is a path in the snapshot is not known, since a page is missing or damaged", rec.Quote(path))
			return false, nil
		}
		return is, err
	})
}

// A command runs, and its two pipes.
type command struct {
	cmd            *exec.Cmd
	wants, answers *os.File
	said           *tool.Lines // its stderr: it may come from another machine
}

// line is the command line for the shell. The name of a repository stands for pv-get of that.
func (d driven) line() string {
	st, err := os.Stat(d.command)
	if dir := err == nil && st.IsDir(); !dir && !strings.HasPrefix(d.command, "ssh://") {
		return d.command
	}
	repo := d.command
	if strings.HasPrefix(repo, "-") {
		repo = "./" + repo
	}
	words := []string{"pv-get"}
	if talk := d.env.Talk(); talk != "" {
		words = append(words, talk)
	}
	return "exec " + remote.Quote(append(words, repo, "--blobs", "-")...)
}

func (d driven) start() (*command, error) {
	wantsR, wantsW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wantsR.Close()
	answersR, answersW, err := os.Pipe()
	if err != nil {
		_ = wantsW.Close() // the error at hand matters more
		return nil, err
	}
	defer answersW.Close()
	tool.Widen(answersR)
	c := &command{exec.Command("sh", "-c", d.line()), wantsW, answersR, &tool.Lines{Out: d.env.Stderr}}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = wantsR, answersW, c.said
	c.cmd.WaitDelay = grace
	if err := c.cmd.Start(); err != nil {
		_, _ = wantsW.Close(), answersR.Close() // likewise
		return nil, err
	}
	return c, nil
}

// hangUp closes the pipes: the command ends by itself, and still says what it has
// to say.
func (c *command) hangUp() { _, _ = c.wants.Close(), c.answers.Close() } // one may be closed already

// stop ends the command: its pipes are closed, and it is told to end.
func (c *command) stop() {
	c.hangUp()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // if it has ended, so much the better
}

// wait waits until the command has ended, and says how. One that has nothing
// more to say and does not end is told to.
func (c *command) wait() string {
	slow := time.AfterFunc(linger, c.stop)
	dead := time.AfterFunc(2*linger, func() { _ = c.cmd.Process.Kill() }) // it may have ended
	err := c.cmd.Wait()
	c.said.Flush()
	_, _ = slow.Stop(), dead.Stop()
	c.hangUp()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err.Error()
	}
	return "exit status 0"
}
