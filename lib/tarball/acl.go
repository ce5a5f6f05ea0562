package tarball

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/rec"
)

// Keys of extended headers that carry attributes.
const (
	xattrSchily     = "SCHILY.xattr."
	xattrLibarchive = "LIBARCHIVE.xattr."
	aclAccess       = "SCHILY.acl.access"
	aclDefault      = "SCHILY.acl.default"
	selinux         = "RHT.security.selinux"
)

// Names of the attributes in which Linux keeps access control lists.
const (
	posixAccess  = "system.posix_acl_access"
	posixDefault = "system.posix_acl_default"
)

// An aclEntry is one row of a list in Linux's form: tag, permissions, id.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// Tags of rows, in the order in which they stand.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	noID        = 1<<32 - 1
)

// lookUp finds the id of a user's (else a group's) name.
type lookUp func(name string, user bool) (uint32, bool)

// parseACL turns the text of a list ("user::rwx,user:eve:r-x:1000,…", commas or
// lines) into Linux's form. A list that says no more than the mode gives nil.
func parseACL(s string, find lookUp) ([]byte, error) {
	var rows []aclEntry
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' }) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		row, err := parseRow(strings.Split(line, ":"), find)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id))
	})
	if len(rows) <= 3 && !slices.ContainsFunc(rows, func(r aclEntry) bool { return r.id != noID || r.tag == aclMask }) {
		return nil, nil
	}
	b := binary.LittleEndian.AppendUint32(nil, 2) // the version
	for _, r := range rows {
		b = binary.LittleEndian.AppendUint16(b, r.tag)
		b = binary.LittleEndian.AppendUint16(b, r.perm)
		b = binary.LittleEndian.AppendUint32(b, r.id)
	}
	return b, nil
}

// parseRow takes type, name, permissions and, from star and bsdtar, an id.
func parseRow(f []string, find lookUp) (aclEntry, error) {
	r := aclEntry{id: noID}
	bad := fmt.Errorf("%w: not a row of an access control list", ErrBad)
	if len(f) == 2 { // "mask:rwx", "other:r--"
		f = []string{f[0], "", f[1]}
	}
	if len(f) < 3 {
		return r, bad
	}
	switch f[0] {
	case "user", "u":
		r.tag = aclUserObj
	case "group", "g":
		r.tag = aclGroupObj
	case "mask", "m":
		r.tag = aclMask
	case "other", "o":
		r.tag = aclOther
	default:
		return r, bad
	}
	for _, c := range strings.TrimSpace(f[2]) {
		bit, known := map[rune]uint16{'r': 4, 'w': 2, 'x': 1, '-': 0}[c]
		if !known {
			return r, bad
		}
		r.perm |= bit
	}
	if f[1] == "" {
		return r, nil
	}
	if r.tag != aclUserObj && r.tag != aclGroupObj {
		return r, bad
	}
	user := r.tag == aclUserObj
	r.tag <<= 1 // that of a named one
	number := f[1]
	if id, ok := find(f[1], user); ok {
		r.id = id
		return r, nil
	}
	if len(f) > 3 && f[3] != "" {
		number = f[3]
	}
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil || id == noID {
		return r, fmt.Errorf("%w: nobody here has that name", ErrBad)
	}
	r.id = uint32(id)
	return r, nil
}

// acls replaces the texts of access control lists among the attributes of e by
// what Linux has. Where both are given, what Linux has wins.
func (a *Archive) acls(e *rec.Entry) {
	for _, k := range []struct{ from, to string }{{aclAccess, posixAccess}, {aclDefault, posixDefault}} {
		i := slices.IndexFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == k.from })
		if i < 0 {
			continue
		}
		value, err := parseACL(string(e.XAttrs[i].Value), a.owner)
		e.XAttrs = slices.Delete(e.XAttrs, i, i+1)
		there := slices.ContainsFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == k.to })
		switch {
		case there:
		case err != nil:
			a.o.Warn(e.Path, fmt.Errorf("its access control list is left out: %w", err))
		case value != nil && (e.Type == rec.Dir || k.to == posixAccess):
			e.XAttrs = append(e.XAttrs, rec.XAttr{Name: k.to, Value: value})
		}
	}
	slices.SortFunc(e.XAttrs, func(a, b rec.XAttr) int { return strings.Compare(a.Name, b.Name) })
}

// owner finds the id of a name: in the archive, else where the caller looks.
func (a *Archive) owner(name string, user bool) (uint32, bool) {
	table := a.groups.ids
	if user {
		table = a.users.ids
	}
	if id, ok := table[name]; ok {
		return id, true
	}
	if a.o.LookUp == nil {
		return 0, false
	}
	return a.o.LookUp(name, user)
}
