package put

import (
	"fmt"
	"io"

	"preserve/lib/confine"
	"preserve/lib/store"
	"preserve/lib/tool"
)

// maxKey is more than any wrapped key has; the store says what it takes.
const maxKey = 1 << 20

// putKey stores a wrapped key from stdin. A missing or empty repository is made.
func putKey(env *tool.Env, name, dir string) error {
	in, err := env.Input()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(in, maxKey))
	if err != nil {
		return fmt.Errorf("read the wrapped key: %w", err)
	}
	if len(data) == 0 {
		return fmt.Errorf("stdin: %w", store.ErrNoWrapped)
	}
	repo, err := create(dir, store.Options{Writes: true, Warn: env.Warn, Note: env.Notice})
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Write: repo.Places()})
	if err := repo.PutKey(name, data); err != nil {
		return err
	}
	env.Notice("stored the wrapped key %q", name)
	return nil
}
