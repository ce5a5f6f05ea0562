package tee

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"preserve/lib/tool"
)

// errNone ends the reading: there is nobody left to read for.
var errNone = errors.New("no command is left")

// A fan is all commands.
type fan struct {
	targets []*target
	out     lines
}

// write gives a copy of p to every command that is alive, and waits for room.
func (f *fan) write(p []byte) error {
	block := bytes.Clone(p)
	alive := 0
	for _, t := range f.targets {
		if t.give(block) {
			alive++
		}
	}
	if alive == 0 {
		return errNone
	}
	return nil
}

// verdict ends all commands and reports. err is that of the stream: then what they
// were given is no whole stream, which they know, too.
func (f *fan) verdict(env *tool.Env, err error) error {
	for _, t := range f.targets {
		t.end()
	}
	status := make([]int, len(f.targets))
	var all sync.WaitGroup
	for i, t := range f.targets {
		all.Go(func() { status[i] = t.wait() })
	}
	all.Wait()
	done, left := 0, false
	for i, t := range f.targets {
		f.out.print(t.n, fmt.Sprintf("exit %d", status[i]))
		switch status[i] {
		case 0:
			done++
		case 3:
			done++
			left = true
		}
	}
	switch {
	case errors.Is(err, errNone), err == nil && done == 0:
		return tool.ErrTold // of each command it was said
	case err != nil:
		return err
	case done < len(f.targets):
		env.SetWarned()
	}
	if left {
		env.SetWarned() // each command has said what it left out
	}
	return f.out.err
}

// lines is stdout, which all commands share.
type lines struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

// print writes a line of command n, masked. Nobody may be listening: what the commands do
// counts all the same, and the error is told in the end.
func (l *lines) print(n int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fmt.Fprintf(l.w, "%d %s\n", n, tool.Mask(text)); l.err == nil {
		l.err = err
	}
}

// kill ends what still runs.
func (f *fan) kill() {
	for _, t := range f.targets {
		t.kill()
	}
}
