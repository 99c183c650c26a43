"""Exact duplicates: of documents with one content, the smallest id of the first night stands for all in the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.document_files import DocumentFiles


def content_rows(files: DocumentFiles, path: str, partitions: int) -> Iterator[Parted]:
    """(partition, Arrow rows of high, low, row, id, night) of a file's documents; equal contents share a partition."""
    for rows, ids, contents, night in files.contents(path):
        if len(rows):
            halves = np.frombuffer(b"".join(contents.to_pylist()), "<u8").reshape(-1, 2)
            columns = {"high": halves[:, 1], "low": halves[:, 0], "row": rows, "id": ids}
            columns["night"] = np.full(len(rows), night)
            yield from parted(columns, halves[:, 0], partitions)


def repeats(batches: Iterable[pa.RecordBatch], earlier: pa.RecordBatch | None = None) -> pa.RecordBatch:
    """Rows `a`, the first of its content by (night, id), and `b`, another of the same content, of one partition.

    `earlier` rows of high, low, row are the first of their contents in an index, and come before all others.
    """
    table = pa.Table.from_batches(list(batches))
    if earlier is not None and earlier.num_rows:
        ids, nights = pa.nulls(earlier.num_rows, pa.string()), pa.array(np.full(earlier.num_rows, -1))
        columns = [*(earlier.column(name) for name in ("high", "low", "row")), ids, nights]
        before = pa.table(columns, ["high", "low", "row", "id", "night"])
        table = pa.concat_tables([table, before.select(table.column_names).cast(table.schema)])
    high, low, row = (table.column(name).to_numpy() for name in ("high", "low", "row"))
    order = np.lexsort((low, high))
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    group = np.cumsum(fresh) - 1
    several = np.bincount(group)[group] > 1
    order, group = order[several], group[several]
    names = ("group", "night", "id")
    named = pa.table([pa.array(group), *(table.column(name).take(pa.array(order)) for name in names[1:])], names)
    by_id = np.asarray(pc.sort_indices(named, [(name, "ascending") for name in names]), np.int64)
    row, group = row[order][by_id], group[by_id]
    first = np.concatenate([np.zeros(min(len(group), 1), np.int64), np.flatnonzero(np.diff(group)) + 1])
    smallest = np.repeat(first, np.diff(np.concatenate([first, [len(group)]])))
    other = smallest != np.arange(len(group))
    return pa.record_batch([pa.array(row[smallest][other]), pa.array(row[other])], ["a", "b"])
