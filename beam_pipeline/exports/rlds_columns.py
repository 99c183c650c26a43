"""Step columns of one source as RLDS features: what each holds over all kept steps, and one episode's values of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.exports.rlds_features import STEPS, Feature, nested_keys
from transforms.episode import IMAGES, TIMESTAMP
from transforms.output_schema import EPISODE_ID
from transforms.schema import (
    ACTION_GRIPPER,
    END_EFFECTOR_POSE,
    FRAME_INDEX,
    GRIPPER,
    JOINT_POSITION,
    JOINT_VELOCITY,
    NEXT_DONE,
    NEXT_REWARD,
    NEXT_STATE,
    NEXT_TRUNCATED,
    STALENESS,
    VALID,
)

Values = dict[str, list[bytes] | NDArray[np.generic]]
"""What an Example holds, by key."""
_BOOKKEEPING = frozenset(
    (EPISODE_ID, FRAME_INDEX, VALID, NEXT_STATE, NEXT_REWARD, NEXT_DONE, NEXT_TRUNCATED),
)
"""Columns that RLDS says by the order of its steps, or that follow from others."""
_DOCS = {
    JOINT_POSITION: "rad, in the order of the embodiment's joint names",
    JOINT_VELOCITY: "rad/s",
    END_EFFECTOR_POSE: "x y z in m, quaternion x y z w",
    GRIPPER: "0 closed to 1 open",
    ACTION_GRIPPER: "commanded, 0 closed to 1 open",
    TIMESTAMP: "ns, on the recording's clock",
}
INSTRUCTION = "language_instruction"
RAGGED_VALUES, RAGGED_LENGTHS = "/ragged_flat_values", "/ragged_row_lengths_0"


@dataclass
class _Seen:
    """What a column was seen to hold: rows with and without a value, shortest and longest list, exact in float32."""

    type: pa.DataType
    rows: int = 0
    nulls: int = 0
    shortest: int | None = None
    longest: int | None = None
    inner_nulls: int = 0
    exact: bool = True

    def add(self, column: pa.Array) -> None:
        present = column.drop_null()
        self.rows, self.nulls = self.rows + len(present), self.nulls + column.null_count
        values = present
        if pa.types.is_list(self.type) and len(present):
            lengths = np.asarray(present.value_lengths(), np.int64)
            low, high = int(lengths.min()), int(lengths.max())
            self.shortest = low if self.shortest is None else min(low, self.shortest)
            self.longest = high if self.longest is None else max(high, self.longest)
            values = present.flatten()
            self.inner_nulls += values.null_count
        if self.exact and values.type == pa.float64():
            self.exact = _fits_float32(values.to_numpy(zero_copy_only=False))


def _fits_float32(values: NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float32).astype(np.float64), values, equal_nan=True))


def plain_columns(schema: pa.Schema, canonical: bool, derived: frozenset[str]) -> list[str]:
    """Columns that become features, cameras aside; `derived` are those that curation added in canonical units."""
    return [
        field.name
        for field in schema
        if field.name not in _BOOKKEEPING
        and not field.name.startswith((STALENESS, IMAGES))
        and (canonical or field.name not in derived)
    ]


@dataclass(frozen=True)
class ColumnPlan:
    """The features of a source's columns, the keys of its cameras, and a line for each column that is left out."""

    features: Mapping[str, Feature]
    camera_keys: Mapping[str, str]
    notes: tuple[str, ...]


