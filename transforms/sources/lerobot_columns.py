"""LeRobot rows as step columns: one clock in ns, vectors of one width, rewards and flags under the schema's names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.arrays import list_values
from transforms.episode import TIMESTAMP, Finding
from transforms.schema import FRAME_INDEX, IS_TERMINAL, NEXT_DONE, NEXT_REWARD, REWARD
from transforms.sources.lerobot_plan import finding
from transforms.unreadable import Unreadable

BOOKKEEPING = frozenset({"timestamp", "episode_index", "index", "task_index"})
"""Columns that say where a row lies in its data set; a copy of the episode elsewhere would differ in them alone."""
DEFAULTS = frozenset({*BOOKKEEPING, FRAME_INDEX})
NEXT_SUCCESS = "next.success"
MAX_SECONDS = 9e9
OFFSET_NS = 1000
RATE_TOLERANCE = 0.01


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    if pa.types.is_fixed_size_list(column.type):
        return np.full(len(column), column.type.list_size, np.int64)
    offsets = column.offsets.to_numpy()
    return np.diff(offsets).astype(np.int64)


def _fixed(values: pa.Array, width: int, rows: int) -> pa.Array:
    if width == 0:  # Arrow makes no such array of values
        return pa.array([[]] * rows, pa.list_(values.type, 0))
    return pa.FixedSizeListArray.from_arrays(values, width)


def vectors(column: pa.Array, name: str, place: str) -> pa.Array:
    """A list column, nested or not, as (T, D) fixed-size lists of its own value type, uncopied where no row is null.

    A null row stays null. Raises Unreadable `shape_changed` where rows differ in length.
    """
    kind = column.type
    if not is_list(kind):
        return column
    if pa.types.is_fixed_size_list(kind) and not is_list(kind.value_type):
        # writers name the values `element` or `item`: one name, so that the same column has one type everywhere
        if kind.value_field.name == "item" or column.null_count:
            return column.cast(pa.list_(kind.value_type, kind.list_size))
        return _fixed(list_values(column), kind.list_size, len(column))
    rows = len(column)
    valid = np.asarray(column.is_valid())
    width, values, holders = 1, column, valid
    while is_list(values.type):
        lengths = _lengths(values)[holders]
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise Unreadable(
                "shape_changed",
                f"{place}: column {name!r} holds {lengths[0]} values at first and {lengths[row]} at its entry {row}; "
                "rows of one episode need one shape",
            )
        width *= int(lengths[0]) if len(lengths) else 0
        values = list_values(values)
        holders = np.asarray(values.is_valid()) if is_list(values.type) else holders
        if is_list(values.type) and not holders.all():
            raise Unreadable("shape_changed", f"{place}: column {name!r} has a null inside a row; rows need one shape")
    if valid.all():
        return _fixed(values, width, rows)
    spread = np.repeat(np.where(valid, np.cumsum(valid) - 1, 0), width) * width + np.tile(np.arange(width), rows)
    taken = values.take(pa.array(spread)) if len(values) else pa.nulls(rows * width, values.type)
    return pa.FixedSizeListArray.from_arrays(taken, width, mask=pa.array(~valid))


def _scalar(column: pa.Array, name: str) -> pa.Array:
    """Lists of one value that stand for an index, a time, a flag or a reward, as plain values."""
    plain = name in DEFAULTS or name.startswith(("next.", "annotation."))
    if plain and pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:
        return pc.list_element(column, 0)
    return column


def to_ns(seconds: pa.Array) -> pa.Array:
    """(T,) float seconds as int64 ns, round(s * 1e9); null where that is no finite time."""
    values = seconds.to_numpy(zero_copy_only=False).astype(np.float64)  # nulls as NaN
    good = np.abs(values) < MAX_SECONDS  # not so where it is NaN
    if good.all():
        return pa.array(np.rint(values * 1e9).astype(np.int64))
    return pa.array(np.rint(np.where(good, values, 0.0) * 1e9).astype(np.int64), mask=~good)


def shaped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A row group's columns as steps have them, so that an episode is a slice: clock, frame_index, the rest.

    `next.reward` becomes `reward`; a column of that name beside it becomes `stored.reward`. `next.done` keeps its name,
    and is `is_terminal` too where there is no such column. Bookkeeping columns come last. List columns whose rows
    differ in length stay lists: whether they change within an episode shows there.
    """
    columns: dict[str, pa.Array] = {}
    last: dict[str, pa.Array] = {}
    there = set(batch.schema.names)
    renamed = {NEXT_REWARD: REWARD} | ({REWARD: f"stored.{REWARD}"} if NEXT_REWARD in there else {})
    for name, stored in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column = _scalar(vectors(stored, name, ""), name)
        except Unreadable:
            column = stored
        if name == "timestamp" and pa.types.is_floating(column.type):
            columns[TIMESTAMP] = to_ns(column)
        elif name in BOOKKEEPING:
            last[name] = column
        else:
            columns[renamed.get(name, name)] = column
            flag = pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)
            if name == NEXT_DONE and flag and IS_TERMINAL not in there:
                columns[IS_TERMINAL] = column.cast(pa.bool_())
    if FRAME_INDEX in columns and not pa.types.is_integer(columns[FRAME_INDEX].type):
        del columns[FRAME_INDEX]
    first = {name: columns.pop(name) for name in (TIMESTAMP, FRAME_INDEX) if name in columns}
    ordered = {**first, **columns, **last}
    return pa.RecordBatch.from_arrays(list(ordered.values()), list(ordered))


