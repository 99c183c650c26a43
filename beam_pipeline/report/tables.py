"""What a report reads of a run: its ledger, and every measured value as arrays, a check at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import OutputError
from transforms.ledger import LEDGER_SCHEMA
from transforms.output_files import EVIDENCE, LEDGER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OUTCOMES = ("kept", "rejected", "duplicate", "quarantined", "cut")
PASSED, BROKEN, UNJUDGED = 1, 0, -1
_MEASURES = ("episode_id", "stage", "check", "value", "unit", "threshold", "passed", "status")
_REPEATED = ("episode_id", "stage", "check", "unit", "status")
"""Texts that repeat from row to row: read as whole numbers, so that millions of findings take little memory."""


@dataclass(frozen=True)
class Ledger:
    """Every row of the ledger (N rows), by source and episode id, with the source as a column."""

    rows: pa.Table

    @cached_property
    def ids(self) -> pa.Array:
        return self.rows["episode_id"].combine_chunks()

    @cached_property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted(pc.unique(self.rows["source"]).to_pylist()))

    @cached_property
    def source(self) -> Ints:
        """(N,) index into `sources`."""
        return _codes(self.rows["source"], self.sources)

    @cached_property
    def outcome(self) -> Ints:
        """(N,) index into OUTCOMES."""
        return _codes(self.rows["outcome"], OUTCOMES)

    def is_outcome(self, *names: str) -> NDArray[np.bool_]:
        return np.isin(self.outcome, [OUTCOMES.index(name) for name in names])

    def numbers(self, column: str) -> Floats:
        """(N,) a numeric column, NaN where it is null."""
        return _floats(self.rows[column])

    def row(self, index: int) -> Mapping[str, object]:
        found: list[Mapping[str, object]] = self.rows.slice(index, 1).to_pylist()
        return found[0]

    def places(self, episode_ids: Sequence[str]) -> list[int]:
        """Rows of the given ids; -1 of one that the ledger lacks."""
        found = pc.index_in(pa.array(episode_ids, pa.string()), value_set=self.ids)
        return [int(place) for place in found.fill_null(-1).to_pylist()]


@dataclass(frozen=True)
class Measured:
    """All values of one check, (M,) each: `episode` is the ledger's row, `passed` one of PASSED, BROKEN, UNJUDGED.

    `threshold` is NaN where no rule speaks of the value.
    """

    check: str
    stage: str
    unit: str
    value: Floats
    episode: Ints
    passed: NDArray[np.int8]
    threshold: Floats


@dataclass(frozen=True)
class NotRun:
    """Checks that could not be made on some of a source's episodes, with how often; `reason` is one that was given."""

    source: str
    reason: str
    checks: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FoundOf:
    """One finding of an episode, as the evidence table has it."""

    stage: str
    check: str
    value: float | None
    unit: str
    first_frame: int | None
    last_frame: int | None
    threshold: float | None
    passed: bool | None
    status: str
    detail: str


def read_ledger(curated: CuratedSet) -> Ledger:
    """The whole ledger; an empty one where a run planned nothing."""
    rows = curated.rows(LEDGER)
    if not rows.num_rows:
        rows = LEDGER_SCHEMA.empty_table().append_column("source", pa.array([], pa.string()))
    return Ledger(rows.combine_chunks())


def read_measures(curated: CuratedSet, ledger: Ledger) -> tuple[Mapping[str, Measured], tuple[NotRun, ...]]:
    """Measured values by check in order of name, and what was not run; one part file in memory at a time."""
    pieces: dict[str, list[Measured]] = {}
    for path in curated.files(EVIDENCE):
        for piece in _measures(_read(path, _MEASURES), ledger):
            pieces.setdefault(piece.check, []).append(piece)
    measured = {check: _joined(pieces[check]) for check in sorted(pieces)}
    return measured, _not_run(curated)


def read_findings(curated: CuratedSet, episode_ids: Collection[str]) -> Mapping[str, tuple[FoundOf, ...]]:
    """Every finding of a few episodes."""
    wanted = pa.array(sorted(episode_ids), pa.string())
    found: dict[str, list[FoundOf]] = {}
    columns = ["episode_id", *FoundOf.__dataclass_fields__]
    for path in curated.files(EVIDENCE) if len(wanted) else ():
        table = _dataset(path).to_table(columns=columns, filter=pc.field("episode_id").isin(wanted))
        for row in table.to_pylist():
            found.setdefault(row.pop("episode_id"), []).append(FoundOf(**row))
    return {name: tuple(rows) for name, rows in found.items()}


