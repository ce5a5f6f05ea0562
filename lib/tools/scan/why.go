package scan

import (
	"fmt"
	"slices"
	"strings"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/scan"
	"preserve/lib/source"
	"preserve/lib/tool"
)

// explain is the run of --why: what leaves out the sources themselves is part of
// the answer.
func (s *scanner) explain(dir string, paths, sources []string, listed *lists) error {
	if err := s.selection.load(); err != nil {
		return err
	}
	var roots []rec.Root
	if len(sources)+len(listed.files) > 0 {
		var err error
		if roots, err = s.roots(dir, sources, listed); err != nil {
			return err
		}
		s.selection.astray(roots, s.env.Notice)
	}
	return s.why(dir, paths, roots)
}

// why says of each path on stdout whether it would be in the stream, and what
// decides that. It walks to the path as a scan does, and looks at nothing beside the way.
// Without roots it walks from where the path begins. The error is tool.ErrPartial
// if a path would be left out.
func (s *scanner) why(dir string, paths []string, roots []rec.Root) error {
	var status error
	for _, path := range paths {
		text, in := s.because(dir, path, roots)
		verdict := "taken"
		if !in {
			verdict, status = "left out", tool.ErrPartial
		}
		if _, err := fmt.Fprintf(s.env.Stdout, "%s: %s%s\n", rec.Quote(path), verdict, tool.Mask(text)); err != nil {
			return err
		}
	}
	return status
}

// because returns what decides about a path, as it goes on behind the verdict.
func (s *scanner) because(dir, path string, roots []rec.Root) (text string, in bool) {
	r, err := source.NewResolver(dir)
	if err != nil {
		return ": " + err.Error(), false
	}
	found, plain, err := r.Add(path)
	if err != nil {
		return ": " + err.Error(), false
	}
	answer := func(path, reason string, in bool) (string, bool) {
		if in && !plain { // a directory above it is a link
			reason = ", as " + name(path) + reason
		}
		return reason, in
	}
	if len(roots) == 0 {
		text, in = s.walkTo(rec.Root{Dir: found.Dir}, found.Path)
		return answer(found.Path, text, in)
	}
	full, told := absolute(found), false
	// Of roots one below another, as -x has them, the last is the deepest. It is
	// what says why; any of them may take the path.
	for _, root := range slices.Backward(roots) {
		if !rec.Below(full, absolute(root)) {
			continue
		}
		rest := strings.TrimPrefix(full[len(absolute(root)):], "/")
		want := strings.Trim(root.Path+"/"+rest, "/")
		reason, taken := s.walkTo(root, want)
		if taken {
			return answer(want, reason, true)
		}
		if !told {
			text, told = reason, true
		}
	}
	if !told {
		return s.parentOf(full, roots)
	}
	return text, false
}

// parentOf is because for what is above roots, or beside all of them: it is taken
// with the first of them that is.
func (s *scanner) parentOf(full string, roots []rec.Root) (text string, in bool) {
	text = ": it is not at or below a path to scan"
	for _, r := range roots {
		if !rec.Below(absolute(r), full) {
			continue
		}
		below, in := s.walkTo(r, r.Path)
		if in {
			return ": it is a directory above " + name(r.Path), true
		}
		text = ": " + name(r.Path) + " below it is left out" + below
	}
	return text, false
}

// absolute is where a root lies, without the "/" in front.
func absolute(r rec.Root) string { return strings.Trim(r.Dir+"/"+r.Path, "/") }

// walkTo walks from a root to one path at or below it.
func (s *scanner) walkTo(root rec.Root, want string) (text string, in bool) {
	src, err := source.OpenRoots([]rec.Root{root})
	if err != nil {
		return ": " + err.Error(), false
	}
	at, why, out := s.selection.root(src, root.Path)
	src.Close()
	t := &trail{selection: s.selection, want: want}
	if out {
		t.leave(at, why.String())
		return t.text, false
	}
	o := scan.Options{Choose: t, Report: t, Mounted: t.mounted, OneFileSystem: s.o.OneFileSystem, Follow: s.o.Follow}
	err = scan.Walk([]rec.Root{root}, o, func(e *rec.Entry) error {
		if e.Path == want {
			t.seen, t.dir = true, e.Type == rec.Dir
		}
		return nil
	})
	switch {
	case err != nil:
		return ": " + err.Error(), false
	case !t.seen && t.text == "":
		return ": it is not there", false
	case !t.seen:
		return t.text, false
	}
	text = ": nothing leaves it out"
	if r := s.selection.rules.Match(want, t.dir); r != nil {
		text = ", by " + r.String()
	}
	if t.text != "" {
		text += "; what is in it is left out" + t.text
	}
	return text, true
}

// A trail is the way to one path. It is the walk's Chooser and its Reporter, and
// keeps what ends the way.
type trail struct {
	*selection
	want      string
	seen, dir bool
	text      string
}

// leave says that something at or above the path, or in it, is left out.
func (t *trail) leave(at, why string) {
	switch {
	case t.text != "":
	case at == t.want:
		t.text = ", by " + why
	default:
		t.text = ": " + name(at) + " is, by " + why
	}
}

// Drop implements tree.Chooser.
func (t *trail) Drop(path string, typ rec.Type) bool {
	if !rec.Below(t.want, path) {
		return true
	}
	why, out := t.byName(path, typ)
	if out {
		t.leave(path, why.String())
	}
	return out
}

// Take implements tree.Chooser.
func (t *trail) Take(path string, st *inode.Stat, known bool) bool {
	why, out := t.bySight(path, st, known)
	if out {
		t.leave(path, why.String())
	}
	return !out
}

// Enter implements tree.Chooser.
func (t *trail) Enter(d *scan.Dir) []string {
	names, why := t.enter(d)
	if d.Path == t.want {
		if names != nil {
			t.leave(d.Path, why.String())
		}
		return []string{}
	}
	next, _, _ := strings.Cut(strings.TrimPrefix(t.want[len(d.Path):], "/"), "/")
	if names != nil && !slices.Contains(names, next) {
		t.text = ": what is in " + name(d.Path) + " is, by " + why.String()
		return []string{}
	}
	return []string{next}
}

// mounted hears of another file system: a directory there is taken, and nothing
// in it.
func (t *trail) mounted(path string, typ rec.Type) {
	if path != t.want || typ != rec.Dir {
		t.leave(path, "--one-file-system: another one begins there")
	}
}

// Warn implements tree.Reporter.
func (t *trail) Warn(path string, err error) { t.text = ": " + name(path) + ": " + err.Error() }

// Vanished implements tree.Reporter.
func (t *trail) Vanished(path string) { t.text = ": " + name(path) + " is not there" }

// Skipped implements tree.Reporter.
func (t *trail) Skipped(path, why string) {
	switch {
	case t.text != "":
	case path == t.want:
		t.text = ": " + why
	default:
		t.text = ": what is in " + name(path) + " is: " + why
	}
}
