package get

import (
	"fmt"
	"os"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// there runs pv-get on the machine of a repository behind ssh, with the same question. Its
// words stand as pv-serve over there knows them.
func (a *asked) there(env *tool.Env, at remote.Address) error {
	var words []string
	run := at.Run
	switch {
	case a.copy != "":
		words = []string{"--copy", a.copy}
		if a.since != "" {
			words = append(words, "--since", a.since)
		}
		if a.known != "" {
			words = append(words, "--known", "-")
		}
		if a.known != "" && a.known != "-" {
			f, err := os.Open(a.known)
			if err != nil {
				return fmt.Errorf("known ids: %w", err)
			}
			defer f.Close()
			env.Stdin = f
		}
	case a.has != "":
		words = []string{"--has", a.has}
		if a.about {
			words = []string{"--id", "--has", a.has}
		}
	case a.blobs != "":
		words = []string{"--blobs", "-"}
	case a.key != "":
		words = []string{"--key", a.key}
	case a.snapshots:
		words = []string{"--snapshots"}
	case a.ids:
		words = []string{"--ids"}
	case a.keys:
		words = []string{"--keys"}
	case a.about:
		words = []string{"--id"}
	default:
		words = []string{a.id}
		if a.meta {
			words = append(words, "--meta")
		}
	}
	if a.idle != 0 {
		words = append(words, "--idle", a.idle.String())
	}
	switch file, is := env.Stdout.(*os.File); {
	case a.ids:
		run = at.LongAnswer
	case a.has != "", a.keys, a.about, a.key != "" && is && tool.IsTerminal(file):
		run = at.Answer // nothing of another machine's comes to a terminal as it is
	case a.key == "":
		if _, err := env.Records(); err != nil {
			return err
		}
	}
	return run(env, "pv-get", words...)
}
