package get

import (
	"errors"
	"fmt"

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
	if err == nil {
		_, err = env.Stdout.Write(data)
	}
	return err
}
