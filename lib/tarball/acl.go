package tarball

import (
	"fmt"
	"slices"
	"strings"

	"preserve/lib/acl"
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

// acls replaces the texts of access control lists among the attributes of e by
// what Linux has. Where both are given, what Linux has wins. A list that says no
// more than the mode is none.
func (a *Archive) acls(e *rec.Entry) {
	for _, k := range []struct{ from, to string }{{aclAccess, acl.Access}, {aclDefault, acl.Default}} {
		i := slices.IndexFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == k.from })
		if i < 0 {
			continue
		}
		list, err := acl.Parse(string(e.XAttrs[i].Value), a.owner)
		e.XAttrs = slices.Delete(e.XAttrs, i, i+1)
		there := slices.ContainsFunc(e.XAttrs, func(x rec.XAttr) bool { return x.Name == k.to })
		plain := !slices.ContainsFunc(list, func(x acl.Entry) bool { return x.Tag == acl.User || x.Tag == acl.Group || x.Tag == acl.Mask })
		switch {
		case there:
		case err != nil:
			a.o.Warn(e.Path, fmt.Errorf("its access control list is left out: %w", err))
		case k.to == acl.Default && (e.Type != rec.Dir || len(list) == 0), k.to == acl.Access && plain:
		default:
			e.XAttrs = append(e.XAttrs, rec.XAttr{Name: k.to, Value: list.Encode()})
			if k.to == acl.Access {
				e.Mode = modeOf(list, e.Mode)
			}
		}
	}
	slices.SortFunc(e.XAttrs, func(a, b rec.XAttr) int { return strings.Compare(a.Name, b.Name) })
}

// modeOf is the mode of a file with a list: on Linux its bits of the group are the
// mask, which tar and bsdtar set by setting the list last. bsdtar writes the
// rights of the owning group there, which would take away from everybody in the list.
func modeOf(list acl.ACL, mode uint32) uint32 {
	shift := map[acl.Tag]int{acl.UserObj: 6, acl.Mask: 3, acl.Other: 0}
	for _, x := range list {
		if n, ok := shift[x.Tag]; ok {
			mode = mode&^(7<<n) | uint32(x.Perm)<<n
		}
	}
	return mode
}

// owner finds the id of a name in a list: beside it, in the archive, or where
// the caller looks. The name goes into the archive's tables.
func (a *Archive) owner(t acl.Tag, name string, beside uint32, known bool) (uint32, bool) {
	table, what := &a.groups, "group"
	if t == acl.User {
		table, what = &a.users, "user"
	}
	id, ok := beside, known
	if !ok {
		id, ok = table.ids[name]
	}
	if !ok && a.o.LookUp != nil {
		id, ok = a.o.LookUp(name, t == acl.User)
	}
	if ok {
		table.add(id, name, a.o.Notice, what)
	}
	return id, ok
}
