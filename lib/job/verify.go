package job

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

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
// snapshots those of revoked writers are passed over, unless they are allowed.
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
			var out bytes.Buffer
			err := r.snapshots(q.Repo, &out, slices.Concat([]string{"-k", q.Key}, q.Trust)...)
			if err != nil {
				return err
			}
			var revoked int
			if ids, revoked, err = listed(&out, q.Allow); err != nil {
				return err
			}
			if revoked > 0 {
				r.env.Notice("passed over: %d snapshots of revoked writers", revoked)
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

// listed reads the lines that pv-open --snapshots prints: the ids of the snapshots, and how many
// others are of revoked writers.
func listed(in io.Reader, allow bool) (ids []string, revoked int, err error) {
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadString('\n')
		if err == io.EOF && strings.TrimSpace(text) == "" {
			return ids, revoked, nil
		}
		var line struct {
			ID      string
			Revoked bool
		}
		if jerr := json.Unmarshal([]byte(text), &line); jerr != nil || !isID(line.ID) {
			return nil, 0, fmt.Errorf("read the list of snapshots: %q is not a line of it", text)
		}
		if line.Revoked && !allow {
			revoked++
			continue
		}
		ids = append(ids, line.ID)
	}
}
