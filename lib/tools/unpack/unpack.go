// Package unpack is pv-unpack: it makes files of a content stream, or with a key of a sealed
// stream, which it opens and checks itself as pv-open does. It also writes the contents of
// single files to stdout.
package unpack

import (
	"os"

	"preserve/lib/confine"
	"preserve/lib/pattern"
	"preserve/lib/reading"
	"preserve/lib/tool"
	"preserve/lib/unseal"
)

const usage = `usage: pv-get REPO ID | pv-unpack -k READKEY [--snapshot ID] DIR [PATTERN…]
       pv-get REPO ID | pv-open -k READKEY [--snapshot ID] | pv-unpack DIR [PATTERN…]
       pv-unpack -k READKEY --from REPO|CMD --snapshot ID DIR [PATTERN…]
       … | pv-unpack [-k READKEY] --cat PATTERN…

Restores into DIR, which must not exist or be empty unless --overwrite is given. Without a
key it reads a content stream; with one it reads and opens a sealed stream itself.

  -k KEY                 read key
  --snapshot ID          accept only this snapshot
  --from REPO|CMD        read nothing, but ask the repository, or CMD, run by sh, for what
                         is needed: --from 'ssh nas pv-get /srv/repo --blobs -'
  --revoked FILE         refuse what the writers in FILE made: their public keys, a line
                         each (may be repeated); KEY.revoked, if there is one, always counts
  --allow-revoked        accept revoked writers
  --partial              accept a checkpoint of a run that did not end
  --dereference          copies of what symbolic links lead to, in their place; links out
                         of the snapshot stay links (with --from)
  --hard-dereference     each further name becomes a file of its own (with --from)
  --cat                  restore nothing, write the contents of files to stdout
  -v, -q                 say more, say only errors and warnings

Into a DIR that has something in it:

  --overwrite never      make only what is missing
  --overwrite changed    also replace what differs. A file of the same size and modification
                         time is taken to be the same: it is kept, and gets owner, mode and
                         attributes. Goes on with a restore that was interrupted
  --overwrite always     replace every file
  --in-place             write what differs into large files themselves. Saves space, but
                         after an interruption they are half old, half new
  --delete               remove what is not in the snapshot from directories that are; but
                         not what the backup left out or could not read, nor what
                         --exclude matches
  --delete-excluded      remove also what the backup left out on request
  --keep-directory-symlink
                         follow links to directories where the snapshot has a directory
  --dry-run              write nothing, print what would be done. A tree stream, or a list
                         key and pv-get --meta, will do

With PATTERNs, only what one of them matches, and all that is below it, as in .gitignore
files: /home/me, *.jpg, src/**/test, cache/.

  --exclude PATTERN      leave out what it matches, and all below (may be repeated)
  --literal              PATTERNs are paths: just these, though they hold *, ? or [
  --files-from LIST      also the paths in the file LIST, a line each (with --from, - is
                         stdin), and all that is below them
  --from0                a NUL ends each path of LIST
  --no-xattrs            leave extended attributes as they are, access control lists too
  --exclude-xattr PATTERN
                         leave those whose names match: security.selinux, 'user.*'
  --strip-components N   take N names off the front of each path: 2 makes home/me/x to x.
                         What has no more names is left out

Owners, also those in access control lists, get the ids that their names have on this
system; 0, and who has no name or an unknown one, keep the number.

  --numeric-ids          keep all numbers
  --map-user A:B, --map-group A:B
                         what is A's in the snapshot is to be B's: names or numbers, as in
                         eve:adam or 1000:1001 (may be repeated)
`

type options struct {
	cat bool
	dir string

	seal   unseal.Options
	choice reading.Choice
	place  placing
	left   pattern.Names // extended attributes that stay as they are
}

// mode is how entries are chosen.
func (o *options) mode() *reading.Mode {
	if o.cat {
		return &reading.Mode{Flag: "cat", Picks: true}
	}
	return &reading.Mode{Picks: true, Parents: true, Strips: true, Owns: true}
}

func parse(env *tool.Env) (o options, err error) {
	fs := env.Flags()
	fs.BoolVar(&o.cat, "cat", false, "")
	o.seal.Flags(fs)
	o.choice.Flags(fs)
	o.choice.StripFlag(fs)
	o.choice.OwnerFlags(fs)
	o.place.flags(fs)
	o.left.Flags(fs)
	words, err := env.Parse(fs, usage)
	if err != nil {
		return o, err
	}
	switch {
	case o.cat && len(words) == 0:
		return o, tool.Usagef("--cat needs a PATTERN: the path of a file")
	case o.cat && o.place != placing{}:
		return o, tool.Usagef("--overwrite, --in-place, --delete, --keep-directory-symlink and --dry-run go with DIR, not with --cat")
	case o.cat && o.left.Any():
		return o, tool.Usagef("--no-xattrs and --exclude-xattr go with DIR, not with --cat")
	case o.cat:
	case len(words) == 0:
		return o, tool.Usagef("a directory is needed to restore into")
	default:
		if o.dir, words = words[0], words[1:]; o.dir == "" {
			return o, tool.Usagef("the directory's name is empty")
		}
	}
	o.choice.Patterns = words
	if o.seal.Key == "" {
		if err := o.seal.Keyless(); err != nil {
			return o, err
		}
	}
	if o.seal.Partial && o.place.del {
		return o, tool.Usagef("--partial does not go with --delete: what the checkpoint has not come to would be deleted")
	}
	if err := o.seal.Check(&o.choice); err != nil {
		return o, err
	}
	if err := o.choice.Check(o.mode()); err != nil {
		return o, err
	}
	return o, o.place.check(&o.choice)
}

// Run is pv-unpack.
func Run(env *tool.Env) (err error) {
	o, err := parse(env)
	if err != nil {
		return err
	}
	if o.seal.Key == "" {
		env.DropKey()
	}
	choose, err := reading.NewChooser(env, o.mode(), &o.choice)
	if err != nil {
		return err
	}
	src, asks, err := source(env, &o, choose)
	if err != nil {
		return err
	}
	b := reading.Base{Env: env, Choose: choose}
	if o.cat {
		if !asks {
			env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
		}
		err = cat(o, src, b)
	} else {
		err = restore(o, src, b)
	}
	if err == nil {
		choose.End()
	}
	return err
}

// source opens where the snapshot comes from, and says whether that is a command that is asked.
func source(env *tool.Env, o *options, choose *reading.Chooser) (src reading.Source, asks bool, err error) {
	if o.seal.Key == "" {
		src, err = reading.OpenStream(env, choose)
		return src, false, err
	}
	sealed, err := unseal.Open(env, &o.seal, choose, !o.place.dry)
	if err != nil {
		return nil, false, err
	}
	return sealed, sealed.Asks(), nil
}
