// Package chunk is pv-chunk: it reads the files of a tree stream, cuts them
// into chunks and decides where groups and pages end. It writes a content
// stream: the chunks of a page, then its entries, then a cut.
//
// Who calls whom: one goroutine reads entries; a parallel map opens their files
// ahead, reads small ones whole and reads attributes; one goroutine, the
// assembler, takes them in order, reads large files, fills groups and writes.
// In memory: the small files in flight (bounded by weight), the open groups,
// two chunks' worth of a large file, and the entries of one page.
package chunk

import (
	"fmt"
	"io"

	"preserve/lib/bounds"
	"preserve/lib/cdc"
	"preserve/lib/key"
	"preserve/lib/par"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/tree"
)

const usage = `usage: pv-chunk -k KEY <tree >content

Reads the files that a tree stream from pv-scan names and writes a content
stream for pv-seal: file contents in chunks, cut where a keyed hash of the
content says so, and the entries that use them.

  -k KEY   cut key (or write or master key)
  -v, -q   say more, say only errors and warnings
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
	words, err := env.Parse(fs, usage)
	switch {
	case err != nil:
		return err
	case len(words) > 0:
		return tool.Usagef("unexpected argument %q", words[0])
	case *keyFile == "":
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
	return out.Close(env.Name, run(env, *keyFile, rec.NewReader(stdin, rec.Tree), out))
}

func run(env *tool.Env, keyFile string, in *rec.Reader, out *rec.Writer) error {
	k, warning, err := key.Load(keyFile)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return err
	}
	cut, ok := k.Cut()
	if !ok {
		return fmt.Errorf("key file %q: a %s key cannot cut files: a cut, write or master key is needed", keyFile, k.Kind())
	}
	cutter, err := cdc.New(cut.Gear(cdc.MaterialSize), cdc.Default)
	if err != nil {
		return err
	}
	head, err := in.Head()
	if err != nil {
		return err
	}
	src, err := tree.OpenRoots(head.Roots)
	if err != nil {
		return err
	}
	defer src.Close()
	if head.Follow {
		if err := src.Follow(); err != nil {
			return err
		}
	}
	head.Kind, head.Follow = rec.Content, false
	p := cdc.Default
	head.Chunker = &rec.Chunker{Name: cdc.Name, Min: uint64(p.Min), Avg: uint64(p.Avg), Max: uint64(p.Max)}
	if err := out.Write(head); err != nil {
		return err
	}
	r := &reader{src: src}
	group, page := cut.Group(), cut.Page()
	a := newAssembler(env, r, out, cutter, p.Max, bounds.New(group.Bytes(), page.Bytes(), rec.Paths(head.Roots)))
	out.Tick(in, a.progress)
	m := par.New(readers, ahead, inFlight, r.prepare, a.take)
	before, err := feed(in, out, m, a)
	if cerr := m.Close(); cerr != nil {
		return cerr
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
		case *rec.Names, *rec.Note:
			err = out.Write(v)
		case *rec.Tick:
			files, bytes := a.progress()
			err = out.Pulse(files, bytes)
		case *rec.End:
			before = v
		}
		if err != nil {
			return nil, err
		}
	}
}
