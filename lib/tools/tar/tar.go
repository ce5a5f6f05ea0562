// Package tar is pv-tar: it makes a tar archive of a content stream, and a content stream of a tar
// archive.
package tar

import (
	"os"

	"preserve/lib/confine"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

const usage = `usage: pv-get REPO ID | pv-open -k READKEY | pv-tar -c [--strip-components N] >TAR
       pv-tar -x <TAR | pv-chunk -k KEY | pv-seal -k WRITEKEY | pv-put REPO

Makes a tar archive of a content stream, or a content stream of a tar archive. It needs
no key, and touches no files.

  -c         read a content stream, write a PAX archive: … | pv-tar -c | tar -xp --xattrs --acls
  -x         read a tar archive, write an uncut content stream for pv-chunk
  --strip-components N
             with -c: take N names off the front of each path: 2 makes home/me/x to x.
             What has no more names is left out
  -v, -q     say more, say only errors and warnings
`

// Run is pv-tar.
func Run(env *tool.Env) (err error) {
	env.DropKey()
	var create, extract bool
	var choice reading.Choice
	fs := env.Flags()
	fs.BoolVar(&create, "c", false, "")
	fs.BoolVar(&extract, "x", false, "")
	choice.StripFlag(fs)
	words, err := env.Parse(fs, usage)
	if err == nil {
		switch {
		case len(words) > 0:
			err = tool.Usagef("unexpected argument %q: the archive is on stdin or stdout", words[0])
		case create == extract:
			err = tool.Usagef("one of -c and -x is needed")
		case extract && choice.Strip != 0:
			err = tool.Usagef("--strip-components goes with -c")
		default:
			err = choice.Check(&reading.Mode{Strips: true})
		}
	}
	if extract {
		defer env.Refuse(&err, rec.Refused)
		if err == nil {
			env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
			err = fromTar(env)
		}
		return err
	}
	if err != nil {
		return err
	}
	choose, err := reading.NewChooser(env, &reading.Mode{Parents: true, Strips: true}, &choice)
	if err != nil {
		return err
	}
	src, err := reading.OpenStream(env, choose)
	if err != nil {
		return err
	}
	env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	if err = toTar(src, reading.Base{Env: env, Choose: choose}); err == nil {
		choose.End()
	}
	return err
}
