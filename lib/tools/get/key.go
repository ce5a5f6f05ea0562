package get

import (
	"errors"
	"fmt"
	"os"

	"preserve/lib/store"
	"preserve/lib/tool"
)

// runKeys prints the names of the wrapped keys, a line each.
func runKeys(env *tool.Env, dir string, o store.Options) error {
	repo, err := open(env, dir, o)
	if err != nil {
		return err
	}
	defer repo.Close()
	names, err := repo.Keys()
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, err := fmt.Fprintln(env.Stdout, n); err != nil {
			return err
		}
	}
	return nil
}

// runKey prints a wrapped key.
func runKey(env *tool.Env, dir, name string, o store.Options) error {
	repo, err := open(env, dir, o)
	if err != nil {
		return err
	}
	defer repo.Close()
	data, err := repo.Key(name)
	if errors.Is(err, store.ErrMissing) {
		return &tool.Hint{Err: err, Text: "pv-get REPO --keys prints the names of those that are there"}
	}
	if err != nil {
		return err
	}
	out := env.Stdout
	if file, is := out.(*os.File); is && tool.IsTerminal(file) {
		// Whoever has the disk writes what he likes above the key.
		lines := &tool.Lines{Out: out, Strict: true}
		defer lines.Flush()
		out = lines
	}
	_, err = out.Write(data)
	return err
}
