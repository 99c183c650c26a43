"""How failures are counted: exceptions of user code and faults of the system apart, each bounded per bundle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineFailed, PipelineLifecycleManager, RayRunner

OPTIONS = ["--ray_workers_max=2", "--ray_object_store_mb=200"]
ONE_BY_ONE = ["--ray_bundle_mb=0.00001"]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with PipelineLifecycleManager():
        yield


class _Fail(beam.DoFn):  # type: ignore[misc]
    """At one number the faults of `plan` in turn: e raises an exception, d ends the worker's process."""

    def __init__(self, folder: Path, plans: dict[int, str]) -> None:
        self._folder = folder
        self._plans = plans

    def process(self, number: int) -> Iterator[int]:
        Metrics.counter("faults", "seen").inc()
        attempt = len(list(self._folder.glob(f"attempt-{number}-*")))
        (self._folder / f"attempt-{number}-{attempt}").touch()
        fault = self._plans.get(number, "")[attempt : attempt + 1]
        if fault == "d":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "e":
            raise ZeroDivisionError("the user's own")
        yield number


def _run(folder: Path, plans: dict[int, str], options: Iterable[str]) -> int:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*OPTIONS, *options]))
    pipeline | beam.Create(range(12)) | beam.Reshuffle() | "Fail" >> beam.ParDo(_Fail(folder, plans))
    result = pipeline.run()
    result.wait_until_finish()
    (seen,) = [c.committed for c in result.metrics().query()["counters"]]
    return int(seen)


BOUNDS = ["--ray_max_user_failures=3", "--ray_max_system_failures=2"]


@pytest.mark.parametrize("plan", ["e", "d", "dd", "ee", "edde", "eded"])
def test_a_bundle_within_both_bounds_counts_once(tmp_path: Path, plan: str) -> None:
    assert _run(tmp_path, {7: plan}, [*BOUNDS, *ONE_BY_ONE]) == 12
    assert len(list(tmp_path.glob("attempt-7-*"))) == len(plan) + 1


def test_an_exception_beyond_its_bound_is_told_with_stage_element_and_traceback(tmp_path: Path) -> None:
    with pytest.raises(PipelineFailed) as caught:
        _run(tmp_path, {7: "edee"}, [*BOUNDS, *ONE_BY_ONE])
    assert isinstance(caught.value, ZeroDivisionError)
    assert (caught.value.stage, caught.value.preview) == ("Fail", "7")
    assert (caught.value.user_failures, caught.value.system_failures) == (3, 1)
    assert 'raise ZeroDivisionError("the user\'s own")' in caught.value.traceback_text
    assert "element: 7" in str(caught.value)


def test_a_fault_of_the_system_beyond_its_bound_is_told_with_stage_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(PipelineFailed, match="worker died") as caught:
        _run(tmp_path, {7: "deedd"}, [*BOUNDS, *ONE_BY_ONE])
    assert caught.value.stage == "Fail"
    assert (caught.value.user_failures, caught.value.system_failures) == (2, 3)
    assert "min_ram" in caught.value.error


def test_what_waits_in_a_worker_that_dies_is_not_blamed(tmp_path: Path) -> None:
    plans = dict.fromkeys(range(3, 9), "d")
    assert _run(tmp_path, plans, ["--ray_workers_max=1", "--ray_max_system_failures=1", *ONE_BY_ONE]) == 12


def test_a_session_goes_on_after_a_failed_job(tmp_path: Path) -> None:
    with pytest.raises(PipelineFailed):
        _run(tmp_path, {7: "eee"}, BOUNDS)
    assert _run(tmp_path, {}, BOUNDS) == 12


def test_no_worker_of_a_cancelled_job_works_on(tmp_path: Path) -> None:
    def note(element: int) -> None:
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(30)

    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS))
    pipeline | beam.Create(range(100)) | beam.Reshuffle() | beam.Map(note)
    result = pipeline.run()
    while not list(tmp_path.glob("pid-*")):
        time.sleep(0.05)
    result.cancel()
    assert result.wait_until_finish() == "CANCELLED"
    pids = [int(p.name[4:]) for p in tmp_path.glob("pid-*")]
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
