package scan

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"preserve/lib/rec"
	"preserve/lib/tarball"
	"preserve/lib/tool"
)

// contentModes are the flags with which pv-scan writes contents too.
type contentModes struct {
	stdin   string // the name of the file that stdin becomes
	fromTar bool
}

// flags adds the two. A name that is empty is an error, since it would be taken for
// none: a variable that is not set.
func (m *contentModes) flags(fs *flag.FlagSet) {
	fs.Func("stdin", "", func(name string) error {
		switch {
		case name == "":
			return errors.New("a file needs a name")
		case m.stdin != "":
			return errors.New("a stream has one such file: make a stream for each")
		}
		m.stdin = name
		return nil
	})
	fs.BoolVar(&m.fromTar, "from-tar", false, "")
}

func (m *contentModes) on() bool { return m.stdin != "" || m.fromTar }

// alone refuses the flags that are about paths.
func (m *contentModes) alone(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if name := f.Name; name != "stdin" && name != "from-tar" && name != "v" && name != "q" {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			err = tool.Usagef("%s%s does not go with --stdin or --from-tar: it is about paths", dashes, name)
		}
	})
	return err
}

// run writes an uncut content stream of stdin, or of what a command writes.
func (m *contentModes) run(env *tool.Env, words []string) error {
	var path string
	var err error
	switch {
	case m.stdin != "" && m.fromTar:
		return tool.Usagef("--stdin and --from-tar exclude each other")
	case m.fromTar && len(words) > 0:
		return tool.Usagef("--from-tar reads stdin, and takes no %q", words[0])
	case m.stdin != "":
		if path, err = storedName(m.stdin); err != nil {
			return tool.Usagef("--stdin %s: %s", m.stdin, err)
		}
	}
	var in io.Reader
	if len(words) == 0 {
		if in, err = env.Input(); err != nil {
			return err
		}
	}
	out, err := env.Records()
	if err != nil {
		return err
	}
	u := &uncut{out: rec.NewWriter(out)}
	s := &scan{env: env, w: u.out}
	if m.fromTar {
		err = s.tar(u, in)
	} else {
		err = s.stdin(u, path, in, words)
	}
	return u.out.Close(env.Name, err)
}

// storedName makes a path of a name on the command line.
func storedName(name string) (string, error) {
	path := strings.TrimLeft(name, "/")
	if path == "" {
		return "", fmt.Errorf("%w: a file needs a name", rec.ErrPath)
	}
	return path, rec.CheckPath(path)
}

// begin writes the head of a stream that comes from no directory.
func (s *scan) begin(u *uncut, progress func() (files, bytes uint64)) (rec.Time, error) {
	h := head(nil)
	h.Kind = rec.Content
	if err := s.w.Write(h); err != nil {
		return h.Time, err
	}
	s.w.Tick(nil, progress)
	return h.Time, nil
}

// finish writes the last cut and the end.
func (s *scan) finish(u *uncut, users, groups []rec.Name) error {
	if err := u.cut(); err != nil {
		return err
	}
	s.end.Entries, s.end.Bytes = u.files.Load(), u.length.Load()
	names, users, groups := rec.SplitNames(users, groups)
	for _, n := range names {
		if err := s.w.Write(n); err != nil {
			return err
		}
	}
	s.end.Users, s.end.Groups = users, groups
	return s.w.Write(&s.end)
}

// errEmpty is what an empty stdin most likely means.
var errEmpty = errors.New("stdin is empty: what should have written to it has failed, most likely (a file that is empty can be backed up as a file)")

// stdin writes one file, the directories above it, and what is read.
func (s *scan) stdin(u *uncut, path string, in io.Reader, command []string) error {
	now, err := s.begin(u, u.progress)
	if err != nil {
		return err
	}
	owner := rec.Entry{Type: rec.Dir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), MTime: now}
	s.owners.Add(&owner)
	for i := range path {
		if path[i] == '/' {
			dir := owner
			dir.Path, dir.Way = path[:i], true
			if err := u.entry(&dir); err != nil {
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
	size, err := u.stream(&e, in)
	if err != nil {
		return fmt.Errorf("read %s: %w", rec.Quote(path), err)
	}
	if err := wait(); err != nil {
		return err
	}
	if size == 0 && len(command) == 0 {
		return errEmpty
	}
	users, groups := s.owners.Names()
	return s.finish(u, users, groups)
}

// start runs a command whose stdout is to be read; wait says how it ended. If this
// program is killed, however, the system ends the command: it stays in its process
// group, so that it can ask for a password at the terminal.
func (s *scan) start(command []string) (out io.Reader, wait func() error, err error) {
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

// tar writes the entries and contents of a tar archive.
func (s *scan) tar(u *uncut, in io.Reader) error {
	read := &counted{}
	_, err := s.begin(u, func() (uint64, uint64) { return u.files.Load(), max(u.length.Load(), read.n.Load()) })
	if err != nil {
		return err
	}
	if f, ok := in.(*os.File); !ok || !isRegular(f) {
		read.in, in = in, read
	}
	a, err := tarball.Read(in, tarball.Options{Warn: s.Warn, Notice: func(text string) { s.env.Notice("%s", text) }, LookUp: lookUp})
	if err != nil {
		return fmt.Errorf("read tar archive: %w", err)
	}
	defer a.Close()
	for {
		f, err := a.Next()
		if err == io.EOF {
			break
		}
		if err == nil && f.Entry.Type == rec.File {
			err = u.file(f.Entry, f)
		} else if err == nil {
			err = u.entry(f.Entry)
		}
		if err != nil {
			return err
		}
	}
	users, groups := a.Names()
	return s.finish(u, users, groups)
}

func isRegular(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

// counted counts what is read, for ticks.
type counted struct {
	in io.Reader
	n  atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(uint64(n))
	return n, err
}

// lookUp asks the system for the id of a name in an access control list.
func lookUp(name string, isUser bool) (uint32, bool) {
	var text string
	if isUser {
		u, err := user.Lookup(name)
		if err != nil {
			return 0, false
		}
		text = u.Uid
	} else {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, false
		}
		text = g.Gid
	}
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil
}
