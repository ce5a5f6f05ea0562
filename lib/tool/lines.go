package tool

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// maxLine bounds a line of another's messages.
const maxLine = 4096

// Lines passes on what another command says, line by line, each masked as this run's own
// messages are: what comes from another machine does nothing on a terminal. Several
// goroutines may use it. Whoever makes one calls Flush when the command has ended.
type Lines struct {
	Out io.Writer
	// Strict ends Write with the errors of Out. Messages are written without: nobody may be
	// listening.
	Strict bool
	// Most bounds the bytes that are taken: then Write ends with ErrTooMuch. 0 is no bound.
	Most int64

	mu  sync.Mutex
	buf []byte
	all int64 // bytes taken
	err error // the first of Out
}

// ErrTooMuch is more text than was expected; how much that was follows.
var ErrTooMuch = errors.New("the answer has more than")

// Write takes any part of a text. A line of more than 4096 bytes is broken.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all += int64(len(p)); l.over() {
		return 0, ErrTooMuch
	}
	l.buf = append(l.buf, p...)
	rest := l.buf
	for {
		at := bytes.IndexByte(rest, '\n')
		if at < 0 && len(rest) < maxLine {
			break
		}
		if at < 0 || at > maxLine {
			l.print(rest[:maxLine])
			rest = rest[maxLine:]
			continue
		}
		l.print(rest[:at])
		rest = rest[at+1:]
	}
	l.buf = append(l.buf[:0], rest...)
	if l.Strict && l.err != nil {
		return 0, l.err
	}
	return len(p), nil
}

// Over reports whether there was more than Most.
func (l *Lines) Over() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.over() }

func (l *Lines) over() bool { return l.Most > 0 && l.all > l.Most }

// Flush passes on a line that has no end.
func (l *Lines) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > 0 {
		l.print(l.buf)
		l.buf = l.buf[:0]
	}
}

func (l *Lines) print(line []byte) {
	_, err := io.WriteString(l.Out, Mask(strings.TrimSuffix(string(line), "\r"))+"\n")
	if l.err == nil {
		l.err = err
	}
}
