package get

import (
	"errors"
	"fmt"
	"io"
	"os"

	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/rec"
	"preserve/lib/store"
	"preserve/lib/tool"
)

// runCopy writes a snapshot for another repository.
func runCopy(env *tool.Env, a *asked, i id.ID, so store.Options) error {
	// The list is read to its end before the stream begins: whoever writes it may
	// be waiting for the stream, and while we wait for it there is nothing to tick for.
	known, kerr := readKnown(env, a.known)
	var usage *tool.UsageError
	if errors.As(kerr, &usage) {
		return kerr
	}
	defer known.Close()
	return withStream(env, a.repo, rec.Head{Order: rec.Up, Base: a.sinceIDs}, so, func(o *output, repo *store.Repo) error {
		if kerr != nil {
			return kerr
		}
		s, up, err := toCopy(repo, i, a.sinceIDs)
		if err != nil {
			return err
		}
		if known.Len() > 0 {
			up.Known = known.Has
		}
		return repo.Up(s, up, o.answer)
	})
}

func readKnown(env *tool.Env, from string) (*ids.List, error) {
	var in io.Reader
	switch from {
	case "":
		return nil, nil
	case "-":
		var err error
		if in, err = env.Input(); err != nil {
			return nil, err
		}
	default:
		f, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("--known: %w", err)
		}
		defer f.Close()
		in = f
	}
	known, err := ids.ReadText(in)
	if err != nil {
		return nil, fmt.Errorf("--known %s: %w", from, err)
	}
	return known, nil
}

// toCopy reads the snapshots' own blobs.
func toCopy(repo *store.Repo, i id.ID, since []id.ID) (s *store.Snapshot, up store.UpOptions, err error) {
	for _, old := range since {
		s, err := repo.Snapshot(old)
		if err != nil {
			return nil, up, fmt.Errorf("--since: %w", err)
		}
		up.Since = append(up.Since, s)
	}
	if s, err = repo.Snapshot(i); err != nil {
		return nil, up, err
	}
	if is, err := repo.IsCommitted(i); err != nil || !is {
		if err == nil {
			err = fmt.Errorf("%s is a checkpoint of a run that did not end, no snapshot: it is not copied", i)
		}
		return nil, up, err
	}
	return s, up, nil
}
