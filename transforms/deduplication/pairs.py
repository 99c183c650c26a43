"""Candidate pairs as Arrow rows, parted so that equal pairs meet."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import pyarrow as pa

import transforms.coders

Pair = tuple[str, str]
"""Two ids, the smaller first."""


def pair_rows(pairs: Iterable[Pair], partitions: int) -> Iterator[tuple[int, bytes]]:
    """(partition, Arrow rows of a, b) of candidate pairs: the same pair out of two buckets meets in one partition."""
    parts: dict[int, list[Pair]] = {}
    for pair in pairs:
        parts.setdefault(zlib.crc32("\0".join(pair).encode()) % partitions, []).append(pair)
    for part, members in sorted(parts.items()):
        columns = [pa.array(end, pa.string()) for end in zip(*members, strict=True)]
        yield part, transforms.coders.to_ipc(pa.record_batch(columns, ["a", "b"]))
