from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import ray
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.ray_runner import RayRunner
from beam_pipeline.runner.session.joined_ray import joined


@pytest.fixture
def options(client_address: str, with_token: None, tmp_path: Path) -> Iterator[PipelineOptions]:
    """Options of a client, whose project has the steps below."""
    (tmp_path / "out").mkdir()
    (tmp_path / "client_steps.py").write_text(_STEPS, encoding="utf-8")
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='client-steps', version='1', py_modules=['client_steps'])\n",
        encoding="utf-8",
    )
    sys.path.insert(0, str(tmp_path))
    try:
        yield PipelineOptions(
            [f"--ray_address={client_address}", f"--setup_file={tmp_path}/setup.py", "--ray_workers_max=1"]
        )
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("client_steps", None)


_STEPS = """
import pathlib, time
from apache_beam.metrics import Metrics

def write(pair, folder):
    Metrics.counter("client", "written").inc()
    pathlib.Path(folder, f"{pair[0]}-{sum(pair[1])}").touch()

def fail(element):
    raise ZeroDivisionError("no gripper")

def linger(element, folder):
    pathlib.Path(folder, "begun").touch()
    time.sleep(1)
"""


def test_a_pipeline_through_ray_client_gives_its_output_metrics_and_failures(
    options: PipelineOptions, tmp_path: Path
) -> None:
    import client_steps

    pipeline = beam.Pipeline(runner=RayRunner(), options=options)
    pairs = pipeline | beam.Create([("a", 1), ("b", 2), ("a", 3)]) | beam.GroupByKey()
    _ = pairs | beam.Map(client_steps.write, str(tmp_path / "out"))
    result = pipeline.run()
    assert result.wait_until_finish() == PipelineState.DONE
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-4", "b-2"]
    (written,) = result.metrics().query()["counters"]
    assert written.committed == 2

    pipeline = beam.Pipeline(runner=RayRunner(), options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(client_steps.fail)
    with pytest.raises(ZeroDivisionError, match="no gripper") as failed:
        pipeline.run().wait_until_finish()
    assert isinstance(failed.value, PipelineFailed) and "client_steps.py" in failed.value.traceback_text
    assert not ray.is_initialized()


def test_a_pipeline_through_ray_client_is_cancelled(options: PipelineOptions, tmp_path: Path) -> None:
    import client_steps

    pipeline = beam.Pipeline(runner=RayRunner(), options=options)
    elements = pipeline | beam.Create(range(1000)) | beam.Reshuffle()
    _ = elements | beam.Map(client_steps.linger, str(tmp_path / "out"))
    result = pipeline.run()
    waiting = threading.Event()
    while not (tmp_path / "out" / "begun").exists():
        if PipelineState.is_terminal(result.state):
            result.wait_until_finish()  # raises what ended it
        waiting.wait(0.1)
    assert result.cancel() == PipelineState.CANCELLED


def test_a_client_whose_process_dies_while_it_starts_is_given_another(
    client_address: str, with_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, tries = ray.init, []

    def dies_once(*arguments: Any, **options: Any) -> Any:
        tries.append(arguments)
        if len(tries) == 1:
            raise ConnectionAbortedError("Initialization failure from server: psutil.ZombieProcess")
        return connect(*arguments, **options)

    monkeypatch.setattr(ray, "init", dies_once)
    with joined(client_address):
        assert ray.cluster_resources()["CPU"] == 2
    assert len(tries) == 2


def test_a_client_whose_process_dies_each_time_is_told(
    client_address: str, with_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any, **options: Any) -> Any:
        raise ConnectionAbortedError("Starting Ray client server failed")

    monkeypatch.setattr(ray, "init", dies)
    with pytest.raises(ConnectionAbortedError, match="Starting Ray client server failed"), joined(client_address):
        pass
