package tree

import (
	"maps"
	"os/user"
	"slices"
	"strconv"

	"preserve/lib/rec"
)

// maxOwners is how many user ids, and how many group ids, Owners keeps.
const maxOwners = 65536

// Owners collects the user and group ids of entries, to name them at the end.
// The zero value is ready; it is for one goroutine.
type Owners struct {
	users, groups map[uint32]struct{}
	uid, gid      uint32 // the last
}

// Add takes in the owner of an entry. Hard links have none.
func (o *Owners) Add(e *rec.Entry) {
	if e.Type == rec.HardLink {
		return
	}
	if o.users == nil {
		o.users, o.groups = map[uint32]struct{}{e.UID: {}}, map[uint32]struct{}{e.GID: {}}
	}
	if e.UID != o.uid && len(o.users) < maxOwners {
		o.users[e.UID] = struct{}{}
	}
	if e.GID != o.gid && len(o.groups) < maxOwners {
		o.groups[e.GID] = struct{}{}
	}
	o.uid, o.gid = e.UID, e.GID
}

// Names looks the ids up where the system keeps users and groups, and returns
// those that have a name, ids ascending.
func (o *Owners) Names() (users, groups []rec.Name) {
	users = lookUp(o.users, func(id string) (string, error) {
		u, err := user.LookupId(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
	groups = lookUp(o.groups, func(id string) (string, error) {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
	return users, groups
}

func lookUp(ids map[uint32]struct{}, name func(id string) (string, error)) []rec.Name {
	var names []rec.Name
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		// An id without a name is ordinary: of a container, of a user long gone.
		if n, err := name(strconv.FormatUint(uint64(id), 10)); err == nil && n != "" && len(n) <= rec.MaxName {
			names = append(names, rec.Name{ID: id, Name: n})
		}
	}
	return names
}
