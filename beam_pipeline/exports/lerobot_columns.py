"""Step columns as LeRobot features: one dtype and one width each, values unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.episode import TIMESTAMP
from transforms.output_schema import EPISODE_ID
from transforms.schema import (
    ACTION,
    DISCOUNT,
    FRAME_INDEX,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    NEXT_DONE,
    NEXT_REWARD,
    NEXT_STATE,
    NEXT_TRUNCATED,
    REWARD,
    STALENESS,
    STATE,
    VALID,
)

Values = NDArray[Any]
BOOKKEEPING = {
    *(EPISODE_ID, FRAME_INDEX, TIMESTAMP, DISCOUNT, IS_FIRST, IS_LAST, VALID),
    *(NEXT_STATE, NEXT_REWARD, NEXT_DONE, NEXT_TRUNCATED),
}
"""Columns of curation that LeRobot has another place for, or that follow from the others."""
RENAMED = {REWARD: NEXT_REWARD, IS_TERMINAL: NEXT_DONE}
"""reward[t] results from action[t], as LeRobot's next.reward[t] does; the last step of a terminal episode is done."""
REQUIRED = (STATE, ACTION)
DEFAULT_DTYPES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Features that every LeRobot data set has."""
ARROW = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
}


@dataclass(frozen=True)
class ColumnShape:
    """What a column holds over some steps: `width` 0 for plain values; `problem` where LeRobot has no place for it.

    `single` says that every value is a float32. `missing` counts the steps without a value.
    """

    dtype: str
    width: int
    missing: int = 0
    single: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Feature:
    """One entry of info.json's `features`; `names` is JSON text, `column` the curated column that it comes from."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: str = "null"
    column: str = ""

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("image", "video")


def default_features() -> tuple[Feature, ...]:
    """timestamp, frame_index, episode_index, index, task_index."""
    return tuple(Feature(name, dtype, (1,)) for name, dtype in DEFAULT_DTYPES.items())


def is_exported(column: str) -> bool:
    """Whether a step column is one of the recording, not of curation's own account of it."""
    return column not in BOOKKEEPING and not column.startswith(STALENESS)


def exported_name(column: str) -> str:
    """A step column's name in LeRobot."""
    return RENAMED.get(column, column)


def _dtype(kind: pa.DataType) -> str | None:
    return next((name for name, arrow in ARROW.items() if arrow == kind), None)


def column_shape(column: pa.Array) -> ColumnShape:
    """What one column of an episode holds."""
    kind, missing = column.type, column.null_count
    if missing == len(column):
        return ColumnShape("null", 0, missing)
    is_list = pa.types.is_list(kind)
    dtype = _dtype(kind.value_type if is_list else kind)
    if dtype is None or (is_list and dtype == "string"):
        return ColumnShape(str(kind), 0, missing, problem=f"LeRobot has no feature for {kind}")
    present = column.drop_null()
    width = 0
    if is_list:
        lengths = present.value_lengths().unique().to_pylist()
        if len(lengths) > 1 or lengths[0] == 0:
            found = f"{min(lengths)} to {max(lengths)}" if len(lengths) > 1 else "0"
            return ColumnShape(dtype, 0, missing, problem=f"its rows have {found} values; LeRobot needs one number")
        width = int(lengths[0])
        present = present.flatten()
        if present.null_count:
            return ColumnShape(dtype, width, missing, problem="a null inside a row; LeRobot has none")
    single = dtype == "float32"
    if dtype == "float64":
        values = present.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            single = bool(np.array_equal(values.astype(np.float32).astype(np.float64), values, equal_nan=True))
    return ColumnShape(dtype, width, missing, single)


def joined(a: ColumnShape, b: ColumnShape) -> ColumnShape:
    """What two episodes hold together; an episode in which the column is all null only counts as missing."""
    missing = a.missing + b.missing
    if "null" in (a.dtype, b.dtype):
        known = b if a.dtype == "null" else a
        return ColumnShape(known.dtype, known.width, missing, known.single, known.problem)
    problem = a.problem or b.problem
    if not problem and a.width != b.width:
        problem = f"its rows have {min(a.width, b.width)} to {max(a.width, b.width)} values; LeRobot needs one number"
    return ColumnShape(a.dtype, a.width, missing, a.single and b.single, problem)


def feature_of(name: str, column: str, shape: ColumnShape, names: str) -> Feature:
    """The feature of a column without problems: float64 only where some value needs it."""
    dtype = "float32" if shape.dtype == "float64" and shape.single else shape.dtype
    return Feature(name, dtype, (max(shape.width, 1),), names, column)


def values_of(column: pa.Array, feature: Feature) -> Values:
    """A column without nulls as (T,) or, for a width over 1, (T, D), in the feature's dtype."""
    flat = column.flatten() if pa.types.is_list(column.type) else column
    if feature.dtype == "string":
        return np.asarray(flat.to_pylist(), dtype=object)
    values: Values = flat.to_numpy(zero_copy_only=False).astype(np.dtype(feature.dtype), copy=False)
    width = feature.shape[0]
    return values.reshape(-1, width) if width > 1 else values


def arrow_of(values: Values, feature: Feature) -> pa.Array:
    """Values (T,) or (T, D) as LeRobot stores them: fixed-size lists, plain where D is 1."""
    kind = ARROW[feature.dtype]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def names_text(attributes: Mapping[str, str], column: str, width: int) -> str:
    """The source's own names of a column's elements as JSON, as it nests them; `null` where they do not fit."""
    text = attributes.get(f"features.{column}.names", "null")
    return text if len(element_names(json.loads(text))) == width else "null"


def element_names(names: Any) -> list[str]:
    """Names of elements end to end, of a list, a nested list, or a dict of lists."""
    if isinstance(names, dict):
        names = list(names.values())
    if not isinstance(names, list):
        return []
    return [text for part in names for text in ([part] if isinstance(part, str) else element_names(part))]
