// Package gc is the command pv-gc: it lets snapshots of a repository go.
//
// It needs no key. Marks say which snapshots are forgotten, and which are never to be.
package gc

import (
	"fmt"
	"slices"
	"strings"

	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

const usage = `usage: pv-gc forget   REPO ID...|-
       pv-gc unforget REPO ID...|-
       pv-gc keep     REPO ID...|-
       pv-gc unkeep   REPO ID...|-
       pv-gc marks    REPO
       pv-gc collect  REPO [--now] [--dry-run] [--max-drop P%] [--yes-drop SIZE]
       pv-gc quarantine REPO --as LABEL [--since TIME] [--forget]

  ... | pv-keep RULE... | pv-gc forget REPO -

  forget    mark these snapshots as forgotten: no list shows them, nobody gets
            them. Their data stays until it is collected
  unforget  remove the mark
  keep      mark these snapshots as not to be forgotten, whoever asks
  unkeep    remove the mark
  marks     print the marks: "forgotten" or "kept", and an id
  collect   remove what nothing needs any more, while backups go on: forgotten
            snapshots a week after the first collect that sees the mark, their
            data a day after it was let go
  quarantine   print what came with a label: see pv-gc quarantine -h

  --now            do not wait; nobody else may have the repository open
  --dry-run        say what would be let go, and change nothing
  --max-drop P%    stop if more than this part of the data would go (20%)
  --yes-drop SIZE  but let so many bytes go: a number, or one with K, M, G, T
  --wait DURATION  with --now, wait so long for others to end (default 0)

  ID        the id of a snapshot: 64 hex digits; -: ids from stdin, a line each
  -v, -q    say more, say only errors and warnings

REPO is a directory, or ssh://[user@]host[:port]/path: pv-gc runs there, through
ssh or $PV_SSH. All ids are checked before the first mark is made.
`

var verbs = []string{"forget", "unforget", "keep", "unkeep", "marks", "collect"}

// maxIDs bounds the ids of one command.
const maxIDs = 1 << 20

// Run is pv-gc.
func Run(env *tool.Env) error {
	env.DropKey()
	if len(env.Args) > 0 && env.Args[0] == "quarantine" {
		env.Args = env.Args[1:]
		return quarantine(env)
	}
	fs := env.Flags()
	c := collectFlags(fs)
	words, err := env.Parse(fs, usage)
	switch {
	case err != nil:
		return err
	case len(words) == 0 || !slices.Contains(verbs, words[0]):
		return tool.Usagef("give one of %s, quarantine", strings.Join(verbs, ", "))
	case len(words) < 2 || words[1] == "":
		return tool.Usagef("give a repository")
	case (words[0] == "marks" || words[0] == "collect") != (len(words) == 2):
		return tool.Usagef("give the ids of snapshots, or -; pv-gc marks and collect take none")
	case words[0] != "collect" && c.any():
		return tool.Usagef("--now, --dry-run, --max-drop, --yes-drop and --wait go with pv-gc collect")
	}
	at, err := remote.Parse(words[1])
	if err != nil {
		return err
	}
	if words[0] == "collect" {
		return c.run(env, at)
	}
	stdin := len(words) == 3 && words[2] == "-"
	var list []id.ID
	if !stdin {
		if list, err = parseIDs(words[2:]); err != nil {
			return err
		}
	}
	if at.Remote() {
		at.Verb = words[0]
		return at.Answer(env, "pv-gc", words[2:]...)
	}
	if stdin {
		if list, err = readIDs(env); err != nil {
			return err
		}
	}
	repo, err := store.Open(at.Path, store.Options{Warn: env.Warn, Note: env.Notice})
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Write: repo.Places()})
	m := marker{env, repo, stdin}
	switch words[0] {
	case "forget":
		return m.forget(list)
	case "unforget":
		return m.unforget(list)
	case "keep":
		return m.keep(list)
	case "unkeep":
		return m.unkeep(list)
	}
	return m.print()
}

func parseIDs(words []string) (list []id.ID, err error) {
	for _, w := range words {
		i, err := id.Parse(w)
		if err != nil {
			return nil, tool.Usagef("%v", err)
		}
		list = append(list, i)
	}
	return list, nil
}

// readIDs reads ids from stdin: all of them, before anything is done.
func readIDs(env *tool.Env) (list []id.ID, err error) {
	in, err := env.Input()
	if err != nil {
		return nil, err
	}
	l, err := ids.ReadText(in)
	if err != nil {
		return nil, fmt.Errorf("ids on stdin: %w", err)
	}
	defer l.Close()
	if l.Len() > maxIDs {
		return nil, fmt.Errorf("ids on stdin: more than %d", maxIDs)
	}
	for i, err := range l.All() {
		if err != nil {
			return nil, fmt.Errorf("ids on stdin: %w", err)
		}
		list = append(list, i)
	}
	return list, nil
}
