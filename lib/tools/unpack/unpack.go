// Package unpack is pv-unpack: it reads a sealed stream, parents first, checks
// all of it as package walk does, and makes of it files, a listing, a tar
// archive, a content stream, a comparison or a verdict. It also reads lists of
// snapshots.
package unpack

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"preserve/lib/box"
	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

const usage = `usage: pv-get REPO ID | pv-unpack -k READKEY [--snapshot ID] DIR [PATTERN…]
       pv-get REPO ID | pv-unpack -k READKEY [--snapshot ID] --verify [PATTERN…]
       pv-get REPO ID | pv-unpack -k READKEY [--snapshot ID] --compare DIR [PATTERN…]
       pv-get REPO ID | pv-unpack -k READKEY [--snapshot ID] --tar|--cat|--stream [PATTERN…]
       pv-get REPO ID --meta | pv-unpack -k LISTKEY [--snapshot ID] --list [-l] [PATTERN…]
       pv-unpack -k KEY --from CMD --snapshot ID (DIR | --list | …) [PATTERN…]
       pv-get REPO --snapshots | pv-unpack [-k LISTKEY] --snapshots [-l] [--pick NAME]

Opens and checks a sealed stream. The first form restores the snapshot into DIR,
which must not exist or be empty unless --overwrite is said. --verify opens and checks every byte and
writes nothing. --list prints the paths. --snapshots prints a line of JSON for
each snapshot.

  -k KEY         read key; for lists a list key does
  --snapshot ID  accept no other snapshot than this one
  --revoked FILE    refuse what the writers in FILE made: their public keys, a line
                    each (may be repeated); KEY.revoked, if there is one, always counts
  --allow-revoked   refuse it not
  --partial      also take a checkpoint of a run that did not end: it holds the tree
                 up to some path, and the rest is not in it
  -l             lists for people: long, in columns
  --pick NAME    print only the id of the snapshot that NAME means: "latest", a
                 label (the newest of that label), an id or the beginning of one
                 (with -l also its time, writer, host and label, and behind it
                 those of the newest of each other writer, host and label)
  -v, -q         say more, say only errors and warnings

  --from CMD           read nothing, but ask CMD, run by sh, for what is needed and
                       no more: --from 'ssh nas pv-get /srv/repo --blobs -'
  --dereference        copies of what symbolic links lead to, in their place; links
                       out of the snapshot stay links (with --from)
  --hard-dereference   each further name becomes a file of its own (with --from)

Into a DIR that has something in it:

  --overwrite never    make only what is missing
  --overwrite changed  also replace what differs. A file of the same size and
                       modification time is taken to be the same: it is kept, and
                       gets owner, mode and attributes. Goes on with a restore
                       that was interrupted
  --overwrite always   replace every file
  --in-place           write what differs into large files themselves instead of
                       building new ones beside them: saves space, but who reads
                       one meanwhile, or after an interruption, has half of each
  --delete             remove what is not in the snapshot from directories that are;
                       but not what the backup left out or could not read, nor what
                       --exclude matches
  --delete-excluded    remove also what the backup left out on request
  --keep-directory-symlink
                       follow links to directories where the snapshot has a directory
  --dry-run            write nothing, print what would be done. A list key, and
                       pv-get --meta, will do

Other ends, which write no file:

  --tar        a tar archive: … --tar | tar -xp --xattrs --acls
  --cat        the contents of the files that PATTERN matches: … --cat /etc/fstab
  --stream     a content stream, for another key: … --stream | pv-chunk -k NEW
  --compare    what differs from the tree below DIR, a line each, with tabs
  --json, -0   with --list: a line of JSON for each entry; paths with a NUL behind
  --bad-ids    with --verify: print the ids of blobs that are missing or damaged:
               … --verify --bad-ids | pv-get OTHER --blobs - | pv-put REPO

With PATTERNs, only what one of them matches, and all that is below it; patterns
are those of .gitignore: /home/me, *.jpg, src/**/test, cache/.

  --exclude PATTERN       leave out what it matches, and all below: '*.o' (may be
                          repeated)
  --literal               PATTERNs are paths: just these, though they hold *, ? or [
  --files-from LIST       also the paths in the file LIST, a line each (with --from, - is
                          stdin), and all that is below them
  --from0                 a NUL ends each path of LIST
  --strip-components N    take N names off the front of each path: 2 makes
                          home/me/x to x. What has no more names is left out

Owners and those in access control lists get the ids that their names have on this
system; 0, and who has no name or an unknown one, keep the number.

  --numeric-ids           keep all numbers
  --map-user A:B          what is A's in the snapshot is to be B's: names or numbers,
  --map-group A:B         as in eve:adam or 1000:1001 (may be repeated)
`

type options struct {
	key  string
	want id.ID
	mode *mode
	dir  string // of modes that take one
	pick string
	// A checkpoint will do.
	partial bool

	trust  trust
	choice choice
	from   from
	place  placing
	verify verifying
	list   listing
}

