package remote

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"preserve/lib/tool"
)

// TestRun: what a tool over there has come to is this run's end, and no failure is
// without a word: either the tool's own, or one about the connection.
func TestRun(t *testing.T) {
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\n[ \"$1\" = host ] || exit 9\neval \"$PV_TRY\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PV_SSH", ssh)
	a, err := Parse("ssh://host/repo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		try, out, said, fails string
		is                    error
	}{
		{try: "cat; echo over there >&2", out: "in", said: "over there\n"},
		{try: "exit 3", is: tool.ErrPartial},
		{try: "echo no >&2; exit 1", said: "no\n", is: tool.ErrTold},
		{try: "exit 255", fails: "the connection failed or broke"},
		{try: "exit 127", fails: "pv-get does not run there"},
		{try: "exit 137", fails: "pv-get there, or the way there, was ended by signal 9"},
		{try: "kill -9 $$", fails: "signal: killed"},
	} {
		t.Setenv("PV_TRY", c.try)
		var out, said bytes.Buffer
		err := a.Run(tool.NewEnv("pv-get", nil, strings.NewReader("in"), &out, &said), "pv-get", "x")
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), a.Text) {
				t.Errorf("%s: %v", c.try, err)
			}
		case !errors.Is(err, c.is) || out.String() != c.out || said.String() != c.said:
			t.Errorf("%s: %v, out %q, said %q", c.try, err, out.String(), said.String())
		}
	}
	// An answer without end.
	t.Setenv("PV_TRY", "while echo missing; do :; done")
	var out, said bytes.Buffer
	err = a.answer(tool.NewEnv("pv-put", nil, strings.NewReader(""), &out, &said), nil, 1<<20, "pv-put")
	if !errors.Is(err, tool.ErrTooMuch) || out.Len() > 1<<20 || out.Len() == 0 || said.Len() > 0 {
		t.Errorf("an answer without end: %v, %d bytes, said %q", err, out.Len(), said.String())
	}
	t.Setenv("PV_SSH", ssh+".none")
	if err := a.Run(tool.NewEnv("pv-get", nil, nil, nil, nil), "pv-get"); err == nil {
		t.Error("no ssh: no error")
	}
}
