// Package ls is pv-ls: it lists a tree or content stream, a line for each entry.
package ls

import (
	"os"

	"preserve/lib/confine"
	"preserve/lib/reading"
	"preserve/lib/tool"
)

const usage = `usage: pv-get REPO ID --meta | pv-open -k LISTKEY --meta | pv-ls [-l | --json | --ncdu | -0]
       pv-scan PATH… | pv-ls [-l | --json | --ncdu | -0]

Lists the entries of a tree stream, or of a content stream, a path a line, in path
order. It needs no key.

  -l         mode, owner, group, size and time in front of each path
  --json     a line of JSON for each entry, with all its metadata
  --ncdu     the whole tree as ncdu reads it: … | pv-ls --ncdu | ncdu -f -
  -0         a NUL after each path, for xargs -0
  -v, -q     say more, say only errors and warnings
`

// listing is how entries are printed.
type listing struct{ long, json, nul, ncdu bool }

// Run is pv-ls.
func Run(env *tool.Env) error {
	env.DropKey()
	var how listing
	fs := env.Flags()
	fs.BoolVar(&how.long, "l", false, "")
	fs.BoolVar(&how.json, "json", false, "")
	fs.BoolVar(&how.ncdu, "ncdu", false, "")
	fs.BoolVar(&how.nul, "0", false, "")
	words, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	count := 0
	for _, on := range []bool{how.long, how.json, how.ncdu, how.nul} {
		if on {
			count++
		}
	}
	switch {
	case len(words) > 0:
		return tool.Usagef("unexpected argument %q: pv-ls lists what comes on stdin; pv-open takes PATTERNs", words[0])
	case count > 1:
		return tool.Usagef("-l, --json, --ncdu and -0 exclude each other")
	}
	choose, err := reading.NewChooser(env, &reading.Mode{Meta: true}, &reading.Choice{})
	if err != nil {
		return err
	}
	src, err := reading.OpenStream(env, choose)
	if err != nil {
		return err
	}
	env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	l := &lister{Base: reading.Base{Env: env, Choose: choose}, listing: how, out: env.Stdout, buf: make([]byte, 0, 2*listBuffer)}
	if how.ncdu {
		l.tree = &ncdu{}
	}
	err = src.Walk(true, nil, l)
	if perr := l.last(); err == nil {
		err = perr
	}
	if err == nil && l.tree != nil {
		l.buf = l.tree.end(l.buf)
	}
	if _, werr := l.out.Write(l.buf); err == nil {
		err = werr
	}
	return err
}
