"""Vectors out of Parquet and Arrow files: blocks of int8 rows, and those vectors that say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.deduplication.quantised import WIDEST, quantise
from transforms.deduplication.vector_blocks import block_of

BLOCK_ROWS = 8192
ABSTAINED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)
"""A vector that is compared with none, and where it is. `reason` is absent, not_finite or zero."""
REASONS = ("absent", "not_finite", "zero")


class VectorError(ValueError):
    """A file of vectors that cannot be read as such."""


@dataclass(frozen=True)
class VectorColumns:
    """Names of the columns that hold ids and vectors."""

    id: str = "id"
    vector: str = "vector"


@dataclass(frozen=True)
class Portion:
    """A row group of a Parquet file or a batch of an Arrow file; `first_row` counts from the file's start."""

    path: str
    index: int
    first_row: int


@dataclass(frozen=True)
class Vectors:
    """A block of distinct rows (None where all abstain), `used` ids in it, and the vectors that abstain."""

    block: pa.RecordBatch | None
    used: int
    abstained: pa.RecordBatch


def portions(path: str) -> list[Portion]:
    """The parts of a file that are read one by one; raises VectorError where it is neither Parquet nor Arrow."""
    try:
        if path.endswith((".arrow", ".feather")):
            reader = pa.ipc.open_file(pa.memory_map(path))
            sizes = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
        else:
            metadata = pq.read_metadata(path)
            sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    except pa.ArrowInvalid as error:
        raise VectorError(f"{path} is neither a Parquet nor an Arrow file ({error}); leave it out") from error
    starts = np.cumsum([0, *sizes])
    return [Portion(path, index, int(start)) for index, start in enumerate(starts[:-1])]


def batches(portion: Portion, columns: VectorColumns) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(first row, id and vector) of a portion, at most BLOCK_ROWS at a time; raises VectorError of an absent column."""
    names = [columns.id, columns.vector]
    if portion.path.endswith((".arrow", ".feather")):
        batch = pa.ipc.open_file(pa.memory_map(portion.path)).get_batch(portion.index)
        _check(portion.path, batch.schema, columns)
        found: Iterator[pa.RecordBatch] = (
            batch.select(names).slice(start, BLOCK_ROWS) for start in range(0, batch.num_rows, BLOCK_ROWS)
        )
        yield from _numbered(found, portion.first_row)
        return
    with pq.ParquetFile(portion.path) as file:
        _check(portion.path, file.schema_arrow, columns)
        read = (batch.select(names) for batch in file.iter_batches(BLOCK_ROWS, [portion.index], names))
        yield from _numbered(read, portion.first_row)


def _numbered(found: Iterator[pa.RecordBatch], first: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in found:
        yield first, batch
        first += batch.num_rows


def _check(path: str, schema: pa.Schema, columns: VectorColumns) -> None:
    for name in (columns.id, columns.vector):
        if schema.get_field_index(name) < 0:
            raise VectorError(f"{path} has no column {name!r}; it has {', '.join(schema.names)}")
    kind, ids = schema.field(columns.vector).type, schema.field(columns.id).type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))):
        raise VectorError(f"{path}: column {columns.vector!r} is {kind}; need lists of numbers, all of one length")
    if not (pa.types.is_string(ids) or pa.types.is_large_string(ids) or pa.types.is_integer(ids)):
        raise VectorError(f"{path}: column {columns.id!r} is {ids}; need text or integers")


def read_vectors(path: str, first: int, batch: pa.RecordBatch, width: int | None = None) -> Vectors:
    """Rows of two columns, id and vector, from row `first` of a file; `width` is the length that vectors must have.

    Raises VectorError, with file and row, for a vector of another length than the first or than `width`, and for a row
    without an id.
    """
    ids = batch.column(0).cast(pa.string())
    if ids.null_count:
        row = first + int(np.flatnonzero(np.asarray(ids.is_null()))[0])
        raise VectorError(f"{path}: row {row} has no id; fill it")
    there = np.asarray(batch.column(1).is_valid())
    values = _matrix(path, first, batch.column(1), there, width)
    reason = np.where(there, -1, 0)
    finite = np.isfinite(values).all(axis=1)
    silent = ~values.any(axis=1)
    reason[there] = np.where(~finite, 1, np.where(silent, 2, -1))
    gone, used = np.flatnonzero(reason >= 0), np.flatnonzero(reason < 0)
    told = [ids.take(pa.array(gone)), pa.array([REASONS[reason[row]] for row in gone], pa.string())]
    where = [pa.array([path] * len(gone), pa.string()), pa.array(gone + first, pa.int64())]
    abstained = pa.record_batch([*told, *where], schema=ABSTAINED)
    if not len(used):
        return Vectors(None, 0, abstained)
    good = values if len(used) == len(ids) else values[finite & ~silent]
    names = ids.take(pa.array(used)).to_pylist()
    place = f"{path}, row {first + int(used[0])}"
    return Vectors(block_of(names, quantise(good), place), len(used), abstained)


def _matrix(path: str, first: int, column: pa.Array, there: NDArray[np.bool_], width: int | None) -> NDArray[Any]:
    """(N, D) the vectors of the rows that have one, as float32 or float64."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        sizes = np.full(int(there.sum()), kind.list_size)
    else:
        sizes = np.asarray(pc.list_value_length(column.drop_null()), np.int64)
    wanted = width if width is not None else (int(sizes[0]) if len(sizes) else 0)
    wrong = np.flatnonzero(sizes != wanted)
    if len(wrong):
        row, size = first + int(np.flatnonzero(there)[wrong[0]]), int(sizes[wrong[0]])
        raise VectorError(
            f"{path}: the vector of row {row} has {size} entries, not {wanted}; "
            "deduplicate vectors of one model at a time"
        )
    if len(sizes) and not 0 < wanted <= WIDEST:
        raise VectorError(f"{path}: the vector of row {first} has {wanted} entries; need 1 to {WIDEST}")
    flat = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    if flat.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        flat = flat.astype(np.float32 if flat.dtype == np.float16 else np.float64)
    return np.asarray(flat.reshape(len(sizes), wanted))
