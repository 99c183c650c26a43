"""The tables that decisions make: ledger, evidence and episodes, column by column from stored evidence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.deciding import Decided
from transforms.episode import Finding
from transforms.episode_rows import EPISODE_FIELDS, FINDING_FIELDS, SCORE, episodes_schema, finding_row
from transforms.evidence import Decision, Evidence, Fingerprint, LedgerRow
from transforms.judgement import worst_scores
from transforms.ledger import EVIDENCE_SCHEMA, LEDGER_SCHEMA
from transforms.output_files import EPISODES, EVIDENCE, LEDGER, OutcomeCount, Part, PartReport, part_path
from transforms.part_writer import SinkParams, open_part
from transforms.partition import cut_parts, part_of

_DECIDED = ("outcome", "stage", "rule", "value", "threshold", "unit", "detail", "duplicate_of")
_NOBODY = Evidence("", "", "", "", 0, 0, 0, "", Fingerprint("", "", ""))
_KEPT = Decision(_NOBODY, "kept")
_SOURCE = pa.field("source", pa.string())
_ROWS_AT_ONCE = 65_536
_THREADS = min(4, os.cpu_count() or 1)
"""Files that are written at the same time: Arrow encodes and compresses outside of Python's lock."""


@dataclass(frozen=True)
class LooseFinding:
    """A finding about an id that this run has no episode of."""

    episode_id: str
    source: str
    finding: Finding


def ledger_table(decided: Decided) -> pa.Table:
    """Every row of the ledger with its `source`, sorted by source and id."""
    episodes = decided.measured.episodes
    plain = [getattr(_KEPT, name) for name in _DECIDED]
    columns: list[list[object]] = [[value] * episodes.num_rows for value in plain]
    for row, decision in decided.decisions.items():
        for column, name in zip(columns, _DECIDED, strict=True):
            column[row] = getattr(decision, name)
    own = dict(zip(_DECIDED, columns, strict=True))
    schema = pa.schema([*LEDGER_SCHEMA, _SOURCE])
    arrays = []
    for field in schema:
        if field.name in own:
            arrays.append(pa.array(own[field.name], field.type))
        elif field.name == "n_children":
            arrays.append(pa.nulls(episodes.num_rows, field.type))
        else:
            arrays.append(episodes.column(field.name))
    both = pa.concat_tables([pa.table(arrays, schema=schema), decided.measured.left.select(schema.names)])
    return both.sort_by([("source", "ascending"), ("episode_id", "ascending")]).combine_chunks()


def count_outcomes(ledger: pa.Table) -> list[OutcomeCount]:
    """How many rows left at each stage with each outcome, per source."""
    keys = ["source", "outcome", "stage", "rule", "child"]
    table = ledger.select(keys[:4]).append_column("child", ledger.column("parent_id").is_valid())
    counted = table.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    found = [OutcomeCount(count=row.pop("count_all"), **row) for row in counted]
    return sorted(found, key=lambda c: (c.source, c.outcome, c.stage, c.rule, c.child))


def rows_of_source(table: pa.Table) -> Iterator[tuple[str, int, int]]:
    """(source, first row, number of rows) of a table that is sorted by source."""
    start = 0
    for entry in pc.value_counts(table.column("source")).to_pylist():
        yield entry["values"], start, entry["counts"]
        start += entry["counts"]


def write_ledger(staging: Path, ledger: pa.Table, params: SinkParams) -> list[PartReport]:
    """The ledger's files; raises ValueError naming an id that has two rows."""
    jobs: list[Callable[[], list[PartReport]]] = []
    for source, start, count in rows_of_source(ledger):
        rows = ledger.slice(start, count).select(LEDGER_SCHEMA.names)
        starts = cut_parts(
            source, [(name, 1) for name in rows.column("episode_id").to_pylist()], params.ledger_part_rows
        )
        cuts = [at * int(params.ledger_part_rows) for at in range(len(starts))]
        for index, cut in enumerate(cuts):
            part = rows.slice(cut, int(params.ledger_part_rows))
            path = part_path(LEDGER, source, index, params.extension)
            jobs.append(partial(_write, staging, path, part, params, source))
    return _together(jobs)


def write_evidence(
    staging: Path, decided: Decided, loose: Sequence[LooseFinding], params: SinkParams
) -> list[PartReport]:
    """The evidence table's files: every finding under its rule, sorted by episode; then those that have none here."""
    measured = decided.measured
    judged = decided.judged.columns()
    table = measured.findings
    for name, column in judged.items():
        table = table.append_column(name, column)
    owner = measured.owner
    weights = np.bincount(owner, minlength=measured.episodes.num_rows)
    ids = measured.episodes.column("episode_id")
    jobs: list[Callable[[], list[PartReport]]] = []
    counts: dict[str, int] = {}
    for source, start, count in rows_of_source(measured.episodes):
        names = ids.slice(start, count).to_pylist()
        starts = cut_parts(
            source, zip(names, weights[start : start + count].tolist(), strict=True), params.ledger_part_rows
        )
        first = [start + names.index(name) for name in starts] + [start + count]
        for low, high in pairwise(first):
            begin, end = np.searchsorted(owner, (low, high))
            if end > begin:
                path = part_path(EVIDENCE, source, counts.get(source, 0), params.extension)
                counts[source] = counts.get(source, 0) + 1
                rows = table.slice(begin, end - begin)
                jobs.append(partial(_write_found, staging, path, rows, measured.episodes, params, source))
    return _together(jobs) + _write_loose(staging, loose, counts, params)


