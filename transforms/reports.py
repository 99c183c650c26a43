"""What the launcher reads after the run: which files were finished, and how many rows left where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apache_beam as beam

from transforms.coders import from_json, to_json
from transforms.evidence import LedgerRow, Outcome
from transforms.output_files import OutcomeCount, PartReport
from transforms.part_writer import put_in_place, temporary_file

REPORTS = "reports/files.json"
"""JSON lines, one PartReport each."""
COUNTS = "counts.json"
"""JSON lines, one OutcomeCount each."""

T = TypeVar("T")


def read_reports(staging: Path) -> list[PartReport]:
    """The finished files of a run; raises FileNotFoundError where it did not end."""
    return sorted(_read_lines(staging / REPORTS, PartReport), key=lambda r: r.path)


def read_counts(staging: Path) -> list[OutcomeCount]:
    """The outcomes of a run; raises FileNotFoundError where it did not end."""
    return sorted(
        _read_lines(staging / COUNTS, OutcomeCount), key=lambda c: (c.source, c.outcome, c.stage, c.rule, c.child)
    )


def _read_lines(path: Path, kind: type[T]) -> list[T]:
    return [from_json(line, kind) for line in path.read_bytes().splitlines()]


def write_lines(staging: Path, place: str, values: Iterable[Any]) -> None:
    """Values as sorted JSON lines, in place at once."""
    temporary = temporary_file(staging)
    temporary.write_bytes(b"".join(sorted(to_json(value) + b"\n" for value in values)))
    put_in_place(temporary, staging / place)


class _WriteLines(beam.DoFn):
    def __init__(self, staging: str, place: str) -> None:
        self._staging = staging
        self._place = place

    def process(self, element: None, values: Iterable[Any]) -> Iterator[str]:
        write_lines(Path(self._staging), self._place, values)
        yield self._place


def _outcome_key(row: LedgerRow) -> tuple[str, int]:
    return to_json([row.source, row.outcome, row.stage, row.rule, row.parent_id is not None]).decode(), 1


def _to_count(key: str, count: int) -> OutcomeCount:
    source, outcome, stage, rule, child = from_json(key, tuple[str, Outcome, str, str, bool])
    return OutcomeCount(source, outcome, stage, rule, child, count)


class WriteReports(beam.PTransform):
    """Part reports -> one file of JSON lines, written even where no part was."""

    def __init__(self, staging: str) -> None:
        super().__init__()
        self._staging = staging

    def expand(self, reports: beam.PCollection[PartReport]) -> beam.PCollection[str]:
        write = beam.ParDo(_WriteLines(self._staging, REPORTS), beam.pvalue.AsIter(reports))
        return reports.pipeline | "StartReports" >> beam.Create([None]) | "WriteReportLines" >> write


class WriteCounts(beam.PTransform):
    """Ledger rows -> one file of counts per (source, outcome, stage, rule)."""

    def __init__(self, staging: str) -> None:
        super().__init__()
        self._staging = staging

    def expand(self, rows: beam.PCollection[LedgerRow]) -> beam.PCollection[str]:
        counts = (
            rows
            | "KeyByOutcome" >> beam.Map(_outcome_key).with_output_types(beam.typehints.KV[str, int])
            | "CountOutcomes" >> beam.CombinePerKey(sum)
            | "NameCounts" >> beam.MapTuple(_to_count).with_output_types(OutcomeCount)
        )
        write = beam.ParDo(_WriteLines(self._staging, COUNTS), beam.pvalue.AsIter(counts))
        return rows.pipeline | "StartCounts" >> beam.Create([None]) | "WriteCountLines" >> write
