package unpack

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"preserve/lib/confine"
	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/inode"
	"preserve/lib/page"
	"preserve/lib/pattern"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/target"
	"preserve/lib/tool"
)

// restore writes the snapshot below a directory.
func restore(o options, src reading.Source, b reading.Base) error {
	env := b.Env
	// The directory is made when the snapshot has come and is believed, and
	// not for a stream that is none.
	r := &restorer{Base: b, dir: o.dir, alone: o.seal.From == "" && !o.place.follow, place: o.place, left: &o.left, sections: o.choice.Strip > 0, plan: planner{bufio.NewWriter(env.Stdout)},
		lacks: env.NewTally("entries"), copies: env.NewNotices("hard links"), flags: env.NewNotices("entries")}
	err := src.Walk(o.place.dry, b.Choose.Active(), r)
	if r.target == nil {
		return err
	}
	if err == nil {
		err = r.target.Close()
	}
	r.lacks.Tell(nil)
	r.copies.Tell(nil)
	r.flags.Tell(nil)
	if r.omitted > 0 && !o.left.All {
		env.Notice("%d entries were stored without all of their extended attributes (left out of the backup, or not readable): those stay as they are", r.omitted)
	}
	if ferr := r.plan.out.Flush(); err == nil && ferr != nil {
		return fmt.Errorf("write the plan: %w", ferr)
	}
	if err != nil {
		r.target.Abandon()
		return fmt.Errorf("restore into %q: %w", o.dir, err)
	}
	left := r.target.Left()
	if left.Owners > 0 {
		b.Choose.Powerless = true
		env.Notice("%d entries do not belong to their recorded owners (that takes root); %d of them lost setuid or setgid, %d their capabilities", left.Owners, left.SetID, left.Capabilities)
	}
	r.summary()
	if !b.Choose.Picks() {
		env.Log.Debug(fmt.Sprintf("%d entries, %d bytes", r.Snap.Entries, r.Snap.Bytes))
	}
	return nil
}

// A restorer makes files of a walk. Page runs in one goroutine and makes
// directories, links and the like at once; a file is made when the first of its
// data comes and finished with the last, by whichever goroutine brings it.
type restorer struct {
	reading.Base
	dir    string
	alone  bool // it runs no other program, and writes nowhere else
	place  placing
	left   *pattern.Names // extended attributes that stay as they are
	target *target.Target
	huge   *output    // the file whose next piece must come
	kept   *rec.Entry // or the first piece of one that stays as it is

	sections bool   // paths are shortened, and may come again
	last     string // path of the last entry; with sections
	spared   bool
	plan     planner
	lacks    *tool.Tally
	copies   *tool.Tally // hard links that are copies
	omitted  uint64      // entries of which the backup does not know all attributes
	flags    *tool.Tally // inode flags that are none here
}

// An output is a file on its way.
type output struct {
	first *rec.Entry
	node  *target.Node

	mu     sync.Mutex
	out    *target.Out
	final  *rec.Entry // the last record, once it came
	failed bool       // it must not get its name

	// due counts the uses of blobs that are still to come, and one more
	// until the last piece came.
	due atomic.Int64
}

// files is what a page's State holds: an output for each entry, nil where no
// file is written.
type files []*output

func (r *restorer) Snapshot(i id.ID, s *snap.Snapshot) error {
	if err := r.Base.Snapshot(i, s); err != nil {
		return err
	}
	t, err := target.OpenTarget(r.dir, r.into())
	if errors.Is(err, inode.ErrNotEmpty) {
		return &tool.Hint{Err: fmt.Errorf("%w: nothing is restored over what is there", err),
			Text: "name a directory that does not exist yet, or an empty one; or say --overwrite changed to keep in it what is the same and replace what is not"}
	}
	if err != nil {
		return err
	}
	t.Warn = r.warn
	r.target = t
	if r.alone {
		r.Env.Confine(confine.Limits{ReadAll: true, Write: []string{r.dir, os.TempDir()}})
	}
	r.Env.OnExit(t.Cleanup)
	return nil
}

func (r *restorer) Page(p *content.Page) error {
	uses := make([]int64, len(p.Entries))
	for _, us := range p.Uses {
		for _, u := range us {
			uses[u.Entry]++
		}
	}
	fs := make(files, len(p.Entries))
	p.State = fs
	for i, e := range p.Entries {
		f, err := r.entry(e, uses[i])
		if err != nil {
			return err
		}
		fs[i] = f
	}
	fs.unused(p.Uses)
	return nil
}

// entry begins an entry; it returns an output if data will come for it.
func (r *restorer) entry(e *rec.Entry, uses int64) (*output, error) {
	if e.Off > 0 {
		return r.piece(e, uses)
	}
	if r.sections {
		if rec.ComparePaths(r.last, e.Path) >= 0 {
			r.target.Section()
		}
		r.last = e.Path
	}
	r.kept = nil
	if len(e.Omitted) > 0 {
		r.omitted++
	}
	if odd := e.Flags &^ inode.SettableFlags; odd != 0 {
		r.flags.Add(rec.Quote(e.Path), fmt.Sprintf("not set: inode flags %s, which this version does not know", inode.FlagNames(odd)))
	}
	node, err := r.target.Begin(e)
	if err == nil && node == nil {
		r.Flawed(e)
		if e.More && r.place.overwrite == "changed" && !r.place.dry {
			r.kept = e
		}
		if e.Err != "" && e.Type == rec.Dir && r.place.del {
			r.Env.Notice("%s: nothing in it is deleted, since nobody knows what belongs there", rec.Quote(e.Path))
		}
	}
	if err != nil || node == nil {
		return nil, r.lenient(e, err)
	}
	if e.Err != "" && e.Type == rec.File {
		r.Env.Warn("%s: was stored without content (%s) and is not restored", rec.Quote(e.Path), e.Err)
		node.Skip()
		return nil, nil
	}
	r.Flawed(e)
	if e.Type != rec.File {
		return nil, r.lenient(e, node.Make())
	}
	f := &output{first: e, node: node}
	if e.More {
		r.huge = f
		f.due.Store(uses + 1)
		return f, r.begun(f, e)
	}
	f.final = e
	f.due.Store(uses)
	if uses == 0 { // empty, or a single hole
		f.due.Store(1)
		return nil, r.done(f)
	}
	return f, nil
}