def has_lists(schema: pa.Schema) -> bool:
    """Whether a shaped batch still has columns whose rows may differ in length."""
    return any(pa.types.is_list(kind) or pa.types.is_large_list(kind) for kind in schema.types)


def merged(parts: Sequence[pa.RecordBatch], place: str) -> pa.RecordBatch:
    """The shaped parts of one episode as one batch, every list column of one width.

    Raises Unreadable `shape_changed` where rows of a column differ in length, within a part or between two.
    """
    whole = []
    for part in parts:
        for at, name in enumerate(part.schema.names):
            part = part.set_column(at, name, _scalar(vectors(part.column(at), name, place), name))
        whole.append(part)
    if len(whole) == 1:
        return whole[0]
    first = whole[0].schema.remove_metadata()
    for part in whole[1:]:
        for name, a, b in zip(first.names, first.types, part.schema.types, strict=True):
            if a != b:
                raise Unreadable(
                    "shape_changed", f"{place}: column {name!r} is {a} at first and {b} later; rows need one shape"
                )
    return pa.Table.from_batches([part.cast(first) for part in whole]).combine_chunks().to_batches()[0]


def with_clock(steps: pa.RecordBatch, rate_hz: float | None) -> tuple[pa.RecordBatch, Finding]:
    """Steps of a file without times: index / rate, null where no rate is declared."""
    text = "no column of times" + (f"; index / {rate_hz:g} Hz is used" if rate_hz else "; no rate is declared either")
    rows = np.arange(steps.num_rows)
    times = pa.array(np.round(rows / rate_hz * 1e9).astype(np.int64)) if rate_hz else pa.nulls(len(rows), pa.int64())
    return steps.add_column(0, TIMESTAMP, times), finding("timestamps.absent", 1, text)


def frame_findings(column: pa.Array) -> list[Finding]:
    """A stored frame_index that does not count 0, 1, 2, …"""
    frames = integers(column)
    if frames[0] == 0 and frames[-1] == len(frames) - 1 and (frames[1:] > frames[:-1]).all():
        return []
    jumps = int((np.diff(frames, prepend=-1) != 1).sum())
    return [finding("metadata.frame_index", jumps, "frame_index does not count 0, 1, 2, …", "rows")]


def integers(column: pa.Array) -> NDArray[np.int64]:
    """(T,) integers, -1 where null; a view where there is none."""
    if column.null_count:
        column = column.fill_null(-1)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.int64, copy=False)


def clock_findings(times: pa.Array, fps: float | None) -> list[Finding]:
    """What the stored times (T,) ns say against info.json: a first step not at 0, another rate."""
    found = []
    stored = times.drop_null() if times.null_count else times
    values = stored.to_numpy()
    if len(values) and abs(int(values[0])) > OFFSET_NS:
        found.append(finding("timestamps.start_offset", int(values[0]) / 1e9, "the first step is not at 0", "s"))
    if not fps or len(values) < 2:
        return found
    mean = int(values[-1] - values[0]) / 1e9 / (len(values) - 1)
    if abs(mean * fps - 1) > RATE_TOLERANCE:  # a gap bends the mean: the median decides, and is dearer
        median = float(np.median(np.diff(values))) / 1e9
        if median <= 0 or abs(median * fps - 1) > RATE_TOLERANCE:
            text = f"info.json declares {fps:g} Hz; the median step is {median:.6g} s"
            found.append(finding("metadata.fps", 1 / median if median > 0 else None, text, "Hz"))
    return found


def succeeded(column: pa.Array) -> bool | None:
    """Whether a flag or count of `next.success` is true at any step; None where every step is null."""
    flags = column.cast(pa.bool_()).drop_null()
    return bool(pc.any(flags).as_py()) if len(flags) else None
