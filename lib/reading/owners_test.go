package reading

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"preserve/lib/acl"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// A system for tests.
type system map[string]uint32

var here = system{"root": 0, "eve": 2000, "adam": 2001, "1000": 5}

func (s system) ID(name string) (uint32, bool) { id, ok := s[name]; return id, ok }

func (s system) Name(id uint32) (string, bool) {
	for name, n := range s {
		if n == id {
			return name, true
		}
	}
	return "", false
}

func someOwners(t *testing.T, o Choice) (*owners, *bytes.Buffer) {
	t.Helper()
	var msgs bytes.Buffer
	env := tool.NewEnv("pv-unpack", nil, nil, nil, &msgs)
	if _, err := env.Parse(env.Flags(), ""); err != nil {
		t.Fatal(err)
	}
	w, err := newOwners(env, &o, here, here)
	if err != nil {
		t.Fatal(err)
	}
	w.begin(env, &snap.Snapshot{
		Users:  []rec.Name{{ID: 0, Name: "admin"}, {ID: 1000, Name: "eve"}, {ID: 1001, Name: "nobody here"}, {ID: 1002, Name: "eve"}, {ID: 2000, Name: "adam"}},
		Groups: []rec.Name{{ID: 1000, Name: "adam"}},
	})
	return w, &msgs
}

func TestOwnersByName(t *testing.T) {
	for name, c := range map[string]struct {
		o             Choice
		users, groups string
		msg           string
	}{
		"by name":        {Choice{}, "0 2000 1001 2000 1003 2001 2001", "0 2001 1001 1002 1003 2000 2001", ""},
		"numeric":        {Choice{Numeric: true}, "0 1000 1001 1002 1003 2000 2001", "0 1000 1001 1002 1003 2000 2001", ""},
		"names":          {Choice{MapUsers: []string{"eve:adam"}}, "0 2001 1001 2001 1003 2001 2001", "0 2001 1001 1002 1003 2000 2001", ""},
		"numbers":        {Choice{Numeric: true, MapUsers: []string{"1000:7"}, MapGroups: []string{"0:8"}}, "0 7 1001 1002 1003 2000 2001", "8 1000 1001 1002 1003 2000 2001", ""},
		"root":           {Choice{Numeric: true, MapUsers: []string{"admin:eve"}}, "2000 1000 1001 1002 1003 2000 2001", "0 1000 1001 1002 1003 2000 2001", ""},
		"the last wins":  {Choice{Numeric: true, MapUsers: []string{"eve:1", "1000:2", "eve:3", "1002:4"}}, "0 3 1001 4 1003 2000 2001", "0 1000 1001 1002 1003 2000 2001", ""},
		"no such name":   {Choice{Numeric: true, MapUsers: []string{"eva:1"}}, "0 1000 1001 1002 1003 2000 2001", "0 1000 1001 1002 1003 2000 2001", "--map-user eva:1: the snapshot has no user of that name"},
		"number, a name": {Choice{Numeric: true, MapUsers: []string{"1001:1000"}}, "0 1000 1000 1002 1003 2000 2001", "0 1000 1001 1002 1003 2000 2001", ""},
	} {
		w, msgs := someOwners(t, c.o)
		var users, groups []string
		for _, id := range []uint32{0, 1000, 1001, 1002, 1003, 2000, 2001} {
			users = append(users, fmt.Sprint(w.users.to(id)))
			groups = append(groups, fmt.Sprint(w.groups.to(id)))
		}
		if u, g := strings.Join(users, " "), strings.Join(groups, " "); u != c.users || g != c.groups {
			t.Errorf("%s:\nusers  %s, want %s\ngroups %s, want %s", name, u, c.users, g, c.groups)
		}
		if got := msgs.String(); (c.msg == "") != (got == "") || !strings.Contains(got, c.msg) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestStrangers(t *testing.T) {
	w, msgs := someOwners(t, Choice{})
	for range 2 {
		for _, id := range []uint32{0, 1000, 1001, 77, 2001} { // 77 is nobody, neither there nor here; 2001 is adam here
			w.users.to(id)
		}
		w.groups.to(9)
		w.groups.to(2001)
		w.groups.to(1000)
	}
	w.tell(tool.NewEnv("pv-unpack", nil, nil, nil, msgs))
	want := "pv-unpack: no account here has the name of 1 user of the snapshot: what is theirs keeps the number (-v names them)\n" +
		"pv-unpack: the snapshot has no name for 2 users and 2 groups: what is theirs keeps the number (-v names them)\n"
	if got := msgs.String(); got != want {
		t.Error(got)
	}
	for id := range uint32(maxKnown + 10) {
		w.users.to(id)
	}
	if len(w.users.known) > maxKnown || len(w.users.nameless) > maxKnown {
		t.Error("what is remembered has no bound")
	}
}

func TestMapsThatAreNone(t *testing.T) {
	env := tool.NewEnv("pv-unpack", nil, nil, nil, &bytes.Buffer{})
	for _, text := range []string{"", "a", ":", "a:", ":b", "eve:nobody here", "1:2:3", "4294967296:1", "1:4294967295", "4294967295:1"} {
		for _, o := range []Choice{{MapUsers: []string{text}}, {MapGroups: []string{text}}} {
			if _, err := newOwners(env, &o, here, here); err == nil || env.Status(err) != 2 {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// Who is in an access control list is mapped as owners are; a list that is none
// stays as it is.
func TestOwnersInLists(t *testing.T) {
	list := func(uid, gid uint32) []byte {
		return acl.ACL{{Tag: acl.UserObj, Perm: 6, ID: acl.Undefined}, {Tag: acl.User, Perm: 4, ID: uid}, {Tag: acl.GroupObj, ID: acl.Undefined},
			{Tag: acl.Group, Perm: 4, ID: gid}, {Tag: acl.Mask, Perm: 6, ID: acl.Undefined}, {Tag: acl.Other, ID: acl.Undefined}}.Encode()
	}
	w, _ := someOwners(t, Choice{})
	e := &rec.Entry{Path: "d", Type: rec.Dir, UID: 1000, GID: 7, XAttrs: []rec.XAttr{{Name: acl.Access, Value: list(1000, 1000)},
		{Name: acl.Default, Value: []byte("no list")}, {Name: "user.x", Value: list(1000, 1000)}}}
	before := *e
	attrs := slices.Clone(e.XAttrs)
	got := w.entry(e)
	if got.UID != 2000 || got.GID != 7 || got.Path != "d" {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(got.XAttrs[0].Value, list(2000, 2001)) || string(got.XAttrs[1].Value) != "no list" || !bytes.Equal(got.XAttrs[2].Value, list(1000, 1000)) {
		t.Errorf("%x", got.XAttrs)
	}
	if e.UID != before.UID || !bytes.Equal(e.XAttrs[0].Value, list(1000, 1000)) || len(attrs) != len(e.XAttrs) {
		t.Error("the entry itself has changed")
	}
	for _, e := range []*rec.Entry{
		{Path: "f", Type: rec.File, UID: 0, GID: 7, XAttrs: attrs[1:]},
		{Path: "l", Type: rec.HardLink, UID: 1000},
		{Path: "f", Type: rec.File, UID: 1000, Off: 1},
	} {
		if w.entry(e) != e {
			t.Errorf("%+v is a copy, and nothing has changed", e)
		}
	}
}
