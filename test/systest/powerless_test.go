//go:build system

package systest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// What takes root: many files of others, with setuid and capabilities; the
// second part, what cannot be made at all without it.
const owned = `
mkdir -p src/dir && cd src
for n in $(seq 40); do echo $n >f$n; chown 1234:4321 f$n; chmod 6755 f$n; done
chown 1235:4322 dir
cp /bin/true capable && chown 1234:4321 capable
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capable
chmod -R a+rX .
`

const forbidden = `
cd src
for n in $(seq 20); do mknod c$n c 1 3; mknod b$n b 7 $n; echo $n >t$n; setfattr -n trusted.t -v $n t$n; done
mknod gone c 0 0
`

// threads is how many may try the same before the answer of the first is known.
const threads = 2

// TestPowerless restores such trees as somebody without privileges, and sees from
// the system calls that nothing is tried twice, and what is dangerous not at all.
func TestPowerless(t *testing.T) {
	b := newBench(t)
	b.need(true, "strace", "setpriv", "unshare", "setfattr", "getfattr")
	b.ok("chmod 711 .. . && chmod 644 read.key && mkdir -m 777 free")
	for _, who := range []struct {
		name, run       string
		entries, owners int // not the user's own
	}{
		{"nobody", "setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all --bounding-set=-all", 43, 3},
		{"root of a namespace", "setpriv --reuid nobody --regid nogroup --clear-groups unshare --user --map-root-user", 42, 2},
	} {
		b.ok("rm -rf src")
		b.ok(owned)
		calls, stderr, status := b.traced(who.run)
		notice := fmt.Sprintf("pv-unpack: %d entries do not belong to their recorded owners (that takes root); 40 of them lost setuid or setgid, 1 their capabilities\n", who.entries)
		if status != 0 || !strings.HasSuffix(stderr, notice) || strings.Count(stderr, "\n") > 2 {
			t.Errorf("%s: status %d\n%s", who.name, status, stderr)
		}
		for what, most := range map[string]int{
			// Once for the owner, once for the group, by each of two threads.
			`chown.*= -1 E(PERM|INVAL)`:      2 * who.owners * threads,
			`chmod.*0?[2467][0-7]{3}\b`:      0,
			`setxattr.*security\.capability`: 0,
		} {
			if n := len(regexp.MustCompile(what).FindAllString(calls, -1)); n > most {
				t.Errorf("%s: %d times %s\n%s", who.name, n, what, calls)
			}
		}
		b.ok(`test -z "$(find free/out -perm /6000)" && test -z "$(getfattr -R -d -m - free/out 2>/dev/null)"`)
		b.ok("for n in $(seq 40); do cmp src/f$n free/out/src/f$n || exit 1; done; rm -rf free/out")

		b.ok(forbidden)
		calls, stderr, status = b.traced(who.run)
		if status != 3 || strings.Count(stderr, ": create char: operation not permitted") != 20 ||
			strings.Count(stderr, ": create block: operation not permitted") != 20 || !strings.Contains(stderr, "pv-unpack: set extended attribute trusted.t: operation not permitted (20 entries; first: src/t1)\n") {
			t.Errorf("%s: status %d\n%s", who.name, status, stderr)
		}
		for what, want := range map[string]int{
			`mknodat\(.*S_IF(CHR|BLK).*= -1 EPERM`: threads,
			`setxattr\(.*"trusted\.`:               threads,
		} {
			if n := len(regexp.MustCompile(what).FindAllString(calls, -1)); n < 1 || n > want {
				t.Errorf("%s: %d times %s\n%s", who.name, n, what, calls)
			}
		}
		b.ok(`test -c free/out/src/gone && for n in $(seq 20); do cmp src/t$n free/out/src/t$n && test ! -e free/out/src/c$n || exit 1; done; rm -rf free/out`)
	}
}

// traced backs src up and restores it without power, below free; it returns the
// system calls that could need any. It is root who traces: nobody else sees into
// the memory of a tool that holds a key.
func (b *bench) traced(run string) (calls, stderr string, status int) {
	b.Helper()
	b.ok("rm -rf repo .cache/preserve && pv-backup -r repo -k write.key src >id && pv-get repo $(cat id) >stream && chmod 644 stream")
	_, stderr, status = b.sh(fmt.Sprintf(`PATH=$PATH GOMAXPROCS=%d; export GOMAXPROCS; umask 022
		strace -f -qq -s 64 -e trace=mknod,mknodat,chown,fchown,lchown,fchownat,chmod,fchmod,fchmodat,?fchmodat2,setxattr,lsetxattr,fsetxattr,?setxattrat,mount,setuid,setgid,capset \
			-o free/calls %s pv-unpack -k read.key --snapshot $(cat id) free/out <stream`, threads, run))
	text, err := os.ReadFile(b.path("free/calls"))
	if err != nil {
		b.Fatalf("%v\n%s", err, stderr)
	}
	b.ok("rm -f free/calls")
	return string(text), stderr, status
}

// TestCoarseTimes restores onto a file system that has whole seconds, and only
// those of 32 bits: the times that it cannot hold are counted, and with -v each is named.
func TestCoarseTimes(t *testing.T) {
	b := newBench(t)
	b.need(true, "mkfs.ext4", "mount")
	b.ok("truncate -s 64M image && mkfs.ext4 -q -F -I 128 image && mkdir disk && mount -o loop image disk")
	t.Cleanup(func() { b.ok("umount disk") })
	b.ok(`mkdir src && cd src && mkdir dir && mkfifo fifo && ln -s x link && touch half far whole
		touch -h -d @1000000000.5 half fifo link && touch -d @5000000000 far && touch -d @1000000000 whole dir .`)
	b.ok("pv-backup -r repo -k write.key src >id")
	_, stderr, status := b.sh("pv-restore -r repo -k read.key $(cat id) disk/out")
	if status != 3 || stderr != "pv-unpack: set modification time: this file system has no such time (4 entries; first: src/far)\n" {
		t.Errorf("status %d\n%s", status, stderr)
	}
	_, stderr, status = b.sh("pv-restore -v -r repo -k read.key $(cat id) disk/again")
	if status != 3 {
		t.Errorf("status %d\n%s", status, stderr)
	}
	for _, name := range []string{"half", "fifo", "link", "far"} {
		if !strings.Contains(stderr, "pv-unpack: src/"+name+": set modification time: this file system has no such time\n") {
			t.Errorf("%s is not named:\n%s", name, stderr)
		}
	}
}
