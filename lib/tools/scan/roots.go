package scan

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// Limits of all lists of --files-from together: what is kept of them is the paths.
const (
	maxListed     = 500_000
	maxListedSize = 32 << 20
)

// lists are the files that name what is to be scanned.
type lists struct {
	files []string // "-" is stdin
	nul   bool
}

func listFlags(fs *flag.FlagSet) *lists {
	l := &lists{}
	fs.Func("files-from", "", func(file string) error {
		if file == "-" {
			for _, f := range l.files {
				if f == "-" {
					return errors.New("stdin can be read once")
				}
			}
		}
		l.files = append(l.files, file)
		return nil
	})
	fs.BoolVar(&l.nul, "from0", false, "")
	return l
}

// roots turns the sources and the lists into roots, and remembers which of them
// the command line names.
func (s *scanner) roots(dir string, sources []string, l *lists) ([]rec.Root, error) {
	r, err := source.NewResolver(dir)
	if err != nil {
		return nil, err
	}
	// A walk of one file system need not come from a source to one below it.
	r.Inner = s.o.OneFileSystem
	s.named = map[string]bool{}
	var missing error
	for _, source := range sources {
		root, plain, err := r.Add(source)
		switch {
		case inode.Exhausted(err):
			return nil, err
		case err != nil:
			missing = fmt.Errorf("source %s: %w", rec.Quote(source), err)
			if len(sources)+len(l.files) > 1 {
				s.Warn(source, fmt.Errorf("left out: %w", err))
			}
			continue
		case !plain:
			s.env.Notice("%s: a parent of it is a symbolic link: stored as %s", rec.Quote(source), rec.Quote(root.Path))
			s.selection.alias(source, root)
		}
		s.named[root.Path] = true
		s.special(source)
	}
	if missing != nil && len(s.named) == 0 && len(l.files) == 0 {
		return nil, missing
	}
	for _, file := range l.files {
		if err := s.list(r, file, l.nul); err != nil {
			return nil, err
		}
	}
	roots, err := r.Roots()
	if errors.Is(err, source.ErrMixed) {
		return nil, tool.Usagef("%s: name them from one directory, with -C", err)
	}
	if err == nil && len(roots) == 0 {
		err = errors.New("there is nothing to scan: the lists name no path that exists")
	}
	return roots, err
}

// special tells of a source that has content which is not stored: a fifo, as of <(command), or
// a device is stored as what it is.
func (s *scanner) special(source string) {
	st, err := os.Stat(source)
	if err != nil || st.Mode()&(os.ModeNamedPipe|os.ModeDevice) == 0 {
		return
	}
	what := "a device"
	if st.Mode()&os.ModeNamedPipe != 0 {
		what = "a fifo"
	}
	s.env.Notice("%s: is %s: it is stored as such, without what can be read from it (pv-scan --stdin NAME stores that: … | pv-scan --stdin NAME)", rec.Quote(source), what)
}

// list adds the paths of a file. One that does not exist is left out with a
// warning: it may have vanished since the list was made.
func (s *scanner) list(r *source.Resolver, file string, nul bool) error {
	in, from := s.env.Stdin, "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("--files-from: %w", err)
		}
		defer f.Close()
		in, from = f, rec.Quote(file)
	}
	end := byte('\n')
	if nul {
		end = 0
	}
	b := bufio.NewReaderSize(in, rec.MaxPath+1)
	moved := 0
	for {
		line, err := b.ReadSlice(end)
		if err != nil && err != io.EOF {
			if err == bufio.ErrBufferFull {
				err = fmt.Errorf("a path of more than %d bytes: are its paths separated by NUL (--from0), or by newline?", rec.MaxPath)
			}
			return fmt.Errorf("--files-from: %s: %w", from, err)
		}
		if path := bytes.TrimSuffix(line, []byte{end}); len(path) > 0 {
			if bytes.IndexByte(path, 0) >= 0 {
				return fmt.Errorf("--files-from: %s: there is a NUL in a path: say --from0 if NULs are between paths", from)
			}
			if s.listed++; s.listed > maxListed || s.listedSize+len(path) > maxListedSize {
				return fmt.Errorf("--files-from: %s: more than %d paths, or %d bytes of them: name directories", from, maxListed, maxListedSize)
			}
			s.listedSize += len(path)
			_, plain, err := r.Add(string(path))
			switch {
			case inode.Exhausted(err):
				return err
			case err != nil:
				s.Warn(string(path), err)
			case !plain:
				moved++
			}
		}
		if err == io.EOF {
			break
		}
	}
	if moved > 0 {
		s.env.Notice("--files-from: %s: of %d paths a parent is a symbolic link: they are stored without it", from, moved)
	}
	return nil
}

