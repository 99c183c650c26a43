"""The ledger: one row per planned input and per child cut out of it; and every finding, for deciding anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms.episode_rows import FINDING_FIELDS, finding_row, judged_findings
from transforms.evidence import Decision, LedgerRow
from transforms.output_files import EVIDENCE, LEDGER, PartReport, part_path, portable
from transforms.part_writer import SinkParams, open_part
from transforms.partition import PartitionBySortedId, PlaceOf, from_part_key
from transforms.stage import DeadLetter

_TEXT, _NS, _REAL = pa.string(), pa.int64(), pa.float64()
LEDGER_SCHEMA = pa.schema(
    [
        ("episode_id", _TEXT),
        ("content_id", _TEXT),
        ("parent_id", _TEXT),
        ("start_ns", _NS),
        ("end_ns", _NS),
        ("outcome", _TEXT),
        ("stage", _TEXT),
        ("rule", _TEXT),
        ("value", _REAL),
        ("threshold", _REAL),
        ("unit", _TEXT),
        ("detail", _TEXT),
        ("duplicate_of", _TEXT),
        ("uri", _TEXT),
        ("n_steps", pa.int64()),
        ("n_children", pa.int64()),
    ]
)
EVIDENCE_SCHEMA = pa.schema([("episode_id", _TEXT), ("content_id", _TEXT), *FINDING_FIELDS])
_ROWS_AT_ONCE = 4096


def from_decision(decision: Decision) -> LedgerRow:
    """The row of an episode that reached selection."""
    evidence = decision.evidence
    return LedgerRow(
        episode_id=evidence.episode_id,
        source=evidence.source,
        outcome=decision.outcome,
        content_id=evidence.content_id,
        parent_id=evidence.parent_id,
        start_ns=evidence.start_ns,
        end_ns=evidence.end_ns,
        stage=decision.stage,
        rule=decision.rule,
        value=decision.value,
        threshold=decision.threshold,
        unit=decision.unit,
        detail=decision.detail,
        duplicate_of=decision.duplicate_of,
        uri=evidence.uri,
        n_steps=evidence.n_steps,
    )


def from_dead_letter(letter: DeadLetter) -> LedgerRow:
    """The row of an input that a stage could not read or process."""
    return LedgerRow(
        episode_id=letter.episode_id,
        source=letter.source,
        outcome="quarantined",
        parent_id=letter.parent_id,
        start_ns=letter.start_ns,
        end_ns=letter.end_ns,
        stage=letter.stage,
        rule=letter.rule,
        detail=letter.detail,
        uri=letter.uri,
        n_steps=letter.n_steps,
    )


def ledger_columns(row: LedgerRow, root: str) -> dict[str, object]:
    """A ledger row's columns, free of this machine's paths; the source is the partition, not a column."""
    columns = asdict(row) | {"uri": portable(row.uri, root), "detail": portable(row.detail, root)}
    return {name: columns[name] for name in LEDGER_SCHEMA.names}


def evidence_rows(decision: Decision, root: str) -> Iterator[dict[str, object]]:
    """One row per finding of an episode."""
    key = {"episode_id": decision.evidence.episode_id, "content_id": decision.evidence.content_id}
    for judged in judged_findings(decision):
        yield key | finding_row(judged, root)


def _row_id(row: LedgerRow) -> str:
    return row.episode_id


def _row_source(row: LedgerRow) -> str:
    return row.source


def _one(row: LedgerRow) -> int:
    return 1


def _decision_id(decision: Decision) -> str:
    return decision.evidence.episode_id


def _decision_source(decision: Decision) -> str:
    return decision.evidence.source


def _findings(decision: Decision) -> int:
    return len(decision.judged or decision.evidence.findings)


def _ledger_rows(row: LedgerRow, root: str) -> Iterator[dict[str, object]]:
    yield ledger_columns(row, root)


class _WriteRows(beam.DoFn):
    def __init__(
        self,
        table: str,
        schema: pa.Schema,
        place: PlaceOf,
        rows: Callable[[Any, str], Iterator[dict[str, object]]],
        staging: str,
        params: SinkParams,
        roots: Mapping[str, str],
    ) -> None:
        self._table = table
        self._schema = schema
        self._place = place
        self._rows = rows
        self._staging = staging
        self._params = params
        self._roots = roots

    def process(self, element: tuple[str, Iterable[Any]]) -> Iterator[PartReport]:
        key, members = element
        source, index = from_part_key(key)
        path = part_path(self._table, source, index, self._params.extension)
        root = self._roots.get(source, "")
        rows = (row for member in sorted(members, key=self._place.row_id) for row in self._rows(member, root))
        with open_part(Path(self._staging), path, self._schema, self._params, source) as (writer, reports):
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                writer.write(pa.RecordBatch.from_pylist(some, schema=self._schema))
        yield from reports


class WriteLedger(beam.PTransform):
    """Ledger rows -> ledger files sorted by id; raises ValueError naming an id that has two rows."""

    def __init__(self, staging: str, params: SinkParams, roots: Mapping[str, str]) -> None:
        super().__init__()
        self._staging, self._params, self._roots = staging, params, roots

    def expand(self, rows: beam.PCollection[LedgerRow]) -> beam.PCollection[PartReport]:
        place = PlaceOf(_row_source, _row_id, _one)
        write = _WriteRows(LEDGER, LEDGER_SCHEMA, place, _ledger_rows, self._staging, self._params, self._roots)
        return (
            rows
            | "PartitionLedger" >> PartitionBySortedId(place, self._params.ledger_part_rows, LedgerRow)
            | "WriteLedgerParts" >> beam.ParDo(write).with_output_types(PartReport)
        )


class WriteEvidence(beam.PTransform):
    """Decisions -> evidence files: every finding of every episode that reached selection, kept or not."""

    def __init__(self, staging: str, params: SinkParams, roots: Mapping[str, str]) -> None:
        super().__init__()
        self._staging, self._params, self._roots = staging, params, roots

    def expand(self, decisions: beam.PCollection[Decision]) -> beam.PCollection[PartReport]:
        place = PlaceOf(_decision_source, _decision_id, _findings)
        write = _WriteRows(EVIDENCE, EVIDENCE_SCHEMA, place, evidence_rows, self._staging, self._params, self._roots)
        return (
            decisions
            | "PartitionEvidence" >> PartitionBySortedId(place, self._params.ledger_part_rows, Decision)
            | "WriteEvidenceParts" >> beam.ParDo(write).with_output_types(PartReport)
        )
