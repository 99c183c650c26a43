"""MinHash signatures and LSH bands, the same bits on every backend: wrapping int32, signed minimum.

A signature value is the minimum over a document's shingles of `a * x + b`, a odd, x mixed to 32 bits. On the circle of
int32 that is the shingle next after one place; the next before it, and both at the opposite place, are the minima of
three more such forms, of `-a` and of `b + 2^31`. So one product serves four permutations (Min-Max Hash: Ji, Li,
Yan, Tian, Zhang, ICDM 2013, where the maximum joins the minimum without bias and with no more variance).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.deduplication.compiled import compiled
from transforms.deduplication.shingles import Hashes as Hashes
from transforms.deduplication.shingles import Offsets, blocks, read_only

Ints = NDArray[np.int32]

OPPOSITE = np.int32(-(2**31))
"""2^31 in int32: half the circle. Its addition and its exclusive or are the same."""
_BLOCK_SHINGLES = 1 << 17
"""Shingles worked on at once: their 512 KiB stay in the cache while every permutation passes over them."""


@dataclass(frozen=True)
class Permutations:
    """`count` = P permutations of int32 by Q = ceil(P / 4) products: `a` (Q,), all odd, and `b` (Q,).

    The p-th signature value comes from product p mod Q, by form p div Q: minimum of (a, b), of (a, b + 2^31), of
    (-a, -b - 1), of (-a, -b - 1 + 2^31).
    """

    a: Ints
    b: Ints
    count: int

    def __post_init__(self) -> None:
        products = -(-self.count // 4)
        if not len(self.a) == len(self.b) == products:
            raise ValueError(f"{len(self.a)} multipliers, {len(self.b)} offsets; {self.count} values need {products}")

    def linear(self) -> tuple[Ints, Ints]:
        """Multipliers (P,) and offsets (P,) of every `a * x + b` whose minimum is a value."""
        a, b = self.a, self.b
        multipliers = np.concatenate([a, a, np.negative(a), np.negative(a)])
        offsets = np.concatenate([b, b ^ OPPOSITE, ~b, ~b ^ OPPOSITE])
        return multipliers[: self.count], offsets[: self.count]


def permutations(count: int, seed: int) -> Permutations:
    """`count` permutations of int32 from a seed."""
    if count < 1:
        raise ValueError(f"{count} permutations; need at least 1")
    shape = (2, -(-count // 4))
    draw = np.random.Generator(np.random.PCG64(seed)).integers(0, 1 << 32, shape, np.uint64).astype(np.uint32)
    return Permutations((draw[0] | np.uint32(1)).view(np.int32), draw[1].view(np.int32), count)


def mix32(shingles: Hashes) -> Ints:
    """64-bit shingles folded to 32 bits and mixed (lowbias32, nullprogram.com/blog/2018/07/31), as int32."""
    x = (shingles ^ (shingles >> np.uint64(32))).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x.view(np.int32)


def mix64(x: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def signatures(shingles: Hashes, offsets: Offsets, perms: Permutations, threads: int = 1) -> Ints:
    """(N, P) signatures of N documents, the i-th holding `shingles[offsets[i]:offsets[i + 1]]`; order is no matter.

    By numba on `threads` threads where it is installed, else by NumPy on one. Raises ValueError for a document without
    shingles: it has no signature and must abstain before.
    """
    sizes = np.diff(offsets)
    if len(sizes) and sizes.min() < 1:
        raise ValueError(f"document {int(np.argmin(sizes))} has no shingles; leave it out of the block")
    twin = compiled()
    if twin is None:
        return numpy_signatures(shingles, offsets, perms)
    shingles, offsets = read_only(shingles), read_only(offsets)
    out = np.empty((len(sizes), perms.count), np.int32)
    if threads == 1:
        twin.signatures(shingles, offsets, perms.a, perms.b, out)
        return out
    share = max(-(-len(shingles) // threads), 1)
    with ThreadPoolExecutor(threads) as pool:
        done = [
            pool.submit(twin.signatures, shingles, offsets[start : stop + 1], perms.a, perms.b, out[start:stop])
            for start, stop in blocks(offsets, share)
        ]
        for part in done:
            part.result()
    return out


def numpy_signatures(shingles: Hashes, offsets: Offsets, perms: Permutations) -> Ints:
    """As `signatures`, by NumPy alone."""
    out = np.empty((4 * len(perms.a), len(offsets) - 1), np.int32)
    rows = out.reshape(4, len(perms.a), len(offsets) - 1)
    hashed = mix32(shingles)
    for start, stop in blocks(offsets, _BLOCK_SHINGLES):
        x = hashed[offsets[start] : offsets[stop]]
        bounds = offsets[start:stop] - offsets[start]
        scratch = np.empty_like(x)
        circle = scratch.view(np.uint32)
        for product in range(len(perms.a)):
            np.multiply(x, perms.a[product], out=scratch)
            np.add(scratch, perms.b[product], out=scratch)
            least, opposite_least, most, opposite_most = rows[:, product, start:stop]
            np.minimum.reduceat(scratch, bounds, out=least)
            np.minimum.reduceat(circle, bounds, out=opposite_least.view(np.uint32))
            np.maximum.reduceat(scratch, bounds, out=most)
            np.maximum.reduceat(circle, bounds, out=opposite_most.view(np.uint32))
    rows[1::2] ^= OPPOSITE
    np.invert(rows[2:], out=rows[2:])
    return np.ascontiguousarray(out[: perms.count].T)


def band_keys(signed: Ints, bands: int, rows: int) -> Hashes:
    """(N, bands) uint64 keys: rows of equal keys in a band have, but for a 2^-64 chance, equal `rows` values."""
    if signed.shape[1] != bands * rows:
        raise ValueError(f"signatures have {signed.shape[1]} values; {bands} bands of {rows} rows need {bands * rows}")
    values = signed.view(np.uint32).astype(np.uint64).reshape(len(signed), bands, rows)
    keys = np.zeros((len(signed), bands), np.uint64)
    for row in range(rows):
        keys = mix64(keys * np.uint64(0x9E3779B97F4A7C15) + values[:, :, row] + np.uint64(1))
    return keys


def jaccard(a: Hashes, b: Hashes) -> float:
    """Exact Jaccard similarity of two sorted unique arrays; 0.0 where both are empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - shared
    return shared / union if union else 0.0
