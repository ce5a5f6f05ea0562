// Package tool is one run of one command: its arguments and streams, its flags,
// its messages, its exit status, and an end that leaves no temporaries behind.
// It knows no record and no file format.
//
// Exit status, for every command:
//
//	0  done
//	1  failed, nothing committed
//	2  a wrong command line, nothing read or written
//	3  done, but something was left out or differs, each named on stderr
package tool

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/confine"
	"preserve/lib/visible"
)

// An Env is one run of a command. Tests make their own.
type Env struct {
	Name   string
	Args   []string // without the command's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Log    *slog.Logger // diagnostics: Debug is shown with -v

	own      bool // the process is this run's alone
	cleaning sync.Mutex
	signal   atomic.Bool // one has come that ends the run: what fails now fails for that
	saying   sync.Mutex  // a write to stderr may wait for good: nothing else waits for it
	mu       sync.Mutex
	level    slog.LevelVar
	cleanups map[int]func()
	next     int
	warned   bool
	version  bool
	talk     string
}

// Errors that decide the exit status.
var (
	// ErrPartial ends a run with exit status 3 and without a further message.
	ErrPartial = errors.New("done, but something was left out")
	// ErrTold ends a run with exit status 1 and without a further message.
	ErrTold = errors.New("failed; told already")
	// ErrUsage ends a run with exit status 2 and without a further message.
	ErrUsage = errors.New("a wrong command line; told already")
	// errHelp ends a run with exit status 0.
	errHelp = errors.New("help")
)

// A UsageError is a wrong command line: exit status 2.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// A Hint is an error with a second line that names the fix.
type Hint struct {
	Err  error
	Text string
}

func (h *Hint) Error() string { return h.Err.Error() }
func (h *Hint) Unwrap() error { return h.Err }

// Told is implemented by errors that another stage has reported already.
type Told interface{ Told() bool }

// NewEnv returns an Env over the given streams.
func NewEnv(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) *Env {
	e := &Env{Name: name, Args: args, Stdin: stdin, Stdout: stdout, Stderr: stderr, cleanups: map[int]func(){}}
	e.Log = slog.New(handler{e})
	return e
}

// Main runs a command in the process's own environment and exits.
func Main(name string, run func(*Env) error) {
	// Several stages run side by side on one machine. Their large buffers are
	// pooled, so that collecting often costs little and keeps them small.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(30)
	}
	// Where little is alive, as while unchanged entries pass, that would be for each
	// megabyte. Memory that is never touched counts, and takes none of the machine.
	ballast := make([]byte, 16<<20)
	e := NewEnv(name, os.Args[1:], pollable(os.Stdin), os.Stdout, os.Stderr)
	e.own = true
	// A Go program that writes to a closed stdout dies on the spot, even
	// after a commit. With the signal caught, the write returns EPIPE.
	quit := make(chan os.Signal, 4)
	signal.Notify(quit, ends()...)
	go func() {
		for s := range quit {
			if s != syscall.SIGPIPE {
				e.signal.Store(true)
				e.Cleanup()
				os.Exit(1)
			}
		}
	}()
	status := e.Status(run(e))
	e.Cleanup()
	runtime.KeepAlive(ballast)
	os.Exit(status)
}

// ends returns the signals that end a run. A hangup or an interrupt that is ignored
// when the command starts stays ignored: nohup, or a shell's background job, wants
// it so. The commands that it starts in turn inherit that.
func ends() []os.Signal {
	list := []os.Signal{syscall.SIGPIPE, syscall.SIGTERM}
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// pollable lets a read from a pipe or socket have a deadline.
func pollable(f *os.File) io.Reader {
	if !isPipe(f) {
		return f
	}
	Widen(f)
	if f.SetReadDeadline(time.Time{}) == nil {
		return f // whoever started us left it in this mode
	}
	fd := int(f.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// Blocking is stdin for another command to read: in the mode that commands expect.
func (e *Env) Blocking() io.Reader {
	if f, ok := e.Stdin.(*os.File); ok {
		control(f, func(fd uintptr) { _ = unix.SetNonblock(int(fd), false) }) // it fails only on a closed file
	}
	return e.Stdin
}

// Widen makes a pipe larger: fewer switches between the stages at its ends.
func Widen(f *os.File) {
	control(f, func(fd uintptr) {
		// The size is a wish: the system bounds it.
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20)
	})
}

// control calls fn with f's descriptor. File.Fd would make it blocking, and
// reads without a deadline.
func control(f *os.File, fn func(fd uintptr)) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(fn) // fails only on a closed file: then fn has nothing to do
	}
}

