"""Opens a repository and restores a snapshot: docs/format/repository.md, "Reading a
record", and docs/format/restoring.md."""

import os
import re
import stat

import objects
import trees
from keys import verify_snapshot
from msgpack_strict import Reader, to_bytes
from records import TABLES, blob_crc, canonical_map, check_blob, check_fields
from refused import Refused, must
from seals import Session, open_blob

HEX = re.compile(r"[0-9a-f]{64}\Z")


def ids_in(directory):
    return sorted(n for n in os.listdir(directory) if HEX.match(n)) if os.path.isdir(directory) else []


def contents(path):
    with open(path, "rb") as f:
        return f.read()


class Repository:
    """All segments of a repository, and what they lead to."""

    def __init__(self, directory, key):
        self.dir, self.key, self.sessions = directory, key, {}
        objects.parse_config(contents(os.path.join(directory, "config")))
        retired, replaced = self.collected()
        self.rows, self.packs = [], {}
        for name in ids_in(os.path.join(directory, "index")):
            if bytes.fromhex(name) in replaced:
                continue
            _, packs, rows = objects.parse_segment(contents(os.path.join(directory, "index", name)), bytes.fromhex(name))
            self.packs.update((p, size) for p, size in packs if p not in retired)
            self.rows += [(i, k, packs[p][0], at, n) for i, k, p, at, n in rows if packs[p][0] not in retired]
        self.rows.sort()

    def collected(self):
        """The packs and segments that collectors have let go."""
        verdicts = {}
        for name in ids_in(os.path.join(self.dir, "gc")):
            b = contents(os.path.join(self.dir, "gc", name))
            must(objects.sha256(b).hex() == name, "damaged", "another verdict in its place")
            verdicts[bytes.fromhex(name)] = objects.parse_verdict(b)
        old = {i for _, replaces, _, _, _ in verdicts.values() for i in replaces}
        now = [v for name, v in verdicts.items() if name not in old]
        return {p for v in now for p in v[2]}, {s for v in now for s in v[3]}

    def pack_path(self, name):
        return os.path.join(self.dir, "packs", name.hex()[:2], name.hex())

    def verify_packs(self):
        """Reads every pack whole: its rows are those of the segments."""
        listed = {}
        for i, k, p, at, n in self.rows:
            listed.setdefault(p, set()).add((i, k, at, n))
        for name, size in self.packs.items():
            b = contents(self.pack_path(name))
            must(len(b) == size, "damaged", f"the size of pack {name.hex()}")
            _, rows = objects.parse_pack(b, name)
            must({(i, k, at, n) for i, k, at, n, _ in rows} == listed.get(name), "damaged", "pack and index differ")
        return len(self.packs)

    def record(self, t, ident):
        """The fields of a good record of an id, a blob or a session."""
        why = Refused("damaged", f"no row for {ident.hex()}")
        for _, kind, pack, at, n in objects.find(self.rows, ident):
            try:
                with open(self.pack_path(pack), "rb") as f:
                    f.seek(at)
                    return self.parse(t, f.read(n), n, ident, kind)
            except OSError as e:
                why = Refused("damaged", str(e))
            except Refused as e:
                why = e
        raise why

    def parse(self, t, b, n, ident, kind):
        must(len(b) == n, "damaged", "a record cut off")
        r = Reader(b)
        pairs = r.value()
        must(r.at == n and pairs and pairs[0] == ("t", t), "damaged", "no such record")
        f = check_fields(pairs[1:], TABLES[t])
        must(canonical_map(f, TABLES[t], t) == b, "canonical")
        if t == "session":
            must(kind == 10 and objects.sha256(f["data"]) == ident, "damaged", "another session")
        else:
            check_blob(f)
            must(f["id"] == ident and f["kind"] == kind, "damaged", "another blob")
            must(blob_crc(f) == f["crc"], "damaged", "the crc of a blob")
        return f

    def session(self, sid):
        if sid not in self.sessions:
            self.sessions[sid] = Session(self.key, self.record("session", sid)["data"])
        return self.sessions[sid]

    def blob(self, ident, kinds):
        """The kind, references and plaintext of a blob that is one of kinds."""
        f = self.record("blob", ident)
        must(f["kind"] in kinds, "ErrKind", f"kind {f['kind']}")
        plain, _ = open_blob(self.key, self.session(f["sid"]), ident, f["kind"], f["refs"], f["data"])
        refs = [f["refs"][i : i + 32] for i in range(0, len(f["refs"]), 32)]
        must(len(set(refs)) == len(refs), "page", "a reference twice")
        return f["kind"], refs, plain

    def snapshot(self, name):
        """The root and the plaintext of a snapshot that is there, verified."""
        must(HEX.match(name), "ErrID", "no id of a snapshot")
        must(not os.path.exists(os.path.join(self.dir, "forgotten", name)), "ErrID", "forgotten")
        ident = bytes.fromhex(name)
        _, session, f = objects.parse_snapshot_object(contents(os.path.join(self.dir, "snapshots", name)), ident)
        opened = Session(self.key, session)
        plain, _ = open_blob(self.key, opened, ident, 9, f["refs"], f["data"])
        s = trees.parse_snapshot(plain)
        writer, who, cert = s["writer"]
        verify_snapshot(self.key.get("root.pk"), ident, f["sig"], writer, to_bytes(who), cert)
        must("partial" not in s, "snapshot", "partial")
        return f["refs"], s

    def entries(self, root):
        """Each entry of the tree with the references of its page, in order. The rows
        of index pages are held against the first entry below them."""
        kind, refs, plain = self.blob(root, range(1, 9))
        yield from self.below(kind, refs, plain)

    def below(self, kind, refs, plain):
        if kind == 1:
            for e in trees.parse_page(plain, len(refs)):
                yield e, refs
            return
        for key, ref in zip(trees.parse_index(plain, len(refs)), refs):
            first = True
            for e, its in self.below(*self.blob(ref, [kind - 1])):
                must(not first or trees.key_of(e) == key, "order", "the row of an index page")
                first = False
                yield e, its