// A mode is one of the things that can be made of a stream. All but the first
// are named by a flag.
type mode struct {
	flag string
	dir  bool // its first word is a directory
	meta bool // metadata is all it needs: a list key will do

	picks   bool // a part of the snapshot can be chosen
	parents bool // the directories above what is chosen come with it
	strips  bool // names can be stripped off the front of paths
	owns    bool // owners are those of this system
	places  bool // it writes below its directory

	run func(env *tool.Env, o options, src source, b base) error
}

var modes = []*mode{
	{dir: true, picks: true, parents: true, strips: true, owns: true, places: true, run: restore},
	{flag: "list", meta: true, picks: true, run: list},
	{flag: "verify", picks: true, run: verify},
	{flag: "compare", dir: true, picks: true, owns: true, run: compare},
	{flag: "tar", picks: true, parents: true, strips: true, run: toTar},
	{flag: "cat", picks: true, run: cat},
	{flag: "stream", picks: true, parents: true, strips: true, run: contents},
	{flag: "snapshots", meta: true},
}

// A source is where a snapshot comes from.
type source interface {
	walk(o walk.Options, s walk.Sink) error
}

// A piped snapshot comes whole, on stdin.
type piped struct {
	in   *rec.Reader
	open *box.Opener
}

func (p piped) walk(o walk.Options, s walk.Sink) error { return walk.Run(p.in, p.open, o, s) }

func parse(env *tool.Env) (o options, err error) {
	fs := env.Flags()
	fs.StringVar(&o.key, "k", "", "")
	want := fs.String("snapshot", "", "")
	fs.StringVar(&o.pick, "pick", "", "")
	o.trust.flags(fs)
	fs.BoolVar(&o.partial, "partial", false, "")
	o.choice.flags(fs)
	o.from.flags(fs)
	o.place.flags(fs)
	o.verify.flags(fs)
	o.list.flags(fs)
	var named []*mode
	for _, m := range modes[1:] {
		fs.BoolFunc(m.flag, "", func(string) error { named = append(named, m); return nil })
	}
	words, err := env.Parse(fs, usage)
	if err != nil {
		return o, err
	}
	if o.mode = modes[0]; len(named) > 0 {
		o.mode = named[0]
	}
	if o.mode.dir && len(words) > 0 {
		if o.dir, words = words[0], words[1:]; o.dir == "" {
			return o, tool.Usagef("the directory's name is empty")
		}
	}
	o.choice.patterns = words
	switch {
	case len(named) == 1 && o.mode.dir && o.dir == "":
		return o, tool.Usagef("--%s needs a directory", o.mode.flag)
	case len(named) > 1 || o.mode.dir && o.dir == "":
		return o, tool.Usagef("one of DIR, %s is needed", flagNames())
	case o.key == "" && o.mode.flag != "snapshots":
		return o, tool.Usagef("a key is needed: -k KEY")
	case o.key == "" && len(o.trust.files) > 0:
		return o, tool.Usagef("--revoked needs a key: -k KEY: without one nobody knows who made a snapshot")
	case o.pick != "" && o.mode.flag != "snapshots":
		return o, tool.Usagef("--pick goes with --snapshots")
	case o.partial && (o.mode.flag == "snapshots" || o.mode.flag == "stream"):
		return o, tool.Usagef("--partial does not go with --%s: what is made of it must not pass for a whole snapshot", o.mode.flag)
	case o.partial && o.place.del:
		return o, tool.Usagef("--partial does not go with --delete: what the checkpoint has not come to would be deleted")
	case *want != "" && o.mode.flag == "snapshots":
		return o, tool.Usagef("--snapshot does not go with --snapshots")
	}
	if *want != "" {
		if o.want, err = id.Parse(*want); err != nil {
			return o, tool.Usagef("--snapshot takes a full id of 64 hex digits, not %q", *want)
		}
	}
	if slices.Contains(o.choice.lists.files, "-") && o.from.command == "" {
		return o, tool.Usagef("--files-from - needs --from CMD: the stream comes on stdin")
	}
	if err := o.verify.check(o.mode); err != nil {
		return o, err
	}
	if err := o.list.check(o.mode); err != nil {
		return o, err
	}
	if err := o.from.check(o.mode, *want != ""); err != nil {
		return o, err
	}
	if err := o.choice.check(o.mode); err != nil {
		return o, err
	}
	return o, o.place.check(o.mode, &o.choice)
}

func flagNames() string {
	var names []string
	for _, m := range modes[1:] {
		names = append(names, "--"+m.flag)
	}
	return strings.Join(names, ", ")
}

