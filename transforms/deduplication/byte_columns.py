"""Arrow columns of bytes as arrays: vectors of a fixed width, and shingles, which are little-endian uint64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.jaccard import Rows, spans
from transforms.deduplication.quantised import Rows as Int8Rows
from transforms.deduplication.shingles import Shingles


def rows_of(column: pa.Array) -> Int8Rows:
    """A column of D bytes as int8 rows (N, D), uncopied."""
    width = column.type.byte_width
    body = column.buffers()[1]
    if not width or body is None:
        return np.zeros((len(column), width), np.int8)
    return np.frombuffer(body, np.int8, len(column) * width, column.offset * width).reshape(-1, width)


def row_column(rows: Int8Rows) -> pa.Array:
    """(N, D) int8 rows as a column of D bytes."""
    body = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, body])


def bounds_at(column: pa.Array, places: Rows) -> tuple[Rows, Rows]:
    """Where the values at some places of a binary column begin in its body, and their sizes, in bytes."""
    bounds = _bounds(column)
    starts = bounds[places].astype(np.int64)
    return starts, bounds[places + 1].astype(np.int64) - starts


def shingles_at(column: pa.Array, places: Rows) -> Shingles:
    """The shingles at some places of a binary column of little-endian uint64."""
    starts, sizes = bounds_at(column, places)
    body = column.buffers()[2]
    held = np.frombuffer(body, "<u8", body.size // 8) if body is not None else np.zeros(0, np.uint64)
    return Shingles(held[spans(starts // 8, sizes // 8)], np.concatenate([[0], np.cumsum(sizes // 8)]))


def as_shingles(column: pa.Array) -> Shingles:
    """A binary column of little-endian uint64 as shingles, uncopied."""
    body = column.buffers()[2]
    if not len(column) or body is None:
        return Shingles(np.zeros(0, np.uint64), np.zeros(len(column) + 1, np.int64))
    offsets = _bounds(column).astype(np.int64)
    hashes = np.frombuffer(body, "<u8", (offsets[-1] - offsets[0]) // 8, int(offsets[0]))
    return Shingles(hashes, (offsets - offsets[0]) // 8)


def _bounds(column: pa.Array) -> NDArray[Any]:
    """(N + 1,) where the N values of a binary column begin and end in its body, in bytes, uncopied."""
    kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column) + 1]


def shingle_column(shingles: Shingles) -> pa.Array:
    """Shingles as a large binary column, uncopied."""
    hashes = np.ascontiguousarray(shingles.hashes, "<u8")
    offsets = pa.py_buffer(np.ascontiguousarray(shingles.offsets * 8, np.int64))
    return pa.Array.from_buffers(pa.large_binary(), len(shingles), [None, offsets, pa.py_buffer(hashes)])
