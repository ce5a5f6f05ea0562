#!/usr/bin/env python3
"""judge.py TREE OUT: for each directory of TREE, a cell, a file OUT/NAME that says
all that a backup must keep of it, in the words of programs that are no part of
Preserve: python's own lstat, readlink, SEEK_DATA and sha256, and behind that
treedump (find, stat, sha256sum, getfattr, lsattr) and getfacl."""
import concurrent.futures, errno, hashlib, os, stat, subprocess, sys

GRAIN = 65536  # holes smaller than this belong to the file system
HUGE = 1 << 30  # of such a file only the data is read


def data(fd, size):
    """The stretches of data and holes in units of GRAIN, and the hash of all
    that is not zero."""
    units, zeros, h, at = [], bytes(GRAIN), hashlib.sha256(), 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        first, last = start // GRAIN, (end - 1) // GRAIN
        for unit in range(first, last + 1):
            block = os.pread(fd, min(GRAIN, size - unit * GRAIN), unit * GRAIN)
            if units and units[-1][1] >= unit:
                continue
            if block != zeros[: len(block)]:
                h.update(b"%d:" % unit + block)
            if units and units[-1][1] == unit - 1:
                units[-1][1] = unit
            else:
                units.append([unit, unit])
        at = end
    return units, h.hexdigest()


def line(name, dirfd):
    st = os.lstat(name, dir_fd=dirfd)
    s = "mode %o owner %d:%d mtime %d" % (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns)
    if stat.S_ISREG(st.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME, dir_fd=dirfd)
        units, h = data(fd, st.st_size)
        os.close(fd)
        s += " size %d data %s sum %s" % (st.st_size, units, h)
    elif stat.S_ISLNK(st.st_mode):
        s += " target %r" % os.readlink(os.fsencode(name), dir_fd=dirfd)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        s += " device %d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev))
    return s, st


def look(cell):
    """Lines for all in a cell, from open directories: no path is too long."""
    out, plain, deep = [], True, False
    top = len(cell)
    for root, dirs, files, dirfd in os.fwalk(cell):
        dirs.sort()
        deep = deep or len(root) > 3500
        for name in sorted(dirs + files):
            s, st = line(name, dirfd)
            plain = plain and st.st_size < HUGE
            out.append("%r %s" % (os.fsencode(root[top:] + "/" + name), s))
    return out, plain, deep


def judge(tree, name, to):
    cell = os.path.join(tree, name)
    out, plain, deep = look(cell)
    text = ("\n".join(out) + "\n").encode()
    if plain and not deep:  # the others take paths as arguments, and read holes
        run = subprocess.run([os.environ["TREEDUMP"], cell], capture_output=True)
        if run.returncode or run.stderr:
            raise SystemExit("treedump %s: %s" % (cell, run.stderr))
        # xfs shows each access list a second time, in a form of its own.
        text += b"".join(l for l in run.stdout.splitlines(True) if not l.startswith(b"trusted.SGI_ACL_"))
        run = subprocess.run("find . ! -type l -print0 | sort -z | xargs -0 -r getfacl -pn --", shell=True, cwd=cell, capture_output=True)
        text += run.stdout
    with open(os.path.join(to, name), "wb") as f:
        f.write(text)


def main(tree, to):
    os.makedirs(to, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(judge, tree, n, to) for n in sorted(os.listdir(tree))]:
            done.result()


main(*sys.argv[1:])
