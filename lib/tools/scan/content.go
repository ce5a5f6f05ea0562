package scan

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"preserve/lib/content"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// nameFlag adds the flag that names what comes on stdin. A name that is empty is an error, since it would
// be taken for none: a variable that is not set.
func nameFlag(fs *flag.FlagSet) *string {
	var stdin string
	fs.Func("stdin", "", func(name string) error {
		switch {
		case name == "":
			return errors.New("a file needs a name")
		case stdin != "":
			return errors.New("a stream has one such file: make a stream for each, and join them with pv-join")
		}
		stdin = name
		return nil
	})
	return &stdin
}

// alone refuses the flags that are about paths.
func alone(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if name := f.Name; name != "stdin" && name != "v" && name != "q" {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			err = tool.Usagef("%s%s does not go with --stdin: it is about paths", dashes, name)
		}
	})
	return err
}

// stdin writes an uncut content stream of stdin, or of what a command writes, as a file of that name.
func stdin(env *tool.Env, name string, command []string) error {
	path, err := storedName(name)
	if err != nil {
		return tool.Usagef("--stdin %s: %s", name, err)
	}
	var in io.Reader
	if len(command) == 0 {
		if in, err = env.Input(); err != nil {
			return err
		}
	}
	out, err := env.Records()
	if err != nil {
		return err
	}
	s := &scanner{env: env, w: rec.NewWriter(out)}
	return s.w.Close(env.Name, s.stdin(path, in, command))
}

// storedName makes a path of a name on the command line.
func storedName(name string) (string, error) {
	path := strings.TrimLeft(name, "/")
	if path == "" {
		return "", fmt.Errorf("%w: a file needs a name", rec.ErrPath)
	}
	return path, rec.CheckPath(path)
}

// errEmpty is what an empty stdin most likely means.
var errEmpty = errors.New("stdin is empty: what should have written to it has failed, most likely (a file that is empty can be backed up as a file)")

// stdin writes one file, the directories above it, and what is read.
func (s *scanner) stdin(path string, in io.Reader, command []string) error {
	h := head(nil)
	h.Kind = rec.Content
	w, err := content.NewWriter(s.w, *h)
	if err != nil {
		return err
	}
	s.w.Tick(nil, w.Progress)
	owner := rec.Entry{Type: rec.Dir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), MTime: h.Time}
	s.owners.Add(&owner)
	if err := w.Names(s.owners.Names()); err != nil {
		return err
	}
	for i := range path {
		if path[i] == '/' {
			dir := owner
			dir.Path, dir.Way = path[:i], true
			if err := w.Entry(&dir); err != nil {
				return err
			}
		}
	}
	wait := func() error { return nil }
	if len(command) > 0 {
		if in, wait, err = s.start(command); err != nil {
			return err
		}
	}
	e := owner
	e.Path, e.Type, e.Mode = path, rec.File, 0o600
	w.Begin(&e)
	size, err := w.ReadFrom(in)
	if err != nil {
		return fmt.Errorf("read %s: %w", rec.Quote(path), err)
	}
	if err := wait(); err != nil {
		return err
	}
	if size == 0 && len(command) == 0 {
		return errEmpty
	}
	if err := w.Done(uint64(size), false); err != nil {
		return err
	}
	return w.Finish(false)
}

// start runs a command whose stdout is to be read; wait says how it ended. If this
// program is killed, however, the system ends the command: it stays in its process
// group, so that it can ask for a password at the terminal.
func (s *scanner) start(command []string) (out io.Reader, wait func() error, err error) {
	c := exec.Command(command[0], command[1:]...)
	c.Stderr = s.env.Stderr
	name := rec.Quote(command[0])
	if out, err = c.StdoutPipe(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	// The signal comes when the thread ends that has started the command: it is held.
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- c.Start()
		<-ended
	}()
	if err := <-started; err != nil {
		close(ended)
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	return out, func() error {
		defer close(ended)
		if err := c.Wait(); err != nil {
			return fmt.Errorf("%s failed, and what it wrote is not stored: %w", name, err)
		}
		return nil
	}, nil
}
