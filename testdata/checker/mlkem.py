"""ML-KEM-768, written from FIPS 203. Readable and slow; its running time depends
on secrets, so it is for checking and for nothing else. The numbers of algorithms
are those of the standard."""

import hashlib

Q, N, K = 3329, 256, 3
ETA1, ETA2 = 2, 2
DU, DV = 10, 4
EK_LEN, CT_LEN = 384 * K + 32, 32 * (DU * K + DV)


def bit_rev7(i):
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, bit_rev7(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * bit_rev7(i) + 1, Q) for i in range(128)]


def sha3_512(b):  # G
    d = hashlib.sha3_512(b).digest()
    return d[:32], d[32:]


def sha3_256(b):  # H
    return hashlib.sha3_256(b).digest()


def shake256(b, n):  # J and PRF
    return hashlib.shake_256(b).digest(n)


# Encoding: algorithms 5 and 6, and section 4.2.1.


def byte_encode(d, f):
    bits = sum(c << (d * i) for i, c in enumerate(f))
    return bits.to_bytes(32 * d, "little")


def byte_decode(d, b):
    bits = int.from_bytes(b, "little")
    mask = (1 << d) - 1
    f = [(bits >> (d * i)) & mask for i in range(N)]
    return [c % Q for c in f] if d == 12 else f


def compress(d, f):
    return [((c << (d + 1)) + Q) // (2 * Q) % (1 << d) for c in f]


def decompress(d, f):
    return [(c * Q * 2 + (1 << d)) >> (d + 1) for c in f]


# Sampling: algorithms 7 and 8.


def sample_ntt(seed):
    size = 3 * 256
    while True:
        stream = hashlib.shake_128(seed).digest(size)
        a = []
        for i in range(0, size, 3):
            d1 = stream[i] + 256 * (stream[i + 1] % 16)
            d2 = stream[i + 1] // 16 + 16 * stream[i + 2]
            a += [d for d in (d1, d2) if d < Q]
            if len(a) >= N:
                return a[:N]
        size *= 2


def sample_cbd(eta, b):
    bits = int.from_bytes(b, "little")
    f = []
    for i in range(N):
        x = sum(bits >> (2 * i * eta + j) & 1 for j in range(eta))
        y = sum(bits >> (2 * i * eta + eta + j) & 1 for j in range(eta))
        f.append((x - y) % Q)
    return f


# Arithmetic: algorithms 9 to 12.


def ntt(f):
    f, i, length = f[:], 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        length //= 2
    return f


def ntt_inverse(f):
    f, i, length = f[:], 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % Q
                f[j + length] = zeta * (f[j + length] - t) % Q
        length *= 2
    return [c * 3303 % Q for c in f]


def multiply(f, g):
    h = []
    for i in range(128):
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        h += [(a0 * b0 + a1 * b1 * GAMMAS[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return h


def add(f, g):
    return [(a + b) % Q for a, b in zip(f, g)]


def inner(us, vs):
    total = [0] * N
    for u, v in zip(us, vs):
        total = add(total, multiply(u, v))
    return total


def matrix(rho):
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


# K-PKE: algorithms 13 to 15.


def pke_keygen(d):
    rho, sigma = sha3_512(d + bytes([K]))
    a = matrix(rho)
    noise = [ntt(sample_cbd(ETA1, shake256(sigma + bytes([n]), 64 * ETA1))) for n in range(2 * K)]
    s, e = noise[:K], noise[K:]
    t = [add(inner(a[i], s), e[i]) for i in range(K)]
    return b"".join(byte_encode(12, f) for f in t) + rho, b"".join(byte_encode(12, f) for f in s)


def pke_encrypt(ek, m, r):
    t = [byte_decode(12, ek[384 * i : 384 * (i + 1)]) for i in range(K)]
    a = matrix(ek[384 * K :])
    y = [ntt(sample_cbd(ETA1, shake256(r + bytes([n]), 64 * ETA1))) for n in range(K)]
    e1 = [sample_cbd(ETA2, shake256(r + bytes([K + n]), 64 * ETA2)) for n in range(K)]
    e2 = sample_cbd(ETA2, shake256(r + bytes([2 * K]), 64 * ETA2))
    u = [add(ntt_inverse(inner([a[j][i] for j in range(K)], y)), e1[i]) for i in range(K)]
    mu = decompress(1, byte_decode(1, m))
    v = add(add(ntt_inverse(inner(t, y)), e2), mu)
    return b"".join(byte_encode(DU, compress(DU, f)) for f in u) + byte_encode(DV, compress(DV, v))


def pke_decrypt(dk, c):
    step = 32 * DU
    u = [decompress(DU, byte_decode(DU, c[step * i : step * (i + 1)])) for i in range(K)]
    v = decompress(DV, byte_decode(DV, c[step * K :]))
    s = [byte_decode(12, dk[384 * i : 384 * (i + 1)]) for i in range(K)]
    w = [(a - b) % Q for a, b in zip(v, ntt_inverse(inner(s, [ntt(f) for f in u])))]
    return byte_encode(1, compress(1, w))


# ML-KEM: algorithms 16 and 18, and the check of section 7.2.


class PrivateKey:
    def __init__(self, d, z):
        self.ek, self.dk = pke_keygen(d)
        self.z = z

    def decapsulate(self, c):
        if len(c) != CT_LEN:
            raise ValueError("a ciphertext of another length")
        m = pke_decrypt(self.dk, c)
        shared, r = sha3_512(m + sha3_256(self.ek))
        if pke_encrypt(self.ek, m, r) != c:
            return shake256(self.z + c, 32)
        return shared


def is_public_key(ek):
    """Reports whether every number in ek is below the modulus."""
    if len(ek) != EK_LEN:
        return False
    return all(
        byte_encode(12, byte_decode(12, part)) == part for part in (ek[i : i + 384] for i in range(0, 384 * K, 384))
    )
