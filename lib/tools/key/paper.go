package key

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"preserve/lib/key"
	"preserve/lib/tool"
)

// paper prints a page with a master key.
func paper(env *tool.Env, path string) error {
	if err := env.Private(); err != nil {
		return err
	}
	k, err := load(env, path)
	if err != nil {
		return err
	}
	page, err := k.Paper(time.Now())
	if errors.Is(err, key.ErrDerive) {
		return &tool.Hint{Err: fmt.Errorf("key file %q holds a %s key", path, k.Kind()), Text: "on paper goes the master key: all others are derived from it"}
	}
	if err == nil {
		_, err = env.Stdout.Write(page)
	}
	return err
}

// maxPaper bounds what is typed or scanned off a page.
const maxPaper = 64 << 10

// fromPaper makes a master key of what stands on a page. From a terminal it is
// asked for group by group.
func fromPaper(env *tool.Env, out string) error {
	if f, ok := env.Stdin.(*os.File); ok && tool.IsTerminal(f) {
		text, err := typed()
		if err != nil {
			return err
		}
		k, err := key.FromPaper(text)
		if err != nil {
			return err
		}
		return save(env, k, out)
	}
	b, err := io.ReadAll(io.LimitReader(env.Stdin, maxPaper+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the key: %w", err)
	case len(b) > maxPaper:
		return fmt.Errorf("read the key: %w", key.ErrNotPaper)
	}
	k, err := key.FromPaper(groups(string(b)))
	if err != nil {
		return fmt.Errorf("read the key: %w", err)
	}
	return save(env, k, out)
}

// groups leaves away what stands around the groups on a page: the lines before
// the one that begins with PV1, and those from the first empty one on.
func groups(page string) string {
	var kept []string
	for line := range strings.Lines(page) {
		words := strings.Fields(line)
		switch {
		case len(kept) == 0 && (len(words) == 0 || !strings.EqualFold(words[0], "PV1")):
		case len(words) == 0:
			return strings.Join(kept, " ")
		default:
			kept = append(kept, words...)
		}
	}
	if len(kept) == 0 {
		return page // the groups alone
	}
	return strings.Join(kept, " ")
}

// typed asks a person for the groups, a line or more at a time, and says at once
// which one is wrong.
func typed() (string, error) {
	t, err := tool.OpenTerminal()
	if err != nil {
		return "", err
	}
	defer t.Close()
	var good []string
	for len(good) < key.PaperGroups {
		line, err := t.Ask(fmt.Sprintf("group %d of %d: ", len(good)+1, key.PaperGroups))
		if err != nil {
			return "", err
		}
		for _, word := range strings.Fields(line) {
			if len(good) == 0 && strings.EqualFold(word, "PV1") {
				continue
			}
			if len(good) == key.PaperGroups {
				break
			}
			if _, err := key.ParseGroup(len(good), word); err != nil {
				if err := t.Show("%s\n", tool.Mask(err.Error())); err != nil {
					return "", err
				}
				break // what stands behind it is typed again
			}
			good = append(good, word)
		}
	}
	return strings.Join(good, " "), nil
}
