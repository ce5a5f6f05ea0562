package store

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"preserve/lib/id"
	"preserve/lib/pack"
)

// Of one id there may be several copies: two puts stored it at once, or it was
// stored again because a copy was damaged, or somebody who may add has stored
// something else under an id that he knew. The store cannot tell which one opens.
// It serves the oldest first: what was stored later stands behind it. Who has the
// key, and cannot open one, asks for the next. The second one is the youngest: what
// heals a blob, or was stored beside rubbish that was there first. Then come, by turns,
// the oldest and the youngest of those that are left, so that a crowd of copies hides
// a good one only if as many are older as are younger.

const (
	// maxTried bounds how many copies are tried: a session has one in each pack of
	// its run.
	maxTried = 64
	// maxRows bounds how many places of one id are compared by age at once. Of more those in
	// the middle are passed over.
	maxRows = 1 << 10
	// maxStrange bounds how many ids are named that somebody has stored as another kind.
	maxStrange = 10
)

// copies returns where the records of an id that have one of the kinds are said to
// be, in the order in which they are tried: the oldest, the youngest, and so on by turns.
// The age of a copy is that of its pack (see date), by the store's
// time; within a pack the first one is the older. other is the kind of a copy that
// is of none of the kinds, if there is one. Of sessions any copy serves: they come
// in no order.
func (r *Repo) copies(v *view, i id.ID, want Kinds) (rows []Row, other *uint8) {
	session := want == sessionOnly
	for row := range v.lookup(i, r.badSegment) {
		switch {
		case !want.Has(row.Kind):
			if row.Kind != pack.KindSession {
				other = &row.Kind
			}
			continue
		case session && len(rows) == maxTried:
			return rows, other
		case len(rows) == maxRows:
			rows = ends(r.byAge(rows))
		}
		rows = append(rows, row)
	}
	rows = v.counting(rows)
	if len(rows) > 1 && !session {
		rows = byTurns(r.byAge(rows))
	}
	if other != nil {
		r.strange(i, *other, len(rows) > 0)
	}
	return rows, other
}

// counting returns those rows that no collector lets go; if there are none, all: they can be read
// for as long as they are there.
func (v *view) counting(rows []Row) []Row {
	if len(v.state.retired) == 0 {
		return rows
	}
	n := 0
	for k, row := range rows {
		if !v.state.retired[row.Pack] {
			rows[n], rows[k] = rows[k], rows[n]
			n++
		}
	}
	if n == 0 {
		return rows
	}
	return rows[:n]
}

// listed reports whether a blob of a kind is there, as the index says.
func (r *Repo) listed(v *view, i id.ID, kind uint8) bool {
	other := kind
	for row := range v.lookup(i, r.badSegment) {
		if row.Kind == kind {
			return true
		}
		if row.Kind != pack.KindSession {
			other = row.Kind
		}
	}
	if other != kind {
		r.strange(i, other, false)
	}
	return false
}

// byAge sorts rows, the oldest first, and drops those that are there twice.
func (r *Repo) byAge(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int {
		var older int
		if a.Pack != b.Pack {
			older = cmp.Or(cmp.Compare(r.age(a.Pack), r.age(b.Pack)), bytes.Compare(a.Pack[:], b.Pack[:]))
		}
		return cmp.Or(older, cmp.Compare(a.Offset, b.Offset))
	})
	return slices.CompactFunc(rows, func(a, b Row) bool { return a.Pack == b.Pack && a.Offset == b.Offset })
}

// ends returns the oldest and the youngest of rows that are sorted by age, maxRows/2 in all.
func ends(rows []Row) []Row {
	const q = maxRows / 4
	if len(rows) <= 2*q {
		return rows
	}
	return append(rows[:q], rows[len(rows)-q:]...)
}

