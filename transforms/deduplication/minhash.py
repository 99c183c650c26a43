"""MinHash signatures and LSH bands, the same bits on every backend: wrapping int32, signed minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Hashes = NDArray[np.uint64]

_BLOCK_SHINGLES = 1 << 17
"""Shingles worked on at once: their 512 KiB stay in the cache while every permutation passes over them."""


@dataclass(frozen=True)
class Permutations:
    """Multipliers (P,), all odd, and offsets (P,) of `a * x + b` in wrapping int32."""

    a: Ints
    b: Ints


def permutations(count: int, seed: int) -> Permutations:
    """`count` permutations of int32 from a seed."""
    draw = np.random.Generator(np.random.PCG64(seed)).integers(0, 1 << 32, (2, count), np.uint64).astype(np.uint32)
    return Permutations((draw[0] | np.uint32(1)).view(np.int32), draw[1].view(np.int32))


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


def signatures(shingles: Hashes, offsets: NDArray[np.int64], perms: Permutations) -> Ints:
    """(N, P) signatures of N documents, the i-th holding `shingles[offsets[i]:offsets[i + 1]]`.

    Raises ValueError for a document without shingles: it has no signature and must abstain before.
    """
    sizes = np.diff(offsets)
    if len(sizes) and sizes.min() < 1:
        raise ValueError(f"document {int(np.argmin(sizes))} has no shingles; leave it out of the block")
    out = np.empty((len(perms.a), len(sizes)), np.int32)
    hashed = mix32(shingles)
    start = 0
    while start < len(sizes):
        stop = int(np.searchsorted(offsets, offsets[start] + _BLOCK_SHINGLES, "right")) - 1
        stop = min(max(stop, start + 1), len(sizes))
        x = hashed[offsets[start] : offsets[stop]]
        bounds = offsets[start:stop] - offsets[start]
        scratch = np.empty_like(x)
        for p in range(len(perms.a)):
            np.multiply(x, perms.a[p], out=scratch)
            np.add(scratch, perms.b[p], out=scratch)
            np.minimum.reduceat(scratch, bounds, out=out[p, start:stop])
        start = stop
    return np.ascontiguousarray(out.T)


def padded_signatures(x: Any, perms: Permutations, xp: Any) -> Any:
    """(N, P) signatures of an (N, L) rectangle of mixed int32 shingles, rows padded with a shingle of their own.

    `xp` is an array library with NumPy's names; the same bits as `signatures`, on the device that holds `x`.
    """
    rows = [xp.min(x * int(a) + int(b), axis=1) for a, b in zip(perms.a, perms.b, strict=True)]
    return xp.stack(rows, axis=1)


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
