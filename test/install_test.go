package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall installs without Go, under a strict umask, into a directory with a blank in its
// name, and takes everything away again but what is not ours.
func TestInstall(t *testing.T) {
	bin, dest := t.TempDir(), filepath.Join(t.TempDir(), "a place")
	tools, err := filepath.Glob("../cmd/*")
	if err != nil || len(tools) == 0 {
		t.Fatal(tools, err)
	}
	for _, tool := range tools {
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(tool)), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// A go that fails.
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "go"), []byte("#!/bin/sh\necho 'go was run' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(target string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", `umask 077 && make -s -C .. "$1" BIN="$2" DESTDIR="$3" PREFIX=/usr`, "sh", target, bin, dest)
		cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "MAKEFLAGS=", "MAKELEVEL=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	run("install")
	got := modes(t, dest)
	for _, name := range append(tools, "pv-backup", "pv-restore", "pv-list", "pv-verify", "pv-recover", "pv-copy") {
		name = filepath.Base(name)
		if m := got["usr/bin/"+name]; m != 0o755 {
			t.Errorf("bin/%s: mode %o", name, m)
		}
		page := "usr/share/man/man1/" + name + ".1"
		if m := got[page]; m != 0o644 {
			t.Errorf("%s: mode %o", page, m)
		}
	}
	for _, dir := range []string{"usr", "usr/bin", "usr/share", "usr/share/man", "usr/share/man/man1"} {
		if m := got[dir]; m != fs.ModeDir|0o755 {
			t.Errorf("%s: mode %v", dir, m)
		}
	}
	own := filepath.Join(dest, "usr/bin/another")
	if err := os.WriteFile(own, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run("uninstall")
	for name, m := range modes(t, dest) {
		if !m.IsDir() && name != "usr/bin/another" {
			t.Errorf("uninstall leaves %s", name)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("uninstall: %v", err)
	}
}

// modes returns the type and mode of everything below dir, by name.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	all := map[string]fs.FileMode{}
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[name] = info.Mode()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestManualPages makes each page of docs/man for man(1), and reads it as man does.
func TestManualPages(t *testing.T) {
	pages, err := filepath.Glob("../docs/man/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	_, err = exec.LookPath("groff")
	judged := err == nil
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		made, err := exec.Command("awk", "-f", "../docs/man/roff.awk", "-v", "name="+name, "-v", "version=7.5", page).Output()
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if !strings.Contains(string(made), "\n.SH NAME\n"+strings.ReplaceAll(name, "-", `\-`)+` \- `) {
			t.Errorf("%s has no name section:\n%.200s", name, made)
		}
		if !judged {
			continue
		}
		cmd := exec.Command("groff", "-man", "-Tutf8", "-Kutf8", "-P-cbou", "-ww")
		cmd.Stdin = strings.NewReader(string(made))
		var faults strings.Builder
		cmd.Stderr = &faults
		text, err := cmd.Output()
		if err != nil || faults.Len() > 0 {
			t.Errorf("%s: %v %s", name, err, faults.String())
		}
		if strings.Contains(string(text), "](") || strings.Contains(string(text), "|---") {
			t.Errorf("%s: a link or a table is left as it was", name)
		}
		if !strings.Contains(string(text), "Preserve 7.5") {
			t.Errorf("%s does not name the version", name)
		}
	}
	if !judged {
		if os.Getenv("PV_NO_SKIP") == "1" {
			t.Fatal("groff is not installed")
		}
		t.Skip("groff is not installed: the pages were made and not read")
	}
}

// What roff.awk makes of each thing that a page can hold.
func TestRoff(t *testing.T) {
	for _, c := range []struct{ name, page, want string }{
		{"paragraphs", "one\\two\n.three\n\nfour", ".PP\none\\etwo\n\\&.three\n.PP\nfour\n"},
		{"a code block", "so:\n\n    a -b\n\n    'c\n\nend", ".PP\nso:\n.PP\n.RS 4\n.EX\na \\-b\n\n\\&'c\n.EE\n.RE\n.PP\nend\n"},
		{"fonts and a link", "**a** *b* `*c* -d` [e](f.md#g)", ".PP\n\\fBa\\fR \\fIb\\fR \\fB*c* \\-d\\fR e\n"},
		{"a list", "* one\n  more\n* two\n\nend", ".IP \\(bu 3\none\nmore\n.IP \\(bu 3\ntwo\n.PP\nend\n"},
		{"options", "| option | |\n|---|---|\n| `-a X\\|Y` | all |\n", ".TP\n\\fB\\-a X|Y\\fR\nall\n"},
		{"three columns", "| what | then | status |\n|---|---|---|\n| a | b | 3 |\n", ".TP\na\nb\n.br\nstatus: 3\n"},
		{"sections", "## What now\n\n### Sub\n\nx", ".SH WHAT NOW\n.SS Sub\n.PP\nx\n"},
	} {
		cmd := exec.Command("awk", "-f", "../docs/man/roff.awk", "-v", "name=x")
		cmd.Stdin = strings.NewReader("\n" + c.page)
		if out, err := cmd.Output(); err != nil || string(out) != c.want {
			t.Errorf("%s: %v\n%q, want\n%q", c.name, err, out, c.want)
		}
	}
}
