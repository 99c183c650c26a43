"""Vectors as they flow: Arrow blocks of distinct int8 rows, each with the ids that have it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.deduplication.quantised import Rows

PLACE = b"place"
"""Key of a block's metadata: the file and row where it starts."""


def row_column(rows: Rows) -> pa.Array:
    """(N, D) int8 rows as a column of D bytes."""
    body = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, body])


def rows_of(batch: pa.RecordBatch) -> Rows:
    """The column `row` as int8 rows (N, D), uncopied."""
    column = batch.column("row")
    width = column.type.byte_width
    rows = np.frombuffer(column.buffers()[1], np.int8, len(column) * width, column.offset * width)
    return rows.reshape(-1, width)


def matrix_of(column: pa.Array) -> NDArray[np.int32]:
    """A fixed-size list of int32 as (N, R)."""
    return np.asarray(column.flatten().to_numpy().reshape(-1, column.type.list_size))


def block_of(ids: Sequence[str], rows: Rows, place: str) -> pa.RecordBatch:
    """A block of N ids with rows (N, D): equal rows once, where they first are, with all their ids in order."""
    body, width = rows.tobytes(), rows.shape[1]
    holders: dict[bytes, list[str]] = {}
    for index, name in enumerate(ids):
        holders.setdefault(body[index * width : (index + 1) * width], []).append(name)
    if len(holders) < len(ids):
        rows = np.frombuffer(b"".join(holders), np.int8).reshape(-1, width)
    columns = [row_column(rows), pa.array(list(holders.values()), pa.list_(pa.string()))]
    return pa.record_batch(columns, ["row", "ids"]).replace_schema_metadata({PLACE: place})


def nearest_column(block: pa.RecordBatch, found: NDArray[np.int32]) -> pa.RecordBatch:
    """The block with a column of each row's nearest centroids (N, R)."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])
    return pa.record_batch([*block.columns, column], [*block.schema.names, "nearest"])


def spread(block: pa.RecordBatch, partitions: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(partition, rows with the column `cluster`) of a block with `nearest`: once for each cluster that a row is in."""
    found = matrix_of(block.column("nearest"))
    cluster = found.reshape(-1)
    owner = np.repeat(np.arange(len(found)), found.shape[1])
    part = cluster % partitions
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(partitions + 1))
    for p in np.flatnonzero(np.diff(bounds)).tolist():
        own = order[bounds[p] : bounds[p + 1]]
        rows = block.take(pa.array(owner[own]))
        yield p, pa.record_batch([*rows.columns, pa.array(cluster[own])], [*rows.schema.names, "cluster"])


def clusters_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
    """Each cluster of a partition as (members, copies): distinct rows by smallest id, and what equals a member.

    Members have the columns id, row, nearest, cluster; copies have a (the member), b (another id of the same row), for
    rows whose first cluster this is. Raises ValueError where one id has two rows of a cluster.
    """
    table = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches]).combine_chunks()
    cluster = table.column("cluster").to_numpy()
    order = np.argsort(cluster, kind="stable")
    numbers, starts = np.unique(cluster[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]
    for number, low, high in zip(numbers.tolist(), bounds[:-1], bounds[1:], strict=True):
        own = table.take(pa.array(order[low:high])).combine_chunks().to_batches()[0]
        yield _distinct(own, number)


def _distinct(batch: pa.RecordBatch, number: int) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    rows, lists = rows_of(batch), batch.column("ids")
    body, width = rows.tobytes(), rows.shape[1]
    first: dict[bytes, int] = {}
    place = np.fromiter(
        (first.setdefault(body[i * width : (i + 1) * width], i) for i in range(len(rows))), np.int64, len(rows)
    )
    flat = lists.flatten()
    sizes = np.asarray(pc.list_value_length(lists), np.int64)
    owner = np.repeat(place, sizes)  # of each id, the row that stands for it
    by_id = np.asarray(pc.sort_indices(flat), np.int64)
    names, owner = flat.take(pa.array(by_id)), owner[by_id]
    same = np.asarray(pc.equal(names.slice(1), names.slice(0, max(len(names) - 1, 0))), np.bool_)
    if (owner[1:] != owner[:-1])[same].any():
        at = int(np.flatnonzero(same & (owner[1:] != owner[:-1]))[0])
        raise ValueError(f"id {names[at].as_py()!r} has two different vectors; give each vector an id of its own")
    fresh = np.concatenate([np.ones(min(len(names), 1), np.bool_), ~same])
    names, owner = names.filter(pa.array(fresh)), owner[fresh]
    _, lead, back = np.unique(owner, return_index=True, return_inverse=True)
    leaders = np.sort(lead)
    kept = pa.array(owner[leaders])
    cluster = pa.array(np.full(len(leaders), number, np.int32))
    near = batch.column("nearest").take(kept)
    columns = [names.take(pa.array(leaders)), batch.column("row").take(kept), near, cluster]
    members = pa.record_batch(columns, ["id", "row", "nearest", "cluster"])
    copies = np.setdiff1d(np.arange(len(owner)), leaders)
    home = matrix_of(batch.column("nearest"))[owner[copies]].min(axis=1) == number
    copies = copies[home]
    if not len(copies):
        return members, None
    stars = [names.take(pa.array(lead[back[copies]])), names.take(pa.array(copies)), pa.array(np.ones(len(copies)))]
    return members, pa.record_batch(stars, ["a", "b", "similarity"])
