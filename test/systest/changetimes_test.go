//go:build system

package systest

import "testing"

// An image says what its maker wanted, change times included: of two that say the
// same, mounted one after the other at the same place, each is backed up as it is.
// So is what an overlay shows of them.
func TestChangeTimesOfImages(t *testing.T) {
	b := newBench(t)
	b.need(true, "mksquashfs", "unshare")
	b.inside(`mkdir one two mnt top over
	mount -t tmpfs tmpfs top; mkdir top/up top/work
	for n in one two; do
		echo "content $n" >$n/f
		chmod 644 $n/f
		mksquashfs $n $n.img -all-time 1000000000 -mkfs-time 1000000000 -all-root -no-progress >/dev/null
	done
	mounted() { mount -o loop,ro $1.img mnt; }
	layered() { mounted $1; mount -t overlay -o lowerdir="$PWD/mnt",upperdir="$PWD/top/up",workdir="$PWD/top/work" overlay over; }
	backup() { # DIR CONTENT [OPTION]
		pv-backup -r repo -k write.key ${3-} $1 >id 2>said || { cat said; exit 1; }
		rm -rf out
		pv-restore -q -r repo -k read.key $(cat id) out
		[ "$(cat out/$1/f)" = "content $2" ] || { echo "$1: not $2"; cat said; exit 1; }
	}
	mounted one; backup mnt one; umount mnt
	mounted two; backup mnt two; umount mnt
	grep -q 'squashfs does not keep change times of its own; --ignore-ctime' said
	mounted one; backup mnt two --ignore-ctime; umount mnt # what that risks

	layered one; backup over one; umount over; umount mnt
	layered two; backup over two
	grep -q 'overlayfs does not keep change times of its own' said
	umount over; umount mnt
`)
}
