package inode

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"preserve/lib/acl"
	"preserve/lib/rec"
	"slices"
	"testing"
)

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	text := "root:x:0:0:root:/root:/bin/sh\n" +
		"eve:x:1000:1000::/home/eve:/bin/sh\n" +
		"toor:x:0:0::/root:/bin/sh\n" + // the second name of 0
		"eve:x:1001:1001::/:/bin/sh\n" + // the second id of eve
		"# bob:x:7:7::/:\n+nis:x:8:8::/:\n-out:x:9:9::/:\n:x:10:10::/:\n" +
		"word:x:no:1::/:\nbig:x:4294967296:1::/:\nleave:x:4294967295:1::/:\nshort:x\n\n" +
		"last:x:4294967294:"
	if err := os.WriteFile(passwd, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := readAccounts(passwd, filepath.Join(dir, "no group file"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"root": 0, "eve": 1000, "toor": 0, "last": 4294967294, "bob": -1, "# bob": -1, "+nis": -1,
		"-out": -1, "": -1, "word": -1, "big": -1, "leave": -1, "short": -1} {
		if id, ok := a.Users.ID(name); ok != (want >= 0) || ok && int64(id) != want {
			t.Errorf("%s: %d %v", name, id, ok)
		}
	}
	if _, ok := a.Groups.ID("root"); ok {
		t.Error("a group came out of no file")
	}
	for id, want := range map[uint32]string{0: "root", 1000: "eve", 1001: "eve", 4294967294: "last", 8: "", 4294967295: ""} {
		if name, ok := a.Users.Name(id); name != want || ok != (want != "") {
			t.Errorf("%d: %q %v", id, name, ok)
		}
	}
	if _, err := readAccounts(dir, passwd); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error("a directory was read:", err)
	}
}

func TestOwnersOfACLs(t *testing.T) {
	var o Owners
	list := acl.ACL{{Tag: acl.UserObj, ID: acl.Undefined}, {Tag: acl.User, ID: 7}, {Tag: acl.Group, ID: 8}, {Tag: acl.Mask, ID: acl.Undefined}}
	o.AddACLs([]rec.XAttr{{Name: acl.Access, Value: []byte("nonsense")}, {Name: acl.Default, Value: list.Encode()}, {Name: "user.x", Value: list.Encode()}})
	o.Add(&rec.Entry{Path: "f", Type: rec.File})
	o.Add(&rec.Entry{Path: "l", Type: rec.HardLink, UID: 9})
	if users, groups := sortedIDs(o.users), sortedIDs(o.groups); !slices.Equal(users, []uint32{0, 7}) || !slices.Equal(groups, []uint32{0, 8}) {
		t.Error(users, groups)
	}
	if got := named(o.users, parseAccounts([]byte("root:x:0:\neve:x:7:\nbob:x:9:\n"))); !slices.Equal(got, []rec.Name{{ID: 0, Name: "root"}, {ID: 7, Name: "eve"}}) {
		t.Error(got)
	}
	for id := range uint32(maxOwners + 10) {
		o.AddIDs(id, 1)
	}
	if len(o.users) != maxOwners {
		t.Errorf("%d users are kept", len(o.users))
	}
}

func sortedIDs(m map[uint32]struct{}) (ids []uint32) {
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
