// Package scan is pv-scan: the metadata of files and directories, as a tree
// stream.
package scan

import (
	"cmp"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"preserve/lib/inode"
	"preserve/lib/pattern"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/tool"
)

const usage = `usage: pv-scan [-C DIR] [--xattrs] [-x] [--dereference] [--exclude PATTERN]… PATH… >tree
       pv-scan … --files-from LIST >tree
       pv-scan … --why NAME PATH…
       pv-scan --stdin NAME [-- COMMAND…] >content

	pv-scan PATH… | pv-chunk -k KEY | pv-seal -k KEY | pv-put REPO
	^^^^^^^

Write the metadata of each PATH, and of all that is below it, as a tree stream.
Contents are not read. An absolute PATH is stored without its leading "/".

  -C DIR    begin relative paths from DIR, not from the working directory
  --xattrs  read extended attributes and inode flags too, for a pipeline
            without pv-chunk, which reads them itself
  --exclude-xattr PATTERN
            with --xattrs: leave out attributes whose names match
  -x, --one-file-system
            stay on the file system of each PATH: where another begins there is
            an empty directory. To have two of them: pv-scan -x / /home
  --dereference
            store what symbolic links point to in their place
  --host NAME
            the host that the stream names, not this one
  --no-warn-links
            do not name links that lead out of the backup
  -v, -q    say more, or only errors and warnings

What to leave out; all of it is optional. PATTERN is as in .gitignore: "*.o" is a
name at any depth, "cache/" a directory, "/home/me/tmp" a path, "**" any number of
directories. The last pattern that matches decides, in the order of the command
line; nothing below a directory that is left out can be taken back.

  --exclude PATTERN    may be repeated: --exclude '*.o' --exclude /home/me/tmp
  --exclude-from FILE  patterns, a line each, as in .gitignore, "!" and "#" too
  --include PATTERN    take back what a pattern before it leaves out:
                       --exclude '*.log' --include important.log
  --iexclude, --iinclude, --iexclude-from
                       the same for upper and lower case: --iexclude '*.jpg'
  --exclude-caches     of a directory with a CACHEDIR.TAG only the tag is taken
  --exclude-if-present NAME
                       of a directory with that name in it only the name is taken,
                       may be repeated: --exclude-if-present .nobackup
  --exclude-larger-than SIZE
                       files of more than SIZE bytes; K, M, G, T: --exclude-larger-than 2G
  --files-from LIST    scan the paths in the file LIST too, a line each, - for stdin
  --from0              a NUL ends each path of LIST: find … ! -type d -print0 |
                       pv-scan --from0 --files-from -
  --why NAME           write no stream, but say whether NAME would be in it, and by
                       which rule; may be repeated; exit status 3 if one would not
With contents, for pv-chunk to cut:

  --stdin NAME  stdin is the file NAME. With a COMMAND, what that writes is,
                and if it fails nothing is stored:
                pv-scan --stdin db.sql -- pg_dump -Fc db | pv-chunk -k KEY | …
`

