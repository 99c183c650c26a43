"""Perceptual hashes of frames: 256 bits of a frame's low spatial frequencies, the same on every machine.

As PDQ (Facebook, ThreatExchange, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019): of
a 64 x 64 grey the 16 x 16 lowest frequencies but the constant ones, each a bit that says whether it is above their
median. Offsets and gains of brightness change no bit, encoding and scaling few.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

HASH_BYTES = 32
_LOWEST = 16
_GREY_STEPS = 16.0
_BASIS_STEPS = 1024.0


@cache
def _cosines(cells: int) -> NDArray[np.float64]:
    """(16, cells) cosines of the frequencies 1 to 16, as whole numbers."""
    phase = np.outer(np.arange(1, _LOWEST + 1), 2 * np.arange(cells) + 1) * (np.pi / (2 * cells))
    return np.rint(np.cos(phase) * _BASIS_STEPS)


def frame_hash(grey: NDArray[np.float64]) -> Bytes:
    """(32,) hash of (H, W) mean brightnesses on 0..255; zeros where either side has fewer than 17 cells.

    Whole numbers below 2^53 throughout: no order of adding, and so no BLAS, changes a bit. A hash is never all zeros:
    half of its bits are set, but for ties.
    """
    height, width = grey.shape
    if min(height, width) <= _LOWEST:
        return np.zeros(HASH_BYTES, np.uint8)
    whole = np.rint(grey * _GREY_STEPS)
    low = (_cosines(height) @ whole @ _cosines(width).T).reshape(-1)
    upper = len(low) // 2
    ordered = np.partition(low, (upper - 1, upper))
    return np.packbits(2 * low > ordered[upper - 1] + ordered[upper])


def distances(a: Bytes, b: Bytes) -> NDArray[np.int64]:
    """(N,) how many of 256 bits differ between rows of hashes (N, 32)."""
    return np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)


def has_hash(hashes: Bytes) -> NDArray[np.bool_]:
    """(N,) whether each of (N, 32) rows is a hash: a frame without contrast, or none at all, has zeros."""
    return np.asarray(hashes.any(axis=1))
