#!/usr/bin/env python3
"""Puts snapshots with invented times into a restic repository of format 1, for tests.

usage: restic_snapshots.py REPO <lines      RESTIC_PASSWORD is set

Each line is a snapshot as restic stores it, in JSON. It is sealed as restic does it (AES-256-CTR and
Poly1305-AES under the repository's master key) and stored under the SHA-256 of the result.
"""
import base64, hashlib, json, os, subprocess, sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

repo = sys.argv[1]
key = json.loads(subprocess.check_output(["restic", "-q", "-r", repo, "cat", "masterkey"]))
encrypt, k, r = (base64.b64decode(s) for s in (key["encrypt"], key["mac"]["k"], key["mac"]["r"]))
for line in sys.stdin.buffer:
    iv = os.urandom(16)
    sealer = Cipher(algorithms.AES(encrypt), modes.CTR(iv)).encryptor()
    text = sealer.update(line.strip()) + sealer.finalize()
    once = Cipher(algorithms.AES(k), modes.ECB()).encryptor()
    data = iv + text + Poly1305.generate_tag(r + once.update(iv) + once.finalize(), text)
    with open(os.path.join(repo, "snapshots", hashlib.sha256(data).hexdigest()), "wb") as f:
        f.write(data)
