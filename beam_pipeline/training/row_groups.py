"""Columns of published part files, a row group at a time, in a cache of bounded size; safe in workers of any start."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.training.errors import TrainingDataError
from transforms.column_summary import is_numeric, matrices
from transforms.episode import TIMESTAMP
from transforms.schema import FRAME_INDEX

Values = NDArray[Any]


class _Groups(Protocol):
    """An open part file."""

    schema: pa.Schema
    starts: list[int]
    """First row of each of G groups, then the number of rows."""

    def read(self, group: int, column: str) -> pa.Array: ...


class _ParquetGroups:
    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self.schema = self._file.schema_arrow
        metadata = self._file.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.starts = [0, *accumulate(rows)]

    def read(self, group: int, column: str) -> pa.Array:
        # without threads: a fork may have left Arrow's pool behind. `action` reads `action.gripper` too
        table = self._file.read_row_group(group, columns=[column], use_threads=False)
        return _whole(table[column])


class _ArrowGroups:
    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema = self._file.schema
        rows = [self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches)]
        self.starts = [0, *accumulate(rows)]

    def read(self, group: int, column: str) -> pa.Array:
        return self._file.get_batch(group).column(column)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def open_groups(path: Path) -> _Groups:
    """A part file of either format."""
    return _ParquetGroups(path) if path.suffix == ".parquet" else _ArrowGroups(path)


def is_camera(kind: pa.DataType) -> bool:
    """Whether a column holds encoded images or references to frames of a video."""
    return bool(pa.types.is_struct(kind)) and kind.get_field_index("path") >= 0


def numbers(column: pa.Array, name: str) -> Values:
    """A numeric column as (T,) or (T, D): floats as float32 with null as NaN, integers as int64, flags as bool.

    Raises TrainingDataError where rows differ in length, or a flag or integer is null.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        if column.null_count:
            raise TrainingDataError(
                f"{name!r} is null in {column.null_count} of {len(column)} rows; leave it out of columns="
            )
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pa.types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)
    found = list(matrices(column))
    if len(found) > 1:
        widths = ", ".join(str(m.shape[1]) for m in found)
        raise TrainingDataError(f"{name!r} has rows of {widths} numbers; choose sources= of one robot, or columns=")
    width = found[0].shape[1] if found else 0
    out = np.full((len(column), width), np.nan, np.float32)
    if found:
        out[np.asarray(column.is_valid())] = found[0]
    return out


@dataclass(frozen=True)
class Clock:
    """Of every row of a part (T,): the step's index in its episode and its time; `timed` False where one is null.

    A run is rows whose step numbers follow each other: a step that begins no transition is in another table, so a gap
    breaks it. `runs` (R + 1,) are the first rows of runs, then T; `period_ns` (R,) the median time between their rows.
    """

    frame_index: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    timed: NDArray[np.bool_]
    runs: NDArray[np.int64]
    period_ns: NDArray[np.float64]


def make_clock(frame_index: NDArray[np.int64], time_ns: NDArray[np.int64], timed: NDArray[np.bool_]) -> Clock:
    """The clock of a part's rows."""
    breaks = np.flatnonzero(np.diff(frame_index) != 1) + 1
    runs = np.concatenate([[0], breaks, [len(frame_index)]])
    spans = zip(runs[:-1].tolist(), runs[1:].tolist(), strict=True)
    periods = [float(np.median(np.diff(time_ns[a:b]))) if b - a > 1 else 0.0 for a, b in spans]
    return Clock(frame_index, time_ns, timed, runs, np.array(periods))


class PartColumns:
    """Columns of many part files. `cache_bytes` bounds what is held decoded; a process holds its own open files."""

    def __init__(self, paths: Sequence[Path], cache_bytes: int) -> None:
        self._paths = tuple(paths)
        self._limit = cache_bytes
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[int, _Groups] = OrderedDict()
        self._held: OrderedDict[tuple[int, int, str], tuple[Any, int]] = OrderedDict()
        self._held_bytes = 0

    def __getstate__(self) -> dict[str, object]:
        return {"paths": self._paths, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._paths, self._limit = state["paths"], state["limit"]
        self._forget()

    def groups(self, part: int) -> _Groups:
        """An open part; what a forked process inherited is not shared with its parent."""
        if self._process != os.getpid():
            self._forget()
        if part not in self._open:
            self._open[part] = open_groups(self._paths[part])
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(part)
        return self._open[part]

    def schema(self, part: int) -> pa.Schema:
        """Columns of a part."""
        return self.groups(part).schema

    def starts(self, part: int) -> list[int]:
        """First row of each row group of a part, then its number of rows."""
        return self.groups(part).starts

    def group(self, part: int, group: int, column: str) -> Any:
        """A row group's column: numbers as an array (T, ...), a camera as its Arrow array."""
        return self._cached((part, group, column), lambda: self._read(part, group, column))

    def _read(self, part: int, group: int, column: str) -> tuple[Any, int]:
        found = self.groups(part).read(group, column)
        if is_numeric(found.type):
            values = numbers(found, column)
            return values, values.nbytes
        return found, found.nbytes

    def group_of(self, part: int, row: int) -> tuple[int, int]:
        """The row group that holds a row of a part, and the row's place in it."""
        starts = self.groups(part).starts
        group = bisect_right(starts, row) - 1
        return group, row - starts[group]

    def take(self, part: int, rows: NDArray[np.int64], column: str) -> Values:
        """Values of a numeric column at N >= 1 rows of a part, (N, ...), a copy."""
        least = int(rows[0]) if len(rows) == 1 else int(rows.min())
        group, at = self.group_of(part, least)
        values = self.group(part, group, column)
        first = least - at
        if len(rows) == 1 or int(rows.max()) < first + len(values):
            return np.asarray(values[rows - first])
        places = [self.group_of(part, row) for row in rows.tolist()]
        return np.stack([self.group(part, group, column)[at] for group, at in places])

    def clock(self, part: int) -> Clock:
        """When each row of a part is."""
        found: Clock = self._cached((part, -1, TIMESTAMP), lambda: self._read_clock(part))
        return found

    def _read_clock(self, part: int) -> tuple[Clock, int]:
        groups = self.groups(part)
        count = len(groups.starts) - 1
        index = pa.concat_arrays([groups.read(g, FRAME_INDEX) for g in range(count)])
        time = pa.concat_arrays([groups.read(g, TIMESTAMP) for g in range(count)])
        clock = make_clock(
            np.asarray(index.to_numpy(zero_copy_only=False), np.int64),
            np.asarray(time.fill_null(0).to_numpy(zero_copy_only=False), np.int64),
            np.asarray(time.is_valid().to_numpy(zero_copy_only=False), np.bool_),
        )
        return clock, 17 * len(index)

    def _cached(self, key: tuple[int, int, str], read: Callable[[], tuple[Any, int]]) -> Any:
        if self._process != os.getpid():
            self._forget()
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        value, size = read()
        self._held[key] = value, size
        self._held_bytes += size
        while self._held_bytes > self._limit and len(self._held) > 1:
            _, (_, freed) = self._held.popitem(last=False)
            self._held_bytes -= freed
        return value


_OPEN_FILES = 64
