package page

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"preserve/lib/rec"
)

// A Checker follows the entries of a whole tree and reports the first that
// breaks a rule: pv-seal refuses to store such a tree, pv-unpack refuses to
// believe it. The rules (docs/format/snapshots.md, "Rules of a tree"):
//
//   - paths ascend; the pieces of a file follow each other without a gap, and
//     end with the one that has no More;
//   - a path's parent is an earlier directory entry, unless it is the root, and
//     nothing else;
//   - a hard link names an earlier entry that has Links;
//   - extents add up to the size.
//
// Where a page is lost, Gap is called: what depended on it is then an orphan and
// no mistake. Where pages are passed over, because nobody wants what is in them,
// Skip is called: from then on what depends on them is believed. Parents that are
// not directories, and leaders that have no links, are then for others to find, but
// for those that were seen: a name that came as a link or a file is never a parent.
//
// What it holds grows with the depth of the tree and with the number of
// entries that have several links.
type Checker struct {
	started bool
	last    Key    // of the entry that came last, an orphan too
	isDir   bool   // and it is a directory
	lastEnd uint64 // where the next piece must begin
	more    bool   // the last entry announced another piece
	dirs    []string
	leaders map[uint64]struct{} // hashes of paths
	seed    maphash.Seed
	gap     bool // a page was lost
	skipped bool // a page was passed over
	amidst  bool // and no name has begun since

	// Entries and Bytes count names and the bytes of file content.
	Entries, Bytes uint64
}

// Next checks the next entry.
func (k *Checker) Next(e *rec.Entry) error {
	err := e.Check()
	if err == nil {
		err = k.next(e)
	}
	if err == nil {
		err = e.CheckContent()
	}
	switch {
	case errors.Is(err, ErrOrphan), errors.Is(err, ErrSkipped):
		k.started, k.last, k.isDir = true, KeyOf(e), false
		fallthrough
	case err != nil:
		return fmt.Errorf("entry %s: %w", KeyOf(e), err)
	}
	n, _ := e.ContentLen() // CheckContent has judged it
	k.started, k.last, k.isDir, k.more, k.lastEnd = true, KeyOf(e), e.Type == rec.Dir, e.More, e.Off+n
	k.Bytes += n
	return nil
}

func (k *Checker) next(e *rec.Entry) error {
	if k.more {
		if e.Path != k.last.Path || e.Type != rec.File || e.Off != k.lastEnd || e.Off == 0 {
			return fmt.Errorf("%w: the next piece of %s at %d belongs here", ErrPage, rec.Quote(k.last.Path), k.lastEnd)
		}
		return nil
	}
	if err := k.place(e); err != nil {
		return err
	}
	if e.Off != 0 && k.amidst {
		return ErrSkipped
	}
	if e.Off != 0 && k.gap {
		return ErrOrphan
	}
	if e.Off != 0 {
		return fmt.Errorf("%w: a piece without the one before", ErrPage)
	}
	if err := k.parent(e); err != nil {
		return err
	}
	if e.Type == rec.HardLink && !k.leads(e.Leader) && k.gap && !k.skipped {
		return ErrOrphan
	}
	if e.Type == rec.HardLink && !k.leads(e.Leader) && !k.skipped {
		return fmt.Errorf("%w: its first name %s is not among the entries with links before it", ErrPage, rec.Quote(e.Leader))
	}
	if e.Links > 1 {
		if k.leaders == nil {
			k.leaders, k.seed = map[uint64]struct{}{}, maphash.MakeSeed()
		}
		k.leaders[maphash.String(k.seed, e.Path)] = struct{}{}
	}
	k.Entries++
	k.amidst = false
	return nil
}

