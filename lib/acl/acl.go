// Package acl is a POSIX access control list in its two forms: the value of the
// extended attributes in which Linux keeps one, and the text of acl(5), in which
// tar archives carry one. It knows no files and asks no system for names.
//
// The value is little-endian: the version, 2, in 4 bytes, then for each entry tag
// and permissions in 2 bytes each and an id in 4 (linux/posix_acl_xattr.h).
package acl

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The extended attributes that hold a list.
const (
	Access  = "system.posix_acl_access"
	Default = "system.posix_acl_default" // of a directory, for what is made in it
)

// Is reports whether an extended attribute of that name holds a list.
func Is(name string) bool { return name == Access || name == Default }

// ErrACL is what is wrong with a value or a text that is no list.
var ErrACL = errors.New("not an access control list")

// A Tag says whom an entry is for.
type Tag uint16

// The tags, in the order in which the entries of a list stand.
const (
	UserObj  Tag = 0x01 // the owner
	User     Tag = 0x02 // the user ID
	GroupObj Tag = 0x04 // the owning group
	Group    Tag = 0x08 // the group ID
	Mask     Tag = 0x10 // what User, GroupObj and Group have at most
	Other    Tag = 0x20 // everybody else
)

// Undefined is the ID of an entry that needs none.
const Undefined = 1<<32 - 1

// An Entry is what somebody may do: Perm has the bits 4 to read, 2 to write, 1 to
// execute.
type Entry struct {
	Tag  Tag
	Perm uint16
	ID   uint32 // of a User or a Group; of others Undefined, and without meaning
}

// named reports whether the entry is for one user or group.
func (e Entry) named() bool { return e.Tag == User || e.Tag == Group }

// An ACL is a list, in order of tag and then of id as the system gives it.
type ACL []Entry

const (
	version   = 2
	headSize  = 4
	entrySize = 8
)

// Decode reads an extended attribute's value. What it returns encodes to the
// same bytes; whether the list makes sense is for the system to judge. The error
// is ErrACL.
func Decode(value []byte) (ACL, error) {
	if len(value) < headSize || (len(value)-headSize)%entrySize != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrACL, len(value))
	}
	if v := binary.LittleEndian.Uint32(value); v != version {
		return nil, fmt.Errorf("%w: version %d", ErrACL, v)
	}
	a := make(ACL, 0, len(value)/entrySize)
	for b := value[headSize:]; len(b) > 0; b = b[entrySize:] {
		e := Entry{Tag(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.Tag.String() == "" || e.Perm > 7 {
			return nil, fmt.Errorf("%w: an entry of tag %#x with permissions %#o", ErrACL, uint16(e.Tag), e.Perm)
		}
		a = append(a, e)
	}
	return a, nil
}

// Encode returns the extended attribute's value.
func (a ACL) Encode() []byte {
	b := make([]byte, headSize, headSize+entrySize*len(a))
	binary.LittleEndian.PutUint32(b, version)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Tag))
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// Map returns the list with the ids of its users and groups changed, and whether
// any has changed; if not, it is a itself. Two entries that come to the same id
// become one with the permissions that both had: who was denied something under
// one of two names is not to get it by the other.
func (a ACL) Map(user, group func(uint32) uint32) (ACL, bool) {
	b := slices.Clone(a)
	for i, e := range b {
		switch e.Tag {
		case User:
			b[i].ID = user(e.ID)
		case Group:
			b[i].ID = group(e.ID)
		}
	}
	if slices.Equal(a, b) {
		return a, false
	}
	b.sort()
	merged := b[:0]
	for _, e := range b {
		if n := len(merged); n > 0 && e.named() && merged[n-1].Tag == e.Tag && merged[n-1].ID == e.ID {
			merged[n-1].Perm &= e.Perm
		} else {
			merged = append(merged, e)
		}
	}
	return merged, true
}

// sort puts the entries in the order that the system insists on: by tag; and by
// id, as it gives them.
func (a ACL) sort() {
	slices.SortStableFunc(a, func(x, y Entry) int {
		if c := cmp.Compare(x.Tag, y.Tag); c != 0 || !x.named() {
			return c
		}
		return cmp.Compare(x.ID, y.ID)
	})
}
