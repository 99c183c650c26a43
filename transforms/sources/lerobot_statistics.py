"""Values against the statistics of their Parquet file: damage that no checksum covers often shows there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.arrays import list_values

LEAVES = ("", ".list.element", ".list.item")
"""What writers append to a column's name for the values of its lists."""
LISTS = (pa.FixedSizeListArray, pa.ListArray)


@dataclass(frozen=True)
class Bounds:
    """The smallest and largest value that a row group's footer states for a column."""

    name: str
    low: float
    high: float


def leaves_of(meta: pq.FileMetaData, names: Sequence[str]) -> Mapping[str, int]:
    """Where the footer's row groups keep each column's values; columns of several leaves are left out."""
    leaves = {meta.schema.column(at).path: at for at in range(meta.num_columns)}
    found = {name: [leaves[name + leaf] for leaf in LEAVES if name + leaf in leaves] for name in names}
    return {name: at[0] for name, at in found.items() if at}


def bounds_of(group: pq.RowGroupMetaData, leaves: Mapping[str, int], names: Sequence[str]) -> list[Bounds]:
    """Stated bounds of the columns of numbers that have any; `leaves` as `leaves_of` found them."""
    found = []
    for name in names:
        at = leaves.get(name)
        stated = None if at is None else group.column(at).statistics
        if stated is None or not stated.has_min_max:
            continue
        low, high = stated.min, stated.max  # each access decodes it
        if isinstance(low, (int, float)) and low <= high:  # NaN compares false
            found.append(Bounds(name, low, high))
    return found


def exceeds(column: pa.Array, bounds: Bounds) -> bool:
    """Whether a column of numbers, or of lists of them, holds a value outside its bounds; NaN has none."""
    values = column
    while isinstance(values, LISTS):
        values = list_values(values)
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
