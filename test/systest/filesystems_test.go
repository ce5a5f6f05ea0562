//go:build system

package systest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// cycle makes two backups into a repository, checks them and restores one.
const cycle = `
	set -e
	pv-backup -q -r "$1" -k write.key src
	echo more >>src/a
	id=$(pv-backup -q -r "$1" -k write.key src)
	pv-verify -q -r "$1" -k read.key "$id"
	pv-restore -q -r "$1" -k read.key "$id" out
	diff -r src out/src
	test "$(ls "$1/snapshots" | wc -l)" -eq 2
	test -z "$(ls "$1/tmp")"
`

func (b *bench) cycle(repo string) {
	b.Helper()
	b.ok("mkdir -p src && seq 1000 >src/a && head -c 3000000 /dev/urandom >src/noise")
	b.ok("set -- " + repo + cycle)
}

// mount mounts and unmounts in the end.
func (b *bench) mount(script string) {
	b.Helper()
	b.ok("mkdir -p mnt")
	b.Cleanup(func() { b.sh("umount -l mnt 2>/dev/null") })
	b.ok(script)
}

// A repository may lie on a file system that knows no owners, no modes, no links and no
// rename that replaces nothing.
func TestRepositoryOnExFAT(t *testing.T) {
	b := newBench(t)
	b.need(true, "mkfs.exfat", "mount.exfat-fuse")
	b.ok("truncate -s 64M image && mkfs.exfat image >/dev/null")
	b.mount("losetup -f --show image >loop && mount.exfat-fuse $(cat loop) mnt >said 2>&1")
	b.Cleanup(func() { b.sh("umount mnt; losetup -d $(cat loop)") })
	b.ok("touch mnt/x && ! ln mnt/x mnt/y 2>/dev/null && rm mnt/x")
	b.cycle("mnt/repo")
}

// FUSE, with another owner's view of the files.
func TestRepositoryOnFUSE(t *testing.T) {
	b := newBench(t)
	b.need(true, "bindfs")
	b.ok("mkdir below")
	b.mount("bindfs below mnt")
	b.cycle("mnt/repo")
}

// A file system that has neither a rename that replaces nothing nor hard links, over a
// real server.
func TestRepositoryWithoutHardLinks(t *testing.T) {
	b := newBench(t)
	b.need(true, "sshfs")
	url := b.sshd("")
	var host, port string
	if _, err := fmt.Sscanf(strings.NewReplacer("ssh://root@", "", ":", " ").Replace(url), "%s %s", &host, &port); err != nil {
		t.Fatal(url, err)
	}
	b.ok("mkdir below")
	b.mount("sshfs -F none -o disable_hardlink,sftp_server=/usr/lib/openssh/sftp-server,port=" + port + ",IdentityFile=$PWD/ssh/user,UserKnownHostsFile=$PWD/ssh/known root@" + host + ":$PWD/below mnt")
	b.ok("touch mnt/x && ! ln mnt/x mnt/y 2>/dev/null && rm mnt/x")
	b.cycle("mnt/repo")
	// Nothing is replaced there either.
	b.ok("cp -a below/repo/snapshots before && pv-get mnt/repo --copy $(ls mnt/repo/snapshots | head -n 1) | pv-put mnt/repo && diff -r before below/repo/snapshots")
}

// Without locks reading goes on, and writing says what the risk is.
func TestRepositoryWithoutLocks(t *testing.T) {
	b := newBench(t)
	b.need(true, "strace")
	b.cycle("repo")
	noLocks := `strace -f -o trace -P "$PWD/repo/lock" -e trace=fcntl -e inject=fcntl:error=ENOLCK `
	b.ok("pv-get repo $(ls repo/snapshots | head -n 1) >down") // with them nothing is said
	_, said, status := b.sh(noLocks + "pv-get repo $(ls repo/snapshots | head -n 1) >again")
	if status != 0 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "no locks available: what a collector (pv-gc) removes meanwhile is missing here") {
		t.Fatalf("reading: %d %s", status, said)
	}
	b.ok("cmp down again")
	_, said, status = b.sh("pv-get repo --copy $(ls repo/snapshots | head -n 1) >up && " + noLocks + "pv-put repo <up")
	if status != 0 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "a collector (pv-gc) that runs meanwhile may remove") {
		t.Fatalf("writing: %d %s", status, said)
	}
}

// Two users of a group share a repository, by turns; a third sees nothing.
func TestRepositoryOfAGroup(t *testing.T) {
	b := newBench(t)
	b.need(true, "setpriv")
	b.ok(`
		chmod 755 . && for p in $(dirname $PWD) $(dirname $(dirname $PWD)); do chmod o+x $p; done
		mkdir src shared && seq 1000 >src/a && chmod -R a+rX src
		chgrp 5000 shared && chmod 2770 shared
		for n in 1 2 3; do mkdir user$n && cp write.key read.key user$n && chown -R 300$n user$n; done`)
	as := func(user int, group, command string) error {
		_, said, status := b.sh(fmt.Sprintf(`umask 007; export TMPDIR=$PWD/user%[1]d HOME=$PWD/user%[1]d XDG_CACHE_HOME= XDG_CONFIG_HOME=
			exec setpriv --reuid=300%[1]d --regid=300%[1]d --groups=%[2]s %[3]s`, user, group, command))
		if status != 0 {
			return fmt.Errorf("user %d: %d %s", user, status, said)
		}
		return nil
	}
	for n, user := range []int{1, 2, 1} {
		b.ok("head -c 200000 /dev/urandom >src/b && chmod 644 src/b")
		if err := as(user, "5000", fmt.Sprintf("pv-backup -q -r shared/repo -k user%d/write.key src", user)); err != nil {
			t.Fatal(n, err)
		}
		if err := as(3-user, "5000", fmt.Sprintf("pv-verify -q -r shared/repo -k user%d/read.key latest", 3-user)); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := as(3, "3003", "pv-verify -q -r shared/repo -k user3/read.key latest"); err == nil {
		t.Error("who is not in the group reads it")
	}
	if odd := b.ok("find shared/repo ! -group 5000 -o -type f ! -perm 660 -o -type d ! -perm 2770"); odd != "" {
		t.Errorf("not the group's: %s", odd)
	}
	_ = os.Chmod(b.path("shared"), 0o700)
}
