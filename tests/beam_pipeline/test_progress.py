"""One display on a terminal: ours, with the stages of a runner that tells of them."""

from __future__ import annotations

import io

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipeline.progress import ProgressDisplay
from beam_pipeline.runner import RayOptions
from beam_pipeline.runner.progress import JobProgress, StageProgress
from beam_pipeline.work import one_display

JOB = JobProgress(
    (
        StageProgress("s1", "Read", 4, 4, 12, 1000, 2.0, True),
        StageProgress("s2", "Measure", 1, 3, 5, 2000, 1.0, False),
        StageProgress("s3", "Write", 0, 0, 0, 0, 0.0, False),
    ),
    workers=2,
    seconds=3.0,
)


def shown(job: JobProgress | None) -> str:
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, force_terminal=True, width=100), lambda: 8, lambda: 5, lambda: job):
        pass
    return file.getvalue()


def test_stages_at_work_stand_below_the_bar() -> None:
    text = shown(JOB)
    assert "measuring" in text and "5/8" in text
    assert "1 of 3 stages done" in text and "2 workers" in text
    assert "Measure" in text and "1/3" in text
    assert "Write" not in text and "Read" not in text


def test_a_runner_that_tells_nothing_leaves_the_bar_alone() -> None:
    text = shown(None)
    assert "5/8" in text and "stages" not in text


@pytest.mark.parametrize(
    ("quiet", "flags", "expected"),
    [
        (False, [], "off"),
        (False, ["--ray_progress=log"], "log"),
        (True, [], "auto"),
    ],
)
def test_the_runner_draws_only_where_we_do_not(quiet: bool, flags: list[str], expected: str) -> None:
    options = PipelineOptions(flags)
    given = options.view_as(RayOptions).ray_progress
    passed = one_display(options, Console(file=io.StringIO(), quiet=quiet))
    assert passed.view_as(RayOptions).ray_progress == expected
    assert options.view_as(RayOptions).ray_progress == given, "the caller's options changed"
