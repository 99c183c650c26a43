"""What the launcher reads after a pipeline: which files were finished, and which episodes are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apache_beam as beam

from transforms.coders import from_json, to_json
from transforms.evidence import DuplicateEdge
from transforms.output_files import PartReport
from transforms.part_writer import put_in_place, temporary_file

REPORTS = "reports/files.json"
"""JSON lines, one PartReport each."""
STORED = "reports/evidence.json"
"""JSON lines, one PartReport each, of stored evidence."""
EDGES = "reports/edges.json"
"""JSON lines, one DuplicateEdge each."""

T = TypeVar("T")


def read_reports(staging: Path, place: str = REPORTS) -> list[PartReport]:
    """The finished files of a run; raises FileNotFoundError where it did not end."""
    return sorted(_read_lines(staging / place, PartReport), key=lambda r: r.path)


def read_edges(staging: Path) -> list[DuplicateEdge]:
    """The verified pairs of a run; raises FileNotFoundError where it did not end."""
    return _read_lines(staging / EDGES, DuplicateEdge)


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


class WriteReports(beam.PTransform):
    """Small values -> one file of sorted JSON lines at `place`, written even where there is none."""

    def __init__(self, staging: str, place: str = REPORTS) -> None:
        super().__init__()
        self._staging = staging
        self._place = place

    def expand(self, reports: beam.PCollection[Any]) -> beam.PCollection[str]:
        write = beam.ParDo(_WriteLines(self._staging, self._place), beam.pvalue.AsIter(reports))
        return reports.pipeline | "StartReports" >> beam.Create([None]) | "WriteReportLines" >> write
