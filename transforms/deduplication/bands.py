"""Bands of MinHash signatures as Arrow rows, parted so that rows of one bucket meet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

import transforms.coders
from transforms.deduplication.minhash import Ints, band_keys, mix64
from transforms.handlers.minhash import DocumentBlock


def band_rows(
    block: DocumentBlock, signed: Ints, bands: int, rows: int, partitions: int
) -> Iterator[tuple[int, bytes]]:
    """(partition, Arrow rows of band, key, id) of a block: rows that share a bucket share a partition."""
    keys = band_keys(signed, bands, rows)
    band = np.broadcast_to(np.arange(bands, dtype=np.uint16), keys.shape).reshape(-1)
    flat = keys.reshape(-1)
    owner = np.repeat(np.arange(len(block.ids)), bands)
    part = (mix64(flat + band) % np.uint64(partitions)).astype(np.int64)
    ids = pa.array(block.ids, pa.string())
    for p in np.unique(part):
        own = np.flatnonzero(part == p)
        columns = [pa.array(band[own]), pa.array(flat[own]), ids.take(pa.array(owner[own]))]
        yield int(p), transforms.coders.to_ipc(pa.record_batch(columns, ["band", "key", "id"]))
