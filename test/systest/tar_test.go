//go:build system

package systest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A tree with all that a tar archive can hold, on a file system that can hold it
// too: what GNU tar and bsdtar extract from pv-open is the same, in the | pv-tar -c
// eyes of treedump.
func TestTar(t *testing.T) {
	b := newBench(t)
	b.need(true, "bsdtar", "mkfs.ext4", "setfacl", "setcap", "chattr", "python3", "getfattr", "lsattr")
	b.ok("truncate -s 200M disk && mkfs.ext4 -q -F disk && mkdir m && mount -o loop disk m")
	t.Cleanup(func() {
		if out, err := exec.Command("umount", b.path("m")).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if err := os.WriteFile(b.path("mk.py"), []byte(tarTree), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ok("python3 mk.py m/src && cd m && pv-backup -q -r ../repo src >../id")
	stdout, stderr, status := b.sh(`pv-get repo "$(cat id)" | pv-open -k read.key --snapshot "$(cat id)" | pv-tar -c >tar`)
	if status != 3 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "src/socket: left out: a tar archive cannot hold a socket") {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	b.ok("rm m/src/socket && touch -d @7 m/src && mkdir m/gnu m/bsd")
	b.ok("tar -C m/gnu -xpf tar --numeric-owner --same-owner --xattrs '--xattrs-include=*' --acls 2>gnu.said")
	b.ok("LC_ALL=C.UTF-8 bsdtar -C m/bsd -xpf tar --numeric-owner --same-owner --xattrs --acls --fflags")
	b.ok(`for t in src gnu/src bsd/src; do "$TREEDUMP" m/$t >$(dirname $t).dump; done
		test $(wc -l <..dump) -gt 60
		diff ..dump bsd.dump >&2`)
	// An archive that breaks off between two members is no archive.
	b.ok(`pv-get repo "$(cat id)" >sealed
		for less in 10 500 1000; do
			head -c $(($(stat -c %s sealed) - less)) sealed | { pv-open -q -k read.key --snapshot "$(cat id)" | pv-tar -c; } >cut 2>said && exit 1
			test -s cut || exit 2
			for tar in tar bsdtar; do
				$tar -tf cut >list 2>&1 && { echo "$tar takes it"; exit 3; }
			done
		done
		true`)
	// GNU tar knows no inode flags.
	b.ok(`cut_flags() { sed '/^# flags/,$d' "$1"; }; cut_flags ..dump >a; cut_flags gnu.dump >b; diff a b >&2`)
}

// The tree is made by a program that is not ours. Of times before 1970 there are
// whole seconds only: bsdtar reads a fraction as counting forward.
const tarTree = `
import os, socket, sys
os.umask(0)
r = sys.argv[1].encode()
def at(n): return r + b'/' + n
def write(n, b, mode=0o644):
    with open(at(n), 'wb') as f: f.write(b)
    os.chmod(at(n), mode)
def sparse(n, size, *parts):
    write(n, b'')
    with open(at(n), 'r+b') as f:
        for off, b in parts:
            f.seek(off)
            f.write(b)
        f.truncate(size)
os.makedirs(at(b'd/e'))
write(b'plain', b'x' * 1000)
write(b'empty', b'')
write(b'exact', b'y' * 1024)
for n in [b'\xff\xfe', b'new\nline', b'-r', b' ', 'é'.encode(), 'e\u0301'.encode(), b'\x1b[31m', b'n' * 255, 'ü'.encode() * 127, b'a=b%3D']:
    write(b'd/' + n, n)
deep = at(b'/'.join([b'l' * 100] * 15))
os.makedirs(deep)
write(deep[len(r) + 1:] + b'/f', b'deep')
sparse(b'sparse', 3 << 20, (1 << 20, b'mid'))
sparse(b'hole', 64 << 20)
sparse(b'd/\xfesparse', (1 << 20) + 3, (1 << 20, b'end'))
sparse(b'front', 3 << 20, (0, b'front' * 1000))
os.link(at(b'plain'), at(b'd/hard'))
os.symlink(b'plain', at(b'sym'))
os.symlink(b'\xff/' + b't' * 300, at(b'sym long'))
os.link(at(b'sym'), at(b'sym2'))
os.mkfifo(at(b'fifo'), 0o622)
os.link(at(b'fifo'), at(b'fifo2'))
os.mknod(at(b'char'), 0o20600, os.makedev(300, 70000))
os.mknod(at(b'block'), 0o60640, os.makedev(7, 300))
socket.socket(socket.AF_UNIX).bind(at(b'socket'))
write(b'setuid', b'#!', 0o755)
os.chown(at(b'setuid'), 12345, 54321)
os.chmod(at(b'setuid'), 0o6755)
write(b'owner', b'1')
os.chown(at(b'owner'), 4294967294, 4294967293)
os.lchown(at(b'sym'), 12345, 0)
os.mkdir(at(b'sticky'))
os.chmod(at(b'sticky'), 0o1777)
os.setxattr(at(b'plain'), 'user.note', b'\0\xffx\n=1')
os.setxattr(at(b'plain'), 'trusted.t', b'tt')
os.setxattr(at(b'd'), 'user.empty', b'')
os.setxattr(at(b'sym'), 'trusted.s', b'of a link', follow_symlinks=False)
assert os.system(b"cd " + r + b" && setcap cap_net_raw+ep exact && setfacl -m u:daemon:rw,u:12345:r,g:bin:x plain && " +
    b"setfacl -m d:u:daemon:rwx,d:g:54321:rx d && setfacl -m u:daemon:rwx sticky") == 0
times = [1234567890123456789, -1500000000000, 0, 5000000000123456789, 2534023008000000001, 1, 1 << 33]
names = [p + b'/' + n for p, ds, fs in os.walk(r, topdown=False) for n in fs + ds] + [r]
for i, p in enumerate(names):
    os.utime(p, ns=(0, 7000000000 if p == r else times[i % len(times)]), follow_symlinks=False)
assert os.system(b"cd " + r + b" && chattr +d empty && chattr +A exact && chattr +dA sticky") == 0
`
