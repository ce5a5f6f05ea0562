// Package tee is pv-tee: one stream to several commands at once.
//
// One goroutine reads and checks the stream and hands its bytes, as they are, to
// a queue for each command; one goroutine for each command writes them to its
// stdin, another passes its stdout on. A command that is slower than the others
// slows them down to its pace once its queue is full; one that dies, or takes
// nothing for too long, is given up, and the others go on.
//
// In memory: the queues, at most queueBytes for each command, of blocks that all
// commands share.
package tee

import (
	"fmt"
	"io"
	"time"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

const usage = `usage: pv-tee [--stall DURATION] CMD… <stream >report

	… | pv-seal -k KEY | pv-tee 'pv-put /mnt/a' 'ssh host pv-put /srv/b'
	                     ^^^^^^

Give one stream to several commands, each of which sh -c runs. A command that dies
or hangs is given up, named, and the others go on. Their stdout comes out in lines
"N TEXT", where N is the place of the command, counted from 1, and behind it a line
for each command with its exit status: "N exit STATUS".

  --stall DURATION  give a command up when it takes nothing, or does not end, for
                    so long (default 15m)
  -v, -q            say more, say only errors and warnings

Exit status 0: all commands did it all; 3: some did not; 1: none did, or the stream
did not come whole.
`

// Run is pv-tee.
func Run(env *tool.Env) error {
	env.DropKey()
	fs := env.Flags()
	stall := tool.Duration(fs, "stall", 15*time.Minute)
	words, err := env.Parse(fs, usage)
	switch {
	case err != nil:
		return err
	case len(words) == 0:
		return tool.Usagef("no command given")
	case *stall <= 0:
		return tool.Usagef("--stall must be more than nothing")
	}
	for _, w := range words {
		if w == "" {
			return tool.Usagef("an empty command")
		}
	}
	in, err := env.Input()
	if err != nil {
		return err
	}
	f := &fan{out: lines{w: env.Stdout}}
	defer f.kill()
	defer env.OnExit(f.kill)()
	for n, cmd := range words {
		t, err := start(env, &f.out, n+1, cmd, *stall)
		if err != nil {
			return fmt.Errorf("start command %d, %q: %w", n+1, cmd, err)
		}
		f.targets = append(f.targets, t)
	}
	err = pass(in, f)
	return f.verdict(env, err)
}

// pass reads the stream to its end, and gives what it reads to the fan. An error
// is about the stream, or all commands are gone.
func pass(in io.Reader, f *fan) error {
	r, err := rec.ReadAny(tap{in, f})
	if err != nil {
		return err
	}
	r.Several()
	for {
		v, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Chunk:
			v.Free()
		case *rec.Blob:
			v.Free()
		}
	}
}

// A tap gives what is read to a fan, too.
type tap struct {
	in io.Reader
	to *fan
}

func (t tap) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	if n > 0 {
		if ferr := t.to.write(p[:n]); ferr != nil {
			return 0, ferr
		}
	}
	return n, err
}

// SetReadDeadline lets rec.Reader.SetStall work.
func (t tap) SetReadDeadline(d time.Time) error {
	if f, ok := t.in.(interface{ SetReadDeadline(time.Time) error }); ok {
		return f.SetReadDeadline(d)
	}
	return nil
}
