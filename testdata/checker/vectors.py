"""Checks every file of testdata/vectors. A file that is not known here is an error,
and so is a line of a case that nobody looks at."""

import os
import re

import keys
import mlkem
import objects
import seals
import trees
from msgpack_strict import to_bytes
from refused import Refused, must
from streams import Stream

SESSIONS = {}  # the good ones, by sid: blobs.txt is sealed under them
MASTER = keys.Key(0, keys.key_id(bytes(range(32))), "", [("master", bytes(range(32)))])


class Case(dict):
    """The lines of a case. Those that were looked at are remembered."""

    def __init__(self):
        super().__init__()
        self.seen = {"case", "error", "record"}

    def __getitem__(self, k):
        self.seen.add(k)
        return super().__getitem__(k)

    def get(self, k, default=None):
        self.seen.add(k)
        return super().get(k, default)


def value(s):
    s = s.strip()
    if s.startswith('"'):
        # Escapes are those of a Go string: \n, \t, \", \\ and \xNN.
        plain = {"n": "\n", "t": "\t"}
        unescape = lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" else plain.get(m[1], m[1])
        return re.sub(r"\\(x..|.)", unescape, s[1:-1])
    return bytes.fromhex(s)


def cases(path):
    case, name, lines = Case(), None, []
    with open(path, encoding="utf-8") as f:
        for line in [*f, "\n"]:
            line = line.rstrip("\n")
            if line.startswith("#"):
                continue
            if line.startswith(" "):
                case[name] = (dict.__getitem__(case, name) or b"") + bytes.fromhex(line)
            elif line:
                name, _, text = line.partition(" =")
                if name == "row" or name == "record":
                    lines.append(text.strip()[1:-1])
                    dict.__setitem__(case, name, lines)
                else:
                    case[name] = value(text)
            elif case:
                yield case
                case, lines = Case(), []


def equal(got, want, what):
    must(got == want, "another result", f"{what}: {got!r}, not {want!r}"[:300])


def raw(v):
    """A value that may be empty text, which stands for no bytes."""
    return v or b""


def check_keys(c):
    """keys.txt: what follows from a master key."""
    f = keys.derive(c["master"])
    key = keys.Key(0, b"", "", [("master", c["master"])])
    equal(keys.key_id(c["master"]), c["key id"], "key id")
    for k in ("id.meta", "id.data", "cut", "meta.seed", "data.seed", "root.pk", "writer.seed", "writer.pk", "cert"):
        equal(f[k], c[k], k)
    for half in ("meta", "data"):
        public = key.private(half).public
        equal(public, c[half + ".pk"], half + ".pk")
        if half == "meta":
            equal(keys.sha256(public), c["H(meta.pk)"], "H(meta.pk)")
        must(mlkem.is_public_key(c[half + ".pk"][:1184]), "ErrField")
    equal(keys.kdf(f["cut"], "group"), c["group cut"], "group")
    equal(keys.kdf(f["cut"], "page"), c["page cut"], "page")
    if "cache cut" in c:
        equal(keys.kdf(f["cut"], "cache"), c["cache cut"], "cache")
    gear = keys.expand(keys.mac(bytes(32), f["cut"]), b"preserve/v1/gear", 2064)
    equal(gear[:64], c["gear[:64]"], "gear")
    equal(keys.sha256(gear), c["H(gear[:2064])"], "H(gear)")


def check_keyfile(c):
    keys.parse_body(raw(c["body"]))


def check_wrapped(c):
    key = keys.unwrap_body(raw(c["wrapped"]), to_bytes(c["passphrase"]))
    want = keys.parse_body(c["key"])
    equal((key.kind, key.id, key.name, key.fields), (want.kind, want.id, want.name, want.fields), "the key")


def check_paper(c):
    try:
        master = keys.from_paper(c["paper"])
    except Refused as e:
        must(e.word != "ErrGroup" or str(e).endswith(" " + c["group"]), "another group", str(e))
        raise
    equal(master, c["master"], "the master key")
    equal(keys.paper(master)[1:], c["paper"].upper().replace("PV1", "").split(), "the paper")


def check_session(c):
    try:
        s = seals.Session(MASTER, raw(c["session"]))
    except Refused as e:
        if e.word == "ErrKeyID":
            return equal(raw(c["session"])[5:13], c["needs"], "needs")
        raise
    equal((s.secrets["meta"], s.secrets["data"], s.sid), (c["s.meta"], c["s.data"], c["sid"]), "session")
    SESSIONS[s.sid] = s


def check_blob(c):
    kind, refs, ident, plain = c["kind"][0], raw(c["refs"]), c["id"], raw(c.get("plain"))
    session = SESSIONS.get(c["sid"])
    k, inside = c.get("k"), c.get("inside")
    if session and k and kind <= 9:
        equal(seals.blob_key(session, kind, ident), k, "k")
    got, was_inside = seals.open_blob(MASTER, session, ident, kind, refs, raw(c["sealed"]))
    equal(got, plain, "plain")
    equal(was_inside, inside, "inside")


