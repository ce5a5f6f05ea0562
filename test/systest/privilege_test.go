//go:build system

package systest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The script and the unit of docs/least-privilege.md: an ordinary user backs up what only
// root may read, and of the stages only pv-scan and pv-chunk have the privilege for that.
func TestLeastPrivilege(t *testing.T) {
	b := newBench(t)
	b.need(true, "setpriv", "systemd-analyze")
	doc, err := os.ReadFile("../../docs/least-privilege.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`(?s)    (sed -e .*?)/usr/local/bin/pv-backup >`).FindSubmatch(doc)
	if script == nil {
		t.Fatal("the page has no script")
	}
	b.ok("mkdir lib spy && " + string(script[1]) + `"$(command -v pv-backup)" >lib/least && chmod 755 lib/least`)
	// Each stage writes down what it may do.
	b.ok(`for tool in scan chunk seal put job; do
			cat >spy/pv-$tool <<-END
				#!/bin/sh
				sed -n "s/^CapEff:.//p" /proc/self/status >>$PWD/said/$tool
				exec $(command -v pv-$tool) "\$@"
			END
		done
		chmod 755 . spy/* && for p in $(dirname $PWD) $(dirname $(dirname $PWD)); do chmod o+x $p; done
		mkdir src said repo home && chown 3001 said repo home && cp write.key home/key && chown 3001 home/key
		echo secret >src/secret && chmod 600 src/secret && chmod 700 src`)
	b.ok(`export PATH=$PWD/spy:$PATH HOME=$PWD/home TMPDIR=$PWD/home XDG_CACHE_HOME= XDG_CONFIG_HOME=
		setpriv --reuid=3001 --regid=3001 --clear-groups --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search \
			--ambient-caps=-all,+dac_read_search lib/least -q -r repo -k home/key --cache home/cache src >home/id`)
	b.ok("pv-restore -q -r repo -k read.key $(cat home/id) out && diff -r src out/src")
	for tool, want := range map[string]string{"scan": "0000000000000004", "chunk": "0000000000000004", "seal": "0000000000000000", "put": "0000000000000000", "job": "0000000000000000"} {
		if got := strings.Fields(b.ok("sort -u said/" + tool)); len(got) != 1 || got[0] != want {
			t.Errorf("pv-%s has %q, not %s", tool, got, want)
		}
	}
	// The unit is one, but for the program, which is not installed here.
	unit, err := os.ReadFile("../../docs/examples/preserve.service")
	if err != nil {
		t.Fatal(err)
	}
	// It runs the script as above: not as root, with no privilege but the one.
	for _, line := range []string{
		"User=preserve", "AmbientCapabilities=CAP_DAC_READ_SEARCH", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "NoNewPrivileges=yes",
		"ProtectSystem=strict", "CacheDirectoryMode=0700", "TimeoutStartSec=2d", "LoadCredential=write.key:/etc/preserve/write.key",
	} {
		name, _, _ := strings.Cut(line, "=")
		if !strings.Contains(string(unit), "\n"+line+"\n") || strings.Count(string(unit), "\n"+name+"=") != 1 {
			t.Errorf("the unit does not say once: %s", line)
		}
	}
	if !strings.Contains(string(unit), "\nExecStart=/usr/local/lib/preserve/pv-backup-least ") {
		t.Error("the unit does not run the script")
	}
	text := strings.Replace(string(unit), "/usr/local/lib/preserve/pv-backup-least", "/bin/true", 1)
	timer, err := os.ReadFile("../../docs/examples/preserve.timer")
	if err != nil {
		t.Fatal(err)
	}
	// What the page says of a repository on another machine stands in the unit here.
	more := regexp.MustCompile(`(?m)^    \[Service\]\n((?:    .*\n)+)`).FindSubmatch(doc)
	if more == nil {
		t.Fatal("the page has no drop-in")
	}
	for name, text := range map[string]string{"preserve.service": text, "preserve.timer": string(timer), "other.service": text + strings.ReplaceAll(string(more[1]), "    ", "")} {
		if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, said, status := b.sh("systemd-analyze verify --man=no ./preserve.service ./preserve.timer ./other.service"); status != 0 || said != "" {
		t.Errorf("systemd-analyze verify: %d %s", status, said)
	}
}
