#!/bin/sh
# How v1 was made: unshare -u make-v1.sh NEW MASTER, by root, with the tools on PATH.
# Kept as a pattern for the formats to come; once released, v1 is never made again.
set -eu
new=$1 master=$(readlink -f -- "$2")
mkdir -p "$new/keys"
new=$(readlink -f -- "$new")
work=/srv/example
hostname example
mkdir -p /srv
mkdir "$work"
trap 'rm -rf -- "$work"' EXIT
cd "$work"

pv-key -q derive write -k "$master" -o write.key --writer released-v1
for kind in list read cut; do
	pv-key -q derive "$kind" -k "$master" -o "$kind.key"
done
for kind in write list read cut; do
	{
		echo 'TEST KEY, published with the source of Preserve: never use it for a backup.'
		cat "$kind.key"
	} >"$new/keys/$kind.key"
done

# stamp: times that differ, one of them before 1970.
stamp() {
	python3 -c '
import os
n = 1500000000 * 10**9 + 123456789
for d, _, files in os.walk(b"src", topdown=False):
    for f in files:
        os.utime(os.path.join(d, f), ns=(n, n + len(f) * 10**9), follow_symlinks=False)
    os.utime(d, ns=(n, n - 5))
os.utime(b"src/dir/a", ns=(n, -86400 * 365 * 10**9 + 1))'
}

backup() {
	pv-scan -C src . | pv-chunk -k cut.key | pv-seal -k write.key --label released --tag "$1" |
		pv-put --as fixture "$new/repo" >>"$new/ids"
}

umask 022
mkdir -p src/dir/sub 'src/dir/with space' src/empty
cd src
echo hello >dir/a
printf 'no newline at the end' >dir/sub/b
: >dir/empty-file
yes 'a line of a larger file' | head -c 700000 >dir/large
printf 'x' >"dir/with space/quote'and\"back\\slash"
printf 'bytes\n' >"$(printf 'dir/not-utf8-\377\376')"
printf 'nl\n' >"$(printf 'dir/new\nline')"
printf 'b\n' >dir-b
ln dir/a dir/hardlink
ln dir/a zlink
ln -s a dir/symlink
ln -s "$(printf '/nowhere/\377')" dangling
mkfifo dir/fifo
truncate -s 3M dir/hole
printf 'data behind a hole' | dd of=dir/hole bs=1 seek=1500000 conv=notrunc status=none
# More extents than one entry may have: several pieces.
python3 -c '
import os
f = os.open("pieces", os.O_CREAT | os.O_RDWR, 0o640)
for i in range(2100):
    os.pwrite(f, bytes([97 + i % 7]) * 4096, i * 8192)
os.ftruncate(f, 2100 * 8192 + 77)'
chmod 1755 dir/sub
chmod 0750 empty
chmod 0400 dir-b
cd ..
stamp
backup first

cd src
printf 'changed\n' >dir/sub/b
echo new >dir/sub/new
mknod dev-null c 1 3
mknod dev-block b 7 300
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
cp dir/a setuid
chown 1234:5678 setuid
chmod 4755 setuid
setfattr -n user.comment -v 'an attribute' dir/a
setfattr -n user.empty dir/sub
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 dir/sub/new
cd ..
stamp
backup second
