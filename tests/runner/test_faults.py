"""Workers, nodes and objects that are lost while a job runs: the output and the metrics are those of a quiet run."""

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

from beam_pipeline.runner import PipelineLifecycleManager, RayRunner
from beam_pipeline.runner.errors import PipelineFailed

ELEMENTS = 400
OPTIONS = ["--ray_workers_max=2", "--ray_bundle_mb=0.0002", "--ray_object_store_mb=200"]


class _Killer(beam.DoFn):  # type: ignore[misc]
    """Kills its own worker at the elements given, once each; counts what it sees."""

    def __init__(self, folder: Path, victims: Iterable[int]) -> None:
        self._folder = folder
        self._victims = frozenset(victims)

    def process(self, element: int) -> Iterator[tuple[int, bytes]]:
        Metrics.counter("faults", "seen").inc()
        Metrics.distribution("faults", "size").update(element)
        if element in self._victims:
            mark = self._folder / str(element)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        yield element % 7, bytes(200)


def _sizes(pair: tuple[int, Iterable[bytes]]) -> tuple[int, int]:
    return pair[0], sum(len(v) for v in pair[1])


def _write(pair: tuple[int, int], folder: Path) -> None:
    (folder / f"key-{pair[0]}").write_text(str(pair[1]))


def _counts(result: beam.runners.runner.PipelineResult) -> tuple[int, int, int, int, int]:
    found = result.metrics().query()
    (seen,) = [c.committed for c in found["counters"] if c.key.metric.name == "seen"]
    (size,) = [d.committed for d in found["distributions"] if d.key.metric.name == "size"]
    return seen, size.sum, size.count, size.min, size.max


QUIET = (ELEMENTS, sum(range(ELEMENTS)), ELEMENTS, 0, ELEMENTS - 1)


def _read(folder: Path) -> dict[int, int]:
    return {int(p.name[4:]): int(p.read_text()) for p in folder.glob("key-*")}


EXPECTED = {k: 200 * len(range(k, ELEMENTS, 7)) for k in range(7)}


@pytest.mark.parametrize("victims", [(3,), (0, 100, 399), tuple(range(0, 400, 50))])
def test_killed_workers_change_neither_output_nor_metrics(tmp_path: Path, victims: tuple[int, ...]) -> None:
    options = PipelineOptions([*OPTIONS, "--ray_max_system_failures=20"])
    with PipelineLifecycleManager():
        pipeline = beam.Pipeline(runner=RayRunner(), options=options)
        (
            pipeline
            | beam.Create(range(ELEMENTS))
            | beam.Reshuffle()
            | beam.ParDo(_Killer(tmp_path, victims))
            | beam.GroupByKey()
            | beam.Map(_sizes)
            | beam.Map(_write, tmp_path)
        )
        result = pipeline.run()
        result.wait_until_finish()
    assert all((tmp_path / str(v)).exists() for v in victims), "no worker was killed: the test tests nothing"
    assert _read(tmp_path) == EXPECTED
    assert _counts(result) == QUIET


def test_a_bundle_that_always_kills_its_worker_fails_the_job_with_its_stage(tmp_path: Path) -> None:
    def die(element: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return element

    with PipelineLifecycleManager(), pytest.raises(PipelineFailed, match="Deadly"):
        options = PipelineOptions([*OPTIONS, "--ray_max_system_failures=1"])
        with beam.Pipeline(runner=RayRunner(), options=options) as pipeline:
            pipeline | beam.Create([1]) | "Deadly" >> beam.Map(die)


def test_an_exception_is_told_with_stage_element_and_traceback(tmp_path: Path) -> None:
    def divide(element: int) -> float:
        return 1 / element

    with PipelineLifecycleManager(), pytest.raises(PipelineFailed) as caught:
        with beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS)) as pipeline:
            pipeline | beam.Create([3, 0, 5]) | beam.Reshuffle() | "Divide" >> beam.Map(divide)
    assert "Divide" in str(caught.value)
    assert "ZeroDivisionError" in str(caught.value)
    assert "return 1 / element" in str(caught.value)
    assert "element: 0" in str(caught.value)


def test_an_exception_that_goes_away_is_retried_and_counts_once(tmp_path: Path) -> None:
    def shaky(element: int) -> int:
        Metrics.counter("faults", "shaky").inc()
        mark = tmp_path / f"shaky-{element}"
        if not mark.exists():
            mark.touch()
            raise RuntimeError("the first time always fails")
        return element

    with PipelineLifecycleManager():
        options = PipelineOptions([*OPTIONS, "--ray_max_user_failures=60"])
        pipeline = beam.Pipeline(runner=RayRunner(), options=options)
        pipeline | beam.Create(range(20)) | beam.Map(shaky)
        result = pipeline.run()
        result.wait_until_finish()
    (counted,) = [c.committed for c in result.metrics().query()["counters"] if c.key.metric.name == "shaky"]
    assert counted == 20


def test_no_worker_outlives_a_session_that_is_interrupted(tmp_path: Path) -> None:
    def note(element: int) -> None:
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(0.05)

    with PipelineLifecycleManager():
        pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS))
        pipeline | beam.Create(range(10_000)) | beam.Reshuffle() | beam.Map(note)
        result = pipeline.run()
        while not list(tmp_path.glob("pid-*")):
            time.sleep(0.05)
        result.cancel()
        assert result.wait_until_finish() == "CANCELLED"
    pids = [int(p.name[4:]) for p in tmp_path.glob("pid-*")]
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