// place checks that an entry comes behind the last one and is below no file that was seen: what is
// below a path comes right behind it, so that this can only be the last one; or the first name of
// the entry itself.
func (k *Checker) place(e *rec.Entry) error {
	file := e.Leader
	switch {
	case k.started && (e.Off == 0 && rec.ComparePaths(k.last.Path, e.Path) >= 0 || KeyOf(e).Compare(k.last) <= 0):
		return fmt.Errorf("%w: it comes behind %s", rec.ErrOrder, k.last)
	case k.started && !k.isDir && e.Path != k.last.Path && rec.Below(e.Path, k.last.Path):
		file = k.last.Path
	case e.Type != rec.HardLink || !rec.Below(e.Path, e.Leader):
		return nil
	}
	return fmt.Errorf("%w: %s is not a directory", ErrPage, rec.Quote(file))
}

// leads reports whether a path is that of an earlier entry with links. That it is
// wrong about one in 2^64 harms nobody: who restores looks for the leader, too.
func (k *Checker) leads(path string) bool {
	if k.leaders == nil {
		return false
	}
	_, ok := k.leaders[maphash.String(k.seed, path)]
	return ok
}

// parent keeps the stack of directories that the path lies in.
func (k *Checker) parent(e *rec.Entry) error {
	for len(k.dirs) > 0 && !rec.Below(e.Path, k.dirs[len(k.dirs)-1]) {
		k.dirs = k.dirs[:len(k.dirs)-1]
	}
	top := ""
	if len(k.dirs) > 0 {
		top = k.dirs[len(k.dirs)-1]
	}
	if rec.Parent(e.Path) != top && !k.gap && !k.skipped {
		return fmt.Errorf("%w: no directory %s comes before it", ErrPage, rec.Quote(rec.Parent(e.Path)))
	}
	if e.Type == rec.Dir && e.Path != "" {
		k.dirs = append(k.dirs, e.Path)
	}
	return nil
}

// ErrOrphan is an entry of which a part, or what it is a link to, was in a page
// that is lost.
var ErrOrphan = errors.New("what it belongs to was in a page that is missing")

// Gap says that a page is lost here, that begins with a key. From now on parents may be absent
// (Parents names them), and what needs more than a parent is an ErrOrphan.
func (k *Checker) Gap(first Key) {
	k.gap, k.more, k.amidst = true, false, false
	if first.Off > 0 && (!k.started || first.Compare(k.last) > 0) { // only a file has pieces
		k.started, k.last, k.isDir = true, first, false
	}
}

// ErrSkipped is a piece of a file whose beginning was passed over.
var ErrSkipped = errors.New("its beginning was passed over")

// Skip says that pages are passed over here. From now on parents and leaders may
// be absent; pieces that come before the next name are ErrSkipped.
func (k *Checker) Skip() { k.skipped, k.amidst, k.more = true, true, false }

// Parents returns the directories of e, outermost first, that were lost with a
// page, and takes them as seen. It is called before Next.
func (k *Checker) Parents(e *rec.Entry) (lost []string) {
	if !k.gap || k.more || k.place(e) != nil {
		return nil
	}
	for p := rec.Parent(e.Path); p != ""; p = rec.Parent(p) {
		if slices.Contains(k.dirs, p) {
			break
		}
		lost = append(lost, p)
	}
	slices.Reverse(lost)
	for len(lost) > 0 && len(k.dirs) > 0 && !rec.Below(e.Path, k.dirs[len(k.dirs)-1]) {
		k.dirs = k.dirs[:len(k.dirs)-1]
	}
	k.dirs = append(k.dirs, lost...)
	return lost
}

// Behind returns a key behind the last entry that was checked: of a file of which
// more pieces are due, that of the next. ok is false if there was no entry yet.
func (k *Checker) Behind() (key Key, ok bool) {
	if k.more {
		return Key{k.last.Path, k.lastEnd}, true
	}
	return Key{k.last.Path, k.last.Off + 1}, k.started
}

// Open returns where the next piece of a file belongs, and whether one is due.
func (k *Checker) Open() (key Key, due bool) { return Key{k.last.Path, k.lastEnd}, k.more }

// GiveUp says that no further piece of the last file will come.
func (k *Checker) GiveUp() { k.more = false }

// Finish reports a file whose last piece did not come.
func (k *Checker) Finish() error {
	if k.more {
		return fmt.Errorf("entry %s: %w: its next piece is absent", rec.Quote(k.last.Path), ErrPage)
	}
	return nil
}
