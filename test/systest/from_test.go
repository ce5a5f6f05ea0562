//go:build system

package systest

import (
	"strconv"
	"strings"
	"testing"
)

// One file out of a snapshot of 1 GB takes less than 2 MB through the pipe, whatever
// kind of file it is; a list of one directory takes less.
func TestOneFileOfAGigabyte(t *testing.T) {
	b := newBench(t)
	b.ok(`mkdir -p src/large src/middle && cp -a "$(go env GOROOT)/src/cmd" src/text
		cd src/large && head -c 900000000 /dev/urandom | split -b 600000 -a 3 -
		cd ../middle && head -c 100000000 /dev/urandom | split -b 200000 -a 3 -`)
	b.ok("pv-backup -r repo src >id")
	repo := b.sshd("") + b.path("repo")
	b.ok(`printf '#!/bin/sh\n%s "$@" | tee got\n' "$PV_SSH" >counted && chmod 755 counted`)
	for _, c := range []struct {
		path string
		most int
	}{{"src/text/go/main.go", 2_000_000}, {"src/large/xajh", 2_000_000}, {"src/middle/xagc", 2_000_000}} {
		b.ok("rm -rf out; PV_SSH=./counted pv-restore -r " + repo + " $(cat id) out " + c.path + " && cmp out/" + c.path + " " + c.path)
		b.took(c.path, c.most)
	}
	out := b.ok("PV_SSH=./counted pv-list -r " + repo + " $(cat id) src/text/go/internal/base")
	if n := strings.Count(out, "\n"); n < 5 || n > 50 {
		t.Errorf("%d lines\n%s", n, out)
	}
	b.took("a list", 200_000)

	// The whole comes this way too, and is the whole.
	b.ok("rm -rf out; pv-restore -r " + repo + " --hard-dereference $(cat id) out")
	b.compare("out", "src")
}

// took checks how much came through the pipe.
func (b *bench) took(what string, most int) {
	b.Helper()
	n, err := strconv.Atoi(b.ok("wc -c <got"))
	if err != nil || n > most {
		b.Errorf("%s took %d bytes, %v", what, n, err)
	}
	b.Logf("%s: %d bytes", what, n)
}
