"""Rows of a LeRobot Parquet file: a few files stay open per worker, a few row groups stay decoded, rows are slices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.sources.lerobot_statistics import Bounds, bounds_of, exceeds, leaves_of
from transforms.stores.paths import located, opened, stat_of
from transforms.unreadable import Unreadable

EPISODE = "episode_index"
OPEN_FILES = 8
CACHED_BYTES = 128 << 20
"""Decoded row groups kept per worker; the newest is kept whatever its size."""
PLAUSIBLE_RATIO = 1000
PLAUSIBLE_BYTES = 64 << 20
Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
Key = tuple[str, int, int]
Wanted = Callable[[str], bool]
Reshape = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True, eq=False)
class OpenTable:
    """An open file. `groups`: (G + 1,) first row of each row group; `runs`: values and (R + 1,) starts of episodes.

    `leaves`: where the footer keeps each column's statistics.
    `layouts` keeps what its readers worked out of the schema, so that it is not sought anew for every episode.
    """

    key: Key
    file: pq.ParquetFile
    groups: NDArray[np.int64]
    runs: Runs | None
    schema: pa.Schema
    names: tuple[str, ...]
    leaves: Mapping[str, int]
    layouts: list[Any] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return int(self.groups[-1])

    def find(self, episode: int) -> list[tuple[int, int]]:
        """Row ranges `[start, stop)` of an episode, in file order."""
        if self.runs is None:
            return []
        values, starts = self.runs
        return [(int(starts[i]), int(starts[i + 1])) for i in (values == episode).nonzero()[0]]

    @property
    def name(self) -> str:
        return Path(self.key[0]).name


class _Tables:
    """What one worker process keeps open; the lock is held while Parquet decodes: a reader serves one thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: OrderedDict[Key, OpenTable] = OrderedDict()
        self.groups: OrderedDict[tuple[Key, int, tuple[str, ...], Reshape], _Group] = OrderedDict()
        self.n_bytes = 0


_tables = _Tables()


def forget() -> None:
    """Close the files that this worker keeps open."""
    with _tables.lock:
        _tables.files.clear()
        _tables.groups.clear()
        _tables.n_bytes = 0


@contextmanager
def naming_faults(path: Path | str) -> Iterator[None]:
    """Turn what Arrow raises on a bad file into Unreadable with the file's name."""
    try:
        yield
    except FileNotFoundError as error:
        raise Unreadable("absent", f"{path} is absent; restore it or take it out of the metadata") from error
    except PermissionError as error:
        raise Unreadable("unreadable", f"{path}: {error.strerror}; check the file's permissions") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise Unreadable("corrupt", f"{path}: {first}; restore the file from its origin") from error


def _check_magic(path: Path, size: int) -> None:
    with path.open("rb") as handle:
        head = handle.read(4)
        handle.seek(max(size - 4, 0))
        tail = handle.read(4)
    if head == b"PAR1" and tail == b"PAR1" and size >= 12:
        return
    if size == 0 or head == b"PAR1":
        raise Unreadable(
            "truncated", f"{path}: {size} bytes without a Parquet footer; restore the file from its origin"
        )
    raise Unreadable("wrong_format", f"{path}: starts with {head!r}, not b'PAR1'; it is no Parquet file")


def _every(_name: str) -> bool:
    return True


def _check_sizes(path: Path, size: int, meta: pq.FileMetaData, wanted: Wanted) -> None:
    """Refuse a footer that promises far more than its file could hold, before anything is allocated for it."""
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if rows != meta.num_rows or any(group.num_rows < 0 for group in groups):
        raise Unreadable(
            "corrupt", f"{path}: footer says {meta.num_rows} rows, its row groups {rows}; restore the file"
        )
    leaves = [i for i in range(meta.num_columns) if wanted(meta.schema.column(i).path)]
    values = sum(max(g.column(i).num_values, g.num_rows) for g in groups for i in leaves)
    limit = PLAUSIBLE_BYTES + PLAUSIBLE_RATIO * size
    if values * 8 > limit:
        raise Unreadable(
            "absurd_size", f"{path}: {values} values declared in {size} bytes; limit {limit // 8}; the footer is wrong"
        )


def parquet(path: Path, wanted: Wanted = _every) -> pq.ParquetFile:
    """A Parquet file opened, its magic and the declared sizes of its wanted columns checked; raises Unreadable."""
    with naming_faults(path):
        size = path.stat().st_size
        _check_magic(path, size)
        file = pq.ParquetFile(opened(path), memory_map=True, page_checksum_verification=True)
        _check_sizes(path, size, file.metadata, wanted)
        names = file.schema_arrow.names
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Unreadable("corrupt", f"{path}: column {twice[0]!r} occurs twice; a LeRobot file names a column once")
    return file


def table_of(path: Path, wanted: Wanted = _every) -> pa.Table:
    """A small metadata table's wanted columns, told by their name and by that of its leaves; raises Unreadable."""
    file = parquet(path, wanted)
    with naming_faults(path):
        return file.read(columns=[name for name in file.schema_arrow.names if wanted(name)])


