"""Keys: docs/format/crypto.md, "Notation" and "Keys"."""

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata

from argon2 import low_level
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import mlkem
from refused import Refused, must

KINDS = ["MASTER", "WRITE", "LIST", "READ", "CUT"]
FIELDS = [
    [("master", 32)],
    [
        ("id.meta", 32), ("id.data", 32), ("cut", 32), ("meta.pk", 1216), ("data.pk", 1216),
        ("writer.seed", 32), ("cert", 64),
    ],
    [("id.meta", 32), ("meta.seed", 32), ("root.pk", 32)],
    [("id.meta", 32), ("id.data", 32), ("meta.seed", 32), ("data.seed", 32), ("root.pk", 32)],
    [("cut", 32)],
]  # fmt: skip
NAME = re.compile(rb"[a-z0-9._-]{1,32}\Z")
LIMIT = 16 << 10


def sha256(b):
    return hashlib.sha256(b).digest()


def mac(key, b):
    return hmac.new(key, b, hashlib.sha256).digest()


def expand(prk, info, n):
    out, block, i = b"", b"", 1
    while len(out) < n:
        block = mac(prk, block + info + bytes([i]))
        out, i = out + block, i + 1
    return out[:n]


def kdf(k, label):
    return expand(mac(bytes(32), k), b"preserve/v1/" + label.encode(), 32)


def ed25519_public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed, b):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(b)


def verify(public, sig, b):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(sig, b)
        return True
    except (InvalidSignature, ValueError):
        return False


def certified(writer, name):
    return b"preserve/v1/writer\0" + writer + name


def verify_writer(root, writer, name, cert):
    must(NAME.match(name) and verify(root, cert, certified(writer, name)), "ErrCert", "of the writer")


def verify_snapshot(root, ident, sig, writer, name, cert):
    verify_writer(root, writer, name, cert)
    must(verify(writer, sig, b"preserve/v1/snapshot\0" + ident), "ErrSignature", "of the snapshot")


# X-Wing and HPKE.


class XWing:
    """The private key of a seed."""

    def __init__(self, seed):
        d, z, x = (hashlib.shake_256(seed).digest(96)[i : i + 32] for i in (0, 32, 64))
        self.kem = mlkem.PrivateKey(d, z)
        self.x = X25519PrivateKey.from_private_bytes(x)
        self.x_public = self.x.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = self.kem.ek + self.x_public

    def decapsulate(self, ct):
        ct_m, ct_x = ct[: mlkem.CT_LEN], ct[mlkem.CT_LEN :]
        # A shared secret of zeros is a ValueError here.
        ss_x = self.x.exchange(X25519PublicKey.from_public_bytes(ct_x))
        return mlkem.sha3_256(self.kem.decapsulate(ct_m) + ss_x + ct_x + self.x_public + bytes.fromhex("5c2e2f2f5e5c"))


SUITE = b"HPKE" + bytes.fromhex("647a00010003")


def hpke_open(private, info, sealed):
    """The plaintext, or None if it does not open."""

    def extract(salt, label, ikm):
        return mac(salt or bytes(32), b"HPKE-v1" + SUITE + label + ikm)

    def labeled(prk, label, context, n):
        return expand(prk, n.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + context, n)

    try:
        shared = private.decapsulate(sealed[:1120])
        context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
        secret = extract(shared, b"secret", b"")
        key, nonce = labeled(secret, b"key", context, 32), labeled(secret, b"base_nonce", context, 12)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[1120:], b"")
    except (InvalidTag, ValueError):
        return None


# Key files.


class Key:
    """What a key file holds: kind, id, name and fields, and what follows from them."""

    def __init__(self, kind, ident, name, fields):
        self.kind, self.id, self.name, self.fields = kind, ident, name, dict(fields)
        if kind == 0:
            self.fields.update(derive(self.fields["master"]))
        self._private = {}

    def get(self, field):
        return self.fields.get(field)

    def private(self, half):
        """The KEM's private key for "meta" or "data", or None."""
        seed = self.get(half + ".seed")
        if seed is not None and half not in self._private:
            self._private[half] = XWing(seed)
        return self._private.get(half)


def derive(master):
    """What follows from a master key, but for the public keys of the KEM, which are slow."""
    f = {
        "id.meta": kdf(master, "id meta"),
        "id.data": kdf(master, "id data"),
        "cut": kdf(master, "cut"),
        "meta.seed": kdf(master, "kem meta"),
        "data.seed": kdf(master, "kem data"),
        "writer.seed": kdf(master, "writer"),
    }
    root = kdf(master, "sign root")
    f["root.pk"] = ed25519_public(root)
    f["writer.pk"] = ed25519_public(f["writer.seed"])
    f["cert"] = sign(root, certified(f["writer.pk"], b"master"))
    return f


def key_id(master):
    return kdf(master, "key id")[:8]


