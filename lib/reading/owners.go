package reading

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/acl"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// owners gives entries the ids that their owners have on this system: a user of
// the snapshot is the user here who has the same name. Who has no name in the
// snapshot, or a name that nobody has here, stays a number, and 0 stays 0. What
// the user said wins over all.
type owners struct {
	users, groups ids
}

// ids maps the ids of users, or those of groups.
type ids struct {
	what  string // "user"
	flag  string // "--map-user"
	rules []idRule
	here  directory
	kept  bool // --numeric-ids: no name is looked up

	names    map[uint32]string // of the snapshot
	said     map[uint32]uint32 // what rules say of its ids
	known    map[uint32]uint32 // what was found out already, and of that
	strange  map[uint32]bool   // whose name nobody has here
	nameless map[uint32]bool   // who has no name in the snapshot
	debug    func(string)
}

// An idRule is what the user said of one id, or of one name.
type idRule struct {
	text string
	name string // "": from
	from uint32
	to   uint32
}

// maxKnown bounds known, strange and nameless.
const maxKnown = 65536

// A directory is the users, or the groups, of this system.
type directory interface {
	ID(name string) (uint32, bool)
	Name(id uint32) (string, bool)
}

// newOwners makes rules of A:B, which are in order: the last that fits is right.
func newOwners(env *tool.Env, o *Choice, users, groups directory) (*owners, error) {
	debug := func(s string) { env.Log.Debug(s) }
	w := &owners{
		users:  ids{what: "user", flag: "--map-user", here: users, kept: o.Numeric, debug: debug},
		groups: ids{what: "group", flag: "--map-group", here: groups, kept: o.Numeric, debug: debug},
	}
	if err := w.users.parse(o.MapUsers); err != nil {
		return nil, err
	}
	if err := w.groups.parse(o.MapGroups); err != nil {
		return nil, err
	}
	return w, nil
}

// parse reads A:B, each a name or a number.
func (d *ids) parse(texts []string) error {
	for _, text := range texts {
		from, to, found := strings.Cut(text, ":")
		if !found || from == "" || to == "" || strings.Contains(to, ":") {
			return tool.Usagef("%s takes A:B, the %s in the snapshot and the one here, not %q", d.flag, d.what, text)
		}
		r := idRule{text: text}
		var err error
		if !number(from) {
			r.name = from
		} else if r.from, err = d.number(text, from); err != nil {
			return err
		}
		if number(to) {
			if r.to, err = d.number(text, to); err != nil {
				return err
			}
		} else if r.to, found = d.here.ID(to); !found {
			return tool.Usagef("%s %s: this system has no %s %q", d.flag, text, d.what, to)
		}
		d.rules = append(d.rules, r)
	}
	return nil
}

func number(s string) bool { return strings.Trim(s, "0123456789") == "" }

func (d *ids) number(text, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == acl.Undefined {
		return 0, tool.Usagef("%s %s: %s is no id of a %s", d.flag, text, s, d.what)
	}
	return uint32(n), nil
}

// begin takes the names of a snapshot in. It returns the rules for names that
// are not among them.
func (d *ids) begin(names []rec.Name) (idle []string) {
	d.names, d.said, d.known, d.strange = map[uint32]string{}, map[uint32]uint32{}, map[uint32]uint32{}, map[uint32]bool{}
	d.nameless = map[uint32]bool{}
	for _, n := range names {
		d.names[n.ID] = n.Name
	}
	for _, r := range d.rules {
		if r.name == "" {
			d.said[r.from] = r.to
			continue
		}
		found := false
		for _, n := range names {
			if n.Name == r.name {
				d.said[n.ID], found = r.to, true
			}
		}
		if !found {
			idle = append(idle, r.text)
		}
	}
	return idle
}

// to returns the id here of an id in the snapshot.
func (d *ids) to(id uint32) uint32 {
	if to, ok := d.said[id]; ok {
		return to
	}
	if id == 0 || d.kept {
		return id
	}
	if to, ok := d.known[id]; ok {
		return to
	}
	to := d.find(id)
	if len(d.known) < maxKnown {
		d.known[id] = to
	}
	return to
}

