"""Shingles of many documents side by side: what MinHash signs and exact Jaccard compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Shingles:
    """The i-th of N documents holds `hashes[offsets[i]:offsets[i + 1]]`: hashes (S,) uint64, offsets (N + 1,) int64."""

    hashes: Hashes
    offsets: Offsets

    def sizes(self) -> Offsets:
        """(N,) shingles of each document."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1


def read_only(values: NDArray[Number]) -> NDArray[Number]:
    """The same values in one piece and unwritable, so that numba compiles for one kind of array, not for several."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view


def blocks(offsets: Offsets, size: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of documents of at most `size` values together, or of one that is larger."""
    start, count = 0, len(offsets) - 1
    while start < count:
        stop = int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1
        stop = min(max(stop, start + 1), count)
        yield start, stop
        start = stop


def joined(parts: Sequence[Shingles]) -> Shingles:
    """The documents of all parts, one part after another."""
    starts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
    hashes = [np.zeros(0, np.uint64), *(part.hashes for part in parts)]
    return Shingles(np.concatenate(hashes), np.concatenate([np.zeros(1, np.int64), *offsets]))


def sorted_unique(shingles: Shingles) -> Shingles:
    """The same documents, each one's shingles in order and once."""
    hashes = shingles.hashes.copy()
    bounds = shingles.offsets.tolist()
    for start, stop in pairwise(bounds):
        hashes[start:stop].sort()
    kept = np.ones(len(hashes), np.bool_)
    kept[1:] = hashes[1:] != hashes[:-1]
    # a document's first shingle counts even where the one before it ended in the same
    kept[shingles.offsets[:-1][shingles.sizes() > 0]] = True
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
    return Shingles(hashes[kept], before[shingles.offsets])
