"""Vectors as they flow: Arrow blocks of documents' rows and int8 vectors, and the clusters that each is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.night_index import Columns
from transforms.deduplication.vector_products import NONE

Near = NDArray[np.int32]
"""(N, R) numbers of the clusters that N vectors are in, `NONE` in place of some."""


def nearest_column(found: Near) -> pa.Array:
    """Nearest centroids (N, R) as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])


def matrix_of(column: pa.Array) -> Near:
    """A fixed-size list of int32 as (N, R)."""
    return np.asarray(column.flatten().to_numpy().reshape(-1, column.type.list_size))


def cluster_rows(block: pa.RecordBatch, partitions: int) -> Iterator[Parted]:
    """(partition, Arrow rows of key, row, near0, near1, ...) of a block with the columns row and nearest.

    `key` is a cluster; a row comes once for each of its clusters, which `near` are.
    """
    near = matrix_of(block.column("nearest"))
    places = np.nonzero(near != NONE)[0]
    keys = near[near != NONE].astype(np.uint64)
    others = {f"near{turn}": near[places, turn] for turn in range(near.shape[1])}
    yield from parted({"key": keys, "row": block.column("row").to_numpy()[places], **others}, keys, partitions)


def columns_of(batches: Iterable[pa.RecordBatch]) -> Columns:
    """The columns of Arrow rows, one after another."""
    table = pa.Table.from_batches(list(batches))
    return {name: table.column(name).to_numpy() for name in table.column_names}


def clusters_of(new: Columns, earlier: Sequence[Columns]) -> Iterator[tuple[int, Columns, list[Columns]]]:
    """Each cluster of `new` rows: its number, its own rows, and those of each part of `earlier` ones that has some.

    All are in order of (key, row), and so are the clusters.
    """
    keys = np.unique(new["key"])
    bounds = [[np.searchsorted(part["key"], keys, side) for side in ("left", "right")] for part in (new, *earlier)]
    for place, key in enumerate(keys.tolist()):
        own, *others = (
            {name: values[low[place] : high[place]] for name, values in part.items()}
            for part, (low, high) in zip((new, *earlier), bounds, strict=True)
        )
        yield key, own, [part for part in others if len(part["key"])]


def near_of(columns: Columns) -> Near:
    """The clusters (N, R) of rows as `cluster_rows` has them."""
    return np.stack([columns[name] for name in sorted(columns) if name.startswith("near")], axis=1)
