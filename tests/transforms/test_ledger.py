"""The ledger: one row per input, sorted, whole, the same on every machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import apache_beam as beam
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.output_episodes import image_episode, kept
from transforms.evidence import Decision, JudgedFinding, LedgerRow
from transforms.ledger import WriteEvidence, WriteLedger, from_dead_letter, from_decision
from transforms.output_files import OUT, OutcomeCount
from transforms.partition import cut_parts, part_of
from transforms.reports import WriteCounts, WriteReports, read_counts, read_reports
from transforms.sinks import SinkParams
from transforms.stage import DeadLetter

ROOTS = {"arm": "/raw/arm"}


def rejected(decision: Decision) -> Decision:
    judged = tuple(
        JudgedFinding(f, 2.0, False) if f.check == "quality.sparc" else JudgedFinding(f)
        for f in decision.evidence.findings
    )
    return replace(
        decision, outcome="rejected", judged=judged, stage="quality", rule="quality.sparc", value=-1.5, threshold=2.0
    )


def rows_of_every_kind(staging: Path) -> list[LedgerRow]:
    first, second = kept(staging, [image_episode("arm", 0), image_episode("arm", 1)])
    absent = "/raw/arm/shard-9.h5 is absent"
    return [
        from_decision(first),
        from_decision(rejected(second)),
        from_dead_letter(
            DeadLetter("load", "arm/train/000008", "arm", "/raw/arm/s.h5", "truncated", "/raw/arm/s.h5: 3 B")
        ),
        from_dead_letter(
            DeadLetter("load", "arm/train/000009", "arm", "/raw/arm/shard-9.h5", "declared_absent", absent)
        ),
        LedgerRow("arm/long", "arm", "cut", stage="episode_boundary", rule="gap", n_children=2),
        LedgerRow("arm/long/0", "arm", "kept", parent_id="arm/long"),
        LedgerRow("arm/long/5", "arm", "kept", parent_id="arm/long"),
    ]


def write_ledger(staging: Path, rows: list[LedgerRow], params: SinkParams) -> None:
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        planned = pipeline | beam.Create(rows)
        reports = planned | WriteLedger(str(staging), params, ROOTS)
        _ = reports | WriteReports(str(staging))
        _ = planned | WriteCounts(str(staging))


def test_every_kind_of_row_is_written_sorted_and_counted(tmp_path: Path) -> None:
    rows = rows_of_every_kind(tmp_path)
    write_ledger(tmp_path, rows[::-1], SinkParams(ledger_part_rows=3))
    reports = read_reports(tmp_path)
    assert [(r.path, r.rows) for r in reports] == [
        ("ledger/source=arm/part-00000.parquet", 3),
        ("ledger/source=arm/part-00001.parquet", 3),
        ("ledger/source=arm/part-00002.parquet", 1),
    ]
    found = [row for r in reports for row in pq.ParquetFile(tmp_path / OUT / r.path).read().to_pylist()]
    assert [row["episode_id"] for row in found] == sorted(row.episode_id for row in rows)
    by_id = {row["episode_id"]: row for row in found}
    assert by_id["arm/train/000008"]["detail"] == "s.h5: 3 B", "no path of this machine"
    assert by_id["arm/train/000008"]["uri"] == "s.h5"
    assert (by_id["arm/train/000009"]["stage"], by_id["arm/train/000009"]["rule"]) == ("load", "declared_absent")
    assert (by_id["arm/train/000001"]["value"], by_id["arm/train/000001"]["threshold"]) == (-1.5, 2.0)
    assert by_id["arm/long"]["n_children"] == 2
    assert by_id["arm/train/000000"]["n_steps"] == 5
    assert read_counts(tmp_path) == [
        OutcomeCount("arm", "cut", "episode_boundary", "gap", False, 1),
        OutcomeCount("arm", "kept", "", "", False, 1),
        OutcomeCount("arm", "kept", "", "", True, 2),
        OutcomeCount("arm", "quarantined", "load", "declared_absent", False, 1),
        OutcomeCount("arm", "quarantined", "load", "truncated", False, 1),
        OutcomeCount("arm", "rejected", "quality", "quality.sparc", False, 1),
    ]


def test_an_id_with_two_rows_fails_the_run_by_name(tmp_path: Path) -> None:
    rows = [LedgerRow("a/7", "a", "kept"), LedgerRow("a/8", "a", "kept"), LedgerRow("a/7", "a", "quarantined")]
    with pytest.raises(Exception, match="'a/7' of source 'a' has two rows where each input has exactly one"):
        write_ledger(tmp_path, rows, SinkParams())


def test_no_input_still_leaves_counts_and_reports(tmp_path: Path) -> None:
    write_ledger(tmp_path, [], SinkParams())
    assert read_reports(tmp_path) == []
    assert read_counts(tmp_path) == []


def test_evidence_holds_every_finding_of_kept_and_rejected(tmp_path: Path) -> None:
    first, second = kept(tmp_path, [image_episode("arm", 0), image_episode("arm", 1)])
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        decisions = pipeline | beam.Create([rejected(second), first])
        _ = decisions | WriteEvidence(str(tmp_path), SinkParams(), ROOTS)
    rows = ds.dataset(tmp_path / OUT / "evidence", partitioning="hive").to_table().to_pylist()
    count = len(first.evidence.findings)
    assert [r["episode_id"] for r in rows] == ["arm/train/000000"] * count + ["arm/train/000001"] * count
    verdicts = {(r["episode_id"], r["check"]): (r["value"], r["threshold"], r["passed"]) for r in rows}
    assert verdicts["arm/train/000001", "quality.sparc"] == (-2.5, 2.0, False)
    assert verdicts["arm/train/000000", "quality.sparc"] == (-1.5, None, None)
    assert verdicts["arm/train/000000", "physics.limits"] == (None, None, None)


@given(st.dictionaries(st.text(max_size=4), st.integers(0, 10), min_size=1), st.integers(1, 20), st.randoms())
def test_parts_hold_every_row_once_and_stay_within_the_limit(
    weights: dict[str, int], limit: int, shuffle: Random
) -> None:
    rows = list(weights.items())
    starts = cut_parts("s", rows, limit)
    shuffle.shuffle(rows)
    assert cut_parts("s", rows, limit) == starts
    parts: dict[int, list[str]] = {}
    for row_id in sorted(weights):
        parts.setdefault(part_of(row_id, starts), []).append(row_id)
    assert sorted(parts) == list(range(len(starts)))
    assert [members[0] for members in parts.values()] == list(starts)
    assert all(sum(weights[m] for m in members) <= limit or len(members) == 1 for members in parts.values())
