"""What is known of a numeric column's values: exact sums, extremes and a histogram, which add up in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import zip_longest
from math import inf

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms import value_histogram
from transforms.coders import from_ipc, to_ipc
from transforms.exact_sums import ExactSums, exact_sums
from transforms.value_histogram import ValueHistogram

WIDEST = 256
"""Numbers a row of a column that has statistics; touch sensors and pictures as lists are wider, states are not."""


@dataclass(frozen=True)
class DimensionSummary:
    """What is known of one dimension's values so far; sums, extremes and histogram are of the finite ones."""

    nan: int = 0
    infinite: int = 0
    least: float = inf
    greatest: float = -inf
    sums: ExactSums = field(default_factory=ExactSums)
    values: ValueHistogram = value_histogram.EMPTY

    def __add__(self, other: DimensionSummary) -> DimensionSummary:
        return DimensionSummary(
            self.nan + other.nan,
            self.infinite + other.infinite,
            min(self.least, other.least),
            max(self.greatest, other.greatest),
            self.sums + other.sums,
            value_histogram.merge(self.values, other.values),
        )


@dataclass(frozen=True)
class ColumnSummary:
    """A column's dimensions, and how many rows held null; rows shorter than others lack their last dimensions.

    `wide`: some row holds more than WIDEST numbers, so nothing is kept of any.
    """

    null: int = 0
    dimensions: tuple[DimensionSummary, ...] = ()
    wide: bool = False

    def __add__(self, other: ColumnSummary) -> ColumnSummary:
        if self.wide or other.wide:
            return ColumnSummary(self.null + other.null, wide=True)
        pairs = zip_longest(self.dimensions, other.dimensions, fillvalue=DimensionSummary())
        return ColumnSummary(self.null + other.null, tuple(a + b for a, b in pairs))


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column holds numbers or flags, or lists of them at any depth."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def matrices(column: pa.Array) -> Iterator[NDArray[np.float64]]:
    """The rows of a numeric column that are not null as (T, D) float64, one matrix for each length of rows.

    Nested lists are laid out row by row. A null inside a list is NaN; an integer beyond 2^53 the nearest float64.
    """
    values = column.drop_null()
    ends = np.arange(len(values) + 1)
    while not (pa.types.is_primitive(values.type) or pa.types.is_boolean(values.type)):
        offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(values).fill_null(0).to_numpy())])
        ends, values = offsets[ends], values.flatten()
    flat = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    lengths = np.diff(ends)
    if len(lengths) and (lengths == lengths[0]).all():
        yield flat.reshape(len(lengths), int(lengths[0]))
        return
    for length in np.unique(lengths).tolist():
        starts = ends[:-1][lengths == length]
        yield flat[starts[:, None] + np.arange(length)]


def first_wide_row(column: pa.Array) -> int | None:
    """Index of the first row that holds more than WIDEST numbers, nested lists counted whole."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return None
    ends = np.concatenate([[0], np.cumsum(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False))])
    inner = column.flatten()
    while not (pa.types.is_primitive(inner.type) or pa.types.is_boolean(inner.type)):
        lengths = pc.list_value_length(inner).fill_null(0).to_numpy(zero_copy_only=False)
        ends, inner = np.concatenate([[0], np.cumsum(lengths)])[ends], inner.flatten()
    wide = np.flatnonzero(np.diff(ends) > WIDEST)
    return int(wide[0]) if len(wide) else None


def summarise_column(column: pa.Array | pa.ChunkedArray) -> ColumnSummary:
    """The summary of one numeric column."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    null = ColumnSummary(whole.null_count)
    if first_wide_row(whole) is not None:
        return ColumnSummary(whole.null_count, wide=True)
    return reduce(lambda held, values: held + ColumnSummary(0, _summaries(values)), matrices(whole), null)


def _summaries(values: NDArray[np.float64]) -> tuple[DimensionSummary, ...]:
    found = []
    for i, sums in enumerate(exact_sums(values)):
        column = values[:, i] + 0.0
        known = np.isfinite(column)
        finite = column if known.all() else column[known]
        nan = int(np.isnan(column).sum()) if len(finite) < len(column) else 0
        infinite = len(column) - len(finite) - nan
        least, greatest = float(finite.min(initial=inf)), float(finite.max(initial=-inf))
        found.append(DimensionSummary(nan, infinite, least, greatest, sums, value_histogram.histogram(finite)))
    return tuple(found)


def encode_summary(summary: ColumnSummary) -> bytes:
    """A summary as one Arrow batch, a row a dimension, behind eight bytes of its count of nulls and one of `wide`."""
    rows = [
        {
            "nan": d.nan,
            "infinite": d.infinite,
            "least": d.least,
            "greatest": d.greatest,
            "count": d.sums.count,
            "total": _to_bytes(d.sums.total),
            "squares": _to_bytes(d.sums.squares),
            "dropped": d.values.dropped,
            "keys": d.values.keys.tobytes(),
            "counts": d.values.counts.tobytes(),
        }
        for d in summary.dimensions
    ]
    return (
        summary.null.to_bytes(8, "little")
        + bytes([summary.wide])
        + to_ipc(pa.RecordBatch.from_pylist(rows, schema=_SUMMARY))
    )


_SUMMARY = pa.schema(
    [(name, pa.int64()) for name in ("nan", "infinite", "count", "dropped")]
    + [(name, pa.float64()) for name in ("least", "greatest")]
    + [(name, pa.binary()) for name in ("total", "squares", "keys", "counts")]
)


def decode_summary(data: bytes) -> ColumnSummary:
    """The summary that `encode_summary` wrote."""
    return ColumnSummary(
        int.from_bytes(data[:8], "little"),
        tuple(
            DimensionSummary(
                row["nan"],
                row["infinite"],
                row["least"],
                row["greatest"],
                ExactSums(
                    row["count"],
                    int.from_bytes(row["total"], "little", signed=True),
                    int.from_bytes(row["squares"], "little", signed=True),
                ),
                ValueHistogram(
                    row["dropped"], np.frombuffer(row["keys"], np.int64), np.frombuffer(row["counts"], np.int64)
                ),
            )
            for row in from_ipc(data[9:]).to_pylist()
        ),
        bool(data[8]),
    )


def _to_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


class SummaryCoder(beam.coders.Coder):
    """Coder of column summaries."""

    def encode(self, value: ColumnSummary) -> bytes:
        return encode_summary(value)

    def decode(self, encoded: bytes) -> ColumnSummary:
        return decode_summary(encoded)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[ColumnSummary]:
        return ColumnSummary


beam.coders.registry.register_coder(ColumnSummary, SummaryCoder)
