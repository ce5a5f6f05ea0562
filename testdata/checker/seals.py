"""Sessions and blobs: docs/format/crypto.md, "Session", "Blob" and "Reading"."""

import hmac

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from keys import hpke_open, mac, sha256
from refused import Refused, must

SUITES = {1: AESGCM, 2: ChaCha20Poly1305}
MIB = 1 << 20


def limit(kind):
    return 16 * MIB if kind == 0 else 4 * MIB


def padded(n):
    """P: Padme."""
    e = n.bit_length() - 1
    step = 1 << (e - e.bit_length())
    return -(-n // step) * step


class Session:
    """A session that key can open, or the half of it that it has a seed for."""

    def __init__(self, key, s):
        must(len(s) == 2349 and s[:4] == b"PVS1" and s[4] in SUITES, "ErrSession", "form")
        must(s[5:13] == key.id, "ErrKeyID", s[5:13].hex())
        self.sid, self.suite, self.secrets = sha256(s), s[4], {}
        for half, at in (("meta", 13), ("data", 13 + 1168)):
            private = key.private(half)
            if private is None:
                continue
            info = b"preserve/v1/session " + half.encode() + b"\0" + s[4:13]
            secret = hpke_open(private, info, s[at : at + 1168])
            must(secret is not None and len(secret) == 32, "ErrSession", f"E({half}) does not open")
            self.secrets[half] = secret


def refs_fit(kind, refs):
    n, rest = divmod(len(refs), 32)
    must(0 <= kind <= 9, "ErrKind")
    must(rest == 0, "ErrRefs")
    must(n <= 65536, "ErrLimit")
    must({0: n == 0, 1: True, 9: n == 1}.get(kind, n >= 1), "ErrRefs")
    return n


def head_of(kind, refs):
    return bytes([kind]) + (len(refs) // 32).to_bytes(4, "big") + refs


def blob_id(key, kind, refs, plain):
    return mac(key.get("id.meta" if kind else "id.data"), head_of(kind, refs) + plain)


def blob_key(session, kind, ident):
    return mac(session.secrets["meta" if kind else "data"], b"preserve/v1/blob" + session.sid + ident)


def open_blob(key, session, ident, kind, refs, sealed):
    """The plaintext of a blob, and what was inside its seal."""
    refs_fit(kind, refs)
    must(session is not None, "ErrNoSession")
    must(("meta" if kind else "data") in session.secrets, "ErrNeedsKey", "a list key opens no data")
    must(len(sealed) >= 12 + 16 + 5, "ErrSealed", "too short")
    must(len(sealed) <= 28 + padded(5 + limit(kind)), "ErrLimit", "the sealed form")
    try:
        k = blob_key(session, kind, ident)
        inside = SUITES[session.suite](k).decrypt(sealed[:12], sealed[12:], head_of(kind, refs))
    except InvalidTag:
        raise Refused("ErrSealed", "does not open") from None
    size = int.from_bytes(inside[1:5], "big")
    must(5 + size <= len(inside) == padded(5 + size), "ErrPadding", "length")
    must(not any(inside[5 + size :]), "ErrPadding", "not zeros")
    plain = decode(inside[0], inside[5 : 5 + size], limit(kind))
    must(len(plain) <= limit(kind), "ErrLimit", "the plaintext")
    must(hmac.compare_digest(blob_id(key, kind, refs, plain), ident), "ErrID")
    return plain, inside


def decode(codec, b, most):
    must(codec in (0, 1), "ErrCodec", f"codec {codec}")
    return b if codec == 0 else unzstd(b, most)


def unzstd(b, most):
    """The content of exactly one frame. RFC 8878, 3.1.1, is walked here: the
    library would let pass a second frame and bytes behind it."""
    must(len(b) >= 6 and b[:4] == bytes.fromhex("28b52ffd"), "ErrCodec", "no frame")
    d = b[4]
    must(d & 8 == 0, "ErrCodec", "the reserved bit")
    single, dictionary, size_flag = d >> 5 & 1, (0, 1, 2, 4)[d & 3], d >> 6
    at, window = 5, None
    if not single:
        exponent, mantissa = b[at] >> 3, b[at] & 7
        window = (1 << (10 + exponent)) // 8 * (8 + mantissa)
        must(window <= 16 * MIB, "ErrCodec", "a window of more than 16 MiB")
        at += 1
    must(not any(b[at : at + dictionary]), "ErrCodec", "a dictionary")
    at += dictionary
    size_len = (1 if single else 0, 2, 4, 8)[size_flag]
    must(size_len and at + size_len <= len(b), "ErrCodec", "no size of the content")
    size = int.from_bytes(b[at : at + size_len], "little") + (256 if size_len == 2 else 0)
    must(size <= most, "ErrLimit", "the content's size")
    at += size_len
    largest = min(size if single else window, 128 << 10)  # Block_Maximum_Size
    last = False
    while not last:
        must(at + 3 <= len(b), "ErrCodec", "cut short")
        block = int.from_bytes(b[at : at + 3], "little")
        last, kind, n = block & 1, block >> 1 & 3, block >> 3
        must(kind != 3, "ErrCodec", "the reserved type")
        must(n <= largest, "ErrCodec", "a block over Block_Maximum_Size")
        must(kind != 2 or n >= 2, "ErrCodec", "a compressed block of less than two bytes")
        at += 3 + (1 if kind == 1 else n)
    at += 4 if d & 4 else 0
    must(at == len(b), "ErrCodec", "bytes behind the frame, or too few")
    try:
        plain = zstandard.ZstdDecompressor(max_window_size=16 * MIB).decompress(b) if size else zstd_empty(b)
    except zstandard.ZstdError as e:
        raise Refused("ErrCodec", str(e)) from None
    must(len(plain) == size, "ErrCodec", "another size than the frame says")
    return plain


def zstd_empty(b):
    """The library's decompress believes a size of 0 and looks no further."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(b)
