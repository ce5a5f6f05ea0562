package tool

import (
	"bytes"
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

	mu  sync.Mutex
	buf []byte
	err error // the first of Out
}

// Write takes any part of a text. A line of more than 4096 bytes is broken.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
