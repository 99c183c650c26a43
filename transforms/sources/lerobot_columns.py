"""LeRobot rows as step columns: one clock in ns, vectors of one width, rewards and flags under the schema's names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.conventions import Embodiment
from transforms.episode import TIMESTAMP, Finding
from transforms.schema import ACTION, FRAME_INDEX, IS_TERMINAL, NEXT_DONE, NEXT_REWARD, REWARD, STATE
from transforms.sources.lerobot_meta import Info, Modality
from transforms.sources.lerobot_plan import finding
from transforms.stage import Unreadable

BOOKKEEPING = frozenset({"timestamp", "episode_index", "index", "task_index"})
"""Columns that say where a row lies in its data set; a copy of the episode elsewhere would differ in them alone."""
DEFAULTS = frozenset({*BOOKKEEPING, FRAME_INDEX})
NEXT_SUCCESS = "next.success"
MAX_SECONDS = 9e9
OFFSET_S = 1e-6
RATE_TOLERANCE = 0.01


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    if pa.types.is_fixed_size_list(column.type):
        return np.full(len(column), column.type.list_size, np.int64)
    offsets = column.offsets.to_numpy()
    return np.diff(offsets).astype(np.int64)


def vectors(column: pa.Array, name: str, place: str) -> pa.Array:
    """A list column, nested or not, as (T, D) fixed-size lists of its own value type, uncopied where no row is null.

    A null row stays null. Raises Unreadable `shape_changed` where rows differ in length.
    """
    if not _is_list(column.type):
        return column
    rows = len(column)
    valid = np.asarray(column.is_valid())
    width, values, holders = 1, column, valid
    while _is_list(values.type):
        lengths = _lengths(values)[holders]
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise Unreadable(
                "shape_changed",
                f"{place}: column {name!r} holds {lengths[0]} values at first and {lengths[row]} at its entry {row}; "
                "rows of one episode need one shape",
            )
        width *= int(lengths[0]) if len(lengths) else 0
        values = values.flatten()  # drops null rows
        holders = np.asarray(values.is_valid()) if _is_list(values.type) else holders
        if _is_list(values.type) and not holders.all():
            raise Unreadable("shape_changed", f"{place}: column {name!r} has a null inside a row; rows need one shape")
    if valid.all():
        return pa.FixedSizeListArray.from_arrays(values, width)
    spread = np.repeat(np.where(valid, np.cumsum(valid) - 1, 0), width) * width + np.tile(np.arange(width), rows)
    taken = values.take(pa.array(spread)) if len(values) else pa.nulls(rows * width, values.type)
    return pa.FixedSizeListArray.from_arrays(taken, width, mask=pa.array(~valid))


def clock(batch: pa.RecordBatch, info: Info, embodiment: Embodiment) -> tuple[pa.Array, list[Finding]]:
    """`timestamp_ns` = round(timestamp * 1e9), null where not finite; from the rate where none is stored."""
    index = batch.schema.get_field_index("timestamp")
    rate = embodiment.rate_hz or info.fps
    if index < 0 or not pa.types.is_floating(batch.schema.field(index).type):
        text = "no column of times" + (f"; index / {rate:g} Hz is used" if rate else "; no rate is declared either")
        absent = [finding("timestamps.absent", 1, text)]
        if not rate:
            return pa.nulls(batch.num_rows, pa.int64()), absent
        return pa.array(np.round(np.arange(batch.num_rows) / rate * 1e9).astype(np.int64)), absent
    raw = batch.column(index)
    seconds = np.asarray(raw.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    good = np.isfinite(seconds) & (np.abs(seconds) < MAX_SECONDS)
    times = np.round(np.where(good, seconds, 0.0) * 1e9).astype(np.int64)
    return pa.array(times, mask=~good), clock_findings(seconds, good, info.fps)


def clock_findings(seconds: NDArray[np.float64], good: NDArray[np.bool_], fps: float | None) -> list[Finding]:
    """What the stored times say against themselves and against info.json: `seconds` (T,) s, `good` (T,) usable."""
    found = []
    if not good.all():
        text = f"first at row {int(np.flatnonzero(~good)[0])}"
        found.append(finding("timestamps.missing", int((~good).sum()), text, "rows"))
    if len(seconds) and good[0] and abs(seconds[0]) > OFFSET_S:
        found.append(finding("timestamps.start_offset", float(seconds[0]), "the first step is not at 0", "s"))
    steps = np.diff(seconds[good])
    if fps and len(steps):
        median = float(np.median(steps))
        if median <= 0 or abs(median * fps - 1) > RATE_TOLERANCE:
            text = f"info.json declares {fps:g} Hz; the median step is {median:.6g} s"
            found.append(finding("metadata.fps", 1 / median if median > 0 else None, text, "Hz"))
    return found


def frame_index(batch: pa.RecordBatch) -> tuple[pa.Array, list[Finding]]:
    """The stored frame_index, or 0..T-1 where there is none; steps by anything but one are a finding."""
    index = batch.schema.get_field_index(FRAME_INDEX)
    if index < 0 or not pa.types.is_integer(batch.schema.field(index).type):
        return pa.array(np.arange(batch.num_rows, dtype=np.int64)), []
    column = batch.column(index)
    values = column.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    jumps = int((np.diff(values, prepend=-1) != 1).sum())
    if not jumps:
        return column, []
    return column, [finding("metadata.frame_index", jumps, "frame_index does not count 0, 1, 2, …", "rows")]


def steps_of(
    batch: pa.RecordBatch, info: Info, embodiment: Embodiment, place: str
) -> tuple[pa.RecordBatch, list[Finding]]:
    """The stream `steps`: clock, frame_index, then every other column of the file but its bookkeeping.

    `next.reward` becomes `reward`; `next.done` keeps its name and is `is_terminal` too.
    """
    times, found = clock(batch, info, embodiment)
    frames, jumps = frame_index(batch)
    columns: dict[str, pa.Array] = {TIMESTAMP: times, FRAME_INDEX: frames}
    for name in batch.schema.names:
        if name in DEFAULTS:
            continue
        column = scalars(vectors(batch.column(name), name, place), info, name)
        columns[REWARD if name == NEXT_REWARD else name] = column
        if name == NEXT_DONE and (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)):
            columns[IS_TERMINAL] = column.cast(pa.bool_())
    return pa.RecordBatch.from_pydict(columns), [*found, *jumps]


def scalars(column: pa.Array, info: Info, name: str) -> pa.Array:
    """Lists of one value that stand for a flag or a reward (`next.*`) as plain values."""
    if name.startswith("next.") and pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:
        return pc.list_element(column, 0)
    return column


def success_of(steps: pa.RecordBatch) -> bool | None:
    """True where `next.success` is true at any step; None without such a column."""
    index = steps.schema.get_field_index(NEXT_SUCCESS)
    if index < 0:
        return None
    column = steps.column(index)
    if not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)):
        return None
    flags = column.cast(pa.bool_()).drop_null()
    return bool(pc.any(flags).as_py()) if len(flags) else None


def _value_type(kind: pa.DataType) -> pa.DataType:
    while _is_list(kind):
        kind = kind.value_type
    return kind


def feature_findings(schema: pa.Schema, steps: pa.RecordBatch, info: Info) -> list[Finding]:
    """Where the declared features and the columns on disk disagree: absent, undeclared, of another shape or type."""
    found = []
    names = set(schema.names)
    for name, feature in sorted(info.features.items()):
        if feature.dtype in ("video", "image"):
            continue
        if name not in names:
            found.append(finding("metadata.feature_absent", 1, f"{name}: declared, no such column"))
            continue
        kind = _value_type(schema.field(name).type)
        declared, actual = feature.dtype.replace("double", "float64"), str(kind).replace("double", "float64")
        if declared and declared != actual.replace("halffloat", "float16").removeprefix("large_"):
            plain = {"float": "float32"}.get(actual, actual)
            if declared != plain:
                found.append(finding("metadata.dtype", 1, f"{name}: declared {declared}, stored {plain}"))
        index = steps.schema.get_field_index(name)
        if feature.shape is not None and index >= 0 and pa.types.is_fixed_size_list(steps.schema.field(index).type):
            width = steps.schema.field(index).type.list_size
            if width != int(np.prod(feature.shape, dtype=object)):
                text = f"{name}: declared shape {list(feature.shape)}, stored width {width}"
                found.append(finding("metadata.shape", width, text))
    for name in sorted(names - set(info.features) - DEFAULTS):
        found.append(finding("metadata.feature_undeclared", 1, f"{name}: a column that info.json does not declare"))
    return found


def modality_findings(steps: pa.RecordBatch, info: Info, modality: Modality) -> list[Finding]:
    """Where GR00T's modality.json names elements or columns that are not there."""
    found = []
    for default, parts in ((STATE, modality.state), (ACTION, modality.action)):
        for key, part in sorted(parts.items()):
            column = part.original_key or default
            index = steps.schema.get_field_index(column)
            kind = steps.schema.field(index).type if index >= 0 else pa.null()
            width = kind.list_size if pa.types.is_fixed_size_list(kind) else 1 if index >= 0 else 0
            if part.end is not None and part.end > width:
                text = f"modality.json: {key} is {column}[{part.start}:{part.end}]; the column holds {width}"
                found.append(finding("metadata.modality", part.end, text))
    for key, part in sorted(modality.video.items()):
        column = part.original_key or f"observation.images.{key}"
        if column not in info.features:
            found.append(
                finding("metadata.modality", 1, f"modality.json: {key} is {column}; info.json has no such camera")
            )
    present = DEFAULTS.union(steps.schema.names)
    for key, part in sorted(modality.annotation.items()):
        column = part.original_key or f"annotation.{key}"
        if column not in present:
            found.append(finding("metadata.modality", 1, f"modality.json: {column} is no column"))
    return found
