package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// summed is what .ci/test prints, and its exit status, where go test prints log and ends with
// status.
func summed(t *testing.T, log string, status string) (string, int) {
	t.Helper()
	bin := t.TempDir()
	fake := "#!/bin/sh\ncat <<'END'\n" + log + "END\nexit " + status + "\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../.ci/test", "./...")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "PV_NO_SKIP=")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What .ci/test says at the end of a skipped test is the reason that Skip was given, of
// a testscript too, which logs itself after it.
func TestSkipsSayWhy(t *testing.T) {
	out, status := summed(t, `=== RUN   TestScripts
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
?   	preserve/cmd	[no test files]
`, "0")
	want := "ok  \tpreserve\t0.010s\n\nskipped, 2 in all:\n  TestScripts/one: the reason is here\n  TestTwo: another reason\n"
	if out != want || status != 0 {
		t.Errorf("status %d: %s, want\n%s", status, out, want)
	}
}

// Of a package that failed .ci/test prints what failed and nothing else; a panic and an error of
// the compiler in full.
func TestFailuresAlone(t *testing.T) {
	out, status := summed(t, `=== RUN   TestLong
    long_test.go:1: much
--- PASS: TestLong (0.00s)
=== RUN   TestBad
=== RUN   TestBad/a
=== PAUSE TestBad/a
=== RUN   TestBad/b
=== PAUSE TestBad/b
=== CONT  TestBad/a
=== CONT  TestBad/b
    bad_test.go:2: fine
=== NAME  TestBad/a
    bad_test.go:3: wrong
        in two lines
--- FAIL: TestBad (0.00s)
    --- PASS: TestBad/b (0.00s)
    --- FAIL: TestBad/a (0.00s)
FAIL
FAIL	preserve/bad	0.010s
=== RUN   TestFine
    fine_test.go:1: much
--- PASS: TestFine (0.00s)
PASS
ok  	preserve/fine	0.010s
=== RUN   TestPanics
--- FAIL: TestPanics (0.00s)
panic: oh

goroutine 1 [running]:
FAIL	preserve/panics	0.010s
# preserve/broken
broken.go:1:1: undefined: x
FAIL	preserve/broken [build failed]
FAIL
`, "1")
	want := `--- FAIL: TestBad
--- FAIL: TestBad/a
    bad_test.go:3: wrong
        in two lines
FAIL	preserve/bad	0.010s
ok  	preserve/fine	0.010s
panic: oh

goroutine 1 [running]:
--- FAIL: TestPanics
FAIL	preserve/panics	0.010s
# preserve/broken
broken.go:1:1: undefined: x
FAIL	preserve/broken [build failed]
`
	if out != want || status != 1 {
		t.Errorf("status %d: %s, want\n%s", status, out, want)
	}
}
