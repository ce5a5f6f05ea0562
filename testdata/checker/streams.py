"""Whole streams: docs/format/streams.md, "How a stream begins and ends" and "Records"."""

from msgpack_strict import Map, Reader
from records import HEAD, HEAD_KEYS, IN, LIMITS, TABLES, canonical_map, check_blob, check_entry, check_fields, one_of, stored_crc
from refused import Refused, must


class Stream:
    """Reads the bytes of one stream of a kind; records() gives type, fields, where it
    begins and ends, and its canonical form."""

    def __init__(self, b, kind, strict=False):
        self.b, self.kind, self.strict = b, kind, strict

    def records(self):
        r = Reader(self.b, short="cut")
        must(self.b, "empty")
        t, fields, form = self.head(r)
        base = fields.get("base", [])
        yield t, fields, 0, r.at, form
        while t not in ("end", "fail"):
            begin = r.at
            must(begin < len(self.b), "cut", "no end record")
            t, fields, form = self.record(r)
            self.check(begin, r.at, t, form)
            unchanged = t == "end" and fields.get("unchanged")
            must(not unchanged or self.kind == "sealed" and unchanged in base, "not valid", "unchanged")
            yield t, fields, begin, r.at, form
        must(t != "fail", "fail")
        must(r.at == len(self.b), "after")

    def check(self, begin, end, t, form):
        must(end - begin <= LIMITS.get(t, 64 << 10), "limit", f"a record {t}")
        must(not self.strict or form == self.b[begin:end], "canonical", t)

    def head(self, r):
        b, begin = self.b, bytes.fromhex("a174a468656164a87072657365727665")
        fail = bytes.fromhex("a174a46661696c")
        must(b[0] & 0xF0 == 0x80, "not ours")
        rest = b[1 : 1 + len(begin)]
        if b[1 : 1 + len(fail)] == fail:
            t, fields, form = self.record(r)
            raise Refused("fail")
        must(begin.startswith(rest), "not ours")
        must(len(rest) == len(begin), "cut")
        version = Reader(b, 1 + len(begin), "cut").value()
        must(version == 1 and not isinstance(version, bool), "version", f"{version}")
        pairs = r.value()
        fields = dict(pairs[1:])
        kind = fields.get("kind")
        must(kind is not None, "absent", "kind")
        one_of(*HEAD_KEYS)(kind)
        must(kind == self.kind, "kind", kind)
        must(kind != "sealed" or "order" in fields, "unknown", "no order")
        fields = check_fields(pairs[1:], HEAD, HEAD_KEYS[kind])
        form = canonical_map(fields, HEAD, "head")
        self.check(0, r.at, "head", form)
        return "head", fields, form

    def record(self, r):
        pairs = r.value()
        must(isinstance(pairs, Map), "type", "a record that is no map")
        kinds = [v for k, v in pairs if k == "t"]
        must(kinds, "absent", "t")
        t = kinds[0]
        must(isinstance(t, str), "type", "t")
        must(t != "head", "twice", "a second head")
        must(t in IN[self.kind], "unknown", t)
        pairs = Map((k, v) for k, v in pairs if k != "t")
        if t == "entry":
            return t, *check_entry(pairs, False)
        fields = check_fields(pairs, TABLES[t])
        if t == "blob":
            check_blob(fields)
        if t == "stored":
            must(stored_crc(fields) == fields["crc"], "checksum", "of what the repository says")
        must(t != "end" or fields["status"] in (0, 3), "not valid", "status")
        return t, fields, canonical_map(fields, TABLES[t], t)
