"""Candidate pairs as Arrow rows, parted so that equal pairs meet; then each pair once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.buckets import Pairs
from transforms.deduplication.minhash import mix64


def pair_rows(parts: Iterable[Pairs], partitions: int) -> Iterator[Parted]:
    """(partition, Arrow rows of a, b): pairs of one first document share a partition, where its shingles are read."""
    held = distinct(parts)
    yield from parted({"a": held.a, "b": held.b}, mix64(held.a.view(np.uint64)), partitions)


def pairs_of(batches: Iterable[pa.RecordBatch]) -> Pairs:
    """The distinct pairs of Arrow rows of a, b."""
    held = [Pairs(batch.column("a").to_numpy(), batch.column("b").to_numpy()) for batch in batches]
    return distinct(held)


def distinct(parts: Iterable[Pairs]) -> Pairs:
    """Each pair once, by (a, b)."""
    held = list(parts)
    none = np.zeros(0, np.int64)
    a, b = (np.concatenate([none, *(getattr(part, end) for part in held)]) for end in ("a", "b"))
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    fresh = np.ones(len(a), np.bool_)
    fresh[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return Pairs(a[fresh], b[fresh])