// piece goes on with a file of several records.
func (r *restorer) piece(e *rec.Entry, uses int64) (*output, error) {
	f := r.huge
	if k := r.kept; k != nil && !e.More && k.Path == e.Path && e.Size != k.Size {
		r.Env.Warn("%s: grew or shrank while it was backed up, so that size and time do not tell whether it is the same; it was kept: --overwrite always replaces it", rec.Quote(e.Path))
	}
	if f == nil {
		return nil, nil // its beginning could not be made, and that was said; or it is kept
	}
	f.due.Add(uses)
	if err := r.begun(f, e); err != nil {
		return nil, err
	}
	if e.More {
		return f, nil
	}
	r.Flawed(e)
	r.huge = nil
	f.mu.Lock()
	f.final = e
	f.mu.Unlock()
	return f, r.done(f)
}

// begun opens a file of several records as soon as its first one is there: its
// holes are made record by record.
func (r *restorer) begun(f *output, e *rec.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.open(f); err != nil || f.failed {
		return err
	}
	return r.holes(f, e)
}

// open creates the file, unless it is there or cannot be. With f.mu held.
func (r *restorer) open(f *output) error {
	if f.out != nil || f.failed {
		return nil
	}
	out, err := f.node.Create()
	if err != nil {
		f.failed, f.node = true, nil
		return r.lenient(f.first, err)
	}
	f.out = out
	return nil
}

// warn names what is missing. What an entry lacks that is there is counted: a file system that
// takes no attributes refuses them for each file.
func (r *restorer) warn(w *target.Warning) {
	if w.Made {
		r.lacks.Add(rec.Quote(w.Path), w.Error())
		return
	}
	r.Env.Warn("%s: %s", rec.Quote(w.Path), w)
}

// lenient turns what concerns one entry only into a message.
func (r *restorer) lenient(e *rec.Entry, err error) error {
	var w *target.Warning
	switch {
	case errors.As(err, &w):
		r.warn(w)
		return nil
	case errors.Is(err, inode.ErrLeader):
		r.Env.Warn("%s: link to %s: %s", rec.Quote(e.Path), rec.Quote(e.Leader), inode.ErrLeader)
		return nil
	case errors.Is(err, inode.ErrParent):
		// The walk has seen to it that the parent came: it could not be made.
		r.Env.Warn("%s: %s", rec.Quote(e.Path), inode.ErrParent)
		return nil
	case err == nil:
		return nil
	}
	return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
}

// Data writes a blob where it belongs.
func (r *restorer) Data(p *content.Page, ref int, plain []byte) error {
	fs := p.State.(files)
	for _, u := range p.Uses[ref] {
		f := fs[u.Entry]
		if f == nil {
			continue
		}
		if err := r.write(f, plain[u.Off:u.Off+u.Len], u.At); err != nil {
			return err
		}
		if err := r.done(f); err != nil {
			return err
		}
	}
	return nil
}

func (r *restorer) write(f *output, data []byte, at int64) error {
	f.mu.Lock()
	err := r.open(f)
	out, failed := f.out, f.failed
	f.mu.Unlock()
	if failed || err != nil {
		return err
	}
	_, err = out.WriteAt(data, at)
	if err != nil {
		r.fail(f)
	}
	return r.lenient(f.first, err)
}

// done counts one use down and ends the file with the last.
func (r *restorer) done(f *output) error {
	if f.due.Add(-1) > 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.open(f); err != nil { // there was nothing but holes
		return err
	}
	if f.first == f.final && !f.failed {
		if err := r.holes(f, f.first); err != nil {
			return err
		}
	}
	switch {
	case !f.failed:
		return r.lenient(f.first, f.out.Finish(f.final))
	case f.out != nil:
		f.out.Abort()
	case f.node != nil:
		f.node.Skip()
	}
	return nil
}

// fail keeps a file from getting its name.
func (r *restorer) fail(f *output) {
	f.mu.Lock()
	f.failed = true
	f.mu.Unlock()
}

// Missing leaves out the files that a blob belongs to: a file with a hole in it
// must not look like a good one.
func (r *restorer) Missing(p *content.Page, ref int, l content.Loss) error {
	if len(p.Uses[ref]) == 0 {
		return nil
	}
	r.Env.Warn("data blob %s %s; not restored: %s", l.ID.Short(), l, reading.LostFiles(p, ref))
	fs := p.State.(files)
	for _, u := range p.Uses[ref] {
		if f := fs[u.Entry]; f != nil {
			r.fail(f)
			if err := r.done(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *restorer) Gap(first page.Key, next *page.Key, l content.Loss) error {
	if f := r.huge; f != nil {
		r.Env.Warn("%s: a part of it is lost; it is not restored", rec.Quote(f.first.Path))
		r.huge = nil
		r.fail(f)
		if err := r.done(f); err != nil {
			return err
		}
	}
	r.spare()
	return r.Base.Gap(first, next, l)
}

func (r *restorer) Orphan(e *rec.Entry) error {
	r.spare()
	return r.Base.Orphan(e)
}
