package tool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoTerminal says that there is nobody to ask.
var ErrNoTerminal = errors.New("there is no terminal to ask on")

// A Terminal is where the person is who started the command, whatever stdin and
// stdout are. Secrets are read from it and shown on it, and never get into a
// stream, a log or the list of processes.
type Terminal struct {
	file io.ReadWriteCloser
	in   *bufio.Reader
	fd   int // -1 if it is none, but what a test put in its place
}

// OpenTerminal opens the terminal of this process. The error is ErrNoTerminal.
func OpenTerminal() (*Terminal, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNoTerminal
	}
	return &Terminal{f, bufio.NewReader(f), int(f.Fd())}, nil
}

// Close closes it.
func (t *Terminal) Close() { _ = t.file.Close() }

// Show writes text.
func (t *Terminal) Show(format string, args ...any) error {
	_, err := fmt.Fprintf(t.file, format, args...)
	return err
}

// Ask shows a prompt and reads a line.
func (t *Terminal) Ask(prompt string) (string, error) {
	if err := t.Show("%s", prompt); err != nil {
		return "", err
	}
	line, err := t.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	return line, nil
}

// AskSecret is Ask without showing what is typed. onExit takes what must be done
// if a signal ends the command meanwhile: Env.OnExit.
func (t *Terminal) AskSecret(prompt string, onExit func(func()) func()) ([]byte, error) {
	if t.fd < 0 {
		s, err := t.Ask(prompt)
		return []byte(s), err
	}
	before, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return nil, ErrNoTerminal
	}
	restore := func() { _ = unix.IoctlSetTermios(t.fd, unix.TCSETSF, before) }
	defer onExit(restore)()
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETSF, &quiet); err != nil {
		return nil, fmt.Errorf("hide what is typed: %w", err)
	}
	defer restore()
	s, err := t.Ask(prompt)
	_ = t.Show("\n") // for the one that was not shown
	return []byte(s), err
}

// ReadSecret reads a secret from a file descriptor that the caller of the program
// opened: all of it, at most limit bytes.
func ReadSecret(fd, limit int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "")
	if f == nil {
		return nil, fmt.Errorf("file descriptor %d: %w", fd, os.ErrInvalid)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read file descriptor %d: %w", fd, errors.Unwrap(err))
	case len(b) > limit:
		return nil, fmt.Errorf("file descriptor %d: over %d bytes", fd, limit)
	}
	return bytes.TrimSpace(b), nil
}
