// Package check is the command pv-check: is a repository whole? It needs no key.
package check

import (
	"bufio"
	"fmt"

	"preserve/lib/check"
	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

const usage = `usage: pv-check REPO [--data all|none|N/M|P%|SIZE] [--bad-ids]

  pv-check A --bad-ids | pv-get B --blobs - | pv-put A

Reads the objects of a repository and names what is damaged or missing: packs,
blobs, index segments, snapshots. It needs no key and changes nothing.

  --data all   read all blobs (the default)
  --data none  read the metadata only; of data see that it is listed and there
  --data N/M   read the Nth of M parts of the data: M runs read all of it
  --data P%    read so much of the data, other packs in each run
  --data SIZE  the same: bytes, or a number with K, M, G or T
  --bad-ids    print the ids of the blobs that have no good copy, and nothing
               else, on stdout: for pv-get --blobs - of another repository
  -v, -q       say more, say only errors and warnings

REPO is a directory, or ssh://[user@]host[:port]/path: pv-check runs there,
through ssh or $PV_SSH.
`

// Run is pv-check.
func Run(env *tool.Env) error {
	env.DropKey()
	fs := env.Flags()
	data := fs.String("data", "all", "")
	ids := fs.Bool("bad-ids", false, "")
	words, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	if len(words) != 1 || words[0] == "" {
		return tool.Usagef("give one repository")
	}
	part, err := parsePart(*data)
	if err != nil {
		return err
	}
	at, err := remote.Parse(words[0])
	if err != nil {
		return err
	}
	if at.Remote() {
		more := []string{"--data", *data}
		if *ids {
			more = append(more, "--bad-ids")
		}
		return at.Answer(env, "pv-check", more...)
	}
	// What the store warns of while it is read the check finds itself.
	quiet := func(format string, args ...any) { env.Log.Debug(fmt.Sprintf(format, args...)) }
	repo, err := store.Open(at.Path, store.Options{Warn: quiet, Note: quiet})
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Read: repo.Places()})
	if err := part.measure(repo); err != nil {
		return err
	}
	rep, err := check.Run(repo, check.Options{Data: part.has, Damage: env.Warn, Note: env.Notice})
	if err != nil {
		return err
	}
	tell(env, rep)
	out := bufio.NewWriter(env.Stdout)
	if *ids {
		for _, i := range rep.Bad {
			_, _ = out.WriteString(i.String() + "\n") // an error comes with Flush
		}
	} else {
		summary(out, rep)
	}
	return out.Flush()
}

// summary prints what was looked at.
func summary(out *bufio.Writer, rep *check.Report) {
	_, _ = fmt.Fprintf(out, "%d snapshots, %d packs, %d index segments: ", rep.Snapshots, rep.Packs, rep.Segments) // errors come with Flush
	switch {
	case !rep.OK():
		_, _ = out.WriteString("damaged")
	case rep.Read < rep.Packs:
		_, _ = fmt.Fprintf(out, "no damage found in %d packs that were read, %d of %d bytes", rep.Read, rep.ReadBytes, rep.Bytes)
	default:
		_, _ = fmt.Fprintf(out, "no damage, all %d bytes were read", rep.Bytes)
	}
	_, _ = out.WriteString("\n")
}

// tell says what the damage comes to, and what heals it.
func tell(env *tool.Env, rep *check.Report) {
	hint := func(format string, args ...any) { env.Say("hint: "+format, args...) }
	if len(rep.Bad) > 0 {
		more := ""
		if rep.More {
			more = "more than "
		}
		env.Warn("blobs that are damaged or missing and have no good copy: %s%d", more, len(rep.Bad))
		hint("from another repository: pv-check REPO --bad-ids | pv-get OTHER --blobs - | pv-put REPO")
		hint("from the source: pv-check REPO --bad-ids >bad; then pv-chunk and pv-seal with --distrust bad")
	}
	each(env, rep.BySegment, func(i id.ID) {
		hint("remove index/%s: the next pv-put lists the packs again", i)
	})
	each(env, rep.BySnapshot, func(i id.ID) {
		hint("remove snapshots/%s, and copy checkpoints/%s there", i, i)
	})
	each(env, rep.Lost, func(i id.ID) {
		hint("copy snapshots/%s from another repository that has it", i)
	})
}

// maxHints bounds the hints of one kind.
const maxHints = 20

func each(env *tool.Env, list []id.ID, say func(id.ID)) {
	for _, i := range list[:min(len(list), maxHints)] {
		say(i)
	}
	if more := len(list) - maxHints; more > 0 {
		env.Say("hint: the same for %d more", more)
	}
}
