package job

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/tool"
)

func TestFirstSource(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, err := range []error{os.Mkdir("d", 0o700), os.Symlink("d", "to-dir"), os.WriteFile("-f", nil, 0o600), os.Symlink("-f", "to-file"), os.Symlink("nowhere", "dangling")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for source, want := range map[string]string{"d": "d", "d/": "d", "to-dir": "to-dir/", "./d/../to-dir/": "to-dir/", "-f": "-f", "to-file": "to-file", "dangling": "dangling"} {
		if got, err := firstSource(source); err != nil || got != dir+"/"+want {
			t.Errorf("%s: %q, %v", source, got, err)
		}
	}
	for _, source := range []string{"", "none"} {
		if _, err := firstSource(source); !errors.As(err, new(*tool.UsageError)) {
			t.Errorf("%q: %v", source, err)
		}
	}
}

func TestDataDir(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for set, want := range map[string]string{"": "/home/me/.local/share/preserve", "/data": "/data/preserve"} {
		t.Setenv("XDG_DATA_HOME", set)
		if got, err := dataDir(); got != want || err != nil {
			t.Errorf("%q: %q, %v", set, got, err)
		}
	}
	t.Setenv("XDG_DATA_HOME", "data")
	if _, err := dataDir(); !errors.As(err, new(*tool.UsageError)) {
		t.Errorf("a relative one: %v", err)
	}
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "")
	if _, err := dataDir(); err == nil {
		t.Error("without a home there is one")
	}
}

// However source and data directory are spelled, one pattern is the path in the backup.
func TestSpellings(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.MkdirAll(dir+"/real/home/data", 0o700), os.Symlink("real", dir+"/link"), os.Symlink("real/home", dir+"/home")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ data, source, want string }{
		{"real/home/data", "real/home", "real/home/data"},
		{"link/home/data", "real/home", "real/home/data"},
		{"real/home/data", "link", "link/home/data"},
		{"home/data", "real", "real/home/data"},
		{"home/data", "home/", "home/data"},
		{"real/home/data", "real/home/data", "real/home/data"},
	} {
		if got := spellings(dir+"/"+c.data, dir+"/"+c.source); !slices.Contains(got, dir+"/"+c.want) {
			t.Errorf("%s below %s: %q", c.data, c.source, got)
		}
	}
	if got := spellings("/nowhere/x", dir); !slices.Equal(got, []string{"/nowhere/x"}) {
		t.Errorf("%q", got)
	}
}

func TestFirstText(t *testing.T) {
	t.Setenv("HOME", "/home/it's me")
	f := &First{Data: t.TempDir()}
	id := strings.Repeat("0123456789abcdef", 4)
	without := f.firstText(id, "/usr/bin/pv-restore")
	if err := os.WriteFile(f.path("master.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	with := f.firstText(id, "/usr/bin/pv-restore")
	command := "\n  '/usr/bin/pv-restore' -r '" + f.path("repo") + "' -k '" + f.path("read.key") + "' " + id + ` '/home/it'\''s me/restored-01234567'` + "\n"
	if strings.Contains(without, "master") || !strings.Contains(with, f.path("master.key")) || !strings.HasSuffix(with, command) || !strings.HasSuffix(without, command) {
		t.Errorf("%s\n%s", without, with)
	}
}