// Status prints what the user must know of err and returns the exit status.
func (e *Env) Status(err error) int {
	var usage *UsageError
	var told Told
	var hint *Hint
	switch {
	case err != nil && e.signal.Load():
		return 1
	case err == nil && e.warned, errors.Is(err, ErrPartial):
		return 3
	case err == nil, errors.Is(err, errHelp):
		return 0
	case errors.As(err, &usage):
		e.Say("%s (see %s -h)", usage.Text, e.Name)
		return 2
	case errors.Is(err, ErrUsage):
		return 2
	case errors.Is(err, ErrTold), errors.As(err, &told) && told.Told():
		return 1
	case errors.Is(err, syscall.EPIPE):
		// Whoever reads our output has gone, and says why.
		return 1
	}
	e.Say("%s", err.Error())
	if errors.As(err, &hint) {
		e.Say("hint: %s", hint.Text)
	}
	return 1
}

// Refuse is deferred by a command that writes a stream to stdout. If err is a wrong
// command line and stdout a pipe, it writes there what stream returns: the next stage
// then knows that the cause was told. A file or a terminal gets nothing.
func (e *Env) Refuse(err *error, stream func(name string) []byte) {
	var usage *UsageError
	if f, ok := e.Stdout.(*os.File); ok && errors.As(*err, &usage) && isPipe(f) {
		_, _ = f.Write(stream(e.Name)) // if nobody reads it nobody is misled
	}
}

// ErrOpen is a stdout that others may read.
var ErrOpen = errors.New("stdout can be read by others")

// Private returns ErrOpen, with a hint, if stdout is a file or a named pipe that others
// than its owner may read or write. A command asks before it prints a secret.
func (e *Env) Private() error {
	f, ok := e.Stdout.(*os.File)
	if !ok {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at stdout: %w", err)
	}
	mode := st.Mode()
	if !mode.IsRegular() && mode&os.ModeNamedPipe == 0 || mode.Perm()&0o077 == 0 {
		return nil
	}
	return &Hint{fmt.Errorf("%w (mode %04o): nothing was printed", ErrOpen, mode.Perm()),
		"remove the file and make it with umask 077, as in: (umask 077; COMMAND >FILE)"}
}

// Confine takes from the process what the rest of the run does not need (package
// confine), as far as the kernel can. A command calls it when it has opened what lies
// elsewhere, and not if it still has to run others.
func (e *Env) Confine(l confine.Limits) {
	if !e.own {
		return // a test, with others in its process
	}
	if err := confine.To(l); err != nil {
		e.Log.Debug(fmt.Sprintf("not confined: %v", err))
	}
}

// DropKey closes the key that pv-key hold hands on to all that it starts. A command that
// needs no key calls it first: neither it nor what it starts has one then.
func (e *Env) DropKey() {
	name := os.Getenv("PV_KEY")
	n, err := strconv.Atoi(strings.TrimPrefix(name, "/proc/self/fd/"))
	if err != nil || n <= 2 {
		return
	}
	// Another file may have the number, if somebody between has closed the key.
	if link, err := os.Readlink(name); err == nil && link == HeldKey {
		_ = unix.Close(n)
	}
}

// HeldKey is what the system calls a key that is held (package key, Hold).
const HeldKey = "/memfd:key (deleted)"

// isPipe reports whether f is a pipe or a socket.
func isPipe(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// Say prints one line on stderr in one write, masked.
func (e *Env) Say(format string, args ...any) {
	line := e.Name + ": " + Mask(fmt.Sprintf(format, args...)) + "\n"
	e.saying.Lock()
	defer e.saying.Unlock()
	_, _ = io.WriteString(e.Stderr, line) // there is nobody left to tell
}

// Warn says that something was left out or differs: the run ends with exit
// status 3.
func (e *Env) Warn(format string, args ...any) {
	e.Say(format, args...)
	e.mu.Lock()
	e.warned = true
	e.mu.Unlock()
}

// Warned reports whether Warn was called.
func (e *Env) Warned() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.warned }

// SetWarned lets the run end with exit status 3, for what was said elsewhere.
func (e *Env) SetWarned() { e.mu.Lock(); e.warned = true; e.mu.Unlock() }

// Notice says something that is normal; -q silences it.
func (e *Env) Notice(format string, args ...any) { e.Log.Info(fmt.Sprintf(format, args...)) }

// Mask escapes what does not show, or could play tricks on a terminal (package visible).
func Mask(s string) string { return visible.Text(s) }