def parse_body(b):
    """The content of a key file's PEM block."""
    must(len(b) >= 4 and b[:3] == b"PVK", "ErrNotKey")
    must(b[:4] == b"PVK1", "ErrVersion")
    must(len(b) >= 4 + 1 + 8 + 1 + 8 and sha256(b[:-8])[:8] == b[-8:], "ErrChecksum")
    kind, ident, size = b[4], b[5:13], b[13]
    must(kind < len(KINDS), "ErrKind")
    must(14 + size <= len(b) - 8, "ErrLength", "a name longer than the file")
    name, rest = b[14 : 14 + size], b[14 + size : -8]
    must(bool(name) == (kind == 1) and (not name or NAME.match(name)) and name != b"master", "ErrName")
    must(len(rest) == sum(n for _, n in FIELDS[kind]), "ErrLength")
    fields, at = [], 0
    for field, n in FIELDS[kind]:
        fields.append((field, rest[at : at + n]))
        at += n
    for field, value in fields:
        must(field != "master" or key_id(value) == ident, "ErrID")
        must(not field.endswith(".pk") or len(value) != 1216 or mlkem.is_public_key(value[:1184]), "ErrField")
    return Key(kind, ident, name.decode(), fields)


WHITE = b" \t\r\n"  # no other white space counts as such in key files


def pem(text, labels):
    """The label and content of the one PEM block in text."""
    must(len(text) <= LIMIT, "ErrLength", "a file of more than 16 KiB")
    must(text.count(b"-----BEGIN ") == 1, "ErrNotKey", "not one block")
    lines = [l.rstrip(b" \t\r") for l in text[text.index(b"-----BEGIN ") :].split(b"\n")]
    at = text.index(b"-----BEGIN ")
    must(at == 0 or text[at - 1 : at] == b"\n", "ErrNotKey", "text before BEGIN")
    m = re.fullmatch(rb"-----BEGIN ([A-Z ]+)-----", lines[0])
    must(m, "ErrNotKey", "text behind BEGIN")
    label = m[1].decode()
    end = b"-----END " + m[1] + b"-----"
    must(end in lines, "ErrNotKey", "no END")
    last = lines.index(end)
    must(not b"".join(lines[last + 1 :]).strip(WHITE), "ErrNotKey", "text behind END")
    must(label in labels, "ErrNotKey", label)
    try:
        body = b"".join(lines[1:last]).translate(None, WHITE)
        return label, base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("ErrNotKey", "no base64") from None


def parse(text):
    """A key file."""
    label, body = pem(text, [f"PRESERVE {k} KEY" for k in KINDS])
    key = parse_body(body)
    must(label == f"PRESERVE {KINDS[key.kind]} KEY", "ErrKind", "the label is of another kind")
    return key


# Wrapped keys.


def white(c):
    """White space as Unicode has it: the property White_Space."""
    return c in "\t\n\v\f\r\x85" or unicodedata.category(c) in ("Zs", "Zl", "Zp")


def typed(passphrase):
    """The passphrase that is meant, bytes of UTF-8 or not: one space for white space."""
    s = passphrase.decode("utf-8", "surrogateescape")
    words = "".join(" " if white(c) else c for c in s).split(" ")
    return " ".join(w for w in words if w).encode("utf-8", "surrogateescape")


def unwrap_body(b, passphrase):
    """The key in the content of a wrapped key."""
    must(b[:3] == b"PVW", "ErrNotWrapped")
    must(b[:4] in (b"PVW1", b"PVW"), "ErrVersion")
    must(len(b) >= 77 + 16, "ErrNotWrapped", "too short")
    t, m, p = int.from_bytes(b[4:8], "big"), int.from_bytes(b[8:12], "big"), b[12]
    must(1 <= t <= 65536 and 1 <= p <= 16 and 8 * p <= m <= 1 << 21, "ErrCost")
    w, ct = b[:77], b[77:]
    a = low_level.hash_secret_raw(
        typed(passphrase), w[13:45], time_cost=t, memory_cost=m, parallelism=p, hash_len=64,
        type=low_level.Type.ID, version=0x13,
    )  # fmt: skip
    must(hmac.compare_digest(a[32:], w[45:]), "ErrPassphrase")
    try:
        return parse_body(ChaCha20Poly1305(a[:32]).decrypt(bytes(12), ct, w))
    except InvalidTag:
        raise Refused("ErrDamaged") from None


def unwrap(text, passphrase):
    """A wrapped key's file."""
    return unwrap_body(pem(text, ["PRESERVE WRAPPED KEY"])[1], passphrase)


# On paper.

BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def paper_check(i, group):
    return BASE32[sha256(b"preserve/v1/paper group\0" + bytes([i]) + group.encode())[0] >> 3]


def paper(master):
    body = base64.b32encode(master + sha256(b"preserve/v1/paper\0" + master)[:8]).decode()
    groups = [body[i : i + 4] for i in range(0, 64, 4)]
    return ["PV1", *(g + paper_check(i, g) for i, g in enumerate(groups))]


def from_paper(text):
    """The master key's 32 bytes."""
    groups = text.upper().split()
    if groups[:1] == ["PV1"]:
        del groups[0]
    must(len(groups) == 16, "ErrNotPaper", "not 16 groups")
    for i, g in enumerate(groups):
        fits = len(g) == 5 and all(c in BASE32 for c in g) and paper_check(i, g[:4]) == g[4]
        must(fits, "ErrGroup", f"group {i + 1}")
    body = base64.b32decode("".join(g[:4] for g in groups))
    must(sha256(b"preserve/v1/paper\0" + body[:32])[:8] == body[32:], "ErrPaper", "the checksum")
    return body[:32]
