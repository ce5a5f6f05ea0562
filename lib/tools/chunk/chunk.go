// Package chunk is pv-chunk: it reads the files of a tree stream, or the
// contents in a content stream, cuts them into chunks and decides where groups
// and pages end. It writes a content stream: the chunks of a page, then its
// entries, then a cut.
//
// Who calls whom, for a tree: one goroutine reads entries and the caches of earlier
// runs, and takes what has not changed from these; a parallel map opens the others'
// files ahead, reads small ones whole and reads attributes; one goroutine, the
// assembler, takes all in order, reads large files, fills groups and writes.
// For a content stream one goroutine does it all: a recut reads records, keeps the
// chunks since the last cut, and hands the same assembler what it needs.
//
// In memory: the small files in flight (bounded by weight), the open groups,
// two chunks' worth of a large file, and the entries of one page; of a content
// stream, chunks up to a limit, beyond which they are in a temporary file.
package chunk

import (
	"fmt"
	"io"
	"os"
	"time"

	"preserve/lib/cdc"
	"preserve/lib/confine"
	"preserve/lib/inode"
	"preserve/lib/key"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

const usage = `usage: pv-chunk -k KEY [--cache DIR --base ID[,ID]] <tree >content
       pv-chunk --plain <tree >content
       pv-chunk -k KEY | --plain <content >content

Reads the files that a tree stream from pv-scan names and writes a content
stream for pv-seal: file contents in chunks, cut where a keyed hash of the
content says so, and the entries that use them. What comes in a content stream
is cut again.

  -k KEY           cut key (or write or master key)
  --plain          no key, and no decision that takes one: for a pv-chunk -k behind it
                   ssh host 'pv-scan / | pv-chunk --plain' | pv-chunk --no-files -k KEY | …
  --no-files       read no file here: a tree stream, which can name any, is refused
  --no-group PATTERN
                   never put a file that matches into one chunk with others
  --cache DIR      the job's caches, which pv-seal --cache writes
  --base ID[,ID]   read no file for which the caches of these snapshots stand
  --distrust FILE  but read what needs one of the blobs that are listed there
  --new-key        -k is of another master key than these caches, on purpose
  --margin D       trust only what had not changed for D when it was read (default
                   60; on network file systems five times as much)
  --ignore-ctime   trust a file though its change time is another
  --ignore-inode   trust a file though its inode number is another
  --settle D       look at each file again D after it was read, and read it again if it
                   has changed: seconds, or 500ms, 2m (default: 1; 0: do not)
  --no-xattrs      leave out all extended attributes, access control lists too
  --exclude-xattr PATTERN
                   leave out those whose names match: security.selinux, 'user.*'
                   (may be repeated)
  -v, -q           say more, say only errors and warnings
`

// Run is pv-chunk.
func Run(env *tool.Env) (err error) {
	defer env.Refuse(&err, rec.Refused)
	fs := env.Flags()
	keyFile := fs.String("k", "", "")
	uncut := fs.Bool("plain", false, "")
	noFiles := fs.Bool("no-files", false, "")
	var apart alone
	apart.flag(fs)
	var old cacheOptions
	old.flags(fs)
	var left pattern.Names
	left.Flags(fs)
	settle := tool.Duration(fs, "settle", time.Second)
	words, err := env.Parse(fs, usage)
	switch {
	case err != nil:
		return err
	case len(words) > 0:
		return tool.Usagef("unexpected argument %q", words[0])
	case *keyFile != "" && *uncut:
		return tool.Usagef("-k and --plain exclude each other")
	case *keyFile == "" && !*uncut:
		return tool.Usagef("a cut key is needed: -k KEY")
	case len(apart.given) > 0 && *uncut:
		return tool.Usagef("--no-group and --plain exclude each other: give --no-group to the pv-chunk -k that cuts the stream")
	}
	if err := old.check(*uncut); err != nil {
		return err
	}
	if err := apart.load(); err != nil {
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
	out := rec.NewWriter(stdout)
	j := &work{env: env, in: stdin, out: out, params: cdc.Default, noFiles: *noFiles, settle: *settle, alone: apart, old: &old}
	if left.Any() {
		j.omit = &inode.Omit{All: left.All, Name: left.Match}
	}
	if !*uncut {
		err = j.load(*keyFile)
	}
	if err == nil {
		err = old.load()
		defer old.close()
	}
	if err == nil {
		limits := confine.Limits{ReadAll: true, Write: []string{os.TempDir()}}
		if old.dir != "" {
			limits.Write = append(limits.Write, old.dir)
		}
		env.Confine(limits)
		err = j.run()
	}
	return out.Close(env.Name, err)
}

// A work is one run of pv-chunk.
type work struct {
	env     *tool.Env
	in      io.Reader
	out     *rec.Writer
	key     *key.Key   // nil for an uncut stream
	params  cdc.Params // under a key
	noFiles bool
	settle  time.Duration
	alone   alone
	old     *cacheOptions
	omit    *inode.Omit // extended attributes; nil for none
}

// load takes the key from a file.
func (w *work) load(keyFile string) error {
	k, warning, err := key.Load(keyFile)
	if warning != "" {
		w.env.Say("%s", warning)
	}
	if err != nil {
		return err
	}
	if !k.CanCut() {
		return fmt.Errorf("key file %q: a %s key cannot cut files: a cut, write or master key is needed", keyFile, k.Kind())
	}
	w.key = k
	return nil
}

// rules returns what decides for a tree with given roots.
func (w *work) rules(roots []string) (*rules, error) {
	if w.key == nil {
		return plain(), nil
	}
	cut, _ := w.key.Cut()
	return keyed(cut, w.params, roots)
}

func (w *work) run() error {
	in, err := rec.ReadAny(w.in)
	if err != nil {
		return err
	}
	head, err := in.Head()
	if err != nil {
		return err
	}
	again := head.Kind == rec.Content
	switch {
	case head.Kind == rec.Sealed:
		return in.Wrap(fmt.Errorf("%w: this is a sealed stream, but a tree or content stream belongs here (pv-open makes one of it)", rec.ErrKind))
	case !again && w.noFiles:
		return in.Wrap(fmt.Errorf("%w: this is a tree stream, and with --no-files only a content stream is taken (pv-chunk --plain makes one where the files are)", rec.ErrKind))
	}
	rules, err := w.rules(rec.Paths(head.Roots))
	if err != nil {
		return err
	}
	r := &reader{}
	if !again {
		if r.src, err = source.OpenRoots(head.Roots); err != nil {
			return err
		}
		defer r.src.Close()
		r.src.Omit = w.omit
		if head.Follow {
			if err := r.src.Follow(); err != nil {
				return err
			}
		}
	}
	roots := head.Roots
	w.alone.roots, rules.alone = roots, &w.alone
	head.Kind, head.Chunker, head.Base, head.Follow = rec.Content, rules.chunker, nil, false
	old := &caches{}
	switch {
	case !again:
		if old, err = w.old.open(w.env, w.key, head, r.src, &w.alone); err != nil {
			return err
		}
		defer old.close()
	case len(w.old.base) > 0:
		w.env.Notice("no cache is used: the input is a content stream, and its contents are here already")
	}
	head.Base = old.base
	if err := w.out.Write(head); err != nil {
		return err
	}
	a := newAssembler(w.env, r, w.out, rules)
	a.settle, a.omit = w.settle, w.omit
	w.out.Tick(in, a.progress)
	var before *rec.End
	if again {
		before, err = cutAgain(in, w.out, a)
	} else {
		a.sources = source.NewWatch(roots)
		before, err = readFiles(in, w.out, a, old)
	}
	if err != nil {
		return err
	}
	return a.finish(before)
}