// find looks an id up by its name, and notes who stays a number: who has a name that nobody has
// here, and who has none.
func (d *ids) find(id uint32) uint32 {
	name := d.names[id]
	if to, ok := d.here.ID(name); ok && name != "" {
		return to
	}
	of, who := d.strange, "nobody here has the name "+rec.Quote(name)
	if name == "" {
		of, who = d.nameless, "it has no name in the snapshot"
	}
	if len(of) == maxKnown || of[id] {
		return id
	}
	of[id] = true
	if other, taken := d.here.Name(id); taken {
		who += ", and here it is " + rec.Quote(other)
	}
	d.debug(fmt.Sprintf("%s %d stays that number: %s", d.what, id, who))
	return id
}

// begin takes the tables of a snapshot in.
func (w *owners) begin(env *tool.Env, s *snap.Snapshot) {
	for _, d := range []struct {
		ids   *ids
		names []rec.Name
	}{{&w.users, s.Users}, {&w.groups, s.Groups}} {
		for _, text := range d.ids.begin(d.names) {
			env.Notice("%s %s: the snapshot has no %s of that name", d.ids.flag, text, d.ids.what)
		}
	}
}

// late counts, of names that came too late, those whose ids would have become others.
func (w *owners) late(users, groups []rec.Name) (n int) {
	for _, d := range []struct {
		ids   *ids
		names []rec.Name
	}{{&w.users, users}, {&w.groups, groups}} {
		for _, row := range d.names {
			if was, seen := d.ids.known[row.ID]; seen {
				if to, ok := d.ids.here.ID(row.Name); ok && to != was {
					n++
				}
			}
		}
	}
	return n
}

// entry returns the entry as it is to be here: e itself, or a copy.
func (w *owners) entry(e *rec.Entry) *rec.Entry {
	if e.Type == rec.HardLink || e.Off > 0 { // they have no metadata
		return e
	}
	uid, gid := w.users.to(e.UID), w.groups.to(e.GID)
	xattrs := w.lists(e.XAttrs)
	if uid == e.UID && gid == e.GID && xattrs == nil {
		return e
	}
	c := *e
	c.UID, c.GID = uid, gid
	if xattrs != nil {
		c.XAttrs = xattrs
	}
	return &c
}

// lists maps the ids in access control lists. It returns nil if none changes. A
// value that is no list stays as it is, and the system judges it.
func (w *owners) lists(xattrs []rec.XAttr) (changed []rec.XAttr) {
	for i, x := range xattrs {
		if !acl.Is(x.Name) {
			continue
		}
		list, err := acl.Decode(x.Value)
		if err != nil {
			continue
		}
		list, other := list.Map(w.users.to, w.groups.to)
		if !other {
			continue
		}
		if changed == nil {
			changed = slices.Clone(xattrs)
		}
		changed[i].Value = list.Encode()
	}
	return changed
}

// tell says how many users and groups stay numbers, which may be others' here.
func (w *owners) tell(env *tool.Env) {
	if who := w.count(func(d *ids) map[uint32]bool { return d.strange }); who != "" {
		env.Notice("no account here has the name of %s of the snapshot: what is theirs keeps the number (-v names them)", who)
	}
	if who := w.count(func(d *ids) map[uint32]bool { return d.nameless }); who != "" {
		env.Notice("the snapshot has no name for %s: what is theirs keeps the number (-v names them)", who)
	}
}

// count says how many users and groups there are.
func (w *owners) count(of func(*ids) map[uint32]bool) string {
	var parts []string
	for _, d := range []*ids{&w.users, &w.groups} {
		switch n := len(of(d)); n {
		case 0:
		case 1:
			parts = append(parts, "1 "+d.what)
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", n, d.what))
		}
	}
	return strings.Join(parts, " and ")
}
