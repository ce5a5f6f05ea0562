package chunk

import (
	"fmt"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// names are the tables of the owners' names: those of the stage before, and what
// only the reading of the files has brought to light.
type names struct {
	users, groups []rec.Name
	bytes         int
	owners        inode.Owners
}

// maxNames bounds the tables: a snapshot, which takes them in, has no more room.
const maxNames = 4 << 20

// add takes in a part of the tables of the stage before.
func (n *names) add(users, groups []rec.Name) error {
	for _, table := range [][]rec.Name{users, groups} {
		for _, row := range table {
			n.bytes += len(row.Name) + 8
		}
	}
	if n.bytes > maxNames {
		return fmt.Errorf("the tables of users and groups have more than the %d bytes that a snapshot holds", maxNames)
	}
	n.users, n.groups = append(n.users, users...), append(n.groups, groups...)
	return nil
}

// see notes whom a file's reading has brought to light.
func (n *names) see(f *file) {
	if f.owned {
		n.owners.AddIDs(f.entry.UID, f.entry.GID)
	}
	if f.listed {
		n.owners.AddACLs(f.entry.XAttrs)
	}
}

// write writes what does not fit into the end record, and puts the rest there.
func (n *names) write(out *rec.Writer, end *rec.End) error {
	users, groups := n.owners.Names()
	parts, users, groups := rec.SplitNames(rec.MergeNames(n.users, users), rec.MergeNames(n.groups, groups))
	for _, p := range parts {
		if err := out.Write(p); err != nil {
			return err
		}
	}
	end.Users, end.Groups = users, groups
	return nil
}
