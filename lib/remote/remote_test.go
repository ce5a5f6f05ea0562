package remote

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("c:", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, path, host, port string }{
		{"repo", "repo", "", ""},
		{"/a:b/repo", "/a:b/repo", "", ""},
		{"c:", "c:", "", ""}, // a directory of that name is there
		{"./x:y", "./x:y", "", ""},
		{"-repo", "./-repo", "", ""},
		{"ssh://host/repo", "/repo", "host", ""},
		{"ssh://user@host:2222/a b/repo", "/a b/repo", "user@host", "2222"},
		{"ssh://[::1]:22/repo", "/repo", "::1", "22"},
		{"ssh://[fe80::1%eth0]/repo", "/repo", "fe80::1%eth0", ""},
	} {
		a, err := Parse(c.text)
		if err != nil || a.Path != c.path || a.Host != c.host || a.Port != c.port || a.Remote() != (c.host != "") {
			t.Errorf("%q: %q %q %q, %v", c.text, a.Path, a.Host, a.Port, err)
		}
	}
	for _, text := range []string{
		"", "host:repo", "sftp://host/repo", "ssh://host", "ssh://host/", "ssh:///repo", "ssh://@host/repo",
		"ssh://user@/repo", "ssh://host:/repo", "ssh://host:22x/repo",
		"ssh://-oProxyCommand=x/repo", "ssh://u@-oProxyCommand/repo", "ssh://a b/repo", "ssh://a;b/repo", "ssh://$(x)/repo",
	} {
		if a, err := Parse(text); err == nil {
			t.Errorf("%q was taken: %q %q %q", text, a.Host, a.Port, a.Path)
		}
	}
}

func TestWhere(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Mkdir("real", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", "link"); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"real":                      dir + "/real",
		"link":                      dir + "/real",
		"./link/../real/":           dir + "/real",
		"link/none/deep":            dir + "/real/none/deep",
		"none":                      dir + "/none",
		"ssh://u@host:2222//a/../b": "ssh://u@host:2222/b",
	} {
		a, err := Parse(text)
		if err != nil || a.Where() != want {
			t.Errorf("%s: %s, not %s (%v)", text, a.Where(), want, err)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Setenv("PV_SSH", "my-ssh -4")
	a, err := Parse("ssh://u@host:2222/it's here")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"my-ssh", "-4", "-p", "2222", "u@host", `'pv-put' '-q' '/it'\''s here' '--x'`}
	if got := a.Command("pv-put", "-q", "--x"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if a, _ = Parse("dir"); !slices.Equal(a.Command("pv-get", ""), []string{"pv-get", "dir"}) {
		t.Errorf("%q", a.Command("pv-get", ""))
	}
	t.Setenv("PV_SSH", "")
	a, _ = Parse("ssh://host/r")
	if got := a.Command("pv-get", ""); got[0] != "ssh" || got[len(got)-2] != "host" || !strings.Contains(strings.Join(got, " "), "ConnectTimeout") {
		t.Errorf("%q", got)
	}
}