// Run is pv-unpack.
func Run(env *tool.Env) (err error) {
	if slices.Contains(env.Args, "--stream") || slices.Contains(env.Args, "-stream") {
		defer env.Refuse(&err, rec.Refused)
	}
	o, err := parse(env)
	if err != nil {
		return err
	}
	choose, err := newChooser(env, o.mode, &o.choice)
	if err != nil {
		return err
	}
	in, err := input(env, &o.from)
	if err != nil {
		return err
	}
	if o.mode.flag == "snapshots" {
		return snapshots(env, o, in)
	}
	k, warning, err := key.Load(o.key)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return err
	}
	open, err := box.NewOpener(k)
	if err != nil {
		return fmt.Errorf("key file %q: %w", o.key, err)
	}
	revoked, err := o.trust.load(env, o.key, k)
	if err != nil {
		return err
	}
	if !o.trust.allow {
		open.Refuse(revoked)
	}
	if !o.mode.meta && !o.place.dry && !k.CanReadData() {
		return fmt.Errorf("key file %q: a %s key cannot open file contents: a read or master key is needed", o.key, k.Kind())
	}
	var src source = piped{in, open}
	if in == nil {
		src = driven{env, o.from, open, choose}
	}
	if !o.mode.places && in != nil {
		env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	}
	err = o.mode.run(env, o, src, base{env: env, told: !o.want.IsZero(), revoked: revoked, choose: choose})
	if err == nil {
		choose.end()
	}
	return explain(err)
}

// input returns the stream on stdin, or nil if all is to be asked for.
func input(env *tool.Env, f *from) (*rec.Reader, error) {
	if f.command != "" {
		return nil, nil
	}
	stdin, err := env.Input()
	if err != nil {
		return nil, err
	}
	in := rec.NewReader(stdin, rec.Sealed)
	in.SetStall(stall)
	return in, nil
}

// explain adds what to do next where we know it.
func explain(err error) error {
	var wrong *box.WrongKeyError
	if errors.As(err, &wrong) {
		return &tool.Hint{Err: err, Text: "pv-key show FILE prints the key id of a key file"}
	}
	if errors.Is(err, box.ErrRevoked) {
		return &tool.Hint{Err: err, Text: "if you know that it was there before the key was lost, --allow-revoked takes it"}
	}
	if errors.Is(err, walk.ErrPartial) {
		return &tool.Hint{Err: err, Text: "--partial takes it as far as it goes"}
	}
	var order *walk.OrderError
	if errors.As(err, &order) && order.Order == rec.Up {
		return &tool.Hint{Err: err, Text: `pv-seal writes this order. To read a stream kept in FILE, store it in a new directory TMP: pv-get TMP "$(pv-put TMP <FILE)" | pv-unpack …`}
	}
	return err
}

// base is what all sinks have in common: they say whose snapshot comes, and
// name what cannot be had.
type base struct {
	env     *tool.Env
	told    bool         // the user named the snapshot
	revoked *key.Revoked // they come here only if they are allowed
	id      id.ID
	snap    *snap.Snapshot

	choose *chooser
}

func (b *base) Snapshot(i id.ID, s *snap.Snapshot) error {
	b.id, b.snap = i, s
	if err := b.choose.begin(s); err != nil {
		return err
	}
	text := fmt.Sprintf("snapshot %s by writer %q, host %q, at %s", i, s.WriterName, s.Host, stamp(s.Time))
	where, revoked := b.revoked.Find(s.WriterKey)
	if revoked {
		b.env.Say("%s: its writer, key %x, has been revoked (%s), which --allow-revoked overrules", text, s.WriterKey, where)
	}
	switch {
	case s.Partial:
		b.env.Notice("%s: PARTIAL: a checkpoint of a run that did not end, not a whole snapshot", text)
	case revoked: // said
	case b.told:
		b.env.Log.Debug(text)
	default:
		b.env.Notice("%s", text)
	}
	return nil
}

func (b *base) Gap(first page.Key, next *page.Key, l walk.Loss) error {
	if errors.Is(l.Why, walk.ErrPartial) {
		b.env.Notice("the checkpoint ends at %s: what comes behind it is not in it", rec.Quote(first.Path))
		return nil
	}
	to := "the end"
	if next != nil {
		to = "before " + next.String()
	}
	b.env.Warn("page %s %s; everything from %s to %s is lost", l.ID.Short(), l, first, to)
	return nil
}

// flawed names an entry that was not stored as it was.
func (b *base) flawed(e *rec.Entry) {
	switch {
	case e.Err != "" && e.Type == rec.Dir:
		b.env.Warn("%s: was stored without what is in it: %s", rec.Quote(e.Path), e.Err)
	case e.Err != "":
		b.env.Warn("%s: was stored without content: %s", rec.Quote(e.Path), e.Err)
	case e.Inconsistent:
		b.env.Warn("%s: changed while it was backed up: its content is of different moments", rec.Quote(e.Path))
	}
}

// End passes on what the stage before left out, and has named.
func (b *base) End(e *rec.End) error {
	if e.Status != 0 {
		b.env.SetWarned()
	}
	return nil
}

func (b *base) Orphan(e *rec.Entry) error {
	b.env.Warn("%s: %s", rec.Quote(e.Path), page.ErrOrphan)
	return nil
}

// lostFiles names the files that a missing blob belongs to.
func lostFiles(p *walk.Page, ref int) string {
	var names []string
	last := -1
	for _, u := range p.Uses[ref] {
		if u.Entry != last {
			names = append(names, rec.Quote(p.Entries[u.Entry].Path))
			last = u.Entry
		}
	}
	return strings.Join(names, ", ")
}
