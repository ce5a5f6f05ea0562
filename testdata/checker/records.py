"""Records of streams, their types and tables: docs/format/streams.md and
entries.md. Every record is
read leniently and written again canonically; a strict reader takes only what is written
again the same."""

import functools

from msgpack_strict import Map, Raw, encode, to_bytes
from refused import Refused, must

MIB = 1 << 20
ZERO_ID = bytes(32)

# Types of the tables. Each takes a value and refuses it, or returns.


def number(most):
    def check(v):
        must(isinstance(v, int) and not isinstance(v, bool) and v >= 0, "type", "no number, or below zero")
        must(v <= most, "limit", f"{v}")

    return check


U32, U63, U64 = number(2**32 - 1), number(2**63 - 1), number(2**64 - 1)


def string(most):
    def check(v):
        must(isinstance(v, str), "type", "no str")
        must(len(to_bytes(v)) <= most, "limit", "a str")

    return check


word = string(4096)


def utf8(v):
    word(v)
    try:
        v.encode()
    except UnicodeEncodeError:
        raise Refused("not valid", "no UTF-8") from None


def one_of(*values):
    def check(v):
        word(v)
        must(v in values, "unknown", v)

    return check


def binary(least, most, what="not valid"):
    def check(v):
        must(isinstance(v, bytes), "type", "no bin")
        must(len(v) >= least, what, "too short")
        must(len(v) <= most, "limit" if what == "not valid" else what, "too long")

    return check


def exactly(n):
    def check(v):
        must(isinstance(v, bytes), "type", "no bin")
        must(len(v) == n, "not valid", f"{len(v)} bytes")

    return check


def ident(v):
    exactly(32)(v)
    must(v != ZERO_ID, "not valid", "an id of zeros")


def truth(v):
    must(isinstance(v, bool), "type", "no truth")


def array(v, n=None, most=None):
    must(isinstance(v, list) and not isinstance(v, Map), "type", "no array")
    must(n is None or len(v) == n, "not valid", f"an array of {len(v)}")
    must(most is None or len(v) <= most, "limit", f"an array of {len(v)}")


def list_of(check, most):
    def checks(v):
        array(v, most=most)
        for x in v:
            check(x)

    return checks


def time(v):
    array(v, 2)
    must(isinstance(v[0], int) and not isinstance(v[0], bool), "type", "no number")
    must(-(2**63) <= v[0] < 2**63, "limit", "seconds")
    number(999999999)(v[1])


def path(v):
    must(isinstance(v, bytes), "type", "a path that is no bin")
    must(len(v) <= 65536, "limit", "a path")
    names = v.split(b"/") if v else []
    must(len(names) <= 4096, "limit", "names in a path")
    for n in names:
        must(n not in (b"", b".", b"..") and b"\0" not in n and len(n) <= 4096, "path", repr(v))


def path_key(p):
    """Paths compare as bytes, with "/" as byte 0."""
    return p.replace(b"/", b"\0")


def names(v):
    array(v, most=1 << 20)
    before = -1
    for row in v:
        array(row, 2)
        U32(row[0])
        binary(1, 4096)(row[1])
        must(row[0] > before, "not valid", "ids do not ascend")
        before = row[0]


def root(v):
    array(v, 2)
    must(isinstance(v[0], bytes), "type", "a directory that is no bin")
    must(len(v[0]) <= 65536, "limit", "a directory")
    must(v[0].startswith(b"/"), "path", "not absolute")
    path(v[1])


def chunker(v):
    array(v, 4)
    word(v[0])
    for size in v[1:]:
        number(8 * MIB)(size)


def xattrs(v):
    array(v)
    before, total = None, 0
    for row in v:
        array(row, 2)
        binary(1, 4096)(row[0])
        must(isinstance(row[1], bytes), "type", "no bin")
        must(b"\0" not in row[0] and (before is None or row[0] > before), "not valid", "names of attributes")
        before, total = row[0], total + len(row[0]) + len(row[1])
    must(total <= MIB, "limit", "attributes")


def omitted(v):
    array(v)
    before, total = None, 0
    for name in v:
        binary(1, 4096)(name)
        must(b"\0" not in name and (before is None or name > before), "not valid", "names of attributes")
        before, total = name, total + len(name)
    must(total <= MIB, "limit", "attributes")
    must(b"*" not in v or len(v) == 1, "not valid", "* is not alone")


def rdev(v):
    array(v, 2)
    U32(v[0])
    U32(v[1])


def extents(at_rest):
    def check(v):
        array(v, most=65536)
        for e in v:
            array(e, 3)
            if isinstance(e[0], bytes):
                ident(e[0])
                must(not at_rest, "not valid", "an extent by id")
            elif e[0] is not None:
                number(65535)(e[0])
            U63(e[1])
            U63(e[2])

    return check


# Tables: key, type, required. What is absent stands for 0, false or empty.

NOTHING = {
    "mtime": [0, 0],
    "ctime": [0, 0],
    "btime": [0, 0],
    "rdev": [0, 0],
    "chunker": None,
    "nonce": None,
    "sig": None,
}


