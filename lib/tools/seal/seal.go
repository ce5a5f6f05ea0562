// Package seal is pv-seal: it names, compresses and encrypts the chunks of a
// content stream, builds the metadata tree over its entries, and writes both as
// a sealed stream, children first.
//
// Who calls whom: one goroutine reads records and checks that the entries form
// a tree; a parallel map names and seals chunks; one goroutine takes the
// results in order, writes each blob the first time it comes, and at each cut
// turns the page's entries into a page. In memory: the chunks in flight
// (bounded by weight), the entries of one page, and the ids sent so far. What the
// repository has already (the lists of the bases, --known) is searched on disk,
// and what the snapshot reaches is sorted there.
package seal

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"preserve/lib/box"
	"preserve/lib/confine"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

const usage = `usage: pv-seal -k WRITEKEY [--label NAME] [--tag TAG]… [--cache DIR] <content >sealed

Names, compresses and encrypts a content stream from pv-chunk and writes the
sealed stream that pv-put stores. What is sealed with a write key cannot be
opened with it.

  -k KEY               write key (or master key)
  --label NAME         the snapshot's label: the job that it belongs to
  --tag TAG            a word of your own for the snapshot; may be repeated
  --compression WHAT   fastest, default or better (default: default)
  --cache DIR          remember there what was stored, for the next run; what the
                       stream's bases reach is neither sealed nor sent
  --skip-if-unchanged  make no snapshot of a tree that is that of a base
  --known FILE         ids that the repository has (pv-get --ids): not sent
  --distrust FILE      ids that it has not, whatever else is said of them; unless
                       the list is empty all metadata is sent, too
  --checkpoint TIME    how often the tree so far is made durable (default: 30m;
                       0: never)
  --id-file FILE       write the id that pv-put will print into FILE
  -v, -q               say more, say only errors and warnings
`

type options struct {
	key   string
	label string
	tags  []string
	level box.Level

	cache           string
	skip            bool
	known, distrust string
	checkpoint      time.Duration
	idFile          string
}

func parse(env *tool.Env) (o options, err error) {
	fs := env.Flags()
	fs.StringVar(&o.key, "k", "", "")
	fs.StringVar(&o.label, "label", "", "")
	compression := fs.String("compression", "default", "")
	fs.StringVar(&o.cache, "cache", "", "")
	fs.BoolVar(&o.skip, "skip-if-unchanged", false, "")
	fs.StringVar(&o.known, "known", "", "")
	fs.StringVar(&o.distrust, "distrust", "", "")
	fs.StringVar(&o.idFile, "id-file", "", "")
	o.checkpoint = 30 * time.Minute
	fs.Func("checkpoint", "", func(s string) (err error) { o.checkpoint, err = tool.ParseDuration(s); return err })
	fs.Func("tag", "", func(s string) error { o.tags = append(o.tags, s); return nil })
	words, err := env.Parse(fs, usage)
	if err != nil {
		return o, err
	}
	levels := map[string]box.Level{"fastest": box.Fastest, "default": box.Default, "better": box.Better}
	level, known := levels[*compression]
	o.level = level
	switch {
	case len(words) > 0:
		return o, tool.Usagef("unexpected argument %q", words[0])
	case o.key == "":
		return o, tool.Usagef("a write key is needed: -k KEY")
	case !known:
		return o, tool.Usagef("--compression %q is not one of fastest, default, better", *compression)
	case o.skip && o.cache == "":
		return o, tool.Usagef("--skip-if-unchanged needs --cache DIR: the cache knows the tree of the snapshot before")
	case len(o.tags) > snap.MaxTags:
		return o, tool.Usagef("more than %d tags", snap.MaxTags)
	}
	if o.label == "latest" {
		return o, tool.Usagef("--label latest could never be asked for: latest means the newest snapshot")
	}
	for _, w := range append([]string{o.label}, o.tags...) {
		if len(w) > snap.MaxWord || strings.ToValidUTF8(w, "") != w || strings.ContainsAny(w, "\x00\n") {
			return o, tool.Usagef("label or tag %q is too long or not plain text", w)
		}
	}
	return o, nil
}

// Run is pv-seal.
func Run(env *tool.Env) (err error) {
	defer env.Refuse(&err, rec.Refused)
	o, err := parse(env)
	if err != nil {
		return err
	}
	stdin, err := env.Input()
	if err != nil {
		return err
	}
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	k, warning, err := key.Load(o.key)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return refuse(stdout, env, err)
	}
	b, err := box.NewSealer(k, o.level)
	if err != nil {
		return refuse(stdout, env, fmt.Errorf("key file %q: %w", o.key, err))
	}
	stored, err := readKnown(env, o.known, o.distrust)
	if err != nil {
		return refuse(stdout, env, err)
	}
	defer stored.close()
	ids, err := openID(o.idFile)
	if err != nil {
		return refuse(stdout, env, err)
	}
	defer ids.close()
	env.Confine(confine.Limits{Write: place(o.cache)})
	in := rec.NewReader(stdin, rec.Content)
	out := rec.NewWriter(stdout)
	// File names must not reach whoever stores the stream.
	out.Mute()
	s, err := newSealer(env, k, b, in, out, o)
	if err == nil {
		s.stored, s.idFile = stored, ids
		out.Tick(in, s.progress)
		err = s.run(runtime.GOMAXPROCS(0))
	}
	return out.Close(env.Name, err)
}

// place makes the directory of the next cache, if it is not there, and returns it, with that
// of temporary files. What is wrong with it is said when the cache is written.
func place(dir string) []string {
	if dir == "" || os.MkdirAll(dir, 0o700) != nil {
		return []string{os.TempDir()}
	}
	return []string{dir, os.TempDir()}
}

// refuse ends the stream before it began: the stage behind is told in-band.
func refuse(stdout interface{ Write([]byte) (int, error) }, env *tool.Env, err error) error {
	out := rec.NewWriter(stdout)
	out.Mute()
	return out.Close(env.Name, err)
}

// errStream is what is wrong with a content stream that cannot be sealed.
var errStream = errors.New("not a tree that can be restored")

// errUncut is a stream from pv-scan --stdin, pv-chunk --plain and the like:
// sealed as it is, it would share nothing with other backups.
var errUncut = errors.New("an uncut content stream")

func word(s string) string {
	if len(s) > snap.MaxWord {
		s = strings.ToValidUTF8(s[:snap.MaxWord], "")
	}
	return s
}
