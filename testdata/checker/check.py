#!/usr/bin/python3
"""Reads what Preserve wrote, without a line of Preserve: written from docs/format.

    check.py [--passphrase FILE] REPO KEY SNAPSHOT DIR
                                    verifies all packs and the snapshot, and restores it to
                                    DIR, which must not be there; KEY may be wrapped, or paper
    check.py --vectors DIR          checks testdata/vectors
    check.py --flips N REPO KEY SNAPSHOT
                                    flips N bits in each object of REPO (one after the other,
                                    in memory), and wants each of them refused

Needs python3-cryptography, python3-zstandard and python3-argon2. Exit status: 0 all is
well, 1 something was refused, 2 wrong command line, 3 restored, but not all of it.
"""

import sys

sys.dont_write_bytecode = True  # the tests leave nothing in the source tree

import flips  # noqa: E402
import keys  # noqa: E402
import restore  # noqa: E402
import vectors  # noqa: E402
from refused import Refused  # noqa: E402


def passphrase(args):
    if args[:1] == ["--passphrase"] and len(args) > 1:
        return restore.contents(args[1]), args[2:]
    return None, args


def load(path, phrase):
    """The key in a file: a key file, a wrapped key, or paper."""
    text = restore.contents(path)
    if b"PRESERVE WRAPPED KEY-----" in text:
        return keys.unwrap(text, phrase or b"")
    if b"-----BEGIN" not in text and text.lstrip().startswith(b"PV1"):
        master = keys.from_paper(text.decode("ascii", "replace"))
        return keys.Key(0, keys.key_id(master), "", [("master", master)])
    return keys.parse(text)


def run(args):
    phrase, args = passphrase(args)
    if args[:1] == ["--vectors"] and len(args) == 2:
        for line in vectors.check_all(args[1]):
            print(line)
        return 0
    if args[:1] == ["--flips"] and len(args) == 5 and args[1].isdigit():
        for line in flips.check_all(int(args[1]), args[2], load(args[3], phrase), args[4]):
            print(line)
        return 0
    if len(args) != 4 or args[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    repo = restore.Repository(args[0], load(args[1], phrase))
    print(f"{repo.verify_packs()} packs, {len(repo.rows)} records")
    done = restore.Restorer(repo, args[2], args[3])
    print(f"{done.tree.entries} entries, {done.tree.bytes} bytes, written by {done.snapshot['writer'][1]}")
    for note in done.notes:
        print(note, file=sys.stderr)
    return 3 if done.notes or done.omitted else 0


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except (Refused, OSError) as e:
        print(f"check.py: {e}", file=sys.stderr)
        sys.exit(1)
