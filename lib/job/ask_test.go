package job

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// asking is a run whose pv-get and pv-open are these scripts, and what it says.
func asking(t *testing.T, scripts map[string]string) (*Run, *bytes.Buffer) {
	t.Helper()
	bin := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	said := &bytes.Buffer{}
	return &Run{env: tool.NewEnv("pv-job", nil, nil, nil, said), dir: t.TempDir()}, said
}

var nas = remote.Address{Text: "ssh://nas/repo", Path: "/repo", Host: "nas"}

// TestStoreSaysMuch: whatever a store answers, and says on stderr, little of it is held.
func TestStoreSaysMuch(t *testing.T) {
	r, said := asking(t, map[string]string{"pv-get": "yes no | head -c 3000000 >&2; exit 1\n"})
	if _, err := r.ask(nas, time.Minute, "--id"); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if got := said.String(); len(got) > maxSaid+100 || !strings.Contains(got, "ssh://nas/repo: 2934464 more bytes of messages") {
		t.Errorf("%d bytes of messages are passed on: …%s", len(got), got[max(0, len(got)-100):])
	}
	r, _ = asking(t, map[string]string{"pv-get": "yes no | head -c 30000000\n"})
	if lines, err := r.ask(nas, time.Minute, "--id"); err == nil {
		t.Errorf("%d lines were taken", len(lines))
	}
	// The report of a pass.
	file := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(file, bytes.Repeat([]byte("noise\n"), maxReport/6+1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := readRoom(file, maxReport); err != nil || len(b) > maxReport {
		t.Errorf("%d bytes of a report, %v", len(b), err)
	}
	// A list of ids.
	var out bytes.Buffer
	l := &idLines{out: bufio.NewWriter(&out), left: 3 * 65}
	for n := range 3 {
		if _, err := l.Write([]byte("noise\n" + sid(n) + "\n")); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Write([]byte(sid(4) + "\n")); !errors.Is(err, errRoom) {
		t.Errorf("a list without end: %v", err)
	}
}

// TestStoreHasManyKeys: a repository with very many wrapped keys does not keep a backup from its end.
func TestStoreHasManyKeys(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	r, _ := asking(t, map[string]string{"pv-get": `case "$*" in *--keys*) seq 1 5000 ;; *) echo "$*" >>"$ASKED" ;; esac` + "\n"})
	t.Setenv("ASKED", asked)
	if r.holdsKey(&Target{Repo: nas}, "3f9c-77a1-0b2e-9d10") {
		t.Error("none of them is the key")
	}
	if text, err := os.ReadFile(asked); err != nil || bytes.Count(text, []byte("\n")) != maxKeys {
		t.Errorf("%d keys were asked for, %v", bytes.Count(text, []byte("\n")), err)
	}
}

// TestRecoverTheIDThatWasAskedFor: who asks for an id gets that snapshot, whatever the list of the store
// makes of it.
func TestRecoverTheIDThatWasAskedFor(t *testing.T) {
	line := func(n int) string {
		return "echo '" + strings.Join([]string{sid(n), "time", "writer", "host", sid(1)}, "\t") + "'\n"
	}
	r, said := asking(t, map[string]string{"pv-get": "", "pv-open": "cat >/dev/null\n" + line(2) + line(1)})
	q := RecoverRequest{Repo: nas, Held: "key", Snapshot: strings.ToUpper(sid(1)), Dir: "out"}
	if run, err := r.recover(q); err == nil || !strings.Contains(err.Error(), "names snapshot "+sid(2)+", and "+sid(1)+" was asked for") {
		t.Errorf("%+v, %v: %s", run, err, said)
	}
	r, said = asking(t, map[string]string{"pv-get": "", "pv-open": "cat >/dev/null\n" + line(1) + line(2)})
	run, err := r.recover(q)
	if err != nil {
		t.Fatal(err, said)
	}
	defer os.RemoveAll(run.dir)
	if args, err := os.ReadFile(run.path("unpack")); err != nil || !slices.Contains(strings.Split(string(args), "\x00"), sid(1)) {
		t.Errorf("%q, %v", args, err)
	}
}
