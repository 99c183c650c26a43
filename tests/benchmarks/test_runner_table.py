"""The table of docs/runner.md says what the results say, and a bar that is missed is not hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import Bar, Report, Row, finish
from benchmarks.runner_table import BEGIN, END, main, table, with_table


def _write(folder: Path, ratio: float | None) -> None:
    rows = [
        Row("flatmap: size", 1_000_000, "ints"),
        Row("flatmap: RayRunner", 2.0, "s", "median of 3 runs, 6 s in all"),
        Row("flatmap: ratio", ratio, "x"),
    ]
    report = Report("RayRunner", rows, [Bar("flatmap: ratio", "max", 0.6)], ("ray 1",), "python -m benchmarks.runner")
    finish(report, folder / "runner.json", check=False)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.5, "met"), (0.7, "**missed**"), (None, "not measured")])
def test_a_bar_is_met_missed_or_not_measured(tmp_path: Path, ratio: float | None, verdict: str) -> None:
    _write(tmp_path, ratio)
    (line,) = [line for line in table(tmp_path).splitlines() if "flatmap" in line]
    assert line.endswith(f"| <= 0.6 x | {verdict} |") or (ratio is None and line.endswith(f"| {verdict} |"))


def test_a_failure_that_fn_api_runner_does_not_have_misses_the_bar(tmp_path: Path) -> None:
    summary = {"not_passed": {"t::b": "failed"}, "counts": {"passed": 1, "failed": 1}}
    (tmp_path / "conformance-io.json").write_text(json.dumps(summary))
    (line,) = [line for line in table(tmp_path).splitlines() if line.startswith("| io ")]
    assert line == "| io | 1 of 2 pass, 1 fail that FnApiRunner passes | no failure of its own | **missed** |"


def test_only_the_table_is_replaced() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match=r"has no <!-- bars: begin -->"):
        with_table("a", "new")


def test_the_page_says_what_the_results_say() -> None:
    assert main(["--check"]) == 0
