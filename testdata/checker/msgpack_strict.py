"""Msgpack as docs/format/streams.md, "Encoding", wants it. Debian's msgpack module
forgets what the rules ask for: str or bin, keys twice, the form of a number."""

from refused import Refused, must

DEPTH = 16


class Map(list):
    """Pairs of key and value, in the order of the bytes."""


class Raw(bytes):
    """A foreign value, as it stands."""


class Float(bytes):
    """A float, as it stands."""


class Reader:
    """Reads values one behind the other. short is the error word for an end in the middle."""

    def __init__(self, b, at=0, short="short"):
        self.b, self.at, self.short = b, at, short

    def take(self, n):
        if self.at + n > len(self.b):
            raise Refused(self.short, "ends in the middle of a value")
        self.at += n
        return self.b[self.at - n : self.at]

    def number(self, n, signed=False):
        return int.from_bytes(self.take(n), "big", signed=signed)

    def value(self, depth=1, foreign=False):
        """A value. A foreign one has its numbers and lengths in the shortest form,
        and maps with any keys. A map of a record has str keys, each once."""
        begin, c = self.at, self.number(1)
        got = self.body(c, depth, foreign)
        if foreign and isinstance(got, (int, str, bytes)) and not isinstance(got, (bool, Float)):
            must(encode(got) == self.b[begin : self.at], "canonical", "a number or length in a long form")
        return got

    def body(self, c, depth, foreign):
        if c < 0x80:
            return c
        if c >= 0xE0:
            return c - 0x100
        if c == 0xC0:
            return None
        if c in (0xC2, 0xC3):
            return c == 0xC3
        if c in (0xC4, 0xC5, 0xC6):
            return bytes(self.take(self.number(1 << c - 0xC4)))
        if c in (0xCA, 0xCB):
            return Float(bytes([c]) + self.take(4 if c == 0xCA else 8))
        if 0xCC <= c <= 0xCF:
            return self.number(1 << c - 0xCC)
        if 0xD0 <= c <= 0xD3:
            return self.number(1 << c - 0xD0, signed=True)
        if c & 0xE0 == 0xA0 or 0xD9 <= c <= 0xDB:
            n = c & 31 if c < 0xC0 else self.number(1 << c - 0xD9)
            return self.take(n).decode("utf-8", "surrogateescape")
        if c & 0xF0 == 0x90 or c in (0xDC, 0xDD):
            return self.array(self.length(c, 0x90, 0xDC, foreign), depth, foreign)
        if c & 0xF0 == 0x80 or c in (0xDE, 0xDF):
            return self.map(self.length(c, 0x80, 0xDE, foreign), depth, foreign)
        raise Refused("type", f"byte {c:#x}: an extension type, or none")

    def length(self, c, short, long, foreign):
        n = c & 15 if c & 0xF0 == short else self.number(2 << c - long)
        if foreign:
            least = 1 if n < 16 else 3 if n < 1 << 16 else 5
            have = 1 if c & 0xF0 == short else 3 if c == long else 5
            must(least == have, "canonical", "a length in a long form")
        return n

    def array(self, n, depth, foreign):
        must(depth <= DEPTH, "limit", "nested too deeply")
        return [self.value(depth + 1, foreign) for _ in range(n)]

    def map(self, n, depth, foreign):
        must(depth <= DEPTH, "limit", "nested too deeply")
        got, seen = Map(), set()
        for _ in range(n):
            key = self.value(depth + 1, foreign)
            if foreign:
                got.append((key, self.value(depth + 1, True)))
                continue
            must(isinstance(key, str), "type", "a key that is no str")
            must(len(to_bytes(key)) <= 256, "limit", "a key")
            must(key not in seen, "twice", key)
            seen.add(key)
            if key.startswith("x-"):
                begin = self.at
                self.value(depth + 1, True)
                got.append((key, Raw(self.b[begin : self.at])))
            else:
                got.append((key, self.value(depth + 1)))
        return got


def to_bytes(s):
    return s.encode("utf-8", "surrogateescape")


def sized(n, *forms):
    for most, head, size in forms:
        if n <= most:
            return (bytes([head]) if size else bytes([head + n])) + (n.to_bytes(size, "big") if size else b"")
    raise ValueError("too long")


def encode(v):
    """The canonical form of a value."""
    if isinstance(v, (Raw, Float)):
        return bytes(v)
    if v is None:
        return b"\xc0"
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        return encode_int(v)
    if isinstance(v, bytes):
        return sized(len(v), (255, 0xC4, 1), (65535, 0xC5, 2), (2**32 - 1, 0xC6, 4)) + v
    if isinstance(v, str):
        b = to_bytes(v)
        return sized(len(b), (31, 0xA0, 0), (255, 0xD9, 1), (65535, 0xDA, 2), (2**32 - 1, 0xDB, 4)) + b
    if isinstance(v, Map):
        head = sized(len(v), (15, 0x80, 0), (65535, 0xDE, 2), (2**32 - 1, 0xDF, 4))
        return head + b"".join(encode(k) + encode(x) for k, x in v)
    head = sized(len(v), (15, 0x90, 0), (65535, 0xDC, 2), (2**32 - 1, 0xDD, 4))
    return head + b"".join(map(encode, v))


def encode_int(v):
    if v >= 0:
        return sized(v, (127, 0, 0)) if v < 128 else next(
            bytes([h]) + v.to_bytes(n, "big") for h, n in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)) if v < 1 << 8 * n
        )  # fmt: skip
    if v >= -32:
        return bytes([v + 256])
    return next(
        bytes([h]) + v.to_bytes(n, "big", signed=True)
        for h, n in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8))
        if v >= -(1 << 8 * n - 1)
    )
