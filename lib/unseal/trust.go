package unseal

import (
	"errors"
	"flag"
	"strconv"

	"preserve/lib/key"
	"preserve/lib/tool"
)

// Trust is what the user said of writers that are not believed any more
// (docs/format/revoked.md).
type Trust struct {
	Files []string
	Allow bool
}

// Flags adds the flags of it.
func (t *Trust) Flags(fs *flag.FlagSet) {
	fs.Func("revoked", "", func(s string) error {
		if s == "" {
			return errors.New("the file's name is empty")
		}
		t.Files = append(t.Files, s)
		return nil
	})
	fs.BoolVar(&t.Allow, "allow-revoked", false, "")
}

// Load returns the writers that the user's files revoke, those beside the key file,
// and what the key file itself says. A file that cannot be read, or says anything else, is an
// error: a writer in it would else be believed.
func (t *Trust) Load(env *tool.Env, keyFile string, k *key.Key) (*key.Revoked, error) {
	r := &key.Revoked{}
	if k == nil {
		return r, nil
	}
	r.Add(k.Revoked())
	say := func(warning string, err error) error {
		if warning != "" {
			env.Say("%s", warning)
		}
		return err
	}
	warnings, err := r.LoadBeside(keyFile)
	for _, w := range warnings {
		env.Say("%s", w)
	}
	if err != nil {
		return nil, err
	}
	for _, file := range t.Files {
		if err := say(r.Load(file)); err != nil {
			return nil, err
		}
	}
	if n := r.Len(); n > 0 {
		env.Log.Debug("revoked writers: " + strconv.Itoa(n))
	}
	return r, nil
}
