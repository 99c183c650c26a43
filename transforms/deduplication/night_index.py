"""What earlier nights left for later ones: bands, contents and ids in sorted runs, read where a new document looks.

A run is a file of one partition's rows in order of their keys, of one night or of several merged ones. A night's
documents look up their own keys in each run by bisection in the mapped file, so what is read grows with the night, and
with the number of runs, which is logarithmic in the number of nights (two runs of like length are merged when a night
is committed). Of a large bucket only those rows are held that a later document may be compared with. Runs of clusters
hold their vectors too, since a night reads whole clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.buckets import BandRows, in_order, lasting
from transforms.deduplication.byte_columns import row_column, rows_of
from transforms.deduplication.document_files import in_sorted
from transforms.deduplication.jaccard import Rows, spans
from transforms.deduplication.ordering import by_two
from transforms.deduplication.shingles import Hashes
from transforms.part_writer import put_in_place, temporary_file

BANDS, CONTENTS, IDS, CLUSTERS = "bands", "contents", "ids", "clusters"
EDGES, DROPPED, CENTROIDS = "edges.arrow", "dropped.arrow", "centroids.arrow"
PAGE_BYTES = 4096
_SORTED_BY = {BANDS: ("key", "rank"), CONTENTS: ("low", "high"), IDS: ("low", "row"), CLUSTERS: ("key", "row")}
Columns = Mapping[str, NDArray[Any]]
"""Of N rows: (N,) values by name, and (N, D) int8 vectors."""


@dataclass(frozen=True)
class IndexView:
    """An index as a job's workers see it: files of earlier nights' `documents`, folders of `runs`, `edges` and
    `dropped` files, all paths sorted so that a row number of an earlier document stays what it was; the file of
    `centroids` where documents are vectors.
    """

    documents: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    edges: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    centroids: str | None = None

    @property
    def first_new_row(self) -> int:
        """Rows from here on are of the documents that the index does not hold yet."""
        return len(self.documents) << 32

    def bands(self, partition: int, keys: Hashes) -> BandRows:
        """The rows of some keys (sorted, unique), in order of (key, rank)."""
        found = self._found(BANDS, partition, keys, "key")
        return in_order(BandRows(found["key"], found["rank"], found["row"]))

    def contents(self, partition: int, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
        """The first documents (high, low, row) of contents whose low halves are among those of some batches."""
        low = np.unique(np.concatenate([batch.column("low").to_numpy() for batch in batches]))
        return pa.record_batch(dict(self._found(CONTENTS, partition, low, "low")))

    def clusters(self, partition: int) -> list[Columns]:
        """A partition of clusters in each run, oldest first, in order of (key, row): key, row, the other clusters of
        each row, and its vector.
        """
        return list(self._runs(CLUSTERS, partition))

    def ids(self, hashes: Hashes) -> Rows:
        """Rows of documents whose id has one of these xxh3-64 (sorted, unique)."""
        return np.asarray(self._found(IDS, 0, hashes, "low")["row"])

    def pages(self, kind: str, partition: int, keys: Hashes) -> int:
        """Pages of 4 KiB that a look-up of keys (sorted, unique) touches where they are found: not the bisection's
        way there, whose upper steps all keys share.
        """
        count = 0
        for columns in self._runs(kind, partition):
            by = columns[_SORTED_BY[kind][0]]
            places = np.minimum(np.searchsorted(by, keys), max(len(by) - 1, 0))
            count += len(columns) * len(np.unique(places * 8 // PAGE_BYTES))
        return count

    def pinned(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of some rows are documents of earlier nights that stayed, and so stay for good."""
        gone = [batch.column("row").to_numpy() for path in self.dropped for batch in read_arrow(path)]
        dropped = np.sort(np.concatenate([np.zeros(0, np.int64), *gone]))
        return (rows < self.first_new_row) & ~in_sorted(rows, dropped)

    def _runs(self, kind: str, partition: int) -> Iterable[Columns]:
        for folder in self.runs:
            path = run_path(Path(folder), kind, partition)
            if path.exists():
                yield read_run(path)

    def _found(self, kind: str, partition: int, keys: Hashes, by: str) -> Columns:
        parts: list[Columns] = []
        for columns in self._runs(kind, partition):
            starts = np.searchsorted(columns[by], keys, "left")
            hit = starts < len(columns[by])
            hit[hit] = columns[by][starts[hit]] == keys[hit]
            stops = np.searchsorted(columns[by], keys[hit], "right")
            places = spans(starts[hit], stops - starts[hit])
            parts.append({name: values[places] for name, values in columns.items()})
        parts = parts or [empty_run(kind)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run_path(folder: Path, kind: str, partition: int) -> Path:
    """Where a partition's rows of a run lie."""
    return folder / kind / f"{partition:05d}.arrow"


def read_run(path: Path) -> Columns:
    """The columns of a run's file, mapped."""
    (batch,) = read_arrow(str(path))
    return {name: _values(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _values(column: pa.Array) -> NDArray[Any]:
    return rows_of(column) if pa.types.is_fixed_size_binary(column.type) else column.to_numpy()


def _column(values: NDArray[Any]) -> pa.Array:
    return row_column(values) if values.ndim > 1 else pa.array(values)


def empty_run(kind: str) -> Columns:
    """A run without rows."""
    names = {BANDS: ("key", "rank"), CONTENTS: ("high", "low"), IDS: ("low",)}[kind]
    return {**{name: np.zeros(0, np.uint64) for name in names}, "row": np.zeros(0, np.int64)}


def write_run(staging: Path, path: Path, kind: str, columns: Columns) -> None:
    """Write one partition's rows in their order, in place at once."""
    first, second = _SORTED_BY[kind]
    order = by_two(columns[first], columns[second])
    write_arrow(staging, path, pa.record_batch({name: _column(values[order]) for name, values in columns.items()}))


def write_bands(staging: Path, path: Path, rows: BandRows) -> None:
    """Write one partition's band rows, which are in their order, in place at once."""
    write_arrow(staging, path, pa.record_batch(vars(rows)))


def write_arrow(staging: Path, path: Path, batch: pa.RecordBatch) -> None:
    """Write a batch as one Arrow file, in place at once."""
    temporary = temporary_file(staging)
    with pa.ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)
    put_in_place(temporary, path)


def merge_runs(staging: Path, folders: Sequence[Path], target: Path, max_bucket: int) -> None:
    """Write runs as one, a partition at a time; of large buckets only the lasting rows stay."""
    for kind in _SORTED_BY:
        names = sorted({path.name for folder in folders for path in (folder / kind).glob("*.arrow")})
        for name in names:
            found = [read_run(folder / kind / name) for folder in folders if (folder / kind / name).exists()]
            columns = {key: np.concatenate([part[key] for part in found]) for key in found[0]}
            if kind == BANDS:
                rows = in_order(BandRows(**columns))
                write_bands(staging, target / kind / name, rows.take(lasting(rows, max_bucket)))
            else:
                write_run(staging, target / kind / name, kind, columns)


def read_arrow(path: str) -> list[pa.RecordBatch]:
    """The batches of an Arrow file, mapped."""
    reader = pa.ipc.open_file(pa.memory_map(path))
    return [reader.get_batch(index) for index in range(reader.num_record_batches)]
