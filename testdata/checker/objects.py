"""Objects of a repository: docs/format/repository.md."""

from bisect import bisect_left

from keys import sha256
from msgpack_strict import Map, Reader, encode
from records import array, blob_crc, crc32c, stored_crc
from refused import Refused, must
from streams import Stream

ROW = 48


def damaged(truth, text=""):
    must(truth, "damaged", text)


def u32(b, at):
    return int.from_bytes(b[at : at + 4], "big")


def as_damage(parse):
    """What the grammar of records refuses is damage to an object."""

    def run(*args):
        try:
            return parse(*args)
        except Refused as e:
            if e.word in ("damaged", "newer"):
                raise
            raise Refused("damaged", str(e)) from None

    return run


@as_damage
def parse_config(b):
    """The repository's id."""
    damaged(0 < len(b) <= 4096, "length")
    r = Reader(b)
    pairs = r.value()
    damaged(isinstance(pairs, Map) and pairs and pairs[0][0] == "preserve", "does not begin as a config")
    version = pairs[0][1]
    damaged(isinstance(version, int) and not isinstance(version, bool) and version >= 1, "version")
    must(version == 1, "newer", f"version {version}")
    damaged([k for k, _ in pairs] == ["preserve", "repository", "needs", "crc"], "keys")
    damaged(r.at == len(b) and encode(pairs) == b, "canonical")
    c = dict(pairs)
    damaged(isinstance(c["repository"], bytes) and len(c["repository"]) == 16, "repository")
    array(c["needs"], most=64)
    damaged(all(isinstance(n, str) and len(n) <= 64 for n in c["needs"]), "needs")
    damaged(c["crc"] == crc32c(b[: len(b) - len(encode(Map([("crc", c["crc"])]))) + 1]), "checksum")
    must(not c["needs"], "newer", "a feature")
    return c["repository"]


SIGHTINGS = ("checkpoint", "forgotten", "segment", "snapshot")


def in_order(values, text):
    damaged(all(a < b for a, b in zip(values, values[1:])), text)


def id_list(b):
    """Ids one behind another, ascending."""
    damaged(isinstance(b, bytes) and len(b) % 32 == 0, "a list of ids")
    ids = [b[at : at + 32] for at in range(0, len(b), 32)]
    in_order(ids, "the order of ids")
    return ids


def moment(t):
    damaged(isinstance(t, list) and len(t) == 2 and all(type(n) is int for n in t), "a time")
    damaged(0 <= t[1] < 10**9, "nanoseconds")
    return tuple(t)


def fields(pairs, *keys):
    damaged(isinstance(pairs, Map) and [k for k, _ in pairs] == list(keys), "keys")
    return dict(pairs)


@as_damage
def parse_verdict(b):
    """What a collector has decided: when, which verdicts it replaces, packs, segments, and what
    it has seen, (kind, time, ids)."""
    damaged(0 < len(b) <= 64 << 20, "length")
    r = Reader(b)
    pairs = r.value()
    damaged(isinstance(pairs, Map) and pairs and pairs[0][0] == "preserve", "does not begin as a verdict")
    version = pairs[0][1]
    damaged(type(version) is int and version >= 1, "version")
    must(version == 1, "newer", f"version {version}")
    f = fields(pairs, "preserve", "made", "replaces", "drops", "seen", "crc")
    damaged(r.at == len(b) and encode(pairs) == b, "canonical")
    damaged(f["crc"] == crc32c(b[: len(b) - len(encode(Map([("crc", f["crc"])]))) + 1]), "checksum")
    packs, segments, times = [], [], []
    for name in ("drops", "seen"):
        array(f[name], most=1 << 16)
    for d in f["drops"]:
        d = fields(d, "since", "packs", "segments")
        times.append(moment(d["since"]))
        its = id_list(d["packs"]), id_list(d["segments"])
        damaged(its[0] or its[1], "a drop of nothing")
        packs, segments = packs + its[0], segments + its[1]
    in_order(times, "the order of drops")
    seen = []
    for s in f["seen"]:
        s = fields(s, "kind", "at", "ids")
        damaged(s["kind"] in SIGHTINGS, "a kind")
        seen.append((s["kind"], moment(s["at"]), id_list(s["ids"])))
        damaged(seen[-1][2], "a sighting of nothing")
    in_order([s[:2] for s in seen], "the order of sightings")
    return moment(f["made"]), id_list(f["replaces"]), packs, segments, seen


