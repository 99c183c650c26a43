"""Whether a column has the type that it has in the other episodes of its source, asked before anything decides.

One folder has one schema. Without this check, a single recording whose numbers were read as text would fail the
whole run when its schema is agreed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import apache_beam as beam

from transforms.episode import Finding
from transforms.evidence import Evidence
from transforms.output_schema import join_types

STAGE = "load"
Counts = Counter[tuple[str, str, str]]
"""Episodes by source, column and type."""


@dataclass(frozen=True)
class UsualType:
    """The type of a column that most episodes of a source go with: `agreeing` of `total`."""

    type: str
    agreeing: int
    total: int


def usual_types(counts: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str], UsualType]:
    """By source and column, the type that joins with those of most episodes; of equals the commoner, then by name."""
    columns: dict[tuple[str, str], dict[str, int]] = {}
    for (source, column, kind), count in counts.items():
        columns.setdefault((source, column), {})[kind] = count
    return {place: _usual(kinds) for place, kinds in columns.items()}


def _usual(kinds: Mapping[str, int]) -> UsualType:
    candidates = [kind for kind in kinds if kind != "null"] or ["null"]
    agreeing = {a: sum(n for b, n in kinds.items() if join_types(a, b) is not None) for a in candidates}
    best = min(candidates, key=lambda kind: (-agreeing[kind], -kinds[kind], kind))
    return UsualType(best, agreeing[best], sum(kinds.values()))


def check_types(evidence: Evidence, usual: Mapping[tuple[str, str], UsualType]) -> Evidence:
    """The episode with a finding for each column whose type joins with no usual one; value is 1 a column."""
    found = []
    for column in evidence.columns:
        known = usual[evidence.source, column.name]
        if join_types(known.type, column.type) is None:
            detail = (
                f"column {column.name!r} is {column.type}, and {known.type} in {known.agreeing} of {known.total} "
                f"episodes of source {evidence.source!r}: write it as those do, or rename it"
            )
            found.append(Finding(STAGE, "integrity.column_type", 1.0, "columns", detail=detail))
    return replace(evidence, findings=(*evidence.findings, *found)) if found else evidence


class _CountTypes(beam.CombineFn):
    def create_accumulator(self) -> Counts:
        return Counter()

    def add_input(self, accumulator: Counts, element: Evidence) -> Counts:
        accumulator.update((element.source, column.name, column.type) for column in element.columns)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        merged = self.create_accumulator()
        for counts in accumulators:
            merged.update(counts)
        return merged

    def extract_output(self, accumulator: Counts) -> dict[tuple[str, str], UsualType]:
        return usual_types(accumulator)


class CheckColumnTypes(beam.PTransform):
    """Evidence -> the same, with a finding where a column's type is not that of its source's other episodes."""

    def expand(self, evidence: beam.PCollection[Evidence]) -> beam.PCollection[Evidence]:
        usual = evidence | "CountTypes" >> beam.CombineGlobally(_CountTypes())
        return evidence | "CompareTypes" >> beam.Map(check_types, beam.pvalue.AsSingleton(usual)).with_output_types(
            Evidence
        )
