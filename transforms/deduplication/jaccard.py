"""Exact Jaccard similarity of many pairs of documents at once."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from transforms.deduplication.shingles import Shingles

Rows = NDArray[np.int64]

_CHUNK_HASHES = 1 << 22
"""Shingles that the array code sorts at once: some 100 MB."""


@lru_cache(1)
def pair_kernels() -> ModuleType | None:
    """`transforms.deduplication.numba_pairs`, or None without numba; then arrays give the same numbers."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return None
    return importlib.import_module("transforms.deduplication.numba_pairs")


def jaccards(shingles: Shingles, a: Rows, b: Rows) -> NDArray[np.float64]:
    """(M,) |A and B| / |A or B| of documents a[i] and b[i], shingles sorted and unique; 0 for two empty ones."""
    twin = pair_kernels()
    if twin is None:
        shared = _shared_by_arrays(shingles, a, b)
    else:
        shared = twin.shared_counts(shingles.hashes, shingles.offsets, a, b)
    sizes = shingles.sizes()
    union = sizes[a] + sizes[b] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(a)), where=union > 0))


def may_reach(sizes: Rows, a: Rows, b: Rows, threshold: float) -> NDArray[np.bool_]:
    """Whether sizes alone allow a Jaccard of `threshold`: |A and B| <= min, |A or B| >= max. Loses nothing."""
    small, large = np.minimum(sizes[a], sizes[b]), np.maximum(sizes[a], sizes[b])
    return (small > 0) & (small >= threshold * large)


def _shared_by_arrays(shingles: Shingles, a: Rows, b: Rows) -> Rows:
    """A pair's two lists sorted as one: each shared shingle stands beside its equal."""
    sizes = shingles.sizes()
    bounds = np.cumsum(np.concatenate([[0], sizes[a] + sizes[b]]))
    out = np.empty(len(a), np.int64)
    start = 0
    while start < len(a):
        stop = max(int(np.searchsorted(bounds, bounds[start] + _CHUNK_HASHES, "right")) - 1, start + 1)
        ends = np.concatenate([a[start:stop], b[start:stop]])
        pair = np.tile(np.arange(stop - start), 2)
        places = spans(shingles.offsets[ends], sizes[ends])
        pair = np.repeat(pair, sizes[ends])
        held = shingles.hashes[places]
        order = np.lexsort((held, pair))
        held, pair = held[order], pair[order]
        same = (held[1:] == held[:-1]) & (pair[1:] == pair[:-1])
        out[start:stop] = np.bincount(pair[1:][same], minlength=stop - start)
        start = stop
    return out


def spans(starts: Rows, sizes: Rows) -> Rows:
    """start, start + 1, ... of each span, one after another."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - sizes), sizes)
