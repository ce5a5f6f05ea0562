package gc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"preserve/lib/confine"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

// A collection is what the command line says of collect.
type collection struct {
	now, dry         bool
	maxDrop, yesDrop string
	wait             *time.Duration
}

// defaultDrop is the part of the data that goes without further words.
const defaultDrop = "20%"

func collectFlags(fs *tool.FlagSet) *collection {
	c := &collection{}
	fs.BoolVar(&c.now, "now", false, "")
	fs.BoolVar(&c.dry, "dry-run", false, "")
	fs.StringVar(&c.maxDrop, "max-drop", defaultDrop, "")
	fs.StringVar(&c.yesDrop, "yes-drop", "", "")
	c.wait = tool.Duration(fs, "wait", 0)
	return c
}

// any reports whether one of the options was given.
func (c *collection) any() bool {
	return c.now || c.dry || c.maxDrop != defaultDrop || c.yesDrop != "" || *c.wait != 0
}

func (c *collection) options() (o store.CollectOptions, err error) {
	o.Now, o.DryRun = c.now, c.dry
	share, is := strings.CutSuffix(c.maxDrop, "%")
	o.MaxDrop, err = strconv.ParseFloat(share, 64)
	if !is || err != nil || !(o.MaxDrop >= 0 && o.MaxDrop <= 100) {
		return o, tool.Usagef("--max-drop %s: not a part, from 0%% to 100%%", c.maxDrop)
	}
	o.MaxDrop /= 100
	if c.yesDrop != "" {
		if o.YesDrop, err = tool.ParseSize(c.yesDrop); err != nil {
			return o, tool.Usagef("--yes-drop %s: %v", c.yesDrop, err)
		}
	}
	return o, nil
}

// run collects.
func (c *collection) run(env *tool.Env, at remote.Address) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	if at.Remote() {
		at.Verb = "collect"
		words := []string{"--max-drop", c.maxDrop, "--wait", c.wait.String()}
		for option, on := range map[string]bool{"--now": c.now, "--dry-run": c.dry} {
			if on {
				words = append(words, option)
			}
		}
		if c.yesDrop != "" {
			words = append(words, "--yes-drop", c.yesDrop)
		}
		return at.Answer(env, "pv-gc", words...)
	}
	repo, err := c.open(env, at.Path)
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Write: repo.Places()})
	o.Explain = func(format string, args ...any) { env.Log.Debug(fmt.Sprintf(format, args...)) }
	rep, err := repo.Collect(o)
	if err != nil {
		return explained(err)
	}
	_, err = fmt.Fprint(env.Stdout, summary(rep, o.DryRun))
	return err
}

// open opens the repository; with --now nobody else may have it open.
func (c *collection) open(env *tool.Env, dir string) (*store.Repo, error) {
	so := store.Options{Warn: env.Warn, Note: env.Notice, Writes: !c.dry}
	if c.dry || !c.now {
		return store.Open(dir, so)
	}
	for until := time.Now().Add(*c.wait); ; time.Sleep(time.Second) {
		r, err := store.OpenAlone(dir, so)
		if !errors.Is(err, store.ErrBusy) && !errors.Is(err, store.ErrLocked) || time.Now().After(until) {
			return r, err
		}
	}
}

// explained adds what to do.
func explained(err error) error {
	var much *store.TooMuchError
	switch {
	case errors.As(err, &much):
		return &tool.Hint{Err: err, Text: fmt.Sprintf("if that is right: --yes-drop %d; what would go: --dry-run -v", much.Drop)}
	case errors.Is(err, store.ErrGone):
		return &tool.Hint{Err: err, Text: "bring it back from another repository (pv-copy), or let it go: pv-gc forget"}
	case errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrDamaged):
		return &tool.Hint{Err: err, Text: "heal the repository (see pv-check), or let the snapshot go: pv-gc forget"}
	}
	return err
}

// summary says what was done.
func summary(rep *store.CollectReport, dry bool) string {
	would := func(done, not string) string {
		if dry {
			return not
		}
		return done
	}
	if rep.Idle {
		return fmt.Sprintf("snapshots: %d stay; nothing has changed since the last collection\n", rep.Snapshots)
	}
	text := fmt.Sprintf("snapshots: %d stay, %d %s", rep.Snapshots, len(rep.Gone), would("removed", "would be removed"))
	if rep.Waiting > 0 {
		text += fmt.Sprintf(" (%d of those that stay are forgotten, and wait)", rep.Waiting)
	}
	if n := len(rep.GoneCheckpoints); n > 0 {
		text += fmt.Sprintf("; old checkpoints %s: %d", would("removed", "that would be removed"), n)
	}
	text += fmt.Sprintf("\npacks: %d of %d %s; bytes: %d of %d, %d of them moved\n",
		rep.Dropped+rep.Rewritten, rep.Packs, would("let go", "would be let go"), rep.DroppedBytes, rep.Bytes, rep.MovedBytes)
	if !dry {
		text += fmt.Sprintf("removed: %d packs, %d bytes; %d packs wait for the next day\n", rep.Removed, rep.RemovedBytes, rep.Later)
	}
	return text
}