def _write_found(
    staging: Path, path: str, rows: pa.Table, episodes: pa.Table, params: SinkParams, source: str
) -> list[PartReport]:
    at = rows.column("episode")
    keys = [episodes.column(name).take(at) for name in ("episode_id", "content_id")]
    part = pa.table([*keys, *(rows.column(name) for name, _ in FINDING_FIELDS)], schema=EVIDENCE_SCHEMA)
    return _write(staging, path, part, params, source)


def _write_loose(
    staging: Path, loose: Sequence[LooseFinding], counts: Mapping[str, int], params: SinkParams
) -> list[PartReport]:
    reports: list[PartReport] = []
    for source in sorted({found.source for found in loose}):
        rows = [
            {"episode_id": f.episode_id, "content_id": "", **finding_row(f.finding, "")}
            for f in sorted(loose, key=lambda f: f.episode_id)
            if f.source == source
        ]
        table = pa.Table.from_pylist(rows, schema=EVIDENCE_SCHEMA)
        path = part_path(EVIDENCE, source, counts.get(source, 0), params.extension)
        reports += _write(staging, path, table, params, source)
    return reports


class EpisodesTable:
    """Rows of the episodes table for any of a run's kept episodes."""

    def __init__(self, decided: Decided) -> None:
        measured = decided.measured
        self._episodes = measured.episodes
        self._owner = measured.owner
        self._scores = worst_scores(measured.findings, decided.kept(), measured.episodes.num_rows)
        self._findings = measured.findings
        self._judged = decided.judged.columns()
        self.schema = episodes_schema(tuple(self._scores))

    def rows(self, wanted: NDArray[np.int64]) -> pa.Table:
        """The rows (K,) of `measured.episodes`, ascending, with their findings and scores."""
        at = pa.array(wanted)
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            name: self._episodes.column(name).take(at) for name, _ in EPISODE_FIELDS
        }
        columns["findings"] = self._findings_of(wanted)
        columns |= {SCORE + check: column.take(at) for check, column in self._scores.items()}
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema)

    def _findings_of(self, wanted: NDArray[np.int64]) -> pa.Array:
        begin, end = np.searchsorted(self._owner, wanted), np.searchsorted(self._owner, wanted, "right")
        sizes = end - begin
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.repeat(begin - offsets[:-1], sizes) + np.arange(offsets[-1])
        at = pa.array(rows)
        fields = []
        for name, _ in FINDING_FIELDS:
            column = self._judged[name] if name in self._judged else self._findings.column(name)
            taken = column.take(at)
            fields.append(pa.concat_arrays(taken.chunks) if isinstance(taken, pa.ChunkedArray) else taken)
        structs = pa.StructArray.from_arrays(fields, fields=[pa.field(name, kind) for name, kind in FINDING_FIELDS])
        kind = self.schema.field("findings").type
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)


def write_episodes(
    staging: Path, table: EpisodesTable, parts: Sequence[Part], row_of: Mapping[str, int], params: SinkParams
) -> list[PartReport]:
    """The episodes table's files, one for each part of transitions."""

    def write(part: Part) -> list[PartReport]:
        rows = table.rows(np.array([row_of[member.episode_id] for member in part.members], np.int64))
        path = part_path(EPISODES, part.source, part.index, params.extension)
        return _write(staging, path, rows, params, part.source)

    return _together([partial(write, part) for part in parts])


def cut_source(
    source: str, names: Sequence[str], n_bytes: Sequence[int], kept: Sequence[bool], limit: float
) -> list[list[str]]:
    """Kept episodes by part. Parts are cut along all measured episodes, so that one decision changes one part."""
    starts = cut_parts(source, zip(names, n_bytes, strict=True), limit)
    parts: list[list[str]] = [[] for _ in starts]
    for name, keep in zip(names, kept, strict=True):
        if keep:
            parts[part_of(name, starts)].append(name)
    return [part for part in parts if part]


def ledger_rows(table: pa.Table, ids: Sequence[str]) -> dict[str, LedgerRow]:
    """Some rows of a ledger as values, by id; `source` is a column."""
    found = table.filter(pc.is_in(table.column("episode_id"), pa.array(ids, pa.string()))).to_pylist()
    return {row["episode_id"]: LedgerRow(**row) for row in found}


def _write(staging: Path, path: str, table: pa.Table, params: SinkParams, source: str) -> list[PartReport]:
    with open_part(staging, path, table.schema, params, source) as (writer, reports):
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            writer.write(batch)
    return list(reports)


def _together(jobs: Iterable[Callable[[], list[PartReport]]]) -> list[PartReport]:
    """What jobs that each write files report, in their order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(job) for job in jobs]
        return [report for one in running for report in one.result()]
