package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// A VerifyRequest is what a verification of several snapshots is asked for.
type VerifyRequest struct {
	Repo      remote.Address
	Key       string
	Trust     []string // options that say which writers are believed
	Allow     bool     // revoked ones too
	Snapshots []string // as the user names them; none: all
	Options   []string // of pv-open
}

// Verify begins a run that checks several snapshots, and reads the data that they share once. Of all
// snapshots those that do not open are passed over: whoever may add can store such. So are those of
// revoked writers, unless they are allowed.
func Verify(env *tool.Env, talk string, q VerifyRequest) (*Run, error) {
	return once(env, "verify", talk, func(r *Run) error {
		var ids []string
		for _, name := range q.Snapshots {
			id, err := r.Resolve(q.Repo, q.Key, q.Trust, name)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if len(q.Snapshots) == 0 {
			l := &list{allow: q.Allow}
			if err := r.list(q.Repo, l, slices.Concat([]string{"-k", q.Key}, q.Trust)...); err != nil {
				return err
			}
			if ids = l.ids; l.revoked > 0 {
				r.env.Notice("passed over: %d snapshots of revoked writers", l.revoked)
			}
			if l.unread > 0 {
				snapshots := "snapshots"
				if l.unread == 1 {
					snapshots = "snapshot"
				}
				r.env.Say("passed over: %d %s that the key does not open, or that no writer of its master signed; the first: %s: %s", l.unread, snapshots, l.first, l.why)
			}
			if l.partial > 0 {
				r.env.Say("passed over: %s listed as if whole", plural(l.partial, "checkpoint of a run that did not end,", "checkpoints of runs that did not end,"))
			}
			if r.notWhole { // what is wrong was named
				r.Worst = 3
			}
		}
		if len(ids) == 0 {
			return fmt.Errorf("%s: there is no snapshot to verify", q.Repo)
		}
		args := slices.Concat(r.talk(), []string{"-k", q.Key}, q.Trust, q.Options, []string{"--from", asked(q.Repo, r.talk())})
		for _, id := range unique(ids) {
			args = append(args, "--snapshot", id)
		}
		r.Passes = []string{passPart}
		return r.arguments("open", args...)
	})
}

// A list is what a list of snapshots says of them. It takes the lines that pv-open --snapshots
// prints. One may have megabytes, of sources; there is never more than one in memory.
type list struct {
	ids        []string // of those that the key opens and that count; without a key, of all
	allow      bool     // those of revoked writers count, too
	revoked    int      // others, of revoked writers
	unread     int      // and those that do not open
	first, why string   // of those
	partial    int      // and parts of runs
	all        bool     // what does not open counts, too: there is no key

	part []byte
}

// maxListLine is more than any line has.
const maxListLine = 64 << 20

// errListLine is a line that no list has.
var errListLine = errors.New("not a line of a list of snapshots")

func (l *list) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		text, rest, whole := bytes.Cut(p, []byte{'\n'})
		if len(l.part)+len(text) > maxListLine {
			return 0, fmt.Errorf("%w: more than %d bytes", errListLine, maxListLine)
		}
		l.part = append(l.part, text...)
		if !whole {
			break
		}
		if err := l.line(l.part); err != nil {
			return 0, err
		}
		l.part, p = l.part[:0], rest
	}
	return n, nil
}

func (l *list) line(text []byte) error {
	var line struct {
		ID      string
		Revoked bool
		Unread  string
		Partial bool
	}
	if err := json.Unmarshal(text, &line); err != nil || !isID(line.ID) {
		return fmt.Errorf("%w: %.100q", errListLine, text)
	}
	switch {
	case line.Unread != "" && !l.all:
		if l.unread++; l.unread == 1 {
			l.first, l.why = line.ID, line.Unread
		}
	case line.Revoked && !l.allow:
		l.revoked++
	case line.Partial && !l.all:
		l.partial++
	default:
		l.ids = append(l.ids, line.ID)
	}
	return nil
}

// end reports whether the last line was whole.
func (l *list) end() error {
	if len(l.part) > 0 {
		return fmt.Errorf("%w: it has no newline", errListLine)
	}
	return nil
}

// list fills in l for a repository.
func (r *Run) list(a remote.Address, l *list, options ...string) error {
	err := r.snapshots(a, l, options...)
	if err == nil {
		err = l.end()
	}
	if errors.Is(err, errListLine) {
		err = fmt.Errorf("%s: read the list of snapshots: %w", a, err)
	}
	return err
}
