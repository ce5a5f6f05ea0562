"""Flips single bits of the objects of a repository and wants each refused."""

import os
import random

import keys
import objects
import seals
from refused import Refused, must
from restore import Repository, contents, ids_in


def flipped(b, bit):
    return b[: bit // 8] + bytes([b[bit // 8] ^ 1 << bit % 8]) + b[bit // 8 + 1 :]


def refused(what, b, n, read):
    """Flips n bits of b, spread over it; read must be well before and refuse each then."""
    read(b)
    rand = random.Random(what)  # the same bits in each run
    for bit in [0, 8 * len(b) - 1, *(rand.randrange(8 * len(b)) for _ in range(n - 2))]:
        try:
            read(flipped(b, bit))
        except Refused:
            continue
        raise Refused("flips", f"{what}: bit {bit} of {8 * len(b)} was flipped, and nobody noticed")
    return f"{what}: {n} flipped bits, all refused"


def check_all(n, directory, key, name):
    """A line for each class of object, raises Refused for a flip that passed."""
    repo = Repository(directory, key)
    ident = bytes.fromhex(name)

    def path(*names):
        return os.path.join(directory, *names)

    yield refused("config", contents(path("config")), n, objects.parse_config)
    segment = ids_in(path("index"))[0]
    yield refused("segment", contents(path("index", segment)), n, objects.parse_segment)
    for pack in sorted(repo.packs):
        b = contents(repo.pack_path(pack))
        yield refused(f"pack of {len(b)} bytes", b, n, lambda b, pack=pack: objects.parse_pack(b, pack))

    # A seal by itself, without the checksums of what is around it.
    _, session, f = objects.parse_snapshot_object(contents(path("snapshots", name)), ident)
    opened = seals.Session(key, session)
    yield refused("session", session, n, lambda b: seals.Session(key, b))
    yield refused("sealed blob", f["data"], n, lambda b: seals.open_blob(key, opened, ident, 9, f["refs"], b))
    yield refused("references", f["refs"], n, lambda b: seals.open_blob(key, opened, ident, 9, b, f["data"]))
    yield refused("id", ident, n, lambda b: seals.open_blob(key, opened, b, 9, f["refs"], f["data"]))
    root, s = repo.snapshot(name)
    writer, who, cert = s["writer"]
    who = who.encode()

    def signed(sig=f["sig"], ident=ident, writer=writer, who=who, cert=cert):
        keys.verify_snapshot(key.get("root.pk"), ident, sig, writer, who, cert)

    for what, b in (("sig", f["sig"]), ("ident", ident), ("writer", writer), ("who", who), ("cert", cert)):
        yield refused(f"signature, {what}", b, n, lambda b, what=what: signed(**{what: b}))
    yield page(repo, root, n)


def page(repo, root, n):
    """Whatever a page says that has another bit: its id is another."""
    kind, refs, plain = repo.blob(root, range(1, 9))
    head = b"".join(refs)

    def same(b):
        must(seals.blob_id(repo.key, kind, head, b) == root, "ErrID")

    return refused("plaintext of the root", plain, n, same)
