//go:build system

package systest

import (
	"fmt"
	"strings"
	"testing"
)

// A disk that is full to the last byte, or has no room for another file, is freed by the
// collector, with the ballast; what stays can be restored, and the next backup works.
func TestCollectFreesAFullDisk(t *testing.T) {
	for name, mount := range map[string]string{"space": "size=8m,nr_inodes=3000", "inodes": "size=64m,nr_inodes=120"} {
		b := newBench(t)
		b.need(true, "mount", "umount")
		b.ok("mkdir disk src && mount -t tmpfs -o " + mount + " none disk")
		b.Cleanup(func() { b.sh("umount disk") })
		b.ok("echo precious >src/kept; head -c 200000 /dev/urandom >src/also")
		backup := "pv-scan src | pv-chunk -k write.key | pv-seal -k write.key | pv-put -q disk/repo"
		b.ok(backup + " >id; cp -a src want")
		n := 0
		for ; n < 60; n++ {
			_, said, status := b.sh(fmt.Sprintf("head -c 900000 /dev/urandom >src/noise; %s >>gone", backup))
			if status != 0 {
				if !strings.Contains(said, "full") && !strings.Contains(said, "no room") {
					t.Fatalf("%s: %s", name, said)
				}
				break
			}
		}
		if n < 3 || n == 60 {
			t.Fatalf("%s: full after %d", name, n)
		}
		// To the very last: of space and of files.
		fill := "cat /dev/zero >disk/fill; n=0; while [ $n -lt 4000 ] && : >disk/fill$n; do n=$((n + 1)); done"
		b.sh("exec 2>/dev/null; " + fill)
		// The ballast makes room for one mark.
		b.ok("head -n 1 gone | pv-gc forget -q disk/repo -")
		b.sh("exec 2>/dev/null; " + fill)
		if said := b.ok("pv-gc collect --now --yes-drop 1G disk/repo"); !strings.Contains(said, " 1 removed") {
			t.Errorf("%s: %s", name, said)
		}
		// What that frees makes room for further ones, until all are gone.
		b.ok("n=0; until pv-gc forget -q disk/repo - <gone; do pv-gc collect --now --yes-drop 1G disk/repo && [ $((n += 1)) -lt 60 ] || exit; done 2>/dev/null")
		if said := b.ok("pv-gc collect --now --yes-drop 1G disk/repo"); !strings.Contains(said, "snapshots: 1 stay") {
			t.Errorf("%s: %s", name, said)
		}
		b.ok("pv-check -q disk/repo && pv-get disk/repo $(cat id) | pv-unpack -q -k read.key --snapshot $(cat id) out && diff -r want out/src")
		b.ok("test -e disk/repo/ballast; rm -f disk/fill*; " + backup)
		b.ok("pv-check -q disk/repo")
	}
}
