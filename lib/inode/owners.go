package inode

import (
	"maps"
	"slices"

	"preserve/lib/acl"
	"preserve/lib/rec"
)

// maxOwners is how many user ids, and how many group ids, Owners keeps.
const maxOwners = 65536

// Owners collects the user and group ids of entries, to name them at the end.
// The zero value is ready; it is for one goroutine.
type Owners struct {
	users, groups map[uint32]struct{}
	uid, gid      uint32 // the last that were added together
	begun         bool
}

// Add takes in the owner of an entry, and who is named in its access control
// lists. Hard links have neither.
func (o *Owners) Add(e *rec.Entry) {
	if e.Type == rec.HardLink {
		return
	}
	o.AddIDs(e.UID, e.GID)
	o.AddACLs(e.XAttrs)
}

// AddIDs takes in a user and a group.
func (o *Owners) AddIDs(uid, gid uint32) {
	if o.begun && uid == o.uid && gid == o.gid {
		return
	}
	add(&o.users, uid)
	add(&o.groups, gid)
	o.uid, o.gid, o.begun = uid, gid, true
}

// AddACLs takes in the users and groups that access control lists name.
func (o *Owners) AddACLs(xattrs []rec.XAttr) {
	for _, x := range xattrs {
		if !acl.Is(x.Name) {
			continue
		}
		list, err := acl.Decode(x.Value)
		if err != nil {
			continue // stored as it is: the system that has it knows what it means
		}
		for _, e := range list {
			switch e.Tag {
			case acl.User:
				add(&o.users, e.ID)
			case acl.Group:
				add(&o.groups, e.ID)
			}
		}
	}
}

func add(ids *map[uint32]struct{}, id uint32) {
	if *ids == nil {
		*ids = map[uint32]struct{}{}
	}
	if len(*ids) < maxOwners {
		(*ids)[id] = struct{}{}
	}
}

// Names returns the names that the ids have on this system, ids ascending. An id
// without a name is ordinary: of a container, of a user long gone. So is a
// system whose files of users and groups cannot be read.
func (o *Owners) Names() (users, groups []rec.Name) {
	a, err := SystemAccounts()
	if err != nil {
		return nil, nil
	}
	return named(o.users, a.Users), named(o.groups, a.Groups)
}

func named(ids map[uint32]struct{}, names AccountTable) []rec.Name {
	var table []rec.Name
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if n, ok := names.Name(id); ok {
			table = append(table, rec.Name{ID: id, Name: n})
		}
	}
	return table
}