def says_nothing(key, v):
    return v == NOTHING[key] if key in NOTHING else v is False or v in (0, "", b"") or v == []


HEAD = [
    ("preserve", U64, True),
    ("kind", one_of("tree", "content", "sealed"), True),
    ("host", utf8, True),
    ("user", utf8, True),
    ("time", time, True),
    ("roots", list_of(root, None), True),
    ("follow", truth, False),
    ("chunker", chunker, False),
    ("base", list_of(ident, 2), False),
    ("order", one_of("up", "down", "asked", "loose"), True),
    ("meta", truth, False),
    ("nonce", exactly(16), False),
]
HEAD_KEYS = {
    "tree": {"preserve", "kind", "host", "user", "time", "roots", "follow"},
    "content": {"preserve", "kind", "host", "user", "time", "roots", "chunker", "base"},
    "sealed": {"preserve", "kind", "base", "order", "meta", "nonce"},
}
TYPES = ("file", "dir", "symlink", "fifo", "socket", "char", "block", "link")


def entry_table(at_rest):
    table = [
        ("path", path, True),
        ("type", one_of(*TYPES), True),
        ("mode", number(0o7777), False),
        ("uid", U32, False),
        ("gid", U32, False),
        ("mtime", time, False),
        ("size", U63, False),
        ("off", U63, False),
        ("more", truth, False),
        ("links", U32, False),
        ("target", binary(0, 65536), False),
        ("leader", path, False),
        ("rdev", rdev, False),
        ("flags", U32, False),
        ("xattrs", xattrs, False),
        ("omitted", omitted, False),
        ("err", word, False),
        ("inconsistent", truth, False),
        ("way", truth, False),
        ("skipped", truth, False),
        ("unread", truth, False),
        ("ext", extents(at_rest), False),
    ]
    if not at_rest:
        table += [("ctime", time, False), ("btime", time, False), ("ino", U64, False), ("dev", U64, False), ("alone", truth, False)]
    return table


TABLES = {
    "chunk": [("n", number(65535), True), ("data", binary(1, 8 * MIB), True)],
    "cut": [("keep", number(65536), False)],
    "names": [("users", names, True), ("groups", names, True)],
    "session": [("data", exactly(2349), True)],
    "blob": [
        ("id", ident, True),
        ("kind", number(9), True),
        ("sid", ident, True),
        ("refs", binary(0, 65536 * 32), True),
        ("crc", U32, True),
        ("sig", exactly(64), False),
        ("data", binary(1, 20 * MIB), True),
    ],
    "stored": [("id", ident, True), ("received", time, True), ("as", word, True), ("crc", U32, True)],
    "missing": [("id", ident, True)],
    "checkpoint": [("id", ident, True)],
    "toc": [("rows", binary(0, 20 * MIB), True)],
    "tick": [("files", U64, True), ("bytes", U64, True)],
    "note": [("tool", utf8, True), ("text", utf8, True)],
    "fail": [("tool", utf8, True), ("text", utf8, True)],
    "end": [
        ("status", U64, True),
        ("entries", U64, True),
        ("bytes", U64, True),
        ("warnings", U64, True),
        ("warned", list_of(utf8, 100), True),
        ("users", names, True),
        ("groups", names, True),
        ("unchanged", ident, False),
    ],
    "entry": entry_table(False),
}
ALL = {"tick", "note", "end", "fail"}
IN = {
    "tree": ALL | {"entry", "names"},
    "content": ALL | {"entry", "names", "chunk", "cut"},
    "sealed": ALL | {"session", "blob", "stored", "missing", "checkpoint", "toc"},
}
LIMITS = {"entry": 2 * MIB, "chunk": 21 * MIB, "blob": 21 * MIB, "toc": 21 * MIB}


def check_fields(pairs, table, own=None):
    """The fields of a map by its table, with nothing left out; own are the only keys allowed."""
    fields, allowed = dict(pairs), {k for k, _, _ in table} if own is None else own
    for k in fields:
        must(k in allowed, "unknown", k)
    for k, check, required in table:
        if k in fields:
            check(fields[k])
        else:
            must(not required or k not in allowed, "absent", k)
    return fields


def canonical_map(fields, table, t=None, always=(), foreign=()):
    """The canonical form: keys in the order of the table, none that says nothing."""
    pairs = Map([("t", t)] if t else [])
    for k, _, required in table:
        if k in fields and (required or k in always or not says_nothing(k, fields[k])):
            pairs.append((k, fields[k]))
    pairs += sorted(foreign, key=lambda kv: to_bytes(kv[0]))
    return encode(pairs)


# Entries.


def entry_always(e):
    """Keys that stand in the canonical form even if they say nothing."""
    kind = e["type"]
    if kind == "link":
        return {"path", "type", "leader"}
    always = {"path", "type"}
    if kind == "file":
        always.add("size")
    if not e.get("off"):
        always |= {"mode", "uid", "gid", "mtime"}
    if kind == "symlink":
        always.add("target")
    if kind in ("char", "block"):
        always.add("rdev")
    return always


