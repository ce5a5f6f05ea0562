package remote

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"preserve/lib/tool"
)

// feeding is an address whose ssh is a script, and an Env whose stdin is a pipe, a file or neither.
func feeding(t *testing.T, script string) Address {
	t.Helper()
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PV_SSH", ssh)
	a, err := Parse("ssh://host/repo")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// piped is a pipe into which the data are written; more says that its other end stays open.
func piped(t *testing.T, data []byte, more bool) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	go func() {
		_, _ = w.Write(data) // who reads it may end
		if !more {
			w.Close()
		}
	}()
	return r
}

func TestFeed(t *testing.T) {
	data := make([]byte, 5<<20+7)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got := filepath.Join(t.TempDir(), "got")
	t.Setenv("GOT", got)
	a := feeding(t, `cat >"$GOT"; echo answer; exit 3`)
	stored, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	for name, in := range map[string]io.Reader{"a pipe": piped(t, data, false), "a file": stored, "a reader": bytes.NewReader(data), "an empty pipe": piped(t, nil, false)} {
		var out, said bytes.Buffer
		err := a.Feed(tool.NewEnv("pv-put", nil, in, &out, &said), time.Hour, time.Hour, "pv-put")
		b, rerr := os.ReadFile(got)
		want := data
		if name == "an empty pipe" {
			want = nil
		}
		if !errors.Is(err, tool.ErrPartial) || out.String() != "answer\n" || said.Len() > 0 || rerr != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %v, %q, %q; %d of %d bytes came", name, err, out.String(), said.String(), len(b), len(want))
		}
	}
}

// TestFeedStuck: a command that takes nothing, or does not end, is given up; one that ends before it has
// taken everything is not waited for.
func TestFeedStuck(t *testing.T) {
	data := make([]byte, 5<<20)
	for _, c := range []struct {
		script        string
		stall, answer time.Duration
		more          bool
		err           error
		text          string
	}{
		{"exec sleep 1000", 50 * time.Millisecond, time.Hour, true, ErrStuck, "repository ssh://host/repo: the other side is stuck: it has taken nothing for 50ms"},
		{"head -c 100000 >/dev/null; exec sleep 1000", 50 * time.Millisecond, time.Hour, false, ErrStuck, "has taken nothing"},
		{"cat >/dev/null; exec sleep 1000", time.Hour, 50 * time.Millisecond, false, ErrStuck, "has not ended for 50ms since it got everything"},
		{"trap '' TERM; while :; do sleep 1000; done", 50 * time.Millisecond, time.Hour, false, ErrStuck, "has taken nothing"},
		{"head -c 100000 >/dev/null; exit 1", time.Hour, time.Hour, true, tool.ErrTold, ""},
		{"exit 0", time.Hour, time.Hour, true, nil, ""},
	} {
		a := feeding(t, c.script)
		var out, said bytes.Buffer
		err := a.Feed(tool.NewEnv("pv-put", nil, piped(t, data, c.more), &out, &said), c.stall, c.answer, "pv-put")
		if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.text) || out.Len()+said.Len() > 0 {
			t.Errorf("%s: %v, %q %q", c.script, err, out.String(), said.String())
		}
	}
}