// OnExit registers fn to be run when the command ends, by itself or by a
// signal, and returns a function that takes it back.
func (e *Env) OnExit(fn func()) (cancel func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.next
	e.next++
	e.cleanups[n] = fn
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.cleanups, n)
	}
}

// Cleanup runs what OnExit registered, once, and returns when all of it is done,
// whoever does it.
func (e *Env) Cleanup() {
	e.cleaning.Lock()
	defer e.cleaning.Unlock()
	e.mu.Lock()
	fns := e.cleanups
	e.cleanups = map[int]func(){}
	e.mu.Unlock()
	for _, fn := range fns {
		fn()
	}
}

// Flags returns a set of flags with -v, -q and -version in it. Parse it with Env.Parse.
func (e *Env) Flags() *flag.FlagSet {
	fs := flag.NewFlagSet(e.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.BoolFunc("v", "say more", func(string) error { e.level.Set(slog.LevelDebug); e.talk = "-v"; return nil })
	fs.BoolFunc("version", "print the version", func(string) error { e.version = true; return nil })
	fs.BoolFunc("q", "say only errors and warnings", func(string) error { e.level.Set(slog.LevelWarn); e.talk = "-q"; return nil })
	return fs
}

// Parse reads the command line: flags before, between and after the other
// words, which it returns. "--" ends the flags; "@FILE" before it stands for the
// arguments in FILE. With -h it prints usage on
// stdout, with -version the version, and returns an error that ends the run with
// exit status 0.
func (e *Env) Parse(fs *flag.FlagSet, usage string) ([]string, error) {
	var words []string
	args, err := expand(e.Args)
	if err != nil {
		return nil, err
	}
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return nil, e.help(usage + common)
		}
		if e.version {
			return nil, e.help(version(e.Name))
		}
		if err != nil {
			return nil, &UsageError{flagError(err)}
		}
		rest := fs.Args()
		done := len(args) - len(rest)
		if done > 0 && args[done-1] == "--" || len(rest) == 0 {
			return append(words, rest...), nil
		}
		words = append(words, rest[0])
		args = rest[1:]
	}
}

// Talk is -v or -q, whichever was given last, for another command to be given too; or
// empty.
func (e *Env) Talk() string { return e.talk }

// Hush makes this run talk as another was told to by its -v or -q.
func (e *Env) Hush(talk string) {
	e.talk = talk
	switch talk {
	case "-v":
		e.level.Set(slog.LevelDebug)
	case "-q":
		e.level.Set(slog.LevelWarn)
	}
}

// A FlagSet is the flags of one command: Env.Flags makes it, Env.Parse reads it.
type FlagSet = flag.FlagSet

// flagError is an error of package flag in our words.
func flagError(err error) string {
	text := err.Error()
	if name, is := strings.CutPrefix(text, "flag provided but not defined: "); is {
		return "unknown option " + dashed(name)
	}
	if name, is := strings.CutPrefix(text, "flag needs an argument: "); is {
		return dashed(name) + " needs an argument"
	}
	if value, rest, is := strings.Cut(text, " for flag -"); is && strings.HasPrefix(value, "invalid value ") {
		name, why, _ := strings.Cut(rest, ": ")
		return dashed("-"+name) + ": " + strings.TrimPrefix(value, "invalid value ") + ": " + why
	}
	return text
}

// dashed writes -name as people do: --name, or -n.
func dashed(name string) string {
	if len(name) > 2 {
		return "-" + name
	}
	return name
}

// common ends the usage of every command.
const common = `  --version  print the version
  @FILE      the arguments in FILE, one a line, or NUL-separated

exit status: 0 done; 1 failed, nothing committed; 2 wrong command line; 3 done,
but something was left out or differs, and was named
`

func (e *Env) help(text string) error {
	if _, err := io.WriteString(e.Stdout, text); err != nil {
		return err
	}
	return errHelp
}

// Records returns stdout for records: a terminal is refused, a pipe widened.
func (e *Env) Records() (io.Writer, error) {
	if f, ok := e.Stdout.(*os.File); ok {
		if IsTerminal(f) {
			return nil, Usagef("records go to stdout, which is a terminal: add a pipe or a file")
		}
		Widen(f)
	}
	return e.Stdout, nil
}

// Input returns stdin for records: a terminal is refused.
func (e *Env) Input() (io.Reader, error) {
	if f, ok := e.Stdin.(*os.File); ok && IsTerminal(f) {
		return nil, Usagef("records come from stdin, which is a terminal: add a pipe or a file")
	}
	return e.Stdin, nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	is := false
	control(f, func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		is = err == nil
	})
	return is
}
