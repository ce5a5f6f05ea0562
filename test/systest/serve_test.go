//go:build system

package systest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestServe drives pv-serve through a real sshd: a client that may put and ask,
// with commands and streams that are not what the scripts send.
func TestServe(t *testing.T) {
	b := newBench(t)
	host := b.sshd("")
	repo := host + b.path("repo")
	allow := func(list string) {
		b.ok(`printf 'restrict,command="pv-serve --as laptop --allow ` + list + ` %s/repo" %s\n' "$PWD" "$(cat ssh/user.pub)" >ssh/authorized`)
	}
	allow("put,has")
	b.ok("mkdir src && head -c 3000000 /dev/urandom >src/a && pv-backup -r " + repo + " -k write.key src >id && pv-verify -r repo latest")
	if as := b.ok("pv-get repo --snapshots | pv-open --snapshots -k read.key"); !strings.Contains(as, `"as":"laptop"`) {
		t.Errorf("no label: %s", as)
	}
	before := b.ok("find repo -type f ! -path '*/tmp/*' -exec sha256sum {} + | sort")

	port := host[strings.LastIndexByte(host, ':')+1:]
	remote := "$PV_SSH -p " + port + " root@127.0.0.1 "
	for _, c := range []string{
		"", "sh", "'rm -rf repo'", "\"pv-put $PWD/repo; touch evil\"", "\"pv-put $PWD/repo && touch evil\"", "\"pv-put $PWD/repo | tee evil\"",
		"\"pv-put '$PWD/repo'\n touch evil\"", "'pv-put $(touch evil)'", "\"pv-put $PWD/other\"", "\"pv-put --as me $PWD/repo\"", "\"pv-get $PWD/repo --snapshots\"",
		"\"pv-get $PWD/repo $(cat id)\"", "\"pv-get $PWD/repo --ids\"", "\"pv-put --key x $PWD/repo\"", "\"env pv-put $PWD/repo\"", "pv-key",
	} {
		stdout, stderr, status := b.sh(remote + c + " </dev/null")
		if status == 0 || stdout != "" || !strings.Contains(stderr, "not allowed here") && !strings.Contains(stderr, "do not send") {
			t.Errorf("%s: status %d\n%s%s", c, status, stdout, stderr)
		}
	}
	put := remote + `"pv-put $PWD/repo"`
	b.ok("pv-scan src | pv-chunk -k write.key | pv-seal -k write.key >sealed")
	for _, stream := range []string{
		"true", "echo hello", "head -c 1000000 sealed", "head -c 20000000 /dev/urandom", "pv-get repo $(cat id)", "cat sealed sealed",
		`python3 -c 'import sys;d=bytearray(open("sealed","rb").read());d[len(d)//2]^=1;sys.stdout.buffer.write(d)'`,
	} {
		if stdout, stderr, status := b.sh(stream + " | " + put); status == 0 || stdout != "" || stderr == "" {
			t.Errorf("%s: status %d\n%s%s", stream, status, stdout, stderr)
		}
	}
	// Loose blobs may be added where that is allowed; they change nothing that is there.
	if _, stderr, status := b.sh("cat repo/packs/*/* | " + put); status != 1 || !strings.Contains(stderr, "not allowed here") {
		t.Errorf("loose blobs: %d %s", status, stderr)
	}
	allow("put,heal")
	b.ok("cat repo/packs/*/* | " + put)
	// What was stored is in the log, with the address that it came from.
	if clients := b.ok(`cat repo/log/* | grep -c '"as":"laptop","client":"127\.0\.0\.1 [0-9]* 127\.0\.0\.1 ` + port + `"'`); strings.TrimSpace(clients) == "0" {
		t.Error(clients)
	}
	// The client's environment does not get through.
	if _, _, status := b.sh("PV_REPO=/x " + remote + "-o SendEnv=PV_REPO pv-put </dev/null"); status == 0 {
		t.Error("a repository out of the environment")
	}
	if after := b.ok("[ ! -e evil ] && [ ! -e other ] && sha256sum $(printf '%s\n' '" + before + "' | cut -c 67-) | sort"); after != before {
		t.Errorf("the repository has changed:\n%s\n%s", before, after)
	}

	// What the page says to do after a theft finds all that is there, and forgets the snapshots.
	doc, err := os.ReadFile("../../docs/append-only.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^       (.*(?:jq|pv-gc).*)$`).FindAllStringSubmatch(string(doc), -1)
	if len(steps) != 2 {
		t.Fatalf("%d steps in docs/append-only.md", len(steps))
	}
	b.ok("cp -a repo stolen.repo")
	var found []string
	for _, s := range steps {
		step := strings.NewReplacer("/srv/repos/laptop", "stolen.repo", "2026-11-30", "2020-01-01", "su pvstore -c ", "sh -c ").Replace(s[1])
		found = append(found, b.ok(step))
	}
	names := func(kind string) string {
		return b.ok("printf '%s' '" + found[0] + "' | sed -n 's/^" + kind + " //p' | sort")
	}
	if packs := b.ok("cd repo/packs && ls */* | cut -d / -f 2 | sort"); names("pack") != packs {
		t.Errorf("packs:\n%s\nof\n%s", names("pack"), packs)
	}
	if segments := b.ok("ls repo/index"); names("segment") != segments {
		t.Errorf("segments:\n%s\nof\n%s", names("segment"), segments)
	}
	if !strings.Contains(found[0], " 127.0.0.1 ") || b.ok("ls stolen.repo/forgotten") != b.ok("ls repo/snapshots") {
		t.Errorf("%q", found)
	}

	allow("get")
	b.ok("pv-restore -q -r " + repo + " -k read.key latest out && diff -r src out/src")
	if _, stderr, status := b.sh("pv-backup -r " + repo + " -k write.key src"); status == 0 || !strings.Contains(stderr, "not allowed here") {
		t.Errorf("put with get alone: %d\n%s", status, stderr)
	}
}
