package gc

import (
	"bufio"
	"fmt"
	"time"

	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

const quarantineUsage = `usage: pv-gc quarantine REPO --as LABEL [--since TIME] [--forget]

Prints what came with a label: after the theft of a key that may put, what its thief
has stored. For each run of pv-put a line "put RUN TIME CLIENT", and then "snapshot",
"checkpoint", "segment" or "pack", and a name. It knows this from the log of puts, and
from the snapshots themselves.

  --as LABEL     the label that pv-serve --as gave the client; '' for none
  --since TIME   only runs that went on at that time or later: 2026-11-30,
                 2026-11-30T14:05, or 2026-11-30T14:05:00Z (without a zone: the
                 time here)
  --forget       mark these snapshots and checkpoints as forgotten
  -v, -q         say more, say only errors and warnings

REPO is a directory, or ssh://[user@]host[:port]/path: pv-gc runs there.
`

// quarantine tells what a label has stored, and lets it go if that is wanted.
func quarantine(env *tool.Env) error {
	f := env.Flags()
	as, since := f.String("as", "\x00", ""), f.String("since", "", "")
	forget := f.Bool("forget", false, "")
	words, err := env.Parse(f, quarantineUsage)
	switch {
	case err != nil:
		return err
	case len(words) != 1 || words[0] == "":
		return tool.Usagef("give a repository")
	case *as == "\x00":
		return tool.Usagef("give the label: --as LABEL")
	}
	from, err := parseTime(*since)
	if err != nil {
		return err
	}
	at, err := remote.Parse(words[0])
	if err != nil {
		return err
	}
	if at.Remote() {
		at.Verb = "quarantine"
		args := []string{"--as", *as}
		if *since != "" {
			args = append(args, "--since", from.UTC().Format(time.RFC3339))
		}
		if *forget {
			args = append(args, "--forget")
		}
		return at.Answer(env, "pv-gc", args...)
	}
	repo, err := store.Open(at.Path, store.Options{Warn: env.Warn, Note: env.Notice})
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Write: repo.Places()})
	list, err := repo.Uploads(*as, from)
	if list == nil && err != nil {
		return err
	}
	if err != nil {
		env.Warn("%v", err)
	}
	if err := printUploads(env, list); err != nil || !*forget {
		return err
	}
	var roots []id.ID
	for _, u := range list {
		roots = append(append(roots, u.Snapshots...), u.Checkpoints...)
	}
	m := marker{env, repo, true}
	return m.forget(roots)
}

func printUploads(env *tool.Env, list []*store.Upload) error {
	out := bufio.NewWriter(env.Stdout)
	say := func(kind string, ids []id.ID) {
		for _, i := range ids {
			fmt.Fprintf(out, "%s %s\n", kind, i) // Flush has the error
		}
	}
	for _, u := range list {
		put, client := u.Put, u.Client
		if put == "" {
			put = "-"
		}
		if client == "" {
			client = "-"
		}
		fmt.Fprintf(out, "put %s %s %s\n", put, u.First.UTC().Format(time.RFC3339), client)
		say("snapshot", u.Snapshots)
		say("checkpoint", u.Checkpoints)
		say("segment", u.Segments)
		say("pack", u.Packs)
		if n := u.Forgotten + u.Missing; n > 0 {
			env.Log.Debug(fmt.Sprintf("put %s: %d snapshots and checkpoints are marked as forgotten, %d are gone", put, u.Forgotten, u.Missing))
		}
	}
	return out.Flush()
}

// parseTime reads a day, or a time with or without a zone. Nothing is the beginning of time.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, tool.Usagef("--since %q is not a time such as 2026-11-30 or 2026-11-30T14:05", s)
}
