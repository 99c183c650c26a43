"""Values against the statistics of their Parquet file: damage that no checksum covers often shows there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LEAVES = ("", ".list.element", ".list.item")
"""What writers append to a column's name for the values of its lists."""


@dataclass(frozen=True)
class Bounds:
    """The smallest and largest value that a row group's footer states for a column."""

    name: str
    low: float
    high: float


def bounds_of(group: pq.RowGroupMetaData, names: Sequence[str]) -> list[Bounds]:
    """Stated bounds of the columns of numbers that have any."""
    leaves = {group.column(at).path_in_schema: at for at in range(group.num_columns)}
    found = []
    for name in names:
        at = next((leaves[name + leaf] for leaf in LEAVES if name + leaf in leaves), None)
        stated = None if at is None else group.column(at).statistics
        if stated is None or not stated.has_min_max:
            continue
        if isinstance(stated.min, (int, float)) and stated.min <= stated.max:  # NaN compares false
            found.append(Bounds(name, stated.min, stated.max))
    return found


def exceeds(column: pa.Array, bounds: Bounds) -> bool:
    """Whether a column of numbers, or of lists of them, holds a value outside its bounds; NaN has none."""
    values = column
    while pa.types.is_fixed_size_list(values.type) or pa.types.is_list(values.type):
        values = values.flatten()
    if values.null_count:
        values = values.drop_null()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)) or not len(values):
        return False
    numbers = values.to_numpy(zero_copy_only=False)
    low, high = numbers.min(), numbers.max()
    if np.isnan(low):
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            return False
        low, high = known.min(), known.max()
    return bool(low < bounds.low or high > bounds.high)