@as_damage
def parse_pack(b, name=None):
    """The rows of a whole pack: (id, kind, offset, length, crc)."""
    rows, sids, total, ended, kinds = [], set(), 0, None, set()
    toc = None
    for t, f, begin, end, _ in Stream(b, "sealed", strict=True).records():
        if t == "head":
            damaged(f["order"] == "loose" and set(f) == {"preserve", "kind", "order", "nonce"}, "head")
            head = b[:end]
        elif t == "end":
            ended = f
        elif toc is not None:
            raise Refused("damaged", "a record behind the toc")
        elif t == "session":
            sid = sha256(f["data"])
            damaged(sid not in sids, "a session twice")
            sids.add(sid)
            rows.append((sid, 10, begin, end - begin, crc32c(f["data"])))
        elif t == "blob":
            damaged(blob_crc(f) == f["crc"], "the crc of a blob")
            damaged(f["sid"] in sids, "a blob before its session")
            kinds.add(f["kind"] == 0)
            total += len(f["data"])
            rows.append((f["id"], f["kind"], begin, end - begin, f["crc"]))
        else:
            damaged(t == "toc", t)
            toc = (b[begin:end], f["rows"])
    damaged(toc is not None and ended, "no toc")
    want = b"".join(
        i + o.to_bytes(4, "big") + n.to_bytes(4, "big") + c.to_bytes(4, "big") + bytes([k, 0, 0, 0])
        for i, k, o, n, c in rows
    )
    damaged(toc[1] == want, "the toc is not that of the records")
    damaged(len(kinds) <= 1, "data and metadata")
    damaged(
        (ended["status"], ended["entries"], ended["bytes"]) == (0, len(rows), total)
        and not (set(ended) & {"unchanged"} or ended["warnings"] or ended["warned"] or ended["users"] or ended["groups"]),
        "the end",
    )
    got = sha256(head + toc[0])
    damaged(name is None or got == name, "another name")
    return got, rows


def parse_segment(b, name=None):
    """The name, the packs, (name, size), and rows, (id, kind, pack, offset, length), of a segment."""
    damaged(len(b) >= 20 and b[:3] == b"PVI", "magic")
    must(b[3:4] == b"1", "newer", "magic")
    p, n = u32(b, 4), int.from_bytes(b[8:16], "big")
    damaged(p <= 1 << 20 and n <= 1 << 32, "numbers")
    body = 16 + 40 * p + ROW * n
    damaged(len(b) == body + 4 * -(-body // 4096), "length")
    got = sha256(b[: 16 + 40 * p] + b[body:])
    damaged(name is None or got == name, "another name")
    for i in range(0, body, 4096):
        damaged(crc32c(b[i : min(i + 4096, body)]) == u32(b, body + i // 4096 * 4), "the crc of a block")
    packs = [(b[at : at + 32], int.from_bytes(b[at + 32 : at + 40], "big")) for at in range(16, 16 + 40 * p, 40)]
    for i, (pack, size) in enumerate(packs):
        damaged(size < 1 << 32 and (i == 0 or packs[i - 1][0] < pack), "the table of packs")
    rows, last = [], None
    for at in range(16 + 40 * p, body, ROW):
        row = b[at : at + ROW]
        ident, pack, offset, length = row[:32], u32(row, 32), u32(row, 36), u32(row, 40)
        must(row[44] <= 10 and row[45] == 0, "newer", "a kind or flag")
        damaged(row[46:] == b"\0\0" and any(ident) and length, "a row")
        damaged(pack < p and offset + length <= packs[pack][1], "beyond its pack")
        damaged(last is None or (ident, pack, offset) > last, "order of rows")
        last = (ident, pack, offset)
        rows.append((ident, row[44], pack, offset, length))
    return got, packs, rows


@as_damage
def parse_snapshot_object(b, ident):
    """stored, session's data and the blob of a snapshot object."""
    got = list(Stream(b, "sealed", strict=True).records())
    damaged([t for t, *_ in got] == ["head", "stored", "session", "blob", "end"], "records")
    head, stored, session, blob, end = (f for _, f, *_ in got)
    damaged(head["order"] == "loose" and set(head) == {"preserve", "kind", "order", "nonce"}, "head")
    damaged(blob["kind"] == 9 and stored["id"] == ident == blob["id"], "another id")
    damaged(stored_crc(stored) == stored["crc"], "the crc of what the repository says")
    damaged(blob_crc(blob) == blob["crc"], "the crc of the blob")
    damaged(sha256(session["data"]) == blob["sid"], "another session")
    damaged(
        (end["status"], end["entries"], end["bytes"]) == (0, 1, len(blob["data"]))
        and not (end["warnings"] or end["warned"] or end["users"] or end["groups"]),
        "the end",
    )
    return stored, session["data"], blob


def find(rows, ident):
    """The rows of an id in a sorted list."""
    at = bisect_left(rows, (ident,))
    while at < len(rows) and rows[at][0] == ident:
        yield rows[at]
        at += 1
