"""Bands of MinHash signatures as Arrow rows, parted so that rows of one bucket meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.jaccard import Rows
from transforms.deduplication.minhash import Ints, band_keys, mix64
from transforms.deduplication.shingles import Hashes

Parted = tuple[int, pa.RecordBatch]
"""A partition and Arrow rows of it."""


def band_rows(rows: Rows, ranks: Hashes, signed: Ints, bands: int, band_rows: int, partitions: int) -> Iterator[Parted]:
    """(partition, Arrow rows of key, rank, row) of N signed documents: equal keys are one bucket, in one partition."""
    keys = band_keys(signed, bands, band_rows)
    salt = mix64(np.arange(1, bands + 1, dtype=np.uint64))
    flat = (keys ^ salt).reshape(-1)
    columns = {"key": flat, "rank": np.repeat(ranks, bands), "row": np.repeat(rows, bands)}
    yield from parted(columns, mix64(flat), partitions)


def parted(columns: Mapping[str, NDArray[Any] | pa.Array], hashes: Hashes, partitions: int) -> Iterator[Parted]:
    """(partition, Arrow batch of the columns' values in it), by a hash of each value."""
    part = (hashes % np.uint64(partitions)).astype(np.int64)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(partitions + 1))
    taken = pa.array(order)
    arrays = [v.take(taken) if isinstance(v, pa.Array) else pa.array(v[order]) for v in columns.values()]
    ordered = pa.record_batch(arrays, list(columns))
    for index in np.flatnonzero(np.diff(bounds)).tolist():
        yield index, ordered.slice(bounds[index], bounds[index + 1] - bounds[index])
