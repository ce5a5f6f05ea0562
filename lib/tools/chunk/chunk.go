// Package chunk is pv-chunk: it reads the files of a tree stream, or the
// contents in a content stream, cuts them into chunks and decides where groups
// and pages end. It writes a content stream: the chunks of a page, then its
// entries, then a cut.
//
// Who calls whom, for a tree: one goroutine reads entries; a parallel map opens
// their files ahead, reads small ones whole and reads attributes; one goroutine,
// the assembler, takes them in order, reads large files, fills groups and writes.
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
	"time"

	"preserve/lib/bounds"
	"preserve/lib/cdc"
	"preserve/lib/key"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/tree"
)

const usage = `usage: pv-chunk -k KEY | --plain [--settle D] <tree >content
       pv-chunk -k KEY | --plain <content >content

Reads the files that a tree stream from pv-scan names and writes a content
stream for pv-seal: file contents in chunks, cut where a keyed hash of the
content says so, and the entries that use them. What comes in a content stream
is cut again.

  -k KEY      cut key (or write or master key)
  --plain     no key, and no decision that takes one: for a pv-chunk -k behind it
              ssh host 'pv-scan / | pv-chunk --plain' | pv-chunk --no-files -k KEY | …
  --settle D  look at each file again D after it was read, and read it again if it
              has changed: seconds, or 500ms, 2m (default: 1; 0: do not)
  --no-files  read no file here: a tree stream, which can name any, is refused
  -v, -q      say more, say only errors and warnings
`

// Files are opened ahead by a few goroutines; what they hold is bounded in
// number and in bytes.
const (
	readers  = 4
	ahead    = 48
	inFlight = 8 << 20
)

// Run is pv-chunk.
func Run(env *tool.Env) error {
	fs := env.Flags()
	keyFile := fs.String("k", "", "")
	uncut := fs.Bool("plain", false, "")
	noFiles := fs.Bool("no-files", false, "")
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
	rulesFor := func([]string) (*rules, error) { return plain(), nil }
	if !*uncut {
		rulesFor, err = load(env, *keyFile)
	}
	if err == nil {
		err = run(env, stdin, out, rulesFor, options{*noFiles, *settle})
	}
	return out.Close(env.Name, err)
}

type options struct {
	noFiles bool
	settle  time.Duration
}

// load returns the rules under the key in a file, for a tree with given roots.
func load(env *tool.Env, keyFile string) (rulesFor func(roots []string) (*rules, error), err error) {
	k, warning, err := key.Load(keyFile)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return nil, err
	}
	cut, ok := k.Cut()
	if !ok {
		return nil, fmt.Errorf("key file %q: a %s key cannot cut files: a cut, write or master key is needed", keyFile, k.Kind())
	}
	return func(roots []string) (*rules, error) { return keyed(cut, cdc.Default, roots) }, nil
}

func run(env *tool.Env, stdin io.Reader, out *rec.Writer, rulesFor func(roots []string) (*rules, error), o options) error {
	in, err := rec.ReadAny(stdin)
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
		return in.Wrap(fmt.Errorf("%w: this is a sealed stream, but a tree or content stream belongs here (pv-unpack --stream makes one of it)", rec.ErrKind))
	case !again && o.noFiles:
		return in.Wrap(fmt.Errorf("%w: this is a tree stream, and with --no-files only a content stream is taken (pv-chunk --plain makes one where the files are)", rec.ErrKind))
	}
	rules, err := rulesFor(rec.Paths(head.Roots))
	if err != nil {
		return err
	}
	r := &reader{}
	if !again {
		if r.src, err = tree.OpenRoots(head.Roots); err != nil {
			return err
		}
		defer r.src.Close()
		if head.Follow {
			if err := r.src.Follow(); err != nil {
				return err
			}
		}
	}
	// Nothing that comes out rests on what a snapshot holds.
	head.Kind, head.Chunker, head.Base, head.Follow = rec.Content, rules.chunker, nil, false
	if err := out.Write(head); err != nil {
		return err
	}
	a := newAssembler(env, r, out, rules)
	a.settle = o.settle
	out.Tick(in, a.progress)
	var before *rec.End
	if again {
		before, err = cutAgain(in, out, a)
	} else {
		m := par.New(readers, ahead, inFlight, r.prepare, a.take)
		before, err = feed(in, out, m, a)
		if cerr := m.Close(); cerr != nil {
			return cerr
		}
	}
	if err != nil {
		return err
	}
	return a.finish(before)
}

// feed hands entries over in order until the end record came, which it returns.
func feed(in *rec.Reader, out *rec.Writer, m *par.Map[*rec.Entry, *file], a *assembler) (before *rec.End, err error) {
	for {
		v, err := in.Next()
		if err == io.EOF {
			return before, nil
		}
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *rec.Entry:
			weight := int64(4096)
			if v.Type == rec.File && v.Size <= bounds.SmallFile {
				weight += int64(v.Size)
			}
			err = m.Put(v, weight)
		case *rec.Names:
			err = in.Wrap(a.names.add(v.Users, v.Groups))
		case *rec.Note:
			err = out.Write(v)
		case *rec.Tick:
			files, bytes := a.progress()
			err = out.Pulse(files, bytes)
		case *rec.End:
			before = v
			err = in.Wrap(a.names.add(v.Users, v.Groups))
		}
		if err != nil {
			return nil, err
		}
	}
}