// maxGiven is how many paths that were given and are left out are named.
const maxGiven = 20

// sift leaves out the roots that the selection leaves out, by patterns or size.
// Of one that the command line names the user hears: of itself as of something
// normal, but as a warning if a directory above it is left out, since then its
// naming and the pattern are at odds.
func (s *scanner) sift(roots []rec.Root) ([]rec.Root, error) {
	if s.selection.rules.Len() == 0 && s.selection.larger == "" {
		return roots, nil
	}
	src, err := source.OpenRoots(roots)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	kept := roots[:0]
	given := 0
	for _, r := range roots {
		at, why, out := s.selection.root(src, r.Path)
		if !out {
			kept = append(kept, r)
			continue
		}
		s.selection.counts[why]++
		switch {
		case !s.named[r.Path]:
		case at == r.Path:
			if given++; given <= maxGiven {
				s.env.Notice("%s: left out, by %s", name(r.Path), why)
			}
		default:
			s.Warn(r.Path, fmt.Errorf("left out, since %s is, by %s", name(at), why))
		}
	}
	if given > maxGiven {
		s.env.Notice("left out, too: %d more paths that were given", given-maxGiven)
	}
	if len(kept) == 0 {
		return nil, errors.New("there is nothing to scan: patterns leave out every path that was given")
	}
	return kept, nil
}

// root says whether a root is left out, at which path, and why. What cannot be
// looked at is not: the walk will say what is wrong with it.
func (s *selection) root(src *source.Source, path string) (at string, why cause, out bool) {
	if at, why, out = s.above(path); out || path == "" {
		return at, why, out
	}
	st, err := src.Stat(path)
	if err != nil {
		return "", cause{}, false
	}
	why, out = s.judge(path, &st)
	return path, why, out
}

// hollow says so if of the one root nothing was taken but the root itself: a pattern
// says more than it was meant to.
func (s *scanner) hollow(roots []rec.Root) {
	if len(roots) != 1 || !s.selection.inside || s.files.Load() > uint64(1+strings.Count(roots[0].Path, "/")) {
		return
	}
	by := "rules that -v names"
	for why := range s.selection.counts {
		if len(s.selection.counts) == 1 {
			by = why.String()
		}
	}
	s.env.Notice("nothing is left of %s: all that is in it is left out, by %s", name(roots[0].Path), by)
}

// maxRoots bounds the paths of the roots, so that the head keeps to its limit.
const maxRoots = rec.MaxSmall - 8<<10

// cover returns the roots for a head: the same, or, where they come from a list or
// are too many, the directory that their paths begin from. It does not change with
// the list, so that pages are cut in the same places in every run.
func cover(roots []rec.Root, listed bool) ([]rec.Root, error) {
	if !listed && headSize(roots) <= maxRoots {
		return roots, nil
	}
	one := true
	var tops []rec.Root // where roots lie in different directories
	for _, r := range roots {
		one = one && r.Dir == roots[0].Dir
		top := rec.Root{Dir: r.Dir, Path: r.Path}
		if i := bytes.IndexByte([]byte(r.Path), '/'); i >= 0 {
			top.Path = r.Path[:i]
		}
		if len(tops) == 0 || tops[len(tops)-1] != top {
			tops = append(tops, top)
		}
	}
	if one {
		return []rec.Root{{Dir: roots[0].Dir}}, nil
	}
	if n := headSize(tops); n > maxRoots {
		return nil, tool.Usagef("%d sources in different directories have %d bytes of names, too many for a stream (%d): name all of them from one directory, with -C, or by absolute paths", len(roots), n, maxRoots)
	}
	return tops, nil
}

func headSize(roots []rec.Root) int {
	n := 0
	for _, r := range roots {
		n += len(r.Dir) + len(r.Path) + 8
	}
	return n
}
