package chunk

import (
	"fmt"

	"preserve/lib/bounds"
	"preserve/lib/id"
	"preserve/lib/rec"
)

// A page whose small files lie in more blobs than this, and in more than their
// bytes need, is grouped anew: after years of single changes restoring it would
// fetch many times its bytes.
const rottenBlobs = 16

// blobBytes is what a blob of a page's small files holds, in the count of how many
// they need.
const blobBytes = 1 << 20

// A layout is how the small files of a page lie in blobs.
type layout struct {
	blobs    int // that they lie in
	bytes    uint64
	owners   int
	switches int // from a file to one of another owner
}

// limit bounds the number of groups that these files are put into when they are read.
//
// A group ends at groupMin of weight or more, which is at least half of blobBytes,
// or as the last of its owner in the page, or because the groups of openGroups
// other owners are in use: not before a file of another owner came behind it. A
// page that has just been grouped is therefore never grouped anew.
func (l *layout) limit() int {
	full := int((l.bytes + blobBytes - 1) / blobBytes)
	if l.owners <= openGroups {
		return 2 * (full + l.owners)
	}
	return 2 * (2*full + l.switches + openGroups)
}

func (l *layout) rotten() bool { return l.blobs > rottenBlobs && l.blobs > l.limit() }

// isSmall reports whether an entry is that of a file whose content is in groups.
func isSmall(e *rec.Entry) bool {
	return e.Type == rec.File && e.Size <= bounds.SmallFile && e.Off == 0 && !e.More && len(e.Extents) > 0
}

// fromCache reports whether an entry's content was taken from a cache.
func fromCache(e *rec.Entry) bool {
	for i := range e.Extents {
		if !e.Extents[i].Hole {
			return !e.Extents[i].ID.IsZero()
		}
	}
	return false
}

// layoutOf looks at the entries of a page, of whose small files some are in that
// many groups of this run. Those that are to be alone are in none.
func layoutOf(entries []*rec.Entry, groups int, alone *alone) layout {
	l := layout{blobs: groups}
	seen := map[id.ID]struct{}{}
	owners := map[uint32]struct{}{}
	last := int64(-1)
	for _, e := range entries {
		if !isSmall(e) || alone.match(e.Path) {
			continue
		}
		data := uint64(0)
		for i := range e.Extents {
			x := &e.Extents[i]
			if x.Hole {
				continue
			}
			data += x.Len
			if !x.ID.IsZero() {
				seen[x.ID] = struct{}{}
			}
		}
		if data == 0 {
			continue
		}
		l.bytes += data
		owners[e.UID] = struct{}{}
		if last >= 0 && last != int64(e.UID) {
			l.switches++
		}
		last = int64(e.UID)
	}
	l.blobs += len(seen)
	l.owners = len(owners)
	return l
}

// regroup puts the small files of a rotten page into fresh groups. Where the bytes
// lie is all that changes: a file that is not any more what the scan saw, or cannot
// be read, stays where it is.
func (a *assembler) regroup() error {
	if a.named() <= rottenBlobs {
		return nil
	}
	l := layoutOf(a.page.entries, a.page.grouped+len(a.page.groups), a.rules.alone)
	if !l.rotten() {
		return nil
	}
	a.env.Log.Debug(fmt.Sprintf("small files beside %s lie in %d blobs: grouped anew", rec.Quote(a.page.entries[0].Path), l.blobs))
	for _, e := range a.page.entries {
		if !isSmall(e) || !fromCache(e) || a.named()+2 > bounds.MaxRefs || a.rules.alone.match(e.Path) {
			continue
		}
		if err := a.replace(e); err != nil {
			return err
		}
	}
	return nil
}

// replace reads the content of an entry, and takes it instead of what a cache said.
func (a *assembler) replace(e *rec.Entry) error {
	f := a.reader.reread(e)
	if f == nil {
		return nil
	}
	defer f.free()
	data := 0
	for i := range e.Extents {
		if !e.Extents[i].Hole {
			data++
		}
	}
	if len(f.segs) > data || len(f.data) == 0 {
		return nil
	}
	e.Extents = nil
	if err := a.small(f); err != nil {
		return err
	}
	a.watch(f, false)
	return nil
}

// reread reads a small file of which a cache says what it holds. It returns nil if it
// is not what the scan saw.
func (r *reader) reread(e *rec.Entry) *file {
	o, err := r.src.OpenEntry(e)
	if err != nil {
		return nil
	}
	defer o.Close()
	st, err := o.Stat()
	if err != nil || st.Type != rec.File || st.Size != e.Size || st.MTime != e.MTime || st.CTime != e.CTime {
		return nil
	}
	f := &file{entry: e, reader: r, reads: 1}
	f.grab(int64(st.Size) + 1)
	n, _, err := f.readOnce(o, &st)
	if err == nil {
		f.after, err = o.Stat()
	}
	if err != nil || n != int64(st.Size) || stateOf(f.after) != stateOf(st) {
		f.free()
		return nil
	}
	f.at = r.time()
	f.mark()
	return f
}
