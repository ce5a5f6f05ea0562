package unpack

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"syscall"

	"preserve/lib/content"
	"preserve/lib/inode"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/target"
	"preserve/lib/tool"
)

// placing is what the user said of what is in DIR already.
type placing struct {
	overwrite string
	inPlace   bool
	del       bool
	excluded  bool // delete what the backup left out on request, too
	follow    bool // links to directories, where the snapshot has a directory
	dry       bool
}

func (p *placing) flags(fs *flag.FlagSet) {
	fs.StringVar(&p.overwrite, "overwrite", "", "")
	fs.BoolVar(&p.inPlace, "in-place", false, "")
	fs.BoolVar(&p.del, "delete", false, "")
	fs.BoolVar(&p.excluded, "delete-excluded", false, "")
	fs.BoolVar(&p.follow, "keep-directory-symlink", false, "")
	fs.BoolVar(&p.dry, "dry-run", false, "")
}

// check refuses what does not go with each other.
func (p *placing) check(c *reading.Choice) error {
	how := target.ParseOverwrite(p.overwrite)
	replaces := how == target.Changed || how == target.Always
	switch {
	case p.overwrite != "" && how == target.Nothing:
		return tool.Usagef("--overwrite takes never, changed or always, not %q", p.overwrite)
	case p.inPlace && !replaces:
		return tool.Usagef("--in-place goes with --overwrite changed or --overwrite always")
	case p.del && !replaces:
		return tool.Usagef("--delete goes with --overwrite changed or --overwrite always")
	case p.del && c.Strip > 0:
		return tool.Usagef("--delete does not go with --strip-components: what it leaves out would be deleted")
	case p.excluded && !p.del:
		return tool.Usagef("--delete-excluded goes with --delete")
	case p.follow && how == target.Nothing:
		return tool.Usagef("--keep-directory-symlink goes with --overwrite")
	}
	return nil
}

// A planner prints what a restore would do.
type planner struct{ out *bufio.Writer }

func (p planner) act(a target.Act, path string) {
	if path == "" {
		path = "."
	}
	_, _ = fmt.Fprintf(p.out, "%s %s\n", a, rec.Quote(path)) // Flush tells
}

// into is how the target is opened.
func (r *restorer) into() target.Into {
	into := target.Into{
		Overwrite: target.ParseOverwrite(r.place.overwrite), InPlace: r.place.inPlace, Delete: r.place.del,
		DeleteExcluded: r.place.excluded, KeepDirSymlink: r.place.follow,
		Sections: r.sections, Part: r.Choose.Picks() || r.sections,
	}
	if left := r.left; left.Any() {
		into.Omit = &inode.Omit{All: left.All, Name: left.Match}
	}
	into.Copied = func(path string, why error) { r.copies.Add(rec.Quote(path), "restored as a copy: "+noLink(why)) }
	if r.place.del {
		into.Spared = func(path string) { r.Env.Log.Debug("not deleted: " + rec.Quote(path)) }
		if r.Choose.Excludes() {
			into.Keep = r.Choose.Keeps
		}
	}
	if r.place.dry {
		into.Plan = r.plan.act
	}
	return into
}

// noLink says why a name is no hard link.
func noLink(why error) string {
	switch {
	case errors.Is(why, syscall.EXDEV):
		return "it lies on another file system than the first name of its file"
	case errors.Is(why, syscall.EMLINK):
		return "its file has as many names as the file system allows"
	}
	return "no hard link can be made to its file here"
}

// spare has nothing more deleted since a part of the snapshot is not known.
func (r *restorer) spare() {
	if r.place.del && r.target != nil && !r.spared {
		r.spared = true
		r.target.Spare()
		r.Env.Warn("nothing more is deleted: a part of the snapshot is missing")
	}
}

// unused takes the uses out of a page that belong to nothing that is made.
func (fs files) unused(uses [][]content.Use) {
	for i, us := range uses {
		kept := us[:0]
		for _, u := range us {
			if fs[u.Entry] != nil {
				kept = append(kept, u)
			}
		}
		uses[i] = kept
	}
}

// holes frees the blocks of a file that was there before where the new one has
// holes.
func (r *restorer) holes(f *output, e *rec.Entry) error {
	at := int64(e.Off)
	for _, x := range e.Extents {
		if x.Hole {
			if err := f.out.Hole(at, int64(x.Len)); err != nil {
				f.failed = true
				return r.lenient(f.first, err)
			}
		}
		at += int64(x.Len)
	}
	return nil
}

// summary says what was done to a tree that was there, or what would be.
func (r *restorer) summary() {
	c := r.target.Counts()
	text := fmt.Sprintf("%d created, %d updated, %d replaced, %d deleted, %d changed in metadata only",
		c.Done[target.Create], c.Done[target.Update], c.Done[target.Replace], c.Done[target.Delete], c.Done[target.Metadata])
	if r.place.dry {
		r.Env.Notice("dry run, nothing was written: %s", text)
	} else if r.place.overwrite != "" {
		r.Env.Log.Debug(text)
	}
	if r.place.del && !r.place.dry {
		r.Env.Notice("%d deleted", c.Done[target.Delete])
	}
	if c.Spared > 0 {
		r.Env.Notice("%d not deleted though not in the snapshot: the backup left names out there or could not read them, or --exclude spares them; -v names them", c.Spared)
	}
	if c.Conflicts > 0 && r.place.overwrite == "never" {
		r.Env.Notice("%d paths exist already and stay as they are (--overwrite never)", c.Conflicts)
	}
}
