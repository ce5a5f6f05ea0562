package chunk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// cacheOptions are what a command line says of caches.
type cacheOptions struct {
	dir      string
	base     []id.ID
	distrust string
	newKey   bool // that the caches are of another key is no error
	trust    trust
}

func (o *cacheOptions) flags(fs *flag.FlagSet) {
	o.trust.margin = defaultMargin
	fs.StringVar(&o.dir, "cache", "", "")
	fs.StringVar(&o.distrust, "distrust", "", "")
	fs.BoolVar(&o.newKey, "new-key", false, "")
	fs.BoolVar(&o.trust.ignoreCTime, "ignore-ctime", false, "")
	fs.BoolVar(&o.trust.ignoreInode, "ignore-inode", false, "")
	fs.Func("base", "", func(s string) (err error) {
		o.base, err = parseBase(s)
		return err
	})
	fs.Func("margin", "", func(s string) (err error) {
		o.trust.margin, err = tool.ParseDuration(s)
		return err
	})
}

const defaultMargin = time.Minute

func parseBase(s string) (base []id.ID, err error) {
	for _, word := range strings.Split(s, ",") {
		i, err := id.Parse(word)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(base, i):
			return nil, fmt.Errorf("%s is given twice", i)
		}
		base = append(base, i)
	}
	if len(base) > rec.MaxBase {
		return nil, fmt.Errorf("more than %d snapshots", rec.MaxBase)
	}
	return base, nil
}

// check is what a command line must not say.
func (o *cacheOptions) check(uncut bool) error {
	switch {
	case o.dir != "" && uncut:
		return tool.Usagef("--cache and --plain exclude each other: a cache belongs to a key")
	case len(o.base) > 0 && o.dir == "":
		return tool.Usagef("--base needs --cache DIR, where these snapshots' caches are")
	case o.distrust != "" && len(o.base) == 0:
		return tool.Usagef("--distrust needs --base: without one every file is read")
	}
	return nil
}

// load reads the list of ids that are not to be relied on.
func (o *cacheOptions) load() error {
	if o.distrust == "" {
		return nil
	}
	f, err := os.Open(o.distrust)
	if err != nil {
		return fmt.Errorf("list of ids: %w", err)
	}
	defer f.Close()
	if o.trust.distrust, err = ids.ReadText(f); err != nil {
		return fmt.Errorf("list of ids %q: %w", o.distrust, err)
	}
	return nil
}

// close lets go of what load has read.
func (o *cacheOptions) close() {
	if o.trust.distrust != nil {
		_ = o.trust.distrust.Close() // a temporary file at most
	}
}

// open opens the caches of the base for a run with this head over the files of src.
// That one cannot be used costs time and nothing else; but one that was made under another
// master key is an error, unless it is on purpose: who could read the job's snapshots could not
// read this one.
func (o *cacheOptions) open(env *tool.Env, k *key.Key, head *rec.Head, src *source.Source, alone *alone) (*caches, error) {
	c := &caches{trust: o.trust, alone: alone, env: env, system: src.FileSystem, omit: src.Omit}
	if len(o.base) == 0 {
		return c, nil
	}
	cut, _ := k.Cut()
	job := cache.JobOf(head, k.ID())
	for _, i := range o.base {
		r, err := cache.Open(o.dir, i, cut.Cache(), job)
		if err == nil {
			s := &shelf{name: i, cache: r}
			s.near, s.far = o.trust.cutoffs(r.Time())
			if err = s.advance(); err == nil {
				c.list, c.base = append(c.list, s), append(c.base, i)
				continue
			}
			s.close()
		}
		if errors.Is(err, cache.ErrKey) && !o.newKey {
			c.close()
			return nil, &tool.Hint{Err: fmt.Errorf("the key is of master key %s, but the last run of this job used another: %w", k.ID(), err),
				Text: "with --new-key the job goes on under this key, and all is read and stored again"}
		}
		env.Notice("a cache is not used: %s", err)
	}
	slices.Reverse(c.list) // the newest stands last on the command line
	return c, nil
}