def plan_columns(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], cameras: Sequence[str], instructed: bool
) -> ColumnPlan:
    """One pass over all kept steps of a source, images aside; `instructed`: its episodes have instructions.

    A camera is `observation/NAME`, as in published sets, and `observation/images/NAME` where a column has that place.
    """
    seen: dict[str, _Seen] = {}
    for batch in batches:
        for name in names:
            column = batch.column(batch.schema.get_field_index(name))
            seen.setdefault(name, _Seen(column.type)).add(column)
    held = {name: what for name, what in seen.items() if what.rows}
    spot = {c: f"observation.{c}" if f"observation.{c}" not in held else IMAGES + c for c in cameras}
    keys = nested_keys([*held, *spot.values(), *([INSTRUCTION] if instructed and INSTRUCTION not in held else [])])
    features, notes = {}, []
    for name, what in held.items():
        feature = _feature(STEPS + keys[name], what, _DOCS.get(name, ""))
        if isinstance(feature, str):
            notes.append(f"column {name} is left out: {feature}")
        else:
            features[name] = feature
    if instructed and INSTRUCTION not in features:
        features[INSTRUCTION] = Feature(STEPS + INSTRUCTION, "text", "string")
    return ColumnPlan(features, {camera: STEPS + keys[spot[camera]] for camera in cameras}, tuple(notes))


def _feature(key: str, seen: _Seen, doc: str) -> Feature | str:
    """The feature of a column, or why it has none."""
    is_list = pa.types.is_list(seen.type)
    value = seen.type.value_type if is_list else seen.type
    dtype = _dtype(value, seen.exact)
    if dtype is None:
        return f"TFDS has no feature for {seen.type}"
    holes = seen.inner_nulls + (0 if is_list and seen.shortest != seen.longest else seen.nulls)
    if holes and dtype not in ("float32", "float64", "string"):
        return f"{holes} of its values are absent, and {dtype} has no value that says so"
    packed = dtype == "float64"
    if not is_list:
        return Feature(key, "text" if pa.types.is_string(value) else "scalar", dtype, (), packed, doc=doc)
    if seen.shortest == seen.longest and not (dtype == "string" and seen.nulls):
        return Feature(key, "vector", dtype, (seen.shortest,), packed, doc=doc)
    if packed:
        return "its rows differ in length and its values need float64, which TFDS packs only in rows of one length"
    return Feature(key, "ragged", dtype, doc=doc)


def _dtype(value: pa.DataType, exact: bool) -> str | None:
    if pa.types.is_boolean(value):
        return "bool"
    if pa.types.is_integer(value) or pa.types.is_timestamp(value) or pa.types.is_duration(value):
        return "int64"
    if pa.types.is_floating(value):
        return "float32" if exact else "float64"
    return "string" if pa.types.is_string(value) or pa.types.is_binary(value) else None


def encode_column(feature: Feature, column: pa.ChunkedArray, into: Values) -> None:
    """Put one episode's T rows into an Example; an absent number is NaN, an absent text empty."""
    array = column.combine_chunks()
    if feature.kind == "ragged":
        lengths = np.asarray(array.value_lengths().fill_null(0), np.int64)
        into[feature.key + RAGGED_VALUES] = _flat(feature, array.drop_null().flatten())
        into[feature.key + RAGGED_LENGTHS] = lengths
        return
    if feature.kind == "vector" and array.null_count:
        width = feature.shape[0] or 0
        rows = np.full((len(array), width), np.nan, np.dtype(feature.dtype))
        rows[np.asarray(array.is_valid())] = _numbers(feature, array.drop_null().flatten()).reshape(-1, width)
        values: list[bytes] | NDArray[np.generic] = rows
    else:
        values = _flat(feature, array.flatten() if feature.kind == "vector" else array)
    if feature.packed and isinstance(values, np.ndarray):
        steps = np.ascontiguousarray(values.reshape(len(array), -1).astype("<f8"))
        values = [step.tobytes() for step in steps]
    into[feature.key] = values


def _flat(feature: Feature, values: pa.Array) -> list[bytes] | NDArray[np.generic]:
    if feature.dtype == "string":
        return [value or b"" for value in values.cast(pa.binary()).to_pylist()]
    return _numbers(feature, values)


def _numbers(feature: Feature, values: pa.Array) -> NDArray[np.generic]:
    if feature.dtype == "int64":
        return np.asarray(values.cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)
    return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.dtype(feature.dtype))
