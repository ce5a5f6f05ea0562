package pattern

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, c := range []struct{ patterns, names, want string }{
		{"", "user.a security.selinux", ""},
		{"security.selinux", "security.selinux security.selinux2 user.security.selinux", "security.selinux"},
		{"security.*", "security.a security.b user.a user.security.a trusted.security", "security.a security.b"},
		{"*", "user.a system.posix_acl_access user.a/b", "user.a system.posix_acl_access user.a/b"},
		{"user.*", "user.a user.a/b user.a/security.b security.a", "user.a user.a/b user.a/security.b"},
		{"security.* !security.capability", "security.selinux security.capability", "security.selinux"},
		{"security.* !security.capability *.capability", "security.capability", "security.capability"},
		{"*.[ab] user.?c", "user.a trusted.b user.c user.xc", "user.a trusted.b user.xc"},
		{"/user.a", "user.a user.b", "user.a"},
		{"?", "*", "*"},
	} {
		var n Names
		for _, p := range strings.Fields(c.patterns) {
			if err := n.Add(p); err != nil {
				t.Fatal(p, err)
			}
		}
		var got []string
		for _, name := range strings.Fields(c.names) {
			if n.Match(name) {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.patterns, s, c.want)
		}
		if n.Any() != (c.patterns != "") {
			t.Errorf("%s: any: %v", c.patterns, n.Any())
		}
	}
	all := Names{All: true}
	if !all.Any() || !all.Match("user.a") {
		t.Error("All does not match")
	}
	for _, bad := range []string{"", "[a", "!user.a"} {
		if err := new(Names).Add(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