class Restorer:
    """Makes a tree in a new directory. What the rules of a tree allow leads through
    directories that were made here, and through no link."""

    def __init__(self, repo, name, dest):
        self.repo, self.root, self.notes = repo, dest, []
        root, self.snapshot = repo.snapshot(name)
        os.mkdir(dest, 0o700)
        self.tree, self.cache, self.dirs, self.file = trees.Tree(), {}, [], None
        self.omitted = set()
        for e, refs in repo.entries(root):
            self.tree.add(e, lambda i, refs=refs: len(self.data(refs[i])))
            self.make(e, refs)
        self.tree.end()
        for e in reversed(self.dirs):
            self.finish(e)
        s = self.snapshot
        must((self.tree.entries, self.tree.bytes) == (s["entries"], s["bytes"]), "not valid", "the snapshot's counts")

    def data(self, ref):
        if ref not in self.cache:
            if len(self.cache) > 8:
                self.cache.clear()
            self.cache[ref] = self.repo.blob(ref, [0])[2]
        return self.cache[ref]

    def path(self, p):
        return os.path.join(os.fsencode(self.root), p) if p else os.fsencode(self.root)

    def make(self, e, refs):
        kind, p = e["type"], self.path(e["path"])
        if kind == "file" and e.get("off"):
            return self.write(e, refs)
        if kind == "file" and e.get("err") or kind == "link" and e["leader"] in self.omitted:
            self.omitted.add(e["path"])
            self.notes.append(f"{e['path']!r}: not stored: {e.get('err', 'its first name')}")
        elif kind == "dir":
            if e["path"]:
                os.mkdir(p, 0o700)
            self.dirs.append(e)
        elif kind == "link":
            os.link(self.path(e["leader"]), p, follow_symlinks=False)
        elif kind == "file":
            self.file = (e, os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), 0)
            self.write(e, refs)
        else:
            if kind == "symlink":
                os.symlink(e["target"], p)
            else:
                types = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
                os.mknod(p, types[kind] | 0o600, os.makedev(*e.get("rdev", (0, 0))))
            self.finish(e)

    def write(self, e, refs):
        first, fd, at = self.file
        for chunk, offset, length in e.get("ext", []):
            if chunk is not None:
                piece = self.data(refs[chunk])[offset : offset + length]
                must(os.pwrite(fd, piece, at) == length, "not valid", "a short write")
            at += length
        self.file = (first, fd, at)
        if not e.get("more"):
            os.ftruncate(fd, at)
            os.close(fd)
            self.file = None
            if e.get("inconsistent"):
                self.notes.append(f"{e['path']!r}: changed while it was read")
            self.finish(first)

    def finish(self, e):
        """Owner, attributes, mode, times, in this order: each would undo those behind it."""
        p, link = self.path(e["path"]), e["type"] == "symlink"
        if (os.lstat(p).st_uid, os.lstat(p).st_gid) != (e["uid"], e["gid"]):
            try:
                os.chown(p, e["uid"], e["gid"], follow_symlinks=False)
            except OSError as err:
                self.notes.append(f"{e['path']!r}: owner: {err}")
        for name, v in e.get("xattrs", []):
            try:
                os.setxattr(p, name, v, follow_symlinks=False)
            except OSError as err:
                self.notes.append(f"{e['path']!r}: attribute {name!r}: {err}")
        if e.get("flags"):
            self.notes.append(f"{e['path']!r}: inode flags are not restored: {e['flags']:#x}")
        if not link:
            os.chmod(p, e["mode"])
        sec, nano = e["mtime"]
        os.utime(p, ns=(sec * 10**9 + nano,) * 2, follow_symlinks=False)
