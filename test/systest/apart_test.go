//go:build system

package systest

import (
	"strings"
	"testing"
)

// namesake makes files of several names: with attributes, holes, flags, setuid, and of other types.
const namesake = `
	set -e
	mkdir -p src/a src/b
	echo same >src/a/f
	setfattr -n user.q -v hello src/a/f
	for x in f1 f2 f3; do ln src/a/f src/b/$x; done
	truncate -s 5M src/a/holes
	echo x | dd of=src/a/holes bs=1 seek=3000000 conv=notrunc status=none
	cp /bin/true src/a/suid
	chown 1:1 src/a/suid
	chmod 4755 src/a/suid
	echo fixed >src/a/fixed
	ln -s target src/a/symlink
	mkfifo src/a/fifo
	mknod src/a/null c 1 3
	for x in holes suid fixed symlink fifo null; do ln src/a/$x src/b/$x; done
	touch -h -d '2001-02-03 04:05:06.7' src/a/*
	chattr +i src/a/fixed
	pv-backup -q -r repo -k write.key src
	chattr -i src/a/fixed
`

// copied checks that each name in out/src/b has what its file had in src.
const copied = `
	set -e
	show() { (cd "$1" && stat -c '%n %F %a %u:%g %s %y %t:%T' -- * && getfattr -h -d -m- -- * 2>/dev/null && sha256sum f1 f2 f3 holes suid fixed); }
	rm -f out/src/b/nothing
	show src/b | grep -v fifo >want
	show out/src/b | grep -v fifo >got
	diff want got
	test -p out/src/b/fifo
	test "$(stat -c %b out/src/b/holes)" -lt 100
	test "$(stat -c %i out/src/b/f1 out/src/b/f2 out/src/b/f3 | sort -u | wc -l)" -eq 1
	test "$(stat -c %h out/src/a/f out/src/b/f2 out/src/b/holes | tr '\n' ' ')" = '1 3 1 '
	lsattr out/src/b/fixed | cut -d ' ' -f 1 | grep -q i
`

// Names of one file that come to lie on two file systems are copies, with all that the file has, and those on
// the same one are links to the first copy. That is told, and is no loss. A second restore changes nothing.
func TestHardLinksApart(t *testing.T) {
	b := newBench(t)
	b.need(true, "mount", "getfattr", "chattr")
	b.ok(namesake)
	b.ok("mkdir -p out/src/b && mount -t tmpfs none out/src/b")
	b.Cleanup(func() { b.sh("chattr -i out/src/a/fixed out/src/b/fixed; umount -l out/src/b") })
	restore := func(options string) string {
		t.Helper()
		stdout, said, status := b.sh("pv-restore -r repo -k read.key " + options + " latest out")
		if status != 0 {
			t.Fatalf("%s: status %d\n%s", options, status, said)
		}
		return stdout + said
	}
	told := "pv-unpack: restored as a copy: it lies on another file system than the first name of its file (7 hard links; first: src/b/f1)\n"
	for _, how := range []string{"changed", "changed --in-place", "always"} {
		if said := restore("--overwrite " + how); said != told {
			t.Errorf("%s: %s", how, said)
		}
		b.ok(copied)
	}
	inodes := b.ok("stat -c '%n %i %z' out/src/b/*")
	if said := restore("--overwrite never"); strings.Contains(said, "copy") {
		t.Errorf("never: %s", said)
	}
	if said := restore("-q --overwrite changed"); said != "" {
		t.Errorf("again: %s", said)
	}
	if now := b.ok("stat -c '%n %i %z' out/src/b/*"); now != inodes {
		t.Errorf("changed again:\n%s\nwas\n%s", now, inodes)
	}
	if said := restore("--overwrite changed --dry-run"); !strings.Contains(said, " 0 created, 0 updated, 0 replaced, 0 deleted, 0 changed") {
		t.Errorf("a plan: %s", said)
	}
	// One of them has other content, and one has gone.
	b.ok("echo other >out/src/b/f2.new && mv out/src/b/f2.new out/src/b/f2 && rm out/src/b/suid")
	restore("--overwrite changed")
	b.ok(copied)
	b.ok("! ls -a out/src/b | grep pv-tmp")
}

// A file system without hard links gets a file for each name.
func TestHardLinksOnExFAT(t *testing.T) {
	b := newBench(t)
	b.need(true, "mkfs.exfat", "mount.exfat-fuse")
	b.ok("mkdir src && echo same >src/a && ln src/a src/b && ln src/a src/c && pv-backup -q -r repo -k write.key src")
	b.ok("truncate -s 64M image && mkfs.exfat image >/dev/null")
	b.mount("losetup -f --show image >loop && mount.exfat-fuse $(cat loop) mnt >said 2>&1")
	b.Cleanup(func() { b.sh("umount mnt; losetup -d $(cat loop)") })
	_, said, status := b.sh("pv-restore -r repo -k read.key latest mnt/out")
	b.ok("cat mnt/out/src/a mnt/out/src/b mnt/out/src/c | uniq -c | grep -q '3 same'")
	if status != 0 && status != 3 || !strings.Contains(said, "no hard link can be made to its file here (2 hard links; first: src/b)") {
		t.Errorf("status %d: %s", status, said)
	}
}
