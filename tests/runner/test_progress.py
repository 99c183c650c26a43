"""What is told of a running job: counts, log lines, and a table on a terminal alone."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from beam_pipeline.runner import progress as module
from beam_pipeline.runner.progress import JobProgress, Progress, StageProgress, summary, table


def _two_stages(show: module.Show = "off") -> Progress:
    progress = Progress(show)
    progress.stage_added("s1", "Read+Decode")
    progress.stage_added("s2", "Write[0]")
    for _ in range(3):
        progress.bundle_started("s1")
    progress.bundle_committed("s1", elements=10, bytes_out=2_000_000, seconds=0.5)
    progress.bundle_committed("s1", elements=5, bytes_out=500_000, seconds=0.25)
    progress.workers_alive(2)
    return progress


def _stage(name: str, state: str) -> StageProgress:
    return StageProgress(name, name, 0, int(state != "waiting"), 0, 0, 0.0, state == "done")


def _drawn(job: JobProgress) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table(job))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_snapshot_has_the_committed_work_and_stays_as_it_is() -> None:
    progress = _two_stages()
    job = progress.snapshot()
    progress.bundle_committed("s1", elements=1, bytes_out=1, seconds=1.0)
    progress.stage_done("s1")
    assert job.stages == (
        StageProgress("s1", "Read+Decode", 2, 3, 15, 2_500_000, 0.75, False),
        StageProgress("s2", "Write[0]", 0, 0, 0, 0, 0.0, False),
    )
    assert job.workers == 2
    assert [s.state for s in job.stages] == ["running", "waiting"]
    assert progress.snapshot().stages[0].state == "done"


def test_the_clock_runs_while_the_job_does() -> None:
    with Progress("off") as progress:
        time.sleep(0.05)
        assert progress.snapshot().seconds >= 0.05
    ended = progress.snapshot().seconds
    time.sleep(0.02)
    assert progress.snapshot().seconds == ended


def test_the_summary_tells_what_is_done_and_what_runs() -> None:
    progress = _two_stages()
    told = summary(JobProgress(progress.snapshot().stages, workers=2, seconds=12.3))
    assert told == (
        "12 s: 0 of 2 stages done, 2 workers; running: Read+Decode: 2/3 bundles, 15 elements, 2.5 MB, 0.8 s of work"
    )
    progress.stage_done("s1")
    assert "1 of 2 stages done, 2 workers; running: none" in summary(progress.snapshot())


def test_the_table_has_a_row_per_stage() -> None:
    drawn = _drawn(_two_stages().snapshot())
    rows = [line.split() for line in drawn.splitlines() if "/" in line]
    assert rows == [
        ["Read+Decode", "2/3", "15", "2.5", "MB", "0.8", "running"],
        ["Write[0]", "0/0", "0", "0", "B", "0.0", "waiting"],
    ]


def test_a_long_table_keeps_what_runs_in_order() -> None:
    states = ["done"] * 30 + ["running"] * 2 + ["waiting"] * 10
    drawn = _drawn(JobProgress(tuple(_stage(f"st{i}", state) for i, state in enumerate(states)), 1, 1.0))
    names = [line.split()[0] for line in drawn.splitlines() if "/" in line]
    assert names == [f"st{i}" for i in [*range(8), *range(30, 42)]]
    assert "22 more stages" in drawn


def test_without_a_terminal_stages_and_summaries_are_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SUMMARY_S", 0.05)
    caplog.set_level(logging.INFO, logger=module.__name__)
    with _two_stages("auto") as progress:
        deadline = time.monotonic() + 10
        while "0 of 2 stages done" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        progress.stage_done("s1")
    assert "s: 0 of 2 stages done, 2 workers; running: Read+Decode: 2/3 bundles" in caplog.text
    assert "stage Read+Decode done: 2/3 bundles, 15 elements, 2.5 MB, 0.8 s of work" in caplog.text


def test_off_tells_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SUMMARY_S", 0.01)
    caplog.set_level(logging.INFO, logger=module.__name__)
    with _two_stages("off") as progress:
        time.sleep(0.05)
        progress.stage_done("s1")
    assert not caplog.records


_PROGRAM = """
import logging, time
from beam_pipeline.runner.progress import Progress
logging.basicConfig(level=logging.INFO, force=True)
with Progress("{show}") as first, Progress("{show}") as second:
    for progress, label in ((first, "First"), (second, "Second")):
        progress.stage_added("s1", label)
        progress.bundle_started("s1")
    time.sleep(1.8)
    first.stage_done("s1")
    second.stage_done("s1")
"""


def _on_a_terminal(show: str) -> str:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(show=show)],
        stderr=theirs,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = bytearray()
    while program.poll() is None:
        seen += _read(ours)
    seen += _read(ours)
    os.close(ours)
    assert program.returncode == 0, seen.decode()
    return seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that nobody holds the other side any more
        return b""


def test_a_terminal_has_the_table_of_one_job_and_the_log_lines_of_the_other() -> None:
    seen = _on_a_terminal("auto")
    assert "worker s" in seen
    assert "running" in seen
    assert "stage First done" not in seen
    assert "stage Second done: 0/1 bundles" in seen


def test_log_draws_no_table_on_a_terminal() -> None:
    seen = _on_a_terminal("log")
    assert "worker s" not in seen
    assert "stage First done" in seen


def test_a_bundle_costs_the_driver_microseconds() -> None:
    progress = _two_stages()
    began = time.perf_counter()
    for _ in range(10_000):
        progress.bundle_started("s1")
        progress.bundle_committed("s1", 1, 1, 0.0)
    assert (time.perf_counter() - began) / 10_000 < 20e-6
