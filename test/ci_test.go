package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What .ci/test says at the end of a skipped test is the reason that Skip was given, of
// a testscript too, which logs itself behind it.
func TestSkipsSayWhy(t *testing.T) {
	bin := t.TempDir()
	log := `=== RUN   TestScripts
=== RUN   TestScripts/one
=== PAUSE TestScripts/one
=== CONT  TestScripts/one
    cmd.go:380: the reason is here
    testscript.go:609: WORK=$WORK
        PATH=/usr/bin

        > skip 'the reason is here'

--- PASS: TestScripts (0.00s)
    --- SKIP: TestScripts/one (0.00s)
=== RUN   TestTwo
    two_test.go:7: another reason
--- SKIP: TestTwo (0.00s)
PASS
ok  	preserve	0.010s
`
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\ncat <<'END'\n"+log+"END\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../.ci/test", "./...")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "PV_NO_SKIP=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"skipped, 2 in all", "  TestScripts/one: the reason is here\n", "  TestTwo: another reason\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}
