"""A stream's columns at new times: which are interpolated, slerped, summed or held, by what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import Floats, matrix
from transforms.clocks import Times, period_ns
from transforms.episode import TIMESTAMP
from transforms.resampling import (
    Bracket,
    any_at,
    bracket,
    continuous_signs,
    held,
    linear,
    low_pass,
    slerp,
    totals,
)
from transforms.schema import (
    ACTION,
    DISCOUNT,
    END_EFFECTOR_POSE,
    FRAME_INDEX,
    GRIPPER,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    NEXT_DONE,
    NEXT_TRUNCATED,
    REWARD,
)

_STATE_FLAGS = (IS_FIRST, IS_LAST, IS_TERMINAL)
_NEXT_FLAGS = (NEXT_DONE, NEXT_TRUNCATED)
_SLICE = re.compile(r"(.+)\[(\d+):(\d*)\]")


@dataclass(frozen=True, eq=False)
class Resampled:
    """A stream at K new times: columns of K rows, whether each step has data, and the age in ms of the latest row."""

    columns: Mapping[str, pa.Array]
    reached: NDArray[np.bool_]
    staleness_ms: Floats


def held_elements(conventions: Mapping[str, str]) -> dict[str, list[tuple[int, int | None]]]:
    """Elements of raw columns that must not be interpolated: declared rotations (they wrap) and grippers."""
    out: dict[str, list[tuple[int, int | None]]] = {}
    for key in ("rotation_column", "gripper_column"):
        match = _SLICE.fullmatch(conventions.get(key, ""))
        if match:
            column, start, end = match.groups()
            out.setdefault(column, []).append((int(start), int(end) if end else None))
    return out


def is_action(name: str) -> bool:
    """Whether a column is a command, which holds until the next one."""
    return name in (ACTION, "actions") or name.startswith(("action.", "action_"))


def is_continuous(name: str, kind: pa.DataType) -> bool:
    """Whether a column samples something continuous: floats that are no command, gripper, reward or discount."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind
    if not pa.types.is_floating(inner) or name in (REWARD, DISCOUNT, GRIPPER):
        return False
    return not is_action(name)


def is_needed(batch: pa.RecordBatch) -> bool:
    """Whether a step without this stream is invalid: it holds state or actions, not only events, modes or text."""
    return any(is_action(f.name) or is_continuous(f.name, f.type) for f in batch.schema if f.name != TIMESTAMP)


def resample_stream(
    batch: pa.RecordBatch, times: Times, wanted: Times, hold: Mapping[str, list[tuple[int, int | None]]]
) -> Resampled:
    """A stream with the strictly increasing clock `times` (T,) at K `wanted` times.

    Continuous columns are low-passed where the stream is over 1.5x faster, then interpolated, null outside the data
    and in gaps; poses slerp; rewards are summed over each step; flags keep their meaning; everything else, and the
    elements of `hold`, is held causally: events and text without end, commands only as far as data reaches.
    """
    at = bracket(times, wanted)
    latest = held(times, wanted)
    age_ms = np.where(latest >= 0, (wanted - times[np.maximum(latest, 0)]) / 1e6, np.nan)
    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in (TIMESTAMP, FRAME_INDEX):
            continue
        if name == REWARD or name in _STATE_FLAGS or name in _NEXT_FLAGS:
            columns[name] = _event(name, column, times, wanted)
            continue
        values = matrix(column) if is_continuous(name, column.type) else None
        if values is None or not values.shape[1]:
            reach = at.reached if is_action(name) or name == GRIPPER else latest >= 0
            columns[name] = _rows(column, np.where(reach, latest, -1))
        else:
            moved = _continuous(name, values, times, wanted, at, hold.get(name, []))
            columns[name] = _like(column, moved, at.reached)
    return Resampled(columns, at.reached, age_ms)


def _event(name: str, column: pa.Array, times: Times, wanted: Times) -> pa.Array:
    values = matrix(column)
    if values is None or not values.shape[1] or column.null_count == len(column):
        return pa.nulls(len(wanted), column.type)
    if name == REWARD:
        kind = column.type.value_type if pa.types.is_nested(column.type) else column.type
        return pa.array(totals(values[:, 0], times, wanted)).cast(kind, safe=False)
    return pa.array(any_at(values[:, 0] == 1, times, wanted, at_or_after=name in _STATE_FLAGS))


def _continuous(
    name: str, values: Floats, times: Times, wanted: Times, at: Bracket, hold: list[tuple[int, int | None]]
) -> Floats:
    """(T, D) values at K times: filtered, then interpolated, with poses slerped and `hold` elements held."""
    step = period_ns(wanted)
    pose = name == END_EFFECTOR_POSE and values.shape[1] == 7
    source = np.hstack([values[:, :3], continuous_signs(values[:, 3:])]) if pose else values
    smooth = low_pass(times, source, step) if np.isfinite(step) else source
    out = linear(smooth, at)
    if pose:
        quaternions = smooth[:, 3:]
        norm = np.linalg.norm(quaternions, axis=1, keepdims=True)
        out[:, 3:] = slerp(quaternions / np.where(norm > 0, norm, np.nan), at)
    for start, end in hold:
        out[:, start:end] = values[at.before, start:end]
        out[~at.reached, start:end] = np.nan
    return out


def _rows(column: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Rows of a column, null where the row is -1."""
    return column.take(pa.array(rows, pa.int64(), mask=rows < 0))


def _like(column: pa.Array, values: Floats, reached: NDArray[np.bool_]) -> pa.Array:
    """(K, D) values in the column's own type, null where not reached."""
    kind = column.type
    if pa.types.is_floating(kind):
        return pa.array(values[:, 0], mask=~reached).cast(kind)
    width = values.shape[1]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(~reached))
