"""Verified edges between the rows of documents, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.jaccard import Rows
from transforms.deduplication.shingles import Hashes


@dataclass(frozen=True)
class EdgeColumns:
    """M edges between documents' rows: `a` (M,), `b` (M,), `similarity` (M,), and whether they are `exact` (M,)."""

    a: Rows
    b: Rows
    similarity: NDArray[np.float64]
    exact: NDArray[np.bool_]

    def parted(self, hashes: Hashes, partitions: int) -> Iterator[Parted]:
        """The edges by partition of a hash (M,) each."""
        yield from parted(vars(self), hashes, partitions)


def edge_columns(batches: Iterable[pa.RecordBatch]) -> EdgeColumns:
    """The columns a, b (int64), similarity and exact of edge batches, one after another."""
    held = list(batches)
    kinds = {"a": np.int64, "b": np.int64, "similarity": np.float64, "exact": np.bool_}
    columns = (
        np.concatenate([np.zeros(0, kind), *(b.column(name).to_numpy(zero_copy_only=False) for b in held)])
        for name, kind in kinds.items()
    )
    return EdgeColumns(*columns)


def touched(columns: EdgeColumns, first_new_row: int) -> EdgeColumns:
    """The edges of components that have a row from `first_new_row` on."""
    if not first_new_row:
        return columns
    rows, ends = np.unique(np.concatenate([columns.a, columns.b]), return_inverse=True)
    half = len(columns.a)
    roots = minimum_roots(len(rows), ends[:half], ends[half:])
    new = np.zeros(len(rows), np.bool_)
    new[roots[rows >= first_new_row]] = True
    own = new[roots[ends[:half]]]
    return EdgeColumns(*(values[own] for values in vars(columns).values()))
