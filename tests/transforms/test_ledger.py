"""The ledger: one row per input, sorted, whole, the same on every machine."""

from __future__ import annotations

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

from tests.transforms.output_episodes import image_episode, staged
from transforms.decided_tables import count_outcomes, ledger_table, write_evidence, write_ledger
from transforms.deciding import Decided, decide_all
from transforms.evidence import Evidence, LedgerRow
from transforms.ledger import from_dead_letter
from transforms.measured import StoredFile, StoreEvidence, load_measured
from transforms.output_files import OUT, OutcomeCount
from transforms.part_writer import SinkParams
from transforms.partition import cut_parts, part_of
from transforms.reports import STORED, WriteReports, read_reports
from transforms.select import Rule, SelectParams
from transforms.stage import DeadLetter

ROOTS = {"arm": "/raw/arm"}
RULES = SelectParams(rules={"quality.sparc": Rule(min=-2.0)})


def left_rows() -> list[LedgerRow]:
    absent = "/raw/arm/shard-9.h5 is absent"
    return [
        from_dead_letter(
            DeadLetter("load", "arm/train/000008", "arm", "/raw/arm/s.h5", "truncated", "/raw/arm/s.h5: 3 B")
        ),
        from_dead_letter(
            DeadLetter("load", "arm/train/000009", "arm", "/raw/arm/shard-9.h5", "declared_absent", absent)
        ),
        LedgerRow("arm/long", "arm", "cut", stage="episode_boundary", rule="gap", n_children=2),
        LedgerRow("arm/long/0", "arm", "rejected", parent_id="arm/long"),
        LedgerRow("arm/long/5", "arm", "rejected", parent_id="arm/long"),
    ]


def decided(staging: Path, left: list[LedgerRow]) -> Decided:
    """Two measured episodes, of which the rules reject the second, and what left before, through stored evidence."""
    evidence = staged(staging, [image_episode("arm", 1), image_episode("arm", 0)])
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        rows = pipeline | "Left" >> beam.Create(left, reshuffle=False).with_output_types(LedgerRow)
        measured = pipeline | "Measured" >> beam.Create(evidence, reshuffle=False).with_output_types(Evidence)
        _ = (measured, rows) | StoreEvidence(str(staging), ROOTS) | WriteReports(str(staging), STORED)
    files = [StoredFile(r.source, staging / OUT / r.path) for r in read_reports(staging, STORED)]
    return decide_all(load_measured(files), [], RULES, {})


def test_every_kind_of_row_is_written_sorted_and_counted(tmp_path: Path) -> None:
    ledger = ledger_table(decided(tmp_path, left_rows()[::-1]))
    reports = write_ledger(tmp_path, ledger, SinkParams(ledger_part_rows=3))
    assert [(r.path, r.rows) for r in reports] == [
        ("ledger/source=arm/part-00000.parquet", 3),
        ("ledger/source=arm/part-00001.parquet", 3),
        ("ledger/source=arm/part-00002.parquet", 1),
    ]
    found = [row for r in reports for row in pq.ParquetFile(tmp_path / OUT / r.path).read().to_pylist()]
    ids = ["arm/long", "arm/long/0", "arm/long/5", *(f"arm/train/00000{n}" for n in (0, 1, 8, 9))]
    assert [row["episode_id"] for row in found] == ids
    by_id = {row["episode_id"]: row for row in found}
    assert by_id["arm/train/000008"]["detail"] == "s.h5: 3 B", "no path of this machine"
    assert by_id["arm/train/000008"]["uri"] == "s.h5"
    assert (by_id["arm/train/000009"]["stage"], by_id["arm/train/000009"]["rule"]) == ("load", "declared_absent")
    assert (by_id["arm/train/000001"]["value"], by_id["arm/train/000001"]["threshold"]) == (-2.5, -2.0)
    assert by_id["arm/train/000001"]["uri"] == "shard-1.h5"
    assert by_id["arm/long"]["n_children"] == 2
    assert by_id["arm/train/000000"]["n_steps"] == 5
    assert count_outcomes(ledger) == [
        OutcomeCount("arm", "cut", "episode_boundary", "gap", False, 1),
        OutcomeCount("arm", "kept", "", "", False, 1),
        OutcomeCount("arm", "quarantined", "load", "declared_absent", False, 1),
        OutcomeCount("arm", "quarantined", "load", "truncated", False, 1),
        OutcomeCount("arm", "rejected", "", "", True, 2),
        OutcomeCount("arm", "rejected", "quality", "quality.sparc", False, 1),
    ]


def test_an_id_with_two_rows_fails_the_run_by_name(tmp_path: Path) -> None:
    ledger = ledger_table(decided(tmp_path, [LedgerRow("arm/train/000001", "arm", "quarantined")]))
    message = "'arm/train/000001' of source 'arm' has two rows where each input has exactly one"
    with pytest.raises(ValueError, match=message):
        write_ledger(tmp_path, ledger, SinkParams())
    with pytest.raises(Exception, match="'a/7' of source 'a' has two rows"):
        decided(tmp_path, [LedgerRow("a/7", "a", "quarantined"), LedgerRow("a/7", "a", "cut")])


def test_no_input_is_an_empty_ledger(tmp_path: Path) -> None:
    ledger = ledger_table(decide_all(load_measured([]), [], RULES, {}))
    assert ledger.num_rows == 0 and count_outcomes(ledger) == [] and write_ledger(tmp_path, ledger, SinkParams()) == []


def test_evidence_holds_every_finding_of_kept_and_rejected(tmp_path: Path) -> None:
    made = decided(tmp_path, [])
    write_evidence(tmp_path, made, [], SinkParams())
    rows = ds.dataset(tmp_path / OUT / "evidence", partitioning="hive").to_table().to_pylist()
    count = len(rows) // 2
    assert [r["episode_id"] for r in rows] == ["arm/train/000000"] * count + ["arm/train/000001"] * count
    verdicts = {(r["episode_id"], r["check"]): (r["value"], r["threshold"], r["passed"]) for r in rows}
    assert verdicts["arm/train/000001", "quality.sparc"] == (-2.5, -2.0, False)
    assert verdicts["arm/train/000000", "quality.sparc"] == (-1.5, -2.0, True)
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
