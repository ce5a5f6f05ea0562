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
			var out bytes.Buffer
			err := r.snapshots(q.Repo, &out, slices.Concat([]string{"-k", q.Key}, q.Trust)...)
			if err != nil {
				return err
			}
			var l list
			if l, err = listed(&out, q.Allow); err != nil {
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

// A list is what a list of snapshots says of them.
type list struct {
	ids        []string // of those that the key opens and that count
	revoked    int      // others, of revoked writers
	unread     int      // and those that do not open
	first, why string   // of those
}

// listed reads the lines that pv-open --snapshots prints.
func listed(in io.Reader, allow bool) (l list, err error) {
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadString('\n')
		if err == io.EOF && strings.TrimSpace(text) == "" {
			return l, nil
		}
		var line struct {
			ID      string
			Revoked bool
			Unread  string
		}
		if jerr := json.Unmarshal([]byte(text), &line); jerr != nil || !isID(line.ID) {
			return list{}, fmt.Errorf("read the list of snapshots: %q is not a line of it", text)
		}
		switch {
		case line.Unread != "":
			if l.unread++; l.unread == 1 {
				l.first, l.why = line.ID, line.Unread
			}
		case line.Revoked && !allow:
			l.revoked++
		default:
			l.ids = append(l.ids, line.ID)
		}
	}
}
