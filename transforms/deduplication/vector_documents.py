"""Vectors as documents: rows of int8 and a hash of each, stored once and read in place ever after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from numpy.typing import NDArray

from transforms.deduplication.byte_columns import row_column
from transforms.deduplication.document_files import (
    DOCUMENTS,
    FIRST_ROW,
    PLACE,
    content_hashes,
    name_of,
    write_documents,
)
from transforms.deduplication.quantised import WIDEST, quantise

ABSTAINED_TAG = "abstained"
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
    """A column of vectors that cannot be read as such."""


@dataclass(frozen=True)
class VectorDocuments:
    """`documents` have id, content (a hash of the row, null where it abstains), vector (D bytes), source, quality,
    published; `abstained` says why some are compared with none.
    """

    documents: pa.RecordBatch
    abstained: pa.RecordBatch


def vector_documents(batch: pa.RecordBatch, width: int | None = None) -> VectorDocuments:
    """Documents of Arrow rows of id, vector and, where they are there, source, quality and published.

    `width` is the length that vectors must have; without it that of the first. Raises VectorError, with file and row,
    for a vector of another length, and for a row without an id.
    """
    place, first = place_of(batch)
    ids = batch.column("id").cast(pa.string())
    if ids.null_count:
        row = first + int(np.flatnonzero(np.asarray(ids.is_null()))[0])
        raise VectorError(f"{place}: row {row} has no id; fill it")
    column = batch.column("vector")
    there = np.asarray(column.is_valid())
    values = _matrix(place, first, column, there, width)
    reason = np.where(there, -1, 0)
    finite = np.isfinite(values).all(axis=1)
    silent = ~values.any(axis=1)
    reason[there] = np.where(~finite, 1, np.where(silent, 2, -1))
    gone, used = np.flatnonzero(reason >= 0), np.flatnonzero(reason < 0)
    told = [ids.take(pa.array(gone)), pa.array([REASONS[reason[row]] for row in gone], pa.string())]
    where = [pa.array([place] * len(gone), pa.string()), pa.array(gone + first, pa.int64())]
    rows = np.zeros((len(ids), values.shape[1]), np.int8)
    if len(used):
        rows[used] = quantise(values if len(used) == len(ids) else values[finite & ~silent])
    vectors = row_column(rows)
    nothing = pa.scalar(None, pa.binary(16))
    contents = pc.if_else(pa.array(reason < 0), content_hashes(vectors), nothing)
    schema = _schema(rows.shape[1], f"{place}, row {first}")
    columns = [ids, contents, vectors]
    for field in list(schema)[3:]:
        index = batch.schema.get_field_index(field.name)
        columns.append(pa.nulls(len(ids), field.type) if index < 0 else batch.column(index).cast(field.type))
    return VectorDocuments(pa.record_batch(columns, schema=schema), pa.record_batch([*told, *where], schema=ABSTAINED))


def place_of(batch: pa.RecordBatch) -> tuple[str, int]:
    """The file that a batch was read from, and its first row there."""
    metadata = batch.schema.metadata or {}
    return metadata.get(PLACE, b"a batch").decode(), int(metadata.get(FIRST_ROW, b"0"))


def _schema(width: int, place: str) -> pa.Schema:
    vector = pa.field("vector", pa.binary(width), nullable=False)
    fields = [*DOCUMENTS][:2], [vector], [*DOCUMENTS][3:]
    return pa.schema([field for part in fields for field in part], {PLACE: place})


def _matrix(place: str, first: int, column: pa.Array, there: NDArray[np.bool_], width: int | None) -> NDArray[Any]:
    """(N, D) the vectors of the rows that have one, as float32 or float64."""
    kind = column.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))):
        raise VectorError(f"{place}: the vectors are {kind}; need lists of numbers, all of one length")
    if pa.types.is_fixed_size_list(kind):
        sizes = np.full(int(there.sum()), kind.list_size)
    else:
        sizes = np.asarray(pc.list_value_length(column.drop_null()), np.int64)
    wanted = width if width is not None else (int(sizes[0]) if len(sizes) else 0)
    wrong = np.flatnonzero(sizes != wanted)
    if len(wrong):
        row, size = first + int(np.flatnonzero(there)[wrong[0]]), int(sizes[wrong[0]])
        raise VectorError(
            f"{place}: the vector of row {row} has {size} entries, not {wanted}; "
            "deduplicate vectors of one model at a time"
        )
    if len(sizes) and not 0 < wanted <= WIDEST:
        raise VectorError(f"{place}: the vector of row {first} has {wanted} entries; need 1 to {WIDEST}")
    flat = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    if flat.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        flat = flat.astype(np.float32 if flat.dtype == np.float16 else np.float64)
    return np.asarray(flat.reshape(len(sizes), wanted))


class StoreVectors(beam.DoFn):
    """An Arrow batch of id, vector, [source, quality, published] -> the path of its documents' file below `staging`.

    Vectors that say nothing go to the output `abstained` as well, and are counted.
    """

    def __init__(self, staging: str, width: int | None = None, night: int = 0) -> None:
        self._staging = staging
        self._width = width
        self._night = night
        self._abstained = {name: Metrics.counter("demosift", f"dedup.vectors_{name}") for name in REASONS}

    def process(self, element: pa.RecordBatch) -> Iterator[str | beam.pvalue.TaggedOutput]:
        if not element.num_rows:
            return
        found = vector_documents(element, self._width)
        if found.abstained.num_rows:
            for reason in found.abstained.column("reason").to_pylist():
                self._abstained[reason].inc()
            yield beam.pvalue.TaggedOutput(ABSTAINED_TAG, found.abstained)
        documents = found.documents
        yield write_documents(
            Path(self._staging), name_of(documents), [documents], self._night, schema=documents.schema
        )
