package tool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func env(args ...string) (*Env, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return NewEnv("pv-x", args, strings.NewReader(""), &out, &err), &out, &err
}

type told struct{ error }

func (told) Told() bool { return true }

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{nil, 0, ""},
		{ErrPartial, 3, ""},
		{ErrTold, 1, ""},
		{fmt.Errorf("a: %w", told{errors.New("x")}), 1, ""},
		{fmt.Errorf("write: %w", syscall.EPIPE), 1, ""},
		{Usagef("no key"), 2, "pv-x: no key (see pv-x -h)\n"},
		{errors.New("a\x1b[2Jb\nc"), 1, "pv-x: a\\x1b[2Jb\\nc\n"},
		{fmt.Errorf("open: %w", &Hint{errors.New("gone"), "mount it"}), 1, "pv-x: open: gone\npv-x: hint: mount it\n"},
	} {
		e, _, stderr := env()
		if got := e.Status(c.err); got != c.status || stderr.String() != c.text {
			t.Errorf("%v: status %d, %q; want %d, %q", c.err, got, stderr, c.status, c.text)
		}
	}
	e, _, _ := env()
	e.Warn("left out")
	if e.Status(nil) != 3 {
		t.Error("a warning does not show in the status")
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args, words []string
		k           string
		fails       bool
	}{
		{[]string{"a", "-k", "K", "b"}, []string{"a", "b"}, "K", false},
		{[]string{"a", "--", "-k", "b"}, []string{"a", "-k", "b"}, "", false},
		{[]string{"--k=x", "--", "--"}, []string{"--"}, "x", false},
		{[]string{"-z"}, nil, "", true},
	} {
		e, _, _ := env(c.args...)
		fs := e.Flags()
		k := fs.String("k", "", "")
		words, err := e.Parse(fs, "usage")
		var usage *UsageError
		if c.fails != errors.As(err, &usage) || !c.fails && (!slices.Equal(words, c.words) || *k != c.k) {
			t.Errorf("%q: %q, k=%q, %v", c.args, words, *k, err)
		}
	}
	e, stdout, _ := env("-h")
	_, err := e.Parse(e.Flags(), "usage: x\n")
	if e.Status(err) != 0 || !strings.HasPrefix(stdout.String(), "usage: x\n") {
		t.Errorf("-h: %v, %q", err, stdout)
	}
}

func TestVersion(t *testing.T) {
	e, stdout, _ := env("--version", "x")
	_, err := e.Parse(e.Flags(), "usage")
	if e.Status(err) != 0 || stdout.String() != version("pv-x") {
		t.Errorf("%v, %q", err, stdout)
	}
}

func TestVerbosity(t *testing.T) {
	for flag, want := range map[string]string{"": "pv-x: n\n", "-q": "", "-v": "pv-x: d k=1\npv-x: n\n"} {
		e, _, stderr := env(strings.Fields(flag)...)
		if _, err := e.Parse(e.Flags(), ""); err != nil {
			t.Fatal(err)
		}
		e.Log.Debug("d", "k", 1)
		e.Notice("n")
		if stderr.String() != want {
			t.Errorf("%s: %q, want %q", flag, stderr, want)
		}
	}
}

func TestCleanupRunsOnce(t *testing.T) {
	e, _, _ := env()
	n := 0
	e.OnExit(func() { n++ })
	e.OnExit(func() { n += 100 })()
	e.Cleanup()
	e.Cleanup()
	if n != 1 {
		t.Fatal(n)
	}
}

// kept are files whose descriptor has another owner: collecting them would close it.
var kept []*os.File

// Asking whether a file is a terminal must leave it able to have deadlines: a
// dead connection would else hold a sink for ever.
func TestInputKeepsDeadlines(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	stdin := os.NewFile(uintptr(fds[0]), "stdin") // blocking, as a process finds it
	kept = append(kept, stdin)
	defer unix.Close(fds[1])
	e := NewEnv("pv-x", nil, pollable(stdin), io.Discard, io.Discard)
	in, err := e.Input()
	if err != nil {
		t.Fatal(err)
	}
	defer in.(*os.File).Close()
	if err := in.(*os.File).SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// A command that needs no key closes the one that is handed on, and nothing else.
func TestDropKey(t *testing.T) {
	hold := func(name string) int {
		fd, err := unix.MemfdCreate(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	isOpen := func(fd int) bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	e, _, _ := env()
	held, other := hold("key"), hold("other")
	defer unix.Close(other)
	for _, name := range []string{"", "master.key", "/proc/self/fd/x", "/proc/self/fd/1", fmt.Sprintf("/proc/self/fd/%d", other)} {
		t.Setenv("PV_KEY", name)
		e.DropKey()
		if !isOpen(held) || !isOpen(other) {
			t.Fatalf("%q: closed", name)
		}
	}
	t.Setenv("PV_KEY", fmt.Sprintf("/proc/self/fd/%d", held))
	e.DropKey()
	if isOpen(held) {
		t.Error("the key is open")
	}
}