def read_statuses(curated: CuratedSet, ledger: Ledger) -> Mapping[str, Mapping[str, int]]:
    """Instruction status -> outcome -> episodes, from the findings `grounding.status`."""
    counts: dict[str, dict[str, int]] = {}
    for path in curated.files(EVIDENCE):
        table = _dataset(path).to_table(["episode_id", "detail"], filter=pc.field("check") == "grounding.status")
        status = pc.list_element(pc.split_pattern(table["detail"].fill_null(""), ":", max_splits=1), 0)
        rows = np.asarray(pc.index_in(table["episode_id"], value_set=ledger.ids).fill_null(-1))
        seen = pa.table({"status": status, "outcome": pa.array(np.where(rows < 0, -1, ledger.outcome[rows]))})
        for name, code, count in zip(
            *seen.group_by(["status", "outcome"]).aggregate([([], "count_all")]).to_pydict().values(), strict=True
        ):
            if code >= 0:
                of_status = counts.setdefault(name, {})
                of_status[OUTCOMES[code]] = of_status.get(OUTCOMES[code], 0) + count
    return {name: counts[name] for name in sorted(counts)}


def _codes(column: pa.ChunkedArray, names: Sequence[str]) -> Ints:
    found = pc.index_in(column, value_set=pa.array(names, pa.string())).fill_null(-1)
    return np.asarray(found, np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), np.float64)


def _dataset(path: Path, repeated: Sequence[str] = ()) -> ds.Dataset:
    if path.suffix != ".parquet":
        return ds.dataset(str(path), format="ipc")
    reading = ds.ParquetReadOptions(dictionary_columns=list(repeated))
    return ds.dataset(str(path), format=ds.ParquetFileFormat(read_options=reading))


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    table = _dataset(path, _REPEATED).to_table(columns=list(columns))
    for index, name in enumerate(table.column_names):
        if name in _REPEATED and not pa.types.is_dictionary(table.schema.field(name).type):
            table = table.set_column(index, name, pc.dictionary_encode(table[name]))
    return table.unify_dictionaries().combine_chunks()


def _measures(table: pa.Table, ledger: Ledger) -> list[Measured]:
    status = table["status"].combine_chunks()
    measured = pc.and_(pc.equal(status.cast(pa.string()), "measured"), pc.is_valid(table["value"]))
    table = table.filter(measured).combine_chunks()
    if not table.num_rows:
        return []
    checks, episodes = table["check"].combine_chunks(), table["episode_id"].combine_chunks()
    place = np.asarray(pc.index_in(episodes.dictionary, value_set=ledger.ids).fill_null(-1), np.int64)
    codes = np.asarray(checks.indices, np.int64)
    values, thresholds = _floats(table["value"]), _floats(table["threshold"])
    passed = np.asarray(pc.cast(table["passed"], pa.int8()).fill_null(UNJUDGED), np.int8)
    rows = place[np.asarray(episodes.indices, np.int64)]
    if (rows < 0).any():
        lost = episodes[int(np.flatnonzero(rows < 0)[0])].as_py()
        raise OutputError(f"the evidence holds episode {lost!r} and the ledger does not; curate again")
    order = np.argsort(codes, kind="stable")
    found = []
    for group in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        first = table.slice(int(group[0]), 1).select(["check", "stage", "unit"]).to_pylist()[0]
        found.append(
            Measured(
                first["check"],
                first["stage"],
                first["unit"] or "",
                values[group],
                rows[group],
                passed[group],
                thresholds[group],
            )
        )
    return found


def _joined(pieces: Sequence[Measured]) -> Measured:
    first = pieces[0]
    return Measured(
        first.check,
        first.stage,
        first.unit,
        np.concatenate([p.value for p in pieces]),
        np.concatenate([p.episode for p in pieces]),
        np.concatenate([p.passed for p in pieces]),
        np.concatenate([p.threshold for p in pieces]),
    )


def _not_run(curated: CuratedSet) -> tuple[NotRun, ...]:
    """By source and by the least reason of each check, since one missing declaration stops many checks."""
    found: list[NotRun] = []
    for source in curated.sources():
        counts: dict[str, int] = {}
        reasons: dict[str, str] = {}
        for path in curated.files(EVIDENCE, source):
            table = _dataset(path).to_table(["check", "detail"], filter=pc.field("status") == "not_run")
            groups = table.group_by("check").aggregate([([], "count_all"), ("detail", "min")])
            for check, count, reason in zip(*groups.to_pydict().values(), strict=True):
                counts[check] = counts.get(check, 0) + count
                reasons[check] = min(reasons.get(check, reason), reason)
        for reason in sorted(set(reasons.values())):
            of_it = tuple((check, counts[check]) for check in sorted(counts) if reasons[check] == reason)
            found.append(NotRun(source, reason, of_it))
    return tuple(found)