def episode_runs(file: pq.ParquetFile) -> Runs | None:
    """Values and (R + 1,) starts of the runs of equal episode_index; None without such a column."""
    if EPISODE not in file.schema_arrow.names or not pa.types.is_integer(file.schema_arrow.field(EPISODE).type):
        return None
    if (stated := _stated_runs(file.metadata)) is not None:
        return stated
    column = file.read(columns=[EPISODE], use_threads=False)[EPISODE].cast(pa.int64()).fill_null(-1).combine_chunks()
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
    if not len(values):
        return values, np.zeros(1, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]]).astype(np.int64)
    return values[starts[:-1]], starts


def _stated_runs(meta: pq.FileMetaData) -> Runs | None:
    """The runs from the footer alone where each row group states one value throughout, as LeRobot records; else None.

    A footer that states it wrongly is found when the row group is decoded: its values lie outside the stated bounds.
    """
    column = next(at for at in range(meta.num_columns) if meta.schema.column(at).path == EPISODE)
    values, counts = [], []
    for index in range(meta.num_row_groups):
        group = meta.row_group(index)
        stated = group.column(column).statistics
        if stated is None or not stated.has_min_max or stated.null_count != 0 or stated.min != stated.max:
            return None
        values.append(stated.min)
        counts.append(group.num_rows)
    if not values or not all(isinstance(value, int) for value in values):
        return None
    firsts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    starts = np.concatenate([[0], np.cumsum(counts)])
    return np.array(values, np.int64)[firsts], starts[[*firsts, len(counts)]].astype(np.int64)


def open_table(path: str) -> OpenTable:
    """The file from the worker's few open ones, or newly opened; raises Unreadable."""
    try:
        stat = stat_of(path)
    except OSError:
        with naming_faults(path):
            raise
    key = (path, stat.st_mtime_ns, stat.st_size)
    with _tables.lock:
        found = _tables.files.get(key)
        if found is None:
            found = _tables.files[key] = _opened(key)
            while len(_tables.files) > OPEN_FILES:
                _tables.files.popitem(last=False)
        _tables.files.move_to_end(key)
        return found


def _opened(key: Key) -> OpenTable:
    with naming_faults(key[0]):
        file = parquet(located(key[0]))
        meta = file.metadata
        counts = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        groups = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        schema = file.schema_arrow
        names = tuple(schema.names)
        return OpenTable(key, file, groups, episode_runs(file), schema, names, leaves_of(meta, names))


def as_stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows as the file holds them."""
    return batch


@dataclass(frozen=True)
class _Group:
    """A decoded row group: `rows` reshaped; `suspects` stored columns with values outside what the footer states."""

    rows: pa.RecordBatch
    suspects: tuple[tuple[pa.Array, Bounds], ...]
    n_bytes: int


def _whole(read: pa.Table) -> pa.RecordBatch:
    batches = read.to_batches()
    if len(batches) > 1:
        batches = read.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], read.schema)


def _group(table: OpenTable, group: int, columns: tuple[str, ...], reshape: Reshape, keep: bool) -> _Group:
    """One decoded row group, kept for its other rows if so asked: they come as slices of the same buffers."""
    key = (table.key, group, columns, reshape)
    with _tables.lock:
        found = _tables.groups.get(key)
        if found is None:
            with naming_faults(table.key[0]):
                read = table.file.read_row_group(group, columns=list(columns), use_threads=False)
                if read.column_names != list(columns):
                    read = read.select(list(columns))
                batch = _whole(read)
                stated = bounds_of(table.file.metadata.row_group(group), table.leaves, columns)
            suspects = [(batch.column(bounds.name), bounds) for bounds in stated]
            shaped = reshape(batch)
            found = _Group(shaped, tuple(pair for pair in suspects if exceeds(*pair)), shaped.nbytes if keep else 0)
            if not keep:
                return found
            _tables.groups[key] = found
            _tables.n_bytes += found.n_bytes
            while len(_tables.groups) > 1 and _tables.n_bytes > CACHED_BYTES:
                _tables.n_bytes -= _tables.groups.popitem(last=False)[1].n_bytes
        _tables.groups.move_to_end(key)
        return found


def slices(
    table: OpenTable, start: int, stop: int, columns: Sequence[str], reshape: Reshape = as_stored
) -> Iterator[pa.RecordBatch]:
    """Rows `[start, stop)` of some columns, one slice per row group that holds any.

    `reshape` turns a row group once, when it is decoded, into what its slices are taken from; it keeps the rows.
    Raises Unreadable `corrupt` where these very rows hold values that the footer's statistics exclude.
    """
    first = int(np.searchsorted(table.groups, start, side="right")) - 1
    for group in range(max(first, 0), len(table.groups) - 1):
        low, high = int(table.groups[group]), int(table.groups[group + 1])
        if low >= stop:
            return
        if (count := min(stop, high) - max(start, low)) > 0:
            # an episode's own row group is not asked for again, but that of its images: hashed first, then read
            keep = reshape is as_stored or count < high - low
            decoded, offset = _group(table, group, tuple(columns), reshape, keep), max(start - low, 0)
            for column, bounds in decoded.suspects:
                if exceeds(column.slice(offset, count), bounds):
                    stated = f"[{bounds.low:g}, {bounds.high:g}], which its footer states"
                    text = f"{table.key[0]}: column {bounds.name!r} holds values outside {stated}"
                    raise Unreadable("corrupt", f"{text}; restore the file from its origin")
            yield decoded.rows.slice(offset, count)
