package job

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// A RecoverRequest is what a recovery is asked for: a restore with a key that lies wrapped in the
// repository.
type RecoverRequest struct {
	Repo       remote.Address
	Held       string // the name of the opened key, when pv-key hold has it; else empty
	Name       string // of the wrapped key; empty: the only one
	Passphrase string // the file that has it; empty: pv-key asks
	Keep       string // where the opened key is to stay; empty: in memory only
	Trust      []string
	Snapshot   string
	Dir        string
}

// Recover begins a recovery. Without an opened key it fetches the wrapped one. If that is to
// stay in memory, the run is then locked (Locked): the script ends it, and begins again under
// pv-key hold.
func Recover(env *tool.Env, talk string, q RecoverRequest) (*Run, error) {
	if st, err := os.Stat(q.Passphrase); q.Passphrase != "" && (err != nil || st.IsDir()) {
		return nil, fmt.Errorf("passphrase file %s: not a file that can be read: nothing was done", q.Passphrase)
	}
	r := &Run{env: env, State: State{Talk: talk}}
	switch {
	case q.Held != "":
	case q.Keep != "":
		wrapped, err := r.wrapped(q)
		if err == nil {
			err = r.unwrap(q, wrapped)
		}
		if err != nil {
			return nil, err
		}
		q.Held = q.Keep
	default:
		return once(env, "recover", talk, func(r *Run) error {
			wrapped, err := r.wrapped(q)
			if err == nil {
				err = os.WriteFile(r.path(wrappedName), wrapped, 0o600)
			}
			if err != nil {
				return err
			}
			r.Locked = true
			// Of a key that is not kept pv-key has nothing to say. The script opens both files
			// and removes them.
			return r.arguments(unlockName, slices.Concat([]string{"-q", "-k", "/dev/fd/5", "--wrapped"}, q.secret())...)
		})
	}
	run, err := r.recover(q)
	if err != nil {
		r.kept(q.Keep)
		return nil, err
	}
	run.Kept = q.Keep
	return run, run.save()
}

// Names in the directory of a run that is locked: the wrapped key, and arguments for pv-key hold.
const (
	wrappedName = "wrapped"
	unlockName  = "unlock"
)

// secret is the options of pv-key that name the passphrase.
func (q RecoverRequest) secret() []string {
	if q.Passphrase == "" {
		return nil
	}
	return []string{"--passphrase-file=" + q.Passphrase}
}

// wrapped fetches the wrapped key.
func (r *Run) wrapped(q RecoverRequest) ([]byte, error) {
	if q.Name == "" {
		names, err := r.ask(q.Repo, limit(), "--keys")
		if err != nil {
			return nil, r.unanswered(q.Repo, err)
		}
		switch {
		case len(names) == 1 && names[0] == "":
			return nil, &tool.Hint{Err: fmt.Errorf("%s: holds no wrapped key", q.Repo),
				Text: "a copy of the key file restores (pv-restore -k), or the key on paper (pv-key from-paper)"}
		case len(names) > 1:
			return nil, tool.Usagef("there are several wrapped keys, choose one with --key: %s", strings.Join(names, " "))
		}
		q.Name = names[0]
	}
	var out bytes.Buffer
	if err := r.question(q.Repo, limit(), &out, "--key", q.Name); err != nil {
		return nil, r.unanswered(q.Repo, err)
	}
	return out.Bytes(), nil
}

// unanswered names what ask has left unsaid.
func (r *Run) unanswered(a remote.Address, err error) error {
	if errors.Is(err, errAbsent) || errors.Is(err, errRefused) {
		return fmt.Errorf("%s: %w", a, err)
	}
	return err
}

// unwrap has pv-key save the opened key.
func (r *Run) unwrap(q RecoverRequest, wrapped []byte) error {
	cmd := exec.Command("pv-key", slices.Concat([]string{"unwrap"}, r.talk(), []string{"-o", q.Keep}, q.secret())...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(wrapped), r.env.Stderr, r.env.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer r.env.OnExit(func() { _ = cmd.Process.Signal(os.Interrupt) })()
	var exit *exec.ExitError
	err := cmd.Wait()
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		return tool.ErrUsage
	case exit != nil:
		return ErrFailed
	}
	return err
}

// recover finds the snapshot, says whose it is and what else there is, and begins the restore.
func (r *Run) recover(q RecoverRequest) (*Run, error) {
	name := q.Snapshot
	if name == "" {
		name = "latest"
	}
	var out bytes.Buffer
	if err := r.snapshots(q.Repo, &out, slices.Concat([]string{"-k", q.Held}, q.Trust, []string{"-l", "--pick", name})...); err != nil && !isID(strings.ToLower(name)) {
		return nil, err
	}
	id := strings.ToLower(name) // it may be asked for though it is in no list
	asked := isID(id)
	for n, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		f := strings.SplitN(line, "\t", 5)
		if len(f) < 5 || !isID(f[0]) {
			continue
		}
		text := fmt.Sprintf("snapshot %.12s of %s, writer %s, host %s, label %s", f[0], f[1], f[2], f[3], f[4])
		if n == 0 && asked && f[0] != id {
			return nil, fmt.Errorf("%s: the list names snapshot %s, and %s was asked for", q.Repo, f[0], id)
		}
		if n == 0 {
			id = f[0]
			r.env.Notice("restoring %s", text)
			continue
		}
		r.env.Notice("there is also %s: %s", text, q.again(f[0]))
	}
	return Read(r.env, r.Talk, Reading{Verb: "recover", Repo: q.Repo, Key: q.Held, Trust: q.Trust, Snapshot: id, Words: []string{q.Dir}})
}

// again is the command that restores another snapshot.
func (q RecoverRequest) again(id string) string {
	words := []string{}
	add := func(name, value string) {
		if value != "" {
			words = append(words, remote.Quote(name, value))
		}
	}
	if q.Keep != "" {
		words = append(words, "pv-restore -r "+remote.Quote(q.Repo.Text)+" -k "+remote.Quote(q.Keep))
	} else {
		words = append(words, "pv-recover")
		add("--key", q.Name)
		add("--passphrase-file", q.Passphrase)
	}
	for _, o := range q.Trust {
		words = append(words, remote.Quote(o))
	}
	if q.Keep != "" {
		return strings.Join(append(words, id, "NEWDIR"), " ")
	}
	return strings.Join(append(words, remote.Quote(q.Repo.Text), "NEWDIR", id), " ")
}

// kept says where the key is, after a restore that has failed.
func (r *Run) kept(file string) {
	if file != "" {
		r.env.Say("the key is kept in %s: go on with pv-restore -k", file)
	}
}
