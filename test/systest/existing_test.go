//go:build system

package systest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// disk mounts a new file system of that kind in a loop device, on the directory
// disk.
func (b *bench) disk(kind, size string) {
	b.Helper()
	b.need(true, "mkfs."+kind, "mount")
	mkfs := map[string]string{"ext4": "mkfs.ext4 -q -F -b 4096", "xfs": "mkfs.xfs -q -f", "btrfs": "mkfs.btrfs -q -f"}[kind]
	b.ok(fmt.Sprintf("truncate -s %s image && PATH=$PATH:/usr/sbin:/sbin && %s image && mkdir disk && mount -o loop image disk", size, mkfs))
	b.Cleanup(func() { b.ok("umount disk") })
}

// used is how many bytes of the disk are in use.
func (b *bench) used() int64 {
	b.Helper()
	n, err := strconv.ParseInt(b.ok("sync -f disk; df -B 1 --output=used disk | tail -n 1"), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// A large file that changed a little shares its blocks with the old one where
// the file system can do that, also if that has another name; holes come back.
func TestReflink(t *testing.T) {
	for kind, size := range map[string]string{"btrfs": "400M", "xfs": "400M", "ext4": "400M"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk(kind, size)
			b.ok(`mkdir src && head -c 60000000 /dev/urandom >src/f
				fallocate -p -o 20480000 -l 4096000 src/f; truncate -s 64000000 src/f
				pv-backup -r repo src >id && pv-restore -r repo $(cat id) disk/out`)
			b.ok(`cd disk/out/src && ln f ../../twin && cp --reflink=never f ../../old
				dd if=/dev/urandom of=f bs=4096 seek=1000 count=3 conv=notrunc status=none
				dd if=/dev/urandom of=f bs=4096 seek=5500 count=100 conv=notrunc status=none
				cp --reflink=never f ../../damaged`)
			before := b.used()
			b.ok("pv-restore -r repo --overwrite changed $(cat id) disk/out && cmp src/f disk/out/src/f && cmp disk/twin disk/damaged")
			more := b.used() - before
			t.Logf("%s: %d bytes more for a file of 64000000", kind, more)
			if kind != "ext4" && more > 8_000_000 {
				t.Errorf("%d bytes more: nothing is shared", more)
			}
			if blocks := b.ok("stat -c %b disk/out/src/f"); blocks > "111000" && len(blocks) >= 6 {
				t.Errorf("%s blocks: a hole was filled", blocks)
			}
			// In place, nothing but what differs is written.
			b.ok(`cd disk/out/src && dd if=/dev/urandom of=f bs=4096 seek=2000 count=3 conv=notrunc status=none && stat -c %i f >../../inode`)
			before = b.used()
			b.ok("pv-restore -r repo --overwrite changed --in-place $(cat id) disk/out && cmp src/f disk/out/src/f && stat -c %i disk/out/src/f | cmp - disk/inode")
			if more := b.used() - before; more > 2_000_000 {
				t.Errorf("in place: %d bytes more", more)
			}
			b.ok("cd disk/out && ls -A | cmp - /dev/stdin <<-END\n\tsrc\n\tEND")
		})
	}
}

// A restore that is killed at any moment is completed by the next one, which
// writes no file again that was finished.
func TestKilledRestore(t *testing.T) {
	b := newBench(t)
	b.ok("mkdir src && cp -a $(go env GOROOT)/src/cmd src/ && head -c 30000000 /dev/urandom >src/noise && ln src/noise src/twin && pv-backup -r repo src >id")
	b.ok("cp -a src old && find old -name '*.go' -size -3k -exec sh -c 'echo more >>\"$1\"' - {} \\; && mv old/cmd/go old/cmd/gone && echo >old/cmd/go")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	killed := 0
	for n := range 5 {
		into := "--delete --overwrite changed"
		if n%2 == 0 {
			b.ok("rm -rf out; mkdir out")
		} else {
			b.ok("rm -rf out; mkdir out && cp -a old out/src")
		}
		for range 1 + r.IntN(3) {
			wait := time.Duration(r.IntN(600)) * time.Millisecond
			_, _, status := b.sh(fmt.Sprintf(`pv-restore -q -r repo %s $(cat id) out & script=$!
				sleep %f
				pkill -9 -x pv-unpack
				wait $script`, into, wait.Seconds()))
			if status != 0 {
				killed++
			}
			b.ok("rm -rf preserve.*")
		}
		b.ok(`find out/src -type f ! -name '.pv-tmp-*' -printf '%P %i %C@ %s %T@\n' 2>/dev/null | sort >before || true
			find src -type f -printf '%P %s %T@\n' | sort >want`)
		b.ok("pv-restore -r repo " + into + " $(cat id) out")
		b.compare("out", "src")
		if left := b.ok("find out -name '.pv-tmp-*'"); left != "" {
			t.Errorf("left: %s", left)
		}
		// What had its size and time is the same file, not even touched: but for
		// what was killed between content and name.
		b.ok(`find out/src -type f -printf '%P %i %C@ %s %T@\n' | sort >after
			awk 'NR == FNR { want[$0] = 1; next } ($1 " " $4 " " $5) in want' want before >finished
			grep -v -e '^noise ' -e '^twin ' finished >alone || true
			comm -23 alone after >again && { test ! -s again || { head again; exit 1; }; }`)
	}
	t.Logf("%d restores were hit", killed)
	if killed == 0 {
		t.Error("none was hit")
	}
}

// A disk that fills up in the middle leaves the old files whole.
func TestFullDiskOverwrite(t *testing.T) {
	b := newBench(t)
	b.disk("ext4", "64M")
	b.ok("mkdir -p src disk/out/src && head -c 25000000 /dev/urandom >src/a && head -c 25000000 /dev/urandom >src/b && pv-backup -r repo src >id")
	b.ok("for f in a b; do head -c 20000000 /dev/urandom >disk/out/src/$f; cp disk/out/src/$f $f; done")
	_, stderr, status := b.sh("pv-restore -r repo --overwrite changed $(cat id) disk/out")
	if status != 1 || !strings.Contains(stderr, "no space left") {
		t.Fatalf("status %d\n%s", status, stderr)
	}
	b.ok("for f in a b; do cmp disk/out/src/$f $f || cmp disk/out/src/$f src/$f; done")
	// In place there is room.
	b.ok("rm disk/out/src/b; pv-restore -r repo --overwrite changed --in-place $(cat id) disk/out && cmp src/a disk/out/src/a && cmp src/b disk/out/src/b")
	if left := b.ok("find disk -name '.pv-tmp-*'"); left != "" {
		t.Errorf("left: %s", left)
	}
}