// byTurns returns rows, which are sorted by age, in the order in which they are tried.
func byTurns(rows []Row) []Row {
	turns := make([]Row, 0, len(rows))
	for low, high := 0, len(rows)-1; low <= high; low, high = low+1, high-1 {
		if turns = append(turns, rows[low]); low < high {
			turns = append(turns, rows[high])
		}
	}
	return turns
}

// age returns when a pack was first listed, by the store's time, in nanoseconds; of one
// that is not listed yet, or cannot be asked, the end of time.
func (r *Repo) age(name id.ID) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.ages[name]
	if !ok {
		at = 1<<63 - 1
		if info, err := r.o.Stat(packName(name)); err == nil && !info.Time.IsZero() {
			at = info.Time.UnixNano()
		}
		if r.ages == nil {
			r.ages = map[id.ID]int64{}
		}
		r.ages[name] = at
	}
	return at
}

// strange tells, once, of an id that somebody has stored as another kind.
func (r *Repo) strange(i id.ID, kind uint8, good bool) {
	r.mu.Lock()
	tell := len(r.strangers) < maxStrange && !r.strangers[i]
	if tell {
		if r.strangers == nil {
			r.strangers = map[id.ID]bool{}
		}
		r.strangers[i] = true
	}
	r.mu.Unlock()
	if !tell {
		return
	}
	so := "that is passed over"
	if !good {
		so = "it counts as missing"
	}
	r.opts.Note("blob %s: somebody has stored a blob of kind %d under this id: %s", i, kind, so)
}

// elsewhere yields where else than in one pack an id is listed with a kind, in packs
// that are there and not younger than that one. Others than those among which to look
// do not count; nil are all. Those among which to look were listed before that one, whatever
// their age.
func (r *Repo) elsewhere(v *view, e pack.Entry, not id.ID, among func(id.ID) bool) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for row := range v.lookup(e.ID, r.badSegment) {
			if row.Kind != e.Kind || row.Pack == not || among != nil && !among(row.Pack) || among == nil && r.age(row.Pack) > r.age(not) || !r.there(v, row.Pack) {
				continue
			}
			if !yield(row) {
				return
			}
		}
	}
}

// there reports whether a pack is there, as far as v knows, or the system says.
func (r *Repo) there(v *view, name id.ID) bool {
	if v.gone[name] {
		return false
	}
	_, err := r.o.Stat(packName(name))
	return err == nil
}

// novel returns those entries of a pack that are to be listed: not blobs that a pack
// which is as old has, and that is listed. So who stores a blob again that others
// have stored meanwhile does not come before them. What is listed with other
// references is another blob. Only packs among which to look count; nil are all.
func (r *Repo) novel(v *view, l pack.List, among func(id.ID) bool) (pack.List, error) {
	whole := l.Entries
	l.Entries = make([]pack.Entry, 0, len(whole))
	for _, e := range whole {
		known, err := r.isKnown(v, l.Name, e, among)
		if err != nil {
			return l, err
		}
		if !known {
			l.Entries = append(l.Entries, e)
		}
	}
	return l, nil
}

func (r *Repo) isKnown(v *view, in id.ID, e pack.Entry, among func(id.ID) bool) (bool, error) {
	if e.Kind == pack.KindSession {
		return false, nil
	}
	var refs []byte // of this one
	for row := range r.elsewhere(v, e, in, among) {
		if e.Kind == 0 {
			return true, nil
		}
		if refs == nil {
			own, err := r.refs(Row{e.ID, in, e.Offset, e.Length, e.Kind})
			if err != nil {
				return false, err
			}
			refs = own
		}
		if other, err := r.refs(row); err == nil && bytes.Equal(refs, other) {
			return true, nil
		}
	}
	return false, nil
}

// refs reads what a blob refers to; never nil.
func (r *Repo) refs(row Row) ([]byte, error) {
	b, raw, err := r.readBlob(row)
	if err != nil {
		return nil, err
	}
	defer putBuffer(raw)
	return append([]byte{}, b.Refs...), nil
}
