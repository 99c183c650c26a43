"""Between Arrow columns and NumPy arrays: the one place that knows how step columns are laid out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.episode import TIMESTAMP

Floats = NDArray[np.float64]


def matrix(column: pa.Array) -> Floats | None:
    """A numeric column as (T, D) float64, nulls as NaN; None where it is not numeric or rows differ in length.

    Scalars (bools too) give D = 1; lists and fixed-size lists give their length. Integers beyond 2^53, such as
    wall-clock nanoseconds, become the nearest float64.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64).reshape(
            -1, 1
        )
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = column.value_lengths().drop_null().unique()
        if len(lengths) != 1:
            return None
        width = lengths[0].as_py()
    else:
        return None
    value = kind.value_type
    if not (pa.types.is_boolean(value) or pa.types.is_integer(value) or pa.types.is_floating(value)):
        return None
    out = np.full((len(column), width), np.nan)
    if not width:
        return out
    flat = column.drop_null().flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    out[np.asarray(column.is_valid())] = np.asarray(flat).reshape(-1, width)
    return out


def column_matrix(batch: pa.RecordBatch, name: str) -> Floats | None:
    """`matrix` of a named column; None where the batch lacks it."""
    index = batch.schema.get_field_index(name)
    return None if index < 0 else matrix(batch.column(index))


def times_ns(batch: pa.RecordBatch) -> NDArray[np.int64] | None:
    """The batch's clock as (T,) int64 ns; None where any stamp is absent."""
    index = batch.schema.get_field_index(TIMESTAMP)
    if index < 0 or batch.column(index).null_count:
        return None
    return np.asarray(batch.column(index).to_numpy(), np.int64)


def list_values(column: pa.Array) -> pa.Array:
    """The values of a list column's rows, end to end, null rows left out; fixed-size lists uncopied without one."""
    if isinstance(column, pa.FixedSizeListArray) and not column.null_count:
        width = column.type.list_size  # `flatten` takes 14 us for what is a slice
        return column.values.slice(column.offset * width, len(column) * width)
    return column.flatten()


def list_column(values: NDArray[np.generic]) -> pa.Array:
    """(T, D) array as a fixed-size-list column of the array's own dtype, without a copy where it is contiguous."""
    rows, width = values.shape
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if width == 0:
        return pa.array([[]] * rows, pa.list_(flat.type, 0))
    return pa.FixedSizeListArray.from_arrays(flat, width)


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The batch with a column appended, or replaced where one of that name exists."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return batch.append_column(name, column)
    return batch.set_column(index, name, column)


def rounded(value: float) -> float | None:
    """A measurement as findings carry it: 9 significant digits, so that a last bit never shows; None if not finite."""
    return float(f"{value:.9g}") if np.isfinite(value) else None
