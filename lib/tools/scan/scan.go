// Package scan is pv-scan: the metadata of files and directories, as a tree
// stream.
package scan

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"time"

	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/tree"
)

const usage = `usage: pv-scan [-C DIR] [--xattrs] PATH… >tree

	pv-scan PATH… | pv-chunk -k KEY | pv-seal -k KEY | pv-put REPO
	^^^^^^^

Write the metadata of each PATH, and of all that is below it, as a tree stream.
Contents are not read. An absolute PATH is stored without its leading "/".

  -C DIR    begin relative paths from DIR, not from the working directory
  --xattrs  read extended attributes and inode flags too, for a pipeline
            without pv-chunk, which reads them itself
  -x, --one-file-system
            stay on the file system of each PATH: where another begins there is
            an empty directory. To have two of them: pv-scan -x / /home
  --dereference
            store what symbolic links point to in their place
  --no-warn-links
            do not name links that lead out of the backup
  -v, -q    say more, or only errors and warnings
`

// Run is the command.
func Run(env *tool.Env) error {
	fs := env.Flags()
	dir := fs.String("C", "", "")
	xattrs := fs.Bool("xattrs", false, "")
	var o tree.Options
	fs.BoolVar(&o.OneFileSystem, "x", false, "")
	fs.BoolVar(&o.OneFileSystem, "one-file-system", false, "")
	fs.BoolVar(&o.Follow, "dereference", false, "")
	quiet := fs.Bool("no-warn-links", false, "")
	sources, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return tool.Usagef("no path given")
	}
	out, err := env.Records()
	if err != nil {
		return err
	}
	s := &scan{env: env, w: rec.NewWriter(out)}
	roots, err := s.roots(*dir, sources, o.OneFileSystem)
	if errors.Is(err, tree.ErrMixed) {
		return tool.Usagef("%s: name them from one directory, with -C", err)
	}
	if err != nil {
		return s.w.Close(env.Name, err) // the stage behind is told
	}
	if n := headSize(roots); n > maxRoots {
		return tool.Usagef("%d sources with %d bytes of paths are too many for a stream (%d): name the directories above them", len(roots), n, maxRoots)
	}
	o.Attributes = *xattrs
	return s.w.Close(env.Name, s.run(roots, o, !*quiet))
}

// roots turns the sources into roots. With inner, those below others stay: a walk
// of one file system need not come from one to the other.
func (s *scan) roots(dir string, sources []string, inner bool) ([]rec.Root, error) {
	r, err := tree.NewResolver(dir)
	if err != nil {
		return nil, err
	}
	r.Inner = inner
	for _, source := range sources {
		root, plain, err := r.Add(source)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", rec.Quote(source), err)
		}
		if !plain {
			s.env.Notice("%s: a parent of it is a symbolic link: stored as %s", rec.Quote(source), rec.Quote(root.Path))
		}
	}
	return r.Roots()
}

// maxRoots bounds the paths of the roots, so that the head keeps to its limit.
const maxRoots = rec.MaxSmall - 8<<10

func headSize(roots []rec.Root) int {
	n := 0
	for _, r := range roots {
		n += len(r.Dir) + len(r.Path) + 8
	}
	return n
}

// A scan is one run. It is the walk's Reporter.
type scan struct {
	env    *tool.Env
	w      *rec.Writer
	owners tree.Owners
	end    rec.End
	failed error // to write a note
	// For ticks, which another goroutine sends.
	files, bytes atomic.Uint64
}

func (s *scan) run(roots []rec.Root, o tree.Options, warnLinks bool) error {
	h := head(roots)
	h.Follow = o.Follow
	if err := s.w.Write(h); err != nil {
		return err
	}
	s.w.Tick(nil, func() (uint64, uint64) { return s.files.Load(), s.bytes.Load() })
	leads, mounts := newLeads(s.env), &mounts{env: s.env}
	o.Report, o.Mounted = s, mounts.add
	if warnLinks {
		o.Links = leads
	}
	if err := tree.Walk(roots, o, s.visit); err != nil {
		return err
	}
	leads.end()
	mounts.end()
	if s.failed != nil {
		return s.failed
	}
	s.end.Entries, s.end.Bytes = s.files.Load(), s.bytes.Load()
	names, users, groups := rec.SplitNames(s.owners.Names())
	for _, n := range names {
		if err := s.w.Write(n); err != nil {
			return err
		}
	}
	s.end.Users, s.end.Groups = users, groups
	return s.w.Write(&s.end)
}

// head says where and when the tree is seen, and by whom.
func head(roots []rec.Root) *rec.Head {
	h := &rec.Head{Kind: rec.Tree, Time: rec.TimeOf(time.Now()), Roots: roots}
	// A machine without a name, a user without one: the stream goes on.
	h.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	} else {
		h.User = strconv.Itoa(os.Getuid())
	}
	return h
}

func (s *scan) visit(e *rec.Entry) error {
	s.owners.Add(e)
	s.files.Add(1)
	s.bytes.Add(e.Size)
	return s.w.Write(e)
}

// Warn implements tree.Reporter.
func (s *scan) Warn(path string, err error) {
	text := name(path) + ": " + err.Error()
	s.env.Warn("%s", text)
	s.end.Warn(text)
}

// Vanished implements tree.Reporter.
func (s *scan) Vanished(path string) { s.env.Notice("%s: vanished during the scan", name(path)) }

// Skipped implements tree.Reporter.
func (s *scan) Skipped(path, why string) {
	text := name(path) + ": what is in it is left out: " + why
	s.env.Notice("%s", text)
	if err := s.w.Write(&rec.Note{Tool: s.env.Name, Text: text}); err != nil && s.failed == nil {
		s.failed = err
	}
}

// name is a path for a message.
func name(path string) string {
	if path == "" {
		return "."
	}
	return rec.Quote(path)
}
