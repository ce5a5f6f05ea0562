"""Pages, index pages, snapshots and the rules of a tree: docs/format/snapshots.md."""

from msgpack_strict import Map, Reader, encode
from records import U63, U64, array, binary, chunker, check_entry, list_of, names, path, path_key, root, string, time, truth
from refused import must

MIB = 1 << 20
MOST_REFS = 65536



def parse_page(b, refs):
    """The entries of a page with so many references."""
    must(len(b) <= 4 * MIB and refs <= MOST_REFS, "limit")
    r, entries, used = Reader(b), [], 0
    while r.at < len(b):
        begin = r.at
        pairs = r.value()
        must(isinstance(pairs, Map), "type", "an entry that is no map")
        e, form = check_entry(pairs, True)
        must(form == b[begin : r.at], "canonical")
        for chunk, _, _ in e.get("ext", []):
            must(chunk is None or chunk <= used and chunk < refs, "page", "references out of turn")
            used += chunk == used
        entries.append(e)
    must(entries, "page", "nothing in it")
    must(used == refs, "page", "a reference that nobody uses")
    return entries


def parse_index(b, refs):
    """The keys of the children of an index page, in order."""
    must(len(b) <= 4 * MIB and refs <= MOST_REFS, "limit")
    r, rows = Reader(b), []
    while r.at < len(b):
        begin = r.at
        row = r.value()
        array(row)
        must(len(row) == 2, "page", "a row")
        path(row[0])
        U63(row[1])
        must(encode(row) == b[begin : r.at], "canonical")
        key = (path_key(row[0]), row[1])
        must(not rows or key > rows[-1], "order")
        rows.append(key)
    must(rows and len(rows) == refs, "page", "rows and references")
    return rows


def writer(v):
    array(v)
    must(len(v) == 3, "snapshot", "writer")
    binary(0, 32)(v[0])
    string(32)(v[1])
    binary(0, 64)(v[2])


def prev(v):
    binary(0, 32)(v)
    must(len(v) in (0, 32) and v != bytes(32), "snapshot", "prev")


SNAPSHOT = [
    ("writer", writer),
    ("label", string(1024)),
    ("time", time),
    ("prev", prev),
    ("partial", truth),
    ("host", string(1024)),
    ("user", string(1024)),
    ("roots", list_of(root, 65536)),
    ("tags", list_of(string(1024), 64)),
    ("chunker", chunker),
    ("entries", U64),
    ("bytes", U64),
    ("warnings", U64),
    ("warned", list_of(string(4096), 100)),
    ("users", names),
    ("groups", names),
]


def parse_snapshot(b):
    must(len(b) <= 4 * MIB, "limit")
    must(b, "snapshot", "nothing")
    r = Reader(b)
    pairs = r.value()
    must(isinstance(pairs, Map), "type", "no map")
    have = [k for k, _ in pairs]
    must(have in ([k for k, _ in SNAPSHOT], [k for k, _ in SNAPSHOT if k != "partial"]), "snapshot", "its keys")
    s = dict(pairs)
    for k, check in SNAPSHOT:
        if k in s:
            check(s[k])
    must(s.get("partial") is not False, "canonical", "partial")
    must(r.at == len(b), "trailing")
    must(encode(pairs) == b, "canonical")
    return s


def key_of(e):
    return path_key(e["path"]), e.get("off", 0)


class Tree:
    """The rules of a tree, over all entries of all pages in order."""

    def __init__(self):
        self.last = None  # key of the last entry
        self.open = None  # entry whose next piece is awaited, its end so far
        self.dirs, self.leaders = {b""}, set()
        self.entries = self.bytes = 0

    def add(self, e, blob_size=None):
        """blob_size says how long the plaintext of a reference is, if that is known."""
        key = key_of(e)
        must(self.last is None or key > self.last, "order", repr(e["path"]))
        length = self.extents(e, blob_size)
        if e.get("off"):
            must(self.open and self.open[0] == e["path"] and self.open[1] == e["off"], "page", "a piece")
        else:
            must(self.open is None, "page", "the last piece is absent")
            self.first(e)
        end = e.get("off", 0) + length
        must(end < 1 << 63, "sum")
        self.bytes += length
        must(self.bytes < 1 << 63, "sum")
        must(not e.get("more") or e.get("ext"), "page", "a piece without extents")
        if e["type"] == "file" and not e.get("more") and not e.get("err"):
            must(end == e["size"], "sum", "the size")
        self.open = (e["path"], end) if e.get("more") else None
        self.last = key

    def first(self, e):
        p = e["path"]
        must(p.rpartition(b"/")[0] in self.dirs or not p, "page", "no directory before it")
        if e["type"] == "dir":
            self.dirs.add(p)
        if e["type"] == "link":
            must(e["leader"] in self.leaders, "page", "a link to nothing")
        elif e.get("links", 0) > 1:
            self.leaders.add(p)
        self.entries += 1

    def extents(self, e, blob_size):
        total = 0
        for chunk, offset, length in e.get("ext", []):
            must(length > 0, "sum", "an empty extent")
            if chunk is None:
                must(offset == 0, "sum", "a hole with an offset")
            else:
                must(offset + length <= 16 * MIB, "sum", "beyond 16 MiB")
                must(blob_size is None or offset + length <= blob_size(chunk), "sum", "beyond its blob")
            total += length
        return total

    def end(self):
        must(self.open is None, "page", "the last piece is absent")


