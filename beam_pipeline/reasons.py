"""One ledger row for each reason, so that a person sees at the end of a run what to look at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from beam_pipeline.curated import part_dataset
from beam_pipeline.summary import SourceOutcomes

_COLUMNS = ["episode_id", "outcome", "rule", "value", "threshold", "unit", "detail", "duplicate_of"]


def first_of_each_reason(ledger: Path, outcomes: Sequence[SourceOutcomes]) -> list[str]:
    """The first row by id of each source and rule that `outcomes` counts, one line each."""
    lines = []
    for source in outcomes:
        wanted = dict(source.reasons)
        for row in _rows(ledger, source.source) if wanted else ():
            rule = row["rule"] or row["outcome"]
            if row["outcome"] not in ("kept", "cut") and rule in wanted:
                lines.append(_line(row, rule, wanted.pop(rule)))
            if not wanted:
                break
    return lines


def _rows(ledger: Path, source: str) -> Iterator[Mapping[str, Any]]:
    for folder in sorted(p for p in ledger.glob("source=*") if unquote(p.name) == f"source={source}"):
        for file in sorted(folder.iterdir()):
            for batch in part_dataset(file).to_batches(columns=_COLUMNS):
                yield from batch.to_pylist()


def _line(row: Mapping[str, Any], rule: str, count: int) -> str:
    told = row["value"] is None or row["duplicate_of"]  # a duplicate's detail holds its similarity
    measured = "" if told else f", {row['value']:g} {row['unit']}".rstrip()
    limit = "" if row["threshold"] is None else f", limit {row['threshold']:g}"
    detail = f"; {row['detail']}" if row["detail"] else ""
    return f"{rule} {count}: {row['episode_id']}{measured}{limit}{detail}"