EMPTY = {"mode": 0, "uid": 0, "gid": 0, "mtime": [0, 0], "size": 0, "rdev": [0, 0]}


def check_entry(pairs, at_rest):
    """The fields of an entry, completed, and its canonical form."""
    table = entry_table(at_rest)
    foreign = [(k, v) for k, v in pairs if isinstance(v, Raw)]
    must(len(foreign) <= 64, "limit", "keys of others")
    e = check_fields([kv for kv in pairs if not isinstance(kv[1], Raw)], table)
    fields_of_type(e)
    always = entry_always(e)
    full = {**{k: EMPTY[k] for k in always if k in EMPTY}, **e}
    if full.get("links") == 1:
        del full["links"]
    return full, canonical_map(full, table, None if at_rest else "entry", always, foreign)


def fields_of_type(e):
    kind = e["type"]
    said = {k for k, v in e.items() if not says_nothing(k, v)}
    must(e["path"] or kind == "dir", "path", "the root is a directory")

    def only(types, *keys):
        must(kind in types or not said & set(keys), "field", f"{keys} in a {kind}")

    only(("file",), "size", "off", "more", "inconsistent", "ext")
    only(("file",), "alone")
    must(not (e.get("off") and "alone" in said), "field", "alone in a further piece")
    only(("dir",), "way", "skipped", "unread")
    for key, types in (("target", ("symlink",)), ("leader", ("link",)), ("rdev", ("char", "block"))):
        must(kind in types or key not in e, "field", f"{key} in a {kind}")
    must(kind not in ("dir", "link") or not e.get("links"), "field", "links")
    must(kind != "symlink" or e.get("target"), "field", "no target")
    must(b"\0" not in e.get("target", b""), "not valid", "NUL in a target")
    must(kind != "link" or e.get("leader"), "field", "no leader")
    must(kind != "link" or path_key(e["leader"]) < path_key(e["path"]), "order", "a link before its leader")
    if kind == "link":
        rest = said - {"path", "type", "leader", "ctime", "btime", "ino", "dev"}
        must(not rest, "field", f"{rest} in a link")
    if e.get("off"):
        must(not said & {"mode", "uid", "gid", "mtime", "links", "flags", "xattrs", "omitted"}, "field", "a further piece")
    must(not {"more", "inconsistent"} <= said, "field", "inconsistent in a piece that is not the last")
    there = {name for name, _ in e.get("xattrs", [])}
    must(not there & set(e.get("omitted", [])), "not valid", "an attribute is there and omitted")
    total = sum(len(n) + len(v) for n, v in e.get("xattrs", [])) + sum(map(len, e.get("omitted", [])))
    must(total <= MIB, "limit", "attributes")
    if e.get("err"):
        must(not said & {"ext", "off", "more"}, "field", "content of what has none")


def check_blob(f):
    n, rest = divmod(len(f["refs"]), 32)
    must(rest == 0, "not valid", "half a reference")
    must({0: n == 0, 1: True, 9: n == 1}.get(f["kind"], n > 0), "not valid", "references of the kind")
    must((f["kind"] == 9) == ("sig" in f), "not valid", "a signature")


def crc_table():
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        yield i


CRC = list(crc_table())


@functools.cache
def power(n):
    """x^n modulo the polynomial of CRC-32C."""
    r = 1
    for bit in f"{n:b}":
        square = sum(1 << 2 * i for i in range(32) if r >> i & 1) << (bit == "1")
        for i in range(64, 31, -1):
            square ^= (square >> i & 1) * 0x11EDC6F41 << i - 32
        r = square
    return r


def crc32c(b):
    """A byte at a time, but for long data: its first half is folded onto the second
    as long as that is worth it, so that integers do in one step what is slow here.
    Its bits are a polynomial, the first of them of the highest power: the first
    part stands there times x^n, and n is the length of the second."""
    crc = 0xFFFFFFFF
    if len(b) >= 512:
        rest, size = int.from_bytes(b, "little") ^ crc, len(b)
        crc = 0
        while size >= 256:
            first = size // 2 - 4
            size -= first
            factor, begin, rest = power(8 * size), rest & (1 << 8 * first) - 1, rest >> 8 * first
            for i in range(32):
                if factor >> i & 1:
                    rest ^= begin << 8 * (size - first) - i
        b = rest.to_bytes(size, "little")
    for x in b:
        crc = crc >> 8 ^ CRC[(crc ^ x) & 255]
    return crc ^ 0xFFFFFFFF


def stored_crc(f):
    sec, nsec = f["received"]
    return crc32c(f["id"] + sec.to_bytes(8, "big", signed=True) + nsec.to_bytes(4, "big") + f["as"].encode("utf-8", "surrogateescape"))


def blob_crc(f):
    n = (len(f["refs"]) // 32).to_bytes(4, "big")
    return crc32c(bytes([f["kind"]]) + f["id"] + f["sid"] + n + f["refs"] + f["data"] + f.get("sig", b""))
