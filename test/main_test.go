// Package test runs the tools, all in one test binary, as their users
// do: from scripts (testdata/scripts), through real pipes, under a real shell.
package test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"preserve/lib/tool"
	"preserve/lib/tools/check"
	"preserve/lib/tools/chunk"
	"preserve/lib/tools/diff"
	"preserve/lib/tools/gc"
	"preserve/lib/tools/get"
	"preserve/lib/tools/job"
	"preserve/lib/tools/join"
	"preserve/lib/tools/json"
	"preserve/lib/tools/keep"
	"preserve/lib/tools/key"
	"preserve/lib/tools/ls"
	"preserve/lib/tools/open"
	"preserve/lib/tools/put"
	"preserve/lib/tools/scan"
	"preserve/lib/tools/seal"
	"preserve/lib/tools/serve"
	"preserve/lib/tools/tar"
	"preserve/lib/tools/tee"
	"preserve/lib/tools/unpack"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	commands := map[string]func(){}
	for name, run := range map[string]func(*tool.Env) error{
		"pv-scan": scan.Run, "pv-chunk": chunk.Run, "pv-seal": seal.Run, "pv-put": put.Run,
		"pv-get": get.Run, "pv-open": open.Run, "pv-unpack": unpack.Run, "pv-ls": ls.Run, "pv-diff": diff.Run, "pv-join": join.Run, "pv-tar": tar.Run, "pv-key": key.Run, "pv-json": json.Run, "pv-tee": tee.Run, "pv-job": job.Run, "pv-serve": serve.Run, "pv-keep": keep.Run, "pv-gc": gc.Run, "pv-check": check.Run,
	} {
		commands[name] = func() { tool.Main(name, run) }
	}
	for name, run := range turned { // confined_test.go
		commands[name] = turnedTool(name, run)
	}
	for name, run := range helpers {
		commands[name] = func() {
			if err := run(os.Args[1:]); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
				os.Exit(1)
			}
		}
	}
	// Much of the scripts' time is waiting until files have settled: more of them than
	// there are processors run at once, unless the command line says otherwise.
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, commands)
}
