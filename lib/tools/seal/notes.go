package seal

import (
	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/ids"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// notes are what the next run is to know of this one: its cache. What goes wrong
// with them is said once; they are then given up, and the backup goes on. A nil
// *notes takes nothing.
type notes struct {
	env     *tool.Env
	dir     string
	w       *cache.Writer // nil when given up
	reached *ids.Sorter   // nil when given up: then the cache comes without its list
	refs    []id.ID       // of the last page
	forget  func()
}

// sortMemory is how much of the ids that a snapshot reaches is sorted in memory.
const sortMemory = 8 << 20

// newNotes begins the cache in dir. It returns nil after having said why it cannot.
func newNotes(env *tool.Env, dir string, secret key.Secret, job cache.Job, head *rec.Head) *notes {
	w, err := cache.Create(dir, secret, job, head.Time, head.Base)
	if err != nil {
		env.Notice("cache %q: %v: this run is not remembered", dir, err)
		return nil
	}
	return &notes{env: env, dir: dir, w: w, reached: ids.NewSorter(sortMemory), forget: env.OnExit(w.Abort)}
}

// fail gives the cache up.
func (n *notes) fail(err error) {
	n.env.Notice("cache %q: %v: this run is not remembered", n.dir, err)
	n.close()
}

// failList gives the list up.
func (n *notes) failList(err error) {
	n.env.Notice("cache %q: list of what the snapshot reaches: %v: the next run seals more than it needs to", n.dir, err)
	_ = n.reached.Close() // a temporary file without a name
	n.reached = nil
}

// close ends what finish has not.
func (n *notes) close() {
	if n == nil || n.w == nil {
		return
	}
	n.w.Abort()
	n.forget()
	n.w = nil
	if n.reached != nil {
		_ = n.reached.Close() // a temporary file without a name
		n.reached = nil
	}
}

// page notes the entries of a page, with references refs.
func (n *notes) page(refs []byte, entries []*rec.Entry) {
	if n == nil || n.w == nil {
		return
	}
	n.refs = n.refs[:0]
	for ; len(refs) > 0; refs = refs[id.Size:] {
		n.refs = append(n.refs, id.ID(refs[:id.Size]))
	}
	if err := n.w.Page(n.refs, entries); err != nil {
		n.fail(err)
		return
	}
	for _, i := range n.refs {
		n.reach(i)
	}
}

// reach notes that the snapshot reaches a blob.
func (n *notes) reach(i id.ID) {
	if n == nil || n.reached == nil {
		return
	}
	if err := n.reached.Add(i); err != nil {
		n.failList(err)
	}
}

// checkpoint gives what was noted so far to a partial snapshot.
func (n *notes) checkpoint(i, root id.ID) {
	if n == nil || n.w == nil {
		return
	}
	if err := n.w.Checkpoint(i, root); err != nil {
		n.env.Notice("cache %q: checkpoint %s: %v: a run after this one, if it is broken off, reads more than it needs to", n.dir, i.Short(), err)
	}
}

// finish gives all to the snapshot i: its list too, if that is wanted.
func (n *notes) finish(i, root id.ID, list bool) {
	if n == nil || n.w == nil {
		return
	}
	var reached *ids.List
	if list && n.reached != nil {
		var err error
		if reached, err = n.reached.List(); err != nil {
			n.failList(err)
		}
		defer func() { _ = reached.Close() }() // likewise
	}
	if err := n.w.Finish(i, root, reached); err != nil {
		n.fail(err)
	}
}
