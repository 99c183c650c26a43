"""Workers that Ray ends since memory runs low: faults of the system, told with their remedy."""

from __future__ import annotations

import os
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineFailed, RayRunner

OPTIONS = ["--ray_workers_max=1", "--ray_object_store_mb=100", "--ray_max_user_failures=1"]
LIMIT_BYTES, GREED_BYTES = 4_000_000_000, 8_000_000_000
"""Far apart: other processes of the machine, such as those of other tests, take and give back memory meanwhile."""


@pytest.fixture
def memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray ends workers once this machine uses LIMIT_BYTES more than now, which a worker without greed does not."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    memory = {line[0]: 1024 * int(line[1]) for line in lines}
    total, free = memory["MemTotal:"], memory["MemAvailable:"]
    if free < GREED_BYTES + LIMIT_BYTES:
        pytest.skip(f"{free} bytes of memory are free; the worker to be ended needs {GREED_BYTES + LIMIT_BYTES}")
    monkeypatch.setenv("RAY_memory_usage_threshold", str((total - free + LIMIT_BYTES) / total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")


class _Greedy(beam.DoFn):  # type: ignore[misc]
    """Takes memory until its process is ended, `times` times."""

    def __init__(self, folder: Path, times: int) -> None:
        self._folder = folder
        self._times = times

    def process(self, number: int) -> list[int]:
        Metrics.counter("faults", "seen").inc()
        mark = self._folder / f"greedy-{len(list(self._folder.glob('greedy-*')))}"
        if number == 7 and len(list(self._folder.glob("greedy-*"))) < self._times:
            mark.touch()
            taken = [np.ones(50_000_000, np.uint8) for _ in range(GREED_BYTES // 50_000_000)]
            while taken:
                os.sched_yield()
        return [number]


def test_a_worker_that_runs_out_of_memory_once_changes_nothing(memory_limit: None, tmp_path: Path) -> None:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*OPTIONS, "--ray_max_system_failures=1"]))
    (
        pipeline
        | beam.Create(range(20))
        | beam.ParDo(_Greedy(tmp_path, times=1))
        | beam.Map(lambda n: (None, n))
        | beam.GroupByKey()
        | beam.MapTuple(lambda _, numbers: (tmp_path / "output").write_text(repr(sorted(numbers))))
    )
    result = pipeline.run()
    assert result.wait_until_finish() == "DONE"
    assert len(list(tmp_path.glob("greedy-*"))) == 1
    assert (tmp_path / "output").read_text() == repr(list(range(20)))
    assert [c.committed for c in result.metrics().query()["counters"]] == [20]


def test_a_bundle_that_always_runs_out_of_memory_is_told_with_the_remedy(memory_limit: None, tmp_path: Path) -> None:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*OPTIONS, "--ray_max_system_failures=1"]))
    pipeline | beam.Create([7]) | beam.Reshuffle() | "Greedy" >> beam.ParDo(_Greedy(tmp_path, times=100))
    with pytest.raises(PipelineFailed, match="out of memory") as caught:
        pipeline.run().wait_until_finish()
    assert caught.value.stage == "Greedy"
    assert (caught.value.user_failures, caught.value.system_failures) == (0, 2)
    assert "min_ram" in caught.value.error
    assert "--ray_bundle_mb=16" in caught.value.error
    assert len(list(tmp_path.glob("greedy-*"))) == 2