def check_signature(c):
    keys.verify_snapshot(
        MASTER.get("root.pk"), c["id"], raw(c["sig"]), c["writer"], to_bytes(raw(c["name"]) or ""), raw(c["cert"])
    )


def check_verdict(c):
    made, replaces, packs, segments, seen = objects.parse_verdict(raw(c["object"]))
    equal(objects.sha256(raw(c["object"])), c["name"], "name")
    equal(f"{made[0]}.{made[1]:09d}", c["made"], "made")
    equal(b"".join(replaces), c["replaces"] or b"", "replaces")
    equal(b"".join(packs), c["packs"] or b"", "packs")
    equal(b"".join(segments), c["segments"] or b"", "segments")
    equal(b"".join(i for s in seen for i in s[2]), c["seen"] or b"", "seen")


def check_config(c):
    equal(objects.parse_config(raw(c["config"])), c["repository"], "repository")


def check_pack(c):
    name, rows = objects.parse_pack(c["pack"], c.get("name"))
    lines = [f"{i.hex()} kind {k} offset {o} length {n} crc {crc:08x}" for i, k, o, n, crc in rows]
    equal((name, lines), (c["name"], c.get("row", [])), "rows")


def check_segment(c):
    name, packs, rows = objects.parse_segment(c["segment"], c.get("name"))
    lines = [
        f"{i.hex()} kind {k} in pack {packs[p][0].hex()} of {packs[p][1]} bytes at {o} length {n}"
        for i, k, p, o, n in rows
    ]
    equal((name, lines), (c["name"], c.get("row", [])), "rows")


def check_snapshot_object(c):
    stored, _, blob = objects.parse_snapshot_object(c["object"], c["id"])
    sec, nano = stored["received"]
    equal(f"{sec}.{nano:09d}", c["received"], "received")
    equal((stored["as"], blob["refs"]), (c["as"], c["root"]), "as and root")
    equal(blob["data"], c["data"], "data")


def records_of(n, c):
    equal(n, len(c.get("record", [])), "how many records")


def check_page(c):
    records_of(len(trees.parse_page(raw(c["bytes"]), int(c["refs"]))), c)


def check_index(c):
    records_of(len(trees.parse_index(raw(c["bytes"]), int(c["refs"]))), c)


def check_snapshot(c):
    trees.parse_snapshot(raw(c["bytes"]))


def check_tree(c):
    want, tree = c["tree"], trees.Tree()
    for e in trees.parse_page(c["bytes"], int(c["refs"])):
        tree.add(e)
    tree.end()
    equal(f"holds, {tree.entries} entries, {tree.bytes} bytes", want, "tree")


def check_stream(c):
    strict = c.get("strict") == "yes"
    got = b"".join(form for *_, form in Stream(raw(c["bytes"]), c["stream"], strict).records())
    equal(got, c.get("canonical") or c["bytes"], "written again")
    records_of(sum(1 for _ in Stream(got, c["stream"], True).records()), c)


FILES = {
    "crypto/keys.txt": check_keys,
    "crypto/keyfiles.txt": check_keyfile,
    "crypto/wrapped.txt": check_wrapped,
    "crypto/paper.txt": check_paper,
    "crypto/sessions.txt": check_session,
    "crypto/blobs.txt": check_blob,
    "crypto/snapshots.txt": check_signature,
    "repository/config.txt": check_config,
    "repository/gc.txt": check_verdict,
    "repository/packs.txt": check_pack,
    "repository/segments.txt": check_segment,
    "repository/snapshots.txt": check_snapshot_object,
    "snapshots/pages.txt": check_page,
    "snapshots/indexes.txt": check_index,
    "snapshots/snapshots.txt": check_snapshot,
    "snapshots/trees.txt": check_tree,
    "streams/good.txt": check_stream,
    "streams/bad.txt": check_stream,
}


# Cases with two things wrong, of which a reader may meet either first.
EITHER = {"a writer of two": "type"}


def check_case(check, c):
    """What is wrong with a case, or None."""
    want = dict.get(c, "error")
    try:
        check(c)
    except Refused as e:
        return None if want and e.word in (want, EITHER.get(dict.get(c, "case"))) else f"{e}" + (f", where {want} was expected" if want else "")
    if want:
        return f"accepted, where {want} was expected"
    left = set(c) - c.seen
    return f"nobody looked at {sorted(left)}" if left else None


def check_all(directory):
    """Checks all vectors, yields a line for each file, and raises for the first that fails."""
    there = {
        os.path.relpath(os.path.join(d, f), directory) for d, _, files in os.walk(directory) for f in files
    }  # fmt: skip
    must(there == set(FILES), "files", f"of vectors: {sorted(there ^ set(FILES))}")
    bad = []
    for name, check in FILES.items():
        n = refused = 0
        for i, c in enumerate(cases(os.path.join(directory, name))):
            wrong = check_case(check, c)
            if wrong:
                bad.append(f"{name}: case {dict.get(c, 'case', i)!r}: {wrong}")
            n, refused = n + 1, refused + ("error" in c)
        yield f"{name}: {n} cases, {refused} of them refused"
    must(not bad, "vectors", "\n  " + "\n  ".join(bad))


