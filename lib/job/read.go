package job

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// A Reading is what a run that reads one snapshot, or a list of them, is asked for.
type Reading struct {
	Verb     string // restore, list or verify
	Repo     remote.Address
	Key      string
	Trust    []string // options that say which writers are believed
	Snapshot string   // as the user named it; empty: the list
	Options  []string // of pv-unpack, or of pv-open
	Show     []string // of pv-ls, for a list of what is in a snapshot
	Words    []string // and what follows them
	Part     bool     // ask for what is needed, and no more
	Meta     bool     // no content is needed
}

// Passes of a run that reads.
const (
	passWhole = "whole" // pv-get | pv-unpack, or pv-open
	passPart  = "part"  // which asks
	passList  = "list"  // pv-get | pv-open: the list of snapshots
)

// Read begins a run that reads.
func Read(env *tool.Env, talk string, q Reading) (*Run, error) {
	return once(env, q.Verb, talk, func(r *Run) error {
		stage := "unpack"
		if q.Verb == "list" || q.Verb == "verify" {
			stage = "open"
		}
		r.Targets = []*Target{{Repo: q.Repo, Where: q.Repo.Where()}}
		open := slices.Concat(r.talk(), []string{"-k", q.Key}, q.Trust)
		if q.Snapshot == "" {
			r.Passes = []string{passList}
			if err := r.arguments("get", slices.Concat(r.talk(), []string{"--snapshots", "--", q.Repo.Text})...); err != nil {
				return err
			}
			return r.arguments(stage, slices.Concat(open, []string{"--snapshots"}, q.Options)...)
		}
		id, err := r.Resolve(q.Repo, q.Key, q.Trust, q.Snapshot)
		if err != nil {
			return err
		}
		if q.Options, err = r.keepList(q.Options); err != nil {
			return err
		}
		open = slices.Concat(open, []string{"--snapshot", id}, q.Options)
		if len(q.Show) > 0 {
			if err := r.arguments("ls", slices.Concat(r.talk(), q.Show)...); err != nil {
				return err
			}
		}
		if q.Part {
			r.Passes = []string{passPart}
			return r.arguments(stage, slices.Concat(open, []string{"--from", asked(q.Repo, r.talk()), "--"}, q.Words)...)
		}
		r.Passes = []string{passWhole}
		get := slices.Concat(r.talk(), []string{"--", q.Repo.Text, id})
		if q.Meta {
			get = slices.Concat(r.talk(), []string{"--meta", "--", q.Repo.Text, id})
		}
		if err := r.arguments("get", get...); err != nil {
			return err
		}
		return r.arguments(stage, slices.Concat(open, []string{"--"}, q.Words)...)
	})
}

// asked is the command that pv-open asks for what it needs.
func asked(a remote.Address, talk []string) string {
	name := a.Text
	if !a.Remote() {
		name = a.Path
	}
	return remote.Quote(slices.Concat([]string{"pv-get"}, talk, []string{name, "--blobs", "-"})...)
}

// keepList puts a file in the place of a list that comes on stdin: stages run in the background, which
// have none.
func (r *Run) keepList(options []string) ([]string, error) {
	const stdin = "--files-from=-"
	at := slices.Index(options, stdin)
	if at < 0 {
		return options, nil
	}
	if slices.Contains(options[at+1:], stdin) {
		return nil, tool.Usagef("--files-from: stdin can be read once")
	}
	name, err := r.slurp()
	options = slices.Clone(options)
	options[at] = "--files-from=" + name
	return options, err
}

// once makes a run that is no job's.
func once(env *tool.Env, verb, talk string, prepare func(*Run) error) (*Run, error) {
	sweep(os.TempDir(), "preserve."+runPrefix)
	r, err := newRun(env, "")
	if err != nil {
		return nil, err
	}
	r.Verb, r.Talk = verb, talk
	if err = prepare(r); err == nil {
		err = r.save()
	}
	if err != nil {
		_ = os.RemoveAll(r.dir)
		return nil, err
	}
	return r, nil
}

// Resolve returns the full id of a snapshot that the user names: an id, the beginning of
// one, a label or latest.
func (r *Run) Resolve(a remote.Address, keyFile string, trust []string, name string) (string, error) {
	if name == "" {
		return "", tool.Usagef("the snapshot is empty: give an id, the beginning of one, a label or latest")
	}
	if id := strings.ToLower(name); isID(id) {
		return id, nil
	}
	var out bytes.Buffer
	if err := r.snapshots(a, &out, slices.Concat([]string{"-k", keyFile}, trust, []string{"--pick", name})...); err != nil {
		return "", err
	}
	id := strings.TrimSpace(out.String())
	if !isID(id) {
		return "", fmt.Errorf("%s: no snapshot is called %q", a, name)
	}
	return id, nil
}

// snapshots runs pv-get --snapshots | pv-open --snapshots, with options for the second, and writes
// what that prints to out.
func (r *Run) snapshots(a remote.Address, out io.Writer, options ...string) error {
	get := exec.Command("pv-get", slices.Concat(r.talk(), []string{"--snapshots", "--", a.Text})...)
	open := exec.Command("pv-open", slices.Concat(r.talk(), []string{"--snapshots"}, options)...)
	get.Stderr, open.Stderr, open.Stdout = r.env.Stderr, r.env.Stderr, out
	pipe, err := get.StdoutPipe()
	if err != nil {
		return err
	}
	open.Stdin = pipe
	if err := get.Start(); err != nil {
		return err
	}
	defer r.env.OnExit(func() { _ = get.Process.Signal(os.Interrupt) })()
	err = open.Run()
	_ = pipe.Close()
	_ = get.Wait() // pv-open knows what its stream was worth
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 3:
		r.notWhole = true
		return nil
	case exit != nil && exit.ExitCode() == 2:
		return &tool.UsageError{Text: "pv-open does not understand its arguments"}
	case exit != nil:
		return ErrFailed
	}
	return err
}

// CopyRequest is what a copy is asked for.
type CopyRequest struct {
	From, To  remote.Address
	Key       string
	Snapshots []string // as the user names them; none: all that To lacks
}

// maxHas is how many ids one question to pv-get --has holds: pv-serve bounds its commands.
const maxHas = 500

// CopySnapshots begins a copy.
func CopySnapshots(env *tool.Env, talk string, q CopyRequest) (*Run, error) {
	return once(env, "copy", talk, func(r *Run) error {
		c := &Copy{}
		r.Copy = c
		for _, a := range []remote.Address{q.From, q.To} {
			r.Targets = append(r.Targets, &Target{Repo: a, Where: a.Where(), Has: map[string]bool{}})
		}
		l := &list{all: true, allow: true}
		if err := r.list(q.From, l); err != nil {
			return err
		}
		c.Order = l.ids
		c.Wanted = c.Order
		if len(q.Snapshots) > 0 {
			c.Wanted = nil
		}
		for _, name := range q.Snapshots {
			if q.Key == "" && !isID(name) {
				return tool.Usagef("without a key the snapshot is a full id, not %q", name)
			}
			id, err := r.Resolve(q.From, q.Key, nil, name)
			if err != nil {
				return err
			}
			c.Wanted = append(c.Wanted, id)
		}
		return r.has(unique(slices.Concat(c.Order, c.Wanted)))
	})
}

// has asks which of the snapshots the second target has. If it does not say: none.
func (r *Run) has(ids []string) error {
	for part := range slices.Chunk(ids, maxHas) {
		err := r.Targets[1].inquire(r, part)
		if errors.Is(err, errRefused) || errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
