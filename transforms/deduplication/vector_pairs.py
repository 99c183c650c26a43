"""Pairs of like vectors inside one cluster, in tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.deduplication.quantised import Ints, Rows, Threshold, cosines, squared_norms
from transforms.deduplication.vector_products import NONE, TILE, Arrays, Sieve, paired_products

_CANDIDATES = 1 << 15
_CROWDED = 0.02


@dataclass(frozen=True)
class LikePairs:
    """C pairs of rows of one cluster: `a` < `b` (C,), `cosine` (C,)."""

    a: Ints
    b: Ints
    cosine: NDArray[np.float64]


def like_pairs(rows: Rows, low: int, high: int, threshold: Threshold, arrays: Arrays) -> Iterator[LikePairs]:
    """Pairs a < b of distinct rows (M, D) with low <= b < high whose cosine reaches the threshold, tile by tile."""
    rows = rows[:high]
    squares = squared_norms(rows)
    sieve = Sieve.of(rows, squares, high - low)
    for top in range(low, high, TILE):
        right = slice(top, min(top + TILE, high))
        for start in range(0, right.stop, TILE):
            left = slice(start, min(start + TILE, right.stop))
            a, b = sieve.sift(left, right, threshold.value, _CROWDED, arrays)
            a, b = a + start, b + top
            if left.stop > top:
                a, b = a[a < b], b[a < b]
            yield from _decided(rows, squares, a, b, threshold)


def _decided(rows: Rows, squares: Ints, a: Ints, b: Ints, threshold: Threshold) -> Iterator[LikePairs]:
    for start in range(0, len(a), _CANDIDATES):
        own_a, own_b = a[start : start + _CANDIDATES], b[start : start + _CANDIDATES]
        dots, products = paired_products(rows[own_a], rows[own_b]), squares[own_a] * squares[own_b]
        kept = threshold.reached(dots, products)
        if kept.any():
            yield LikePairs(own_a[kept], own_b[kept], cosines(dots[kept], products[kept]))


def first_shared(one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int32]:
    """(C,) the smallest of the clusters (C, R) that two rows share; the largest int32 where they share none."""
    none = np.iinfo(np.int32).max
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2) & (one != NONE)
    return np.asarray(np.where(shared, one, none).min(axis=1))
