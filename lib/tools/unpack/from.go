package unpack

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"preserve/lib/box"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// from is what the user said of where blobs come from, and of links, which only
// that can replace.
type from struct {
	command string
	follow  bool
	unshare bool
}

func (f *from) flags(fs *flag.FlagSet) {
	fs.Func("from", "", func(s string) error {
		if f.command = s; s == "" {
			return errors.New("the command is empty")
		}
		return nil
	})
	fs.BoolVar(&f.follow, "dereference", false, "")
	fs.BoolVar(&f.unshare, "hard-dereference", false, "")
}

// check refuses what does not go with the mode, or with what is missing.
func (f *from) check(m *mode, told bool) error {
	switch {
	case f.command != "" && m.run == nil:
		return tool.Usagef("--from does not go with --%s", m.flag)
	case f.command != "" && !told:
		return tool.Usagef("--from needs --snapshot ID: the snapshot that is to be asked for")
	case f.command == "" && f.follow:
		return tool.Usagef("--dereference needs --from CMD: what a link leads to may have gone by in a stream, or is still to come")
	case f.command == "" && f.unshare:
		return tool.Usagef("--hard-dereference needs --from CMD: the content of a file has gone by in a stream when its further names come")
	}
	return nil
}

// A driven snapshot is asked for, blob by blob, of a command that answers as
// pv-get REPO --blobs - does.
type driven struct {
	env    *tool.Env
	from   from
	open   *box.Opener
	choose *chooser
}

// linger is how long a command may take to end once it has nothing more to say.
const linger = 5 * time.Second

// grace is how long what the command has left behind may hold its stderr: an ssh that keeps
// a connection open for others does so for good.
const grace = 2 * time.Second

func (d driven) walk(o walk.Options, s walk.Sink) error {
	o.Unshare = d.from.unshare
	if d.choose.picks() {
		o.Look = d.choose.look
	}
	if d.from.follow {
		o.Follow = func(e *rec.Entry, why error) {
			d.env.Warn("%s: stays a link to %s: %s", rec.Quote(e.Path), rec.Quote(e.Target), why)
		}
	}
	c, err := d.start()
	if err != nil {
		return fmt.Errorf("--from: start sh: %w", err)
	}
	defer d.env.OnExit(c.stop)()
	in := rec.NewReader(c.answers, rec.Sealed)
	in.SetStall(stall)
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

// A command runs, and its two pipes.
type command struct {
	cmd            *exec.Cmd
	wants, answers *os.File
	said           *tool.Lines // its stderr: it may come from another machine
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
	c := &command{exec.Command("sh", "-c", d.from.command), wantsW, answersR, &tool.Lines{Out: d.env.Stderr}}
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
