// Package open is pv-open: it reads a sealed stream, parents first, checks all of it as package
// walk does, and writes what it holds in the clear: a content stream, or with --meta a
// tree stream. It also gives a verdict, and reads lists of snapshots.
package open

import (
	"os"
	"slices"
	"strings"

	"preserve/lib/confine"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/unseal"
)

const usage = `usage: pv-get REPO ID | pv-open -k READKEY [--snapshot ID] [PATTERN…] >content
       pv-get REPO ID --meta | pv-open -k LISTKEY --meta [--snapshot ID] [PATTERN…] >tree
       pv-get REPO ID | pv-open -k READKEY --check [--bad-ids] [--snapshot ID] [PATTERN…]
       pv-open -k KEY --from REPO|CMD --snapshot ID [--meta | --check] [PATTERN…]
       pv-open -k KEY --from REPO|CMD --check --snapshot ID… [PATTERN…]
       pv-get REPO --snapshots | pv-open [-k LISTKEY] --snapshots [-l] [--pick NAME]

Opens a sealed stream, checks everything in it, and writes what it holds as a content
stream, for pv-unpack, pv-tar, pv-chunk or a stage of your own.

  -k KEY           read key; for names and lists a list key does
  --snapshot ID    accept only this snapshot
  --meta           write a tree stream: names and metadata, no contents
  --no-parents     with --meta: without the directories above what is chosen
  --check          write nothing, say whether all is there and right; with --from of
                   several snapshots, each data blob read once
  --bad-ids        with --check: print the ids of blobs that are missing or damaged:
                   … --check --bad-ids | pv-get OTHER --blobs - | pv-put REPO
  --snapshots      read a list of snapshots, print a line of JSON for each
  -l               with --snapshots: in columns, for people
  --pick NAME      print only the id of the snapshot that NAME means: "latest", a
                   label (the newest of that label), an id or the beginning of one (with
                   -l also its time, writer, host and label, and those of the
                   newest of each other writer, host and label)
  --from REPO|CMD  read nothing, but ask the repository, or CMD, run by sh, for what is
                   needed and no more: --from 'ssh nas pv-get /srv/repo --blobs -'
  --revoked FILE   refuse what the writers in FILE made: their public keys, a line each
                   (may be repeated); KEY.revoked, if there is one, always counts
  --allow-revoked  accept revoked writers
  --partial        with --meta or --check: accept a checkpoint of a run that did not end
  -v, -q           say more, say only errors and warnings

With PATTERNs, only what one of them matches, and all that is below it, as in
.gitignore files: /home/me, *.jpg, src/**/test, cache/.

  --exclude PATTERN       leave out what it matches, and all below (may be repeated)
  --literal               PATTERNs are paths: just these, though they hold *, ? or [
  --files-from LIST       also the paths in the file LIST, a line each (with --from, - is
                          stdin), and all that is below them
  --from0                 a NUL ends each path of LIST
  --dereference           copies of what symbolic links lead to, in their place; links
                          out of the snapshot stay links (with --from)
  --hard-dereference      each further name becomes a file of its own (with --from)
`

type options struct {
	meta, check, list bool
	alone             bool // without the directories above
	badIDs, long      bool
	pick              string

	seal   unseal.Options
	choice reading.Choice
}

func parse(env *tool.Env) (o options, err error) {
	fs := env.Flags()
	fs.BoolVar(&o.meta, "meta", false, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.BoolVar(&o.list, "snapshots", false, "")
	fs.BoolVar(&o.alone, "no-parents", false, "")
	fs.BoolVar(&o.badIDs, "bad-ids", false, "")
	fs.BoolVar(&o.long, "l", false, "")
	fs.StringVar(&o.pick, "pick", "", "")
	o.seal.Flags(fs)
	o.choice.Flags(fs)
	if o.choice.Patterns, err = env.Parse(fs, usage); err != nil {
		return o, err
	}
	count := 0
	for _, on := range []bool{o.meta, o.check, o.list} {
		if on {
			count++
		}
	}
	switch {
	case count > 1:
		return o, tool.Usagef("--meta, --check and --snapshots exclude each other")
	case o.seal.Key == "" && !o.list:
		return o, tool.Usagef("a key is needed: -k KEY")
	case o.seal.Key == "" && len(o.seal.Trust.Files) > 0:
		return o, tool.Usagef("--revoked needs a key: -k KEY: without one nobody knows who made a snapshot")
	case o.alone && !o.meta:
		return o, tool.Usagef("--no-parents goes with --meta: a content stream has the directories that its files are in")
	case o.badIDs && !o.check:
		return o, tool.Usagef("--bad-ids goes with --check")
	case (o.long || o.pick != "") && !o.list:
		return o, tool.Usagef("-l and --pick go with --snapshots")
	case o.seal.Partial && !o.meta && !o.check:
		return o, tool.Usagef("--partial goes with --meta or --check: what is made of a checkpoint must not pass for a whole snapshot (pv-unpack -k KEY --partial restores one)")
	case o.list && (o.seal.From != "" || o.seal.Told()):
		return o, tool.Usagef("--snapshot and --from do not go with --snapshots")
	}
	o.seal.Several = o.check
	if err := o.seal.Check(&o.choice); err != nil {
		return o, err
	}
	return o, o.choice.Check(o.mode())
}

// mode is how entries are chosen.
func (o *options) mode() *reading.Mode {
	m := &reading.Mode{Meta: o.meta, Picks: !o.list, Parents: !o.alone && !o.check}
	if o.list {
		m.Flag = "snapshots"
	}
	return m
}

// Run is pv-open.
func Run(env *tool.Env) (err error) {
	if !slices.ContainsFunc(env.Args, func(s string) bool {
		s = strings.TrimLeft(s, "-")
		return s == "check" || s == "snapshots"
	}) {
		defer env.Refuse(&err, rec.Refused)
	}
	o, err := parse(env)
	if err != nil {
		return err
	}
	if o.list {
		in, err := unseal.Input(env)
		if err != nil {
			return err
		}
		return snapshots(env, o, in)
	}
	choose, err := reading.NewChooser(env, o.mode(), &o.choice)
	if err != nil {
		return err
	}
	src, err := unseal.Open(env, &o.seal, choose, !o.meta)
	if err != nil {
		return err
	}
	if !src.Asks() {
		env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	}
	b := reading.Base{Env: env, Choose: choose}
	switch {
	case len(o.seal.Wants) > 1:
		return checkAll(env, &o, src)
	case o.check:
		return check(b, src, o.badIDs)
	}
	return stream(b, src, o.meta)
}
