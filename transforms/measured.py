"""Stored evidence: all that decides about a source's episodes, in columns, so that deciding needs no raw data.

Of each source: `episodes` (one row per measured episode, sorted by id), `findings` (in the order of the episodes),
`shingles` (what duplicates are found by, uncompressed so that it is read in place) and `left` (inputs that left before
anything was decided: quarantined, cut, set aside).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.coders import to_json
from transforms.episode_rows import EPISODE_FIELDS, FINDING_FIELDS, episode_row, finding_row, in_order
from transforms.evidence import Evidence, LedgerRow
from transforms.ledger import LEDGER_SCHEMA, ledger_columns
from transforms.output_files import PartReport
from transforms.part_writer import SinkParams, open_part
from transforms.partition import PartitionBySortedId, PlaceOf, from_part_key

STORE = "_evidence"
"""Folder of the output that holds stored evidence."""
EPISODES, FINDINGS, SHINGLES, LEFT = "episodes", "findings", "shingles", "left"
EPISODES_SCHEMA = pa.schema([*EPISODE_FIELDS, ("n_bytes", pa.int64()), ("columns", pa.string())])
"""`columns` are the StagedColumns as JSON: few differ."""
MEASURED_FIELDS = [(name, kind) for name, kind in FINDING_FIELDS if name not in ("threshold", "passed")]
FINDINGS_SCHEMA = pa.schema([("episode", pa.int64()), *MEASURED_FIELDS])
"""`episode` is the row in `episodes` of the same part."""
SHINGLES_SCHEMA = pa.schema(
    [
        ("episode_id", pa.string()),
        ("content_id", pa.string()),
        ("instruction", pa.string()),
        ("instruction_shingles", pa.binary()),
        ("trajectory_shingles", pa.binary()),
        ("frames", pa.list_(pa.struct([("camera", pa.string()), ("keys", pa.binary()), ("hashes", pa.binary())]))),
    ]
)
_COLUMNAR = SinkParams(compression="zstd", row_group_rows=65_536)
_IN_PLACE = SinkParams(format="arrow", compression="none", row_group_rows=65_536)
_PART_FINDINGS = 200_000
"""A part ends before its episodes have more findings: they are in memory together when it is written."""
_PART_ROWS = 1_000_000
_ROWS_AT_ONCE = 4096
_THREADS = min(4, os.cpu_count() or 1)


def store_path(source: str, table: str, index: int, params: SinkParams) -> str:
    """Where a file of stored evidence lies, relative to the folder of finished files."""
    return f"{STORE}/source={quote(source, safe='')}/{table}-{index:05d}.{params.extension}"


def _source(row: Evidence | LedgerRow) -> str:
    return row.source


def _row_id(row: Evidence | LedgerRow) -> str:
    return row.episode_id


def _findings(row: Evidence) -> int:
    return max(1, len(row.findings))


def _one(row: LedgerRow) -> int:
    return 1


def _stored_episode(evidence: Evidence, root: str) -> dict[str, object]:
    if evidence.head is None:
        raise ValueError(f"episode {evidence.episode_id} came without its head; stage it by StageEpisode")
    row = episode_row(evidence.head, evidence.n_steps, evidence.n_transitions, root)
    return row | {"n_bytes": evidence.n_bytes, "columns": to_json(evidence.columns).decode()}


def _stored_findings(episode: int, evidence: Evidence, root: str) -> Iterator[dict[str, object]]:
    for found in in_order(evidence.findings):
        yield {"episode": episode, **finding_row(found, root)}


def write_part(staging: Path, source: str, index: int, members: Sequence[Evidence], root: str) -> list[PartReport]:
    """One part of each table of measured episodes, sorted by id; `root` is cut from their paths."""
    ordered = sorted(members, key=_row_id)
    tables: list[tuple[str, pa.Schema, SinkParams, Iterator[dict[str, Any]]]] = [
        (EPISODES, EPISODES_SCHEMA, _COLUMNAR, (_stored_episode(e, root) for e in ordered)),
        (
            FINDINGS,
            FINDINGS_SCHEMA,
            _COLUMNAR,
            (row for i, e in enumerate(ordered) for row in _stored_findings(i, e, root)),
        ),
        (SHINGLES, SHINGLES_SCHEMA, _IN_PLACE, (asdict(e.fingerprint) for e in ordered)),
    ]
    return [
        _write(staging, source, store_path(source, table, index, params), schema, params, rows)
        for table, schema, params, rows in tables
    ]


def _write(
    staging: Path, source: str, path: str, schema: pa.Schema, params: SinkParams, rows: Iterator[dict[str, Any]]
) -> PartReport:
    with open_part(staging, path, schema, params, source) as (writer, reports):
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write(pa.RecordBatch.from_pylist(some, schema=schema))
    return reports[0]


class _StoreEpisodes(beam.DoFn):
    def __init__(self, staging: str, roots: Mapping[str, str]) -> None:
        self._staging, self._roots = staging, roots

    def process(self, element: tuple[str, Iterable[Evidence]]) -> Iterator[PartReport]:
        source, index = from_part_key(element[0])
        yield from write_part(Path(self._staging), source, index, list(element[1]), self._roots.get(source, ""))


class _StoreLeft(beam.DoFn):
    def __init__(self, staging: str, roots: Mapping[str, str]) -> None:
        self._staging, self._roots = staging, roots

    def process(self, element: tuple[str, Iterable[LedgerRow]]) -> Iterator[PartReport]:
        source, index = from_part_key(element[0])
        root = self._roots.get(source, "")
        rows = (ledger_columns(row, root) for row in sorted(element[1], key=_row_id))
        path = store_path(source, LEFT, index, _COLUMNAR)
        yield _write(Path(self._staging), source, path, LEDGER_SCHEMA, _COLUMNAR, rows)


class StoreEvidence(beam.PTransform):
    """(Evidence, LedgerRow of what left before) -> reports of the files of stored evidence."""

    def __init__(self, staging: str, roots: Mapping[str, str]) -> None:
        super().__init__()
        self._staging, self._roots = staging, roots

    def expand(
        self, inputs: tuple[beam.PCollection[Evidence], beam.PCollection[LedgerRow]]
    ) -> beam.PCollection[PartReport]:
        evidence, left = inputs
        episodes = (
            evidence
            | "PartitionEvidence" >> PartitionBySortedId(PlaceOf(_source, _row_id, _findings), _PART_FINDINGS, Evidence)
            | "StoreEpisodes" >> beam.ParDo(_StoreEpisodes(self._staging, self._roots)).with_output_types(PartReport)
        )
        rows = (
            left
            | "PartitionLeft" >> PartitionBySortedId(PlaceOf(_source, _row_id, _one), _PART_ROWS, LedgerRow)
            | "StoreLeft" >> beam.ParDo(_StoreLeft(self._staging, self._roots)).with_output_types(PartReport)
        )
        return (episodes, rows) | "MergeStored" >> beam.Flatten()


@dataclass(frozen=True)
class StoredFile:
    """A file of stored evidence and the source that it is of."""

    source: str
    path: Path


@dataclass(frozen=True)
class Measured:
    """All stored evidence in memory, by source and id.

    `episodes` has N rows and a column `source`, `findings` F rows in the order of the episodes, with `episode` (F,) the
    row in `episodes`; `left` are rows of the ledger with their `source`.
    """

    episodes: pa.Table
    findings: pa.Table
    left: pa.Table

    @property
    def owner(self) -> NDArray[np.int64]:
        """The row in `episodes` (F,) of each finding."""
        return np.asarray(self.findings.column("episode"))


def table_of(file: StoredFile) -> str:
    """Which table a file is a part of."""
    return file.path.name.partition("-")[0]


def load_measured(files: Sequence[StoredFile]) -> Measured:
    """Read what decides alone: no shingles, no embeddings."""
    found: dict[str, list[pa.Table]] = {EPISODES: [_EMPTY_EPISODES], FINDINGS: [_EMPTY_FINDINGS], LEFT: [_EMPTY_LEFT]}
    ordered = [f for f in sorted(files, key=lambda f: (f.source, f.path.name)) if table_of(f) in found]
    starts: dict[tuple[str, str], int] = {}
    count = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, table in zip(ordered, pool.map(_read, ordered), strict=True):
            place = file.source, file.path.stem.partition("-")[2]
            if table_of(file) == EPISODES:  # sorts before the findings of its source
                starts[place] = count
                count += table.num_rows
            elif table_of(file) == FINDINGS:
                moved = pa.chunked_array([pa.array(np.asarray(table.column("episode")) + starts[place])])
                table = table.set_column(0, "episode", moved).drop_columns("source")
            found[table_of(file)].append(table)
        return Measured(
            *(_in_one_piece(pa.concat_tables(found.pop(name)), pool) for name in (EPISODES, FINDINGS, LEFT))
        )


def _in_one_piece(table: pa.Table, pool: Executor) -> pa.Table:
    """Each column as one chunk: rows are taken from them in any order."""
    return pa.table(list(pool.map(pa.ChunkedArray.combine_chunks, table.columns)), schema=table.schema)


def _read(file: StoredFile) -> pa.Table:
    table = pq.ParquetFile(file.path).read(use_threads=False)
    return table.append_column("source", pa.array([file.source] * table.num_rows, pa.string()))


_WITH_SOURCE = ("source", pa.string())
_EMPTY_EPISODES = pa.schema([*EPISODES_SCHEMA, pa.field(*_WITH_SOURCE)]).empty_table()
_EMPTY_FINDINGS = FINDINGS_SCHEMA.empty_table()
_EMPTY_LEFT = pa.schema([*LEDGER_SCHEMA, pa.field(*_WITH_SOURCE)]).empty_table()
