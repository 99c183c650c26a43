"""How large rows are by their values: the same for the same rows, however Arrow holds them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_OFFSET_BYTES = 4
"""Counted for each list, text or byte string, also an empty or absent one."""


def row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes (N,) that each row's values take."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        start = 0
        for chunk in column.chunks:
            sizes[start : start + len(chunk)] += value_bytes(chunk)
            start += len(chunk)
    return sizes


def value_bytes(array: pa.Array) -> NDArray[np.int64]:
    """Bytes (N,) that each value takes; an absent number counts as a present one."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64)
    if pa.types.is_struct(kind):
        return sum((value_bytes(child) for child in array.flatten()), np.zeros(len(array), np.int64))
    if pa.types.is_list(kind):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
        inner = np.concatenate([[0], np.cumsum(value_bytes(array.flatten()))])
        ends = np.cumsum(lengths)
        return inner[ends] - inner[ends - lengths] + _OFFSET_BYTES
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0), np.int64) + _OFFSET_BYTES
    return np.full(len(array), max(1, kind.bit_width // 8), np.int64)
