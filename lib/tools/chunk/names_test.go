package chunk

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"preserve/lib/acl"
	"preserve/lib/rec"
)

// Who is in an access control list only gets a name too; what the stage before
// says of an id stands.
func TestNamesOfACLs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	u := acl.Entry{ID: acl.Undefined, Perm: 6}
	list := acl.ACL{u, {Tag: acl.User, Perm: 4, ID: 1}, {Tag: acl.User, Perm: 4, ID: 2}, {Tag: acl.User, ID: 4294967290}, u, u, u}
	list[0].Tag, list[4].Tag, list[5].Tag, list[6].Tag = acl.UserObj, acl.GroupObj, acl.Mask, acl.Other
	if err := syscall.Setxattr(file, acl.Access, list.Encode(), 0); err != nil {
		t.Skipf("no access control lists here: %v", err)
	}
	want := []rec.Name{{ID: 0, Name: "root"}}
	for _, id := range []uint32{1, 2} {
		if who, err := user.LookupId(fmt.Sprint(id)); err == nil {
			want = append(want, rec.Name{ID: id, Name: who.Username})
		}
	}
	c, _, _, _ := chunked(t, scanned(t, dir, nil))
	if !slices.Equal(c.end.Users, want) {
		t.Errorf("users: %v, want %v", c.end.Users, want)
	}
	if c.end.Warnings != 1 || c.end.Status != 3 {
		t.Errorf("end %+v", c.end)
	}
}

// Tables that come in parts go on as one, and no larger than a snapshot's.
func TestNamesInParts(t *testing.T) {
	var n names
	long := strings.Repeat("n", 4000)
	var want []rec.Name
	for i := range uint32(20) {
		part := []rec.Name{{ID: i, Name: fmt.Sprint(i, long)}}
		want = append(want, part[0])
		if err := n.add(part, part); err != nil {
			t.Fatal(err)
		}
	}
	n.owners.AddIDs(0, 0)
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	end := &rec.End{}
	if err := n.write(w, end); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(end); err != nil { // no larger than a record may be
		t.Fatal(err)
	}
	if n := len(end.Users); n == 0 || n == len(want) || !slices.Equal(end.Users, want[len(want)-n:]) {
		t.Errorf("%d names in the end record", n)
	}
	var err error
	for i := 0; err == nil && i < 2000; i++ {
		err = n.add([]rec.Name{{ID: uint32(i), Name: long}}, nil)
	}
	if err == nil {
		t.Error("tables without a limit")
	}
}