// Run is the command.
func Run(env *tool.Env) (err error) {
	env.DropKey()
	var why []string
	defer func() {
		if len(why) == 0 { // else there is no stream
			env.Refuse(&err, rec.Refused)
		}
	}()
	fs := env.Flags()
	dir := fs.String("C", "", "")
	xattrs := fs.Bool("xattrs", false, "")
	var left pattern.Names
	fs.Func("exclude-xattr", "", left.Add)
	selection, listed := selectFlags(fs), listFlags(fs)
	fs.Func("why", "", func(path string) error { why = append(why, path); return nil })
	name := nameFlag(fs)
	var o scan.Options
	fs.BoolVar(&o.OneFileSystem, "x", false, "")
	fs.BoolVar(&o.OneFileSystem, "one-file-system", false, "")
	fs.BoolVar(&o.Follow, "dereference", false, "")
	quiet := fs.Bool("no-warn-links", false, "")
	host := fs.String("host", "", "")
	sources, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	if *name != "" {
		if err := alone(fs); err != nil {
			return err
		}
		return stdin(env, *name, sources)
	}
	if len(sources) == 0 && len(listed.files) == 0 && len(why) == 0 {
		return tool.Usagef("no path given")
	}
	if listed.nul && len(listed.files) == 0 {
		return tool.Usagef("--from0 says how the paths of --files-from end, which is missing")
	}
	if left.Any() && !*xattrs {
		return tool.Usagef("--exclude-xattr goes with --xattrs: pv-chunk, which reads attributes, has it too")
	}
	if len(*host) > rec.MaxText || strings.ToValidUTF8(*host, "") != *host || strings.ContainsFunc(*host, unicode.IsControl) {
		return tool.Usagef("--host takes a name of at most %d bytes", rec.MaxText)
	}
	s := &scanner{env: env, bare: env.NewTally("entries"), selection: selection, o: o, host: *host}
	if len(why) > 0 {
		return s.explain(*dir, why, sources, listed)
	}
	out, err := env.Records()
	if err != nil {
		return err
	}
	s.w = rec.NewWriter(out)
	roots, err := s.prepare(*dir, sources, listed)
	var usage *tool.UsageError
	if errors.As(err, &usage) {
		return err
	}
	if err != nil {
		return s.w.Close(env.Name, err) // the stage behind is told
	}
	heads, err := cover(roots, len(listed.files) > 0)
	if err != nil {
		return err
	}
	if s.o.Attributes = *xattrs; left.Any() {
		s.o.Omit = &inode.Omit{Name: left.Match}
	}
	return s.w.Close(env.Name, s.run(roots, heads, !*quiet))
}

// A scanner is one run. It is the walk's Reporter.
type scanner struct {
	env    *tool.Env
	w      *rec.Writer  // nil if there is no stream
	o      scan.Options // what the flags say of the walk
	host   string       // the host's name, if it is to be another
	owners inode.Owners
	end    rec.End
	bare   *tool.Tally // attributes that cannot be read
	failed error       // to write a note
	// What is left out, and what was read of lists.
	selection          *selection
	named              map[string]bool // paths of the roots that the command line names
	listed, listedSize int
	// For ticks, which another goroutine sends.
	files, bytes atomic.Uint64
}

// prepare finds the roots that are to be walked.
func (s *scanner) prepare(dir string, sources []string, listed *lists) ([]rec.Root, error) {
	if err := s.selection.load(); err != nil {
		return nil, err
	}
	roots, err := s.roots(dir, sources, listed)
	if err != nil {
		return nil, err
	}
	s.selection.astray(roots, s.env.Notice)
	return s.sift(roots)
}

// run writes the stream of the roots; heads are what its head says of them.
func (s *scanner) run(roots, heads []rec.Root, warnLinks bool) error {
	h := head(heads)
	h.Follow, h.Host = s.o.Follow, cmp.Or(s.host, h.Host)
	if err := s.w.Write(h); err != nil {
		return err
	}
	s.w.Tick(nil, func() (uint64, uint64) { return s.files.Load(), s.bytes.Load() })
	leads, mounts := newLeads(s.env), &mounts{env: s.env}
	o := s.o
	o.Choose, o.Report, o.Mounted = s.selection.chooser(), s, mounts.add
	if warnLinks {
		o.Links = leads
	}
	if err := scan.Walk(roots, o, s.visit); err != nil {
		return err
	}
	leads.end()
	mounts.end()
	if s.failed != nil {
		return s.failed
	}
	s.bare.Tell(s.end.Warn)
	s.selection.tell(s.env)
	s.hollow(roots)
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

func (s *scanner) visit(e *rec.Entry) error {
	s.owners.Add(e)
	s.files.Add(1)
	s.bytes.Add(e.Size)
	return s.w.Write(e)
}

// Warn implements tree.Reporter.
func (s *scanner) Warn(path string, err error) {
	if errors.Is(err, inode.ErrBare) {
		s.bare.Add(name(path), err.Error())
		return
	}
	text := name(path) + ": " + err.Error()
	s.env.Warn("%s", text)
	s.end.Warn(text)
}

// Vanished implements tree.Reporter.
func (s *scanner) Vanished(path string) { s.env.Notice("%s: vanished during the scan", name(path)) }

// Skipped implements tree.Reporter.
func (s *scanner) Skipped(path, why string) {
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
