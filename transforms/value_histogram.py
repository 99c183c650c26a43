"""An integer histogram of float64 values that any order of adding and merging leaves the same, with stated bin widths.

Values are keyed by their own bits, which sort as the values do; dropping low bits gives bins that are narrow where
values are small, wide where they are large, and need no range known beforehand. Bits are dropped only as far as the
values need at most BINS bins: exact up to that many distinct values. The number of bits dropped depends on the set of
values alone: more values never need fewer, so parts that are merged end where the whole would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 16_384
"""Bins that one histogram has at most."""
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
Keys = NDArray[np.int64]


@dataclass(frozen=True)
class ValueHistogram:
    """`counts` (B,) of values whose key without its `dropped` low bits is `keys` (B,), ascending."""

    dropped: int
    keys: Keys
    counts: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Values counted."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Quantile:
    """A quantile as the histogram knows it: within `bin_width` of the exact one (numpy.quantile, method linear)."""

    value: float
    bin_width: float


EMPTY = ValueHistogram(0, np.empty(0, np.int64), np.empty(0, np.int64))


def keys_of(values: NDArray[np.float64]) -> Keys:
    """Integers that sort as finite values do; -0.0 is 0.0."""
    bits = (values + 0.0).view(np.int64)
    return np.where(bits >= 0, bits, -(bits & _MAGNITUDE))


def values_of(keys: Keys) -> NDArray[np.float64]:
    """The values back from their keys."""
    bits = np.where(keys >= 0, keys, -keys | ~_MAGNITUDE)
    return bits.view(np.float64)


def histogram(values: NDArray[np.float64]) -> ValueHistogram:
    """The histogram of (N,) finite values."""
    keys, counts = np.unique(keys_of(values), return_counts=True)
    return _within_limit(ValueHistogram(0, keys, counts.astype(np.int64)))


def merge(a: ValueHistogram, b: ValueHistogram) -> ValueHistogram:
    """The histogram of both sets of values: commutative, associative, and the same as of the whole at once."""
    dropped = max(a.dropped, b.dropped)
    keys = np.concatenate([a.keys >> (dropped - a.dropped), b.keys >> (dropped - b.dropped)])
    return _within_limit(_collected(dropped, keys, np.concatenate([a.counts, b.counts])))


def _collected(dropped: int, keys: Keys, counts: NDArray[np.int64]) -> ValueHistogram:
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    return ValueHistogram(dropped, keys[first], np.add.reduceat(counts, first) if len(first) else counts)


def _within_limit(found: ValueHistogram) -> ValueHistogram:
    if len(found.keys) <= BINS:
        return found
    # keys ascend, so a bin begins wherever a neighbour differs above the dropped bits: fewer than BINS may
    differs = (found.keys[1:] ^ found.keys[:-1]).view(np.uint64)
    more = int(np.partition(differs, len(differs) - BINS)[len(differs) - BINS]).bit_length()
    return _collected(found.dropped + more, found.keys >> more, found.counts)


def quantile(found: ValueHistogram, fraction: float) -> Quantile:
    """The quantile between the two order statistics around it, each taken at the middle of its bin.

    Raises ValueError of an empty histogram.
    """
    if not found.count:
        raise ValueError("no value was counted; a quantile needs at least one")
    rank = fraction * (found.count - 1)
    below = int(rank)
    above = min(below + 1, found.count - 1)
    reach = np.cumsum(found.counts)
    at = np.searchsorted(reach, [below, above], side="right")
    low = values_of(found.keys[at] << found.dropped)
    high = values_of((found.keys[at] << found.dropped) + ((1 << found.dropped) - 1))
    middle = low / 2 + high / 2 if found.dropped else low
    share = rank - below
    value = float(middle[0] * (1 - share) + middle[1] * share) if middle[0] != middle[1] else float(middle[0])
    return Quantile(value, float(np.max(high - low)))
