"""meta/episodes of a LeRobot v3 set as columns: no Python object per episode, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.sources.lerobot_tables import EPISODE, table_of
from transforms.unreadable import Unreadable

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """(E,) columns of the episodes that can be placed, each number once, in the order of the list.

    Integers are -1 and seconds NaN where nothing is stated. `broken` names parts that cannot be read, `misplaced`
    counts entries without a number or a file, `repeated` are the numbers listed more than once.
    """

    table: pa.Table
    broken: tuple[str, ...]
    misplaced: int
    repeated: Ints

    def ints(self, name: str) -> Ints:
        """A column of whole numbers."""
        return _ints(self.table, name)

    def seconds(self, name: str) -> Floats:
        """A column of seconds."""
        column = _column(self.table, name)
        if column is None or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            return np.full(len(self.table), np.nan)
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)

    def tasks(self) -> Mapping[str, int]:
        """Number of episodes by task text."""
        column = _column(self.table, "tasks")
        if column is None or not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            return {}
        texts = pc.list_flatten(column)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            return {}
        counts = pc.value_counts(texts)
        pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
        return {text: count for text, count in pairs if text is not None}


@dataclass(frozen=True, eq=False)
class Placement:
    """Which file holds each episode: `names` of the F files, `file` (E,) an index into them, -1 where none is named."""

    names: list[str]
    file: Ints

    def sums(self, values: Ints) -> Ints:
        """(F,) sum of `values` (E,) over each file's episodes."""
        total = np.zeros(len(self.names), np.int64)
        held = self.file >= 0
        np.add.at(total, self.file[held], values[held])
        return total

    def within(self, chosen: set[str]) -> NDArray[np.bool_]:
        """(E,) whether an episode's file is among `chosen`."""
        mask = np.array([*(name in chosen for name in self.names), False])
        found: NDArray[np.bool_] = mask[self.file]
        return found


def placement(chunks: Ints, files: Ints, name_of: Callable[[int, int], str]) -> Placement:
    """The files that (E,) chunk and file numbers name, by `name_of(chunk, file)`; -1 in either names none."""
    held = (chunks >= 0) & (files >= 0)
    keys, which = np.unique((chunks[held] << 32) | files[held], return_inverse=True)
    index = np.full(len(chunks), -1, np.int64)
    index[held] = which.reshape(-1)
    return Placement([name_of(key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()], index)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    return table[name] if name in table.column_names else None


def _ints(table: pa.Table, name: str) -> Ints:
    column = _column(table, name)
    if column is None or not pa.types.is_integer(column.type):
        return np.full(len(table), -1, np.int64)
    return np.asarray(column.cast(pa.int64()).fill_null(-1).to_numpy(), np.int64)


def load_table(root: Path) -> EpisodeTable | None:
    """Every part of meta/episodes, statistics left unread; None where the data set has no list."""
    parts = sorted((root / "meta" / "episodes").glob("**/*.parquet"))
    if not parts:
        return None
    tables, broken = [], []
    for part in parts:
        try:
            tables.append(table_of(part, lambda name: not name.startswith(("stats/", "meta/"))))
        except Unreadable as error:
            broken.append(error.problem.detail)
    table = (
        pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({EPISODE: pa.array([], "i8")})
    )
    numbers = _ints(table, EPISODE)
    placed = (numbers >= 0) & (_ints(table, "data/chunk_index") >= 0) & (_ints(table, "data/file_index") >= 0)
    _, first, counts = np.unique(numbers[placed], return_index=True, return_counts=True)
    repeated = numbers[placed][first][counts > 1]
    chosen = np.flatnonzero(placed)[np.sort(first)]
    if len(chosen) < len(table):
        table = table.take(pa.array(chosen))
    return EpisodeTable(table, tuple(broken), int((~placed).sum()), repeated)
