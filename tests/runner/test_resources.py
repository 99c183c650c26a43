"""Resource hints become Ray resources, a pool each; models are loaded once a worker and torn down when it ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import ray
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineLifecycleManager, RayRunner, UnsupportedPipeline
from transforms.resources import GpusHint

OPTIONS = ["--ray_workers_min=1", "--ray_workers_max=2"]
assert GpusHint  # registers the hint `gpus`


@pytest.fixture(scope="module", autouse=True)
def caller_ray() -> Iterator[None]:
    """A Ray that the caller started, with a GPU that exists only in its books: it is used and left running."""
    ray.init(
        address="local",
        num_cpus=3,
        num_gpus=1,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    with PipelineLifecycleManager():
        yield
    assert ray.is_initialized()
    ray.shutdown()


class _Model(beam.DoFn):  # type: ignore[misc]
    """Notes where and with what it was set up, ran and was torn down."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self._folder = folder
        self._seconds = seconds

    def _note(self, what: str) -> None:
        context = ray.get_runtime_context()
        told = {
            "what": what,
            "pid": os.getpid(),
            "resources": context.get_assigned_resources(),
            "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")},
        }
        with (self._folder / f"{what}-{time.time_ns()}-{os.getpid()}").open("x", encoding="utf-8") as file:
            json.dump(told, file)

    def setup(self) -> None:
        self._note("setup")

    def process(self, element: int) -> Iterator[int]:
        time.sleep(self._seconds)
        self._note("process")
        yield element

    def teardown(self) -> None:
        self._note("teardown")


class _Meeting(_Model):
    """The same, but its elements wait until a second worker is set up too."""

    def process(self, element: int) -> Iterator[int]:
        until = time.monotonic() + 120
        while len(list(self._folder.glob("setup-*"))) < 2:
            assert time.monotonic() < until, "no second worker came"
            time.sleep(0.05)
        yield from super().process(element)


def _notes(folder: Path, what: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{what}-*"))]


def _run(folder: Path, hints: dict[str, str], elements: int = 1, seconds: float = 0.0, *more: str) -> None:
    _run_model(_Model(folder, seconds), hints, elements, *more)


def _run_model(model: _Model, hints: dict[str, str], elements: int, *more: str) -> None:
    options = PipelineOptions([*OPTIONS, "--ray_bundle_mb=0.000001", *more])
    with beam.Pipeline(runner=RayRunner(), options=options) as pipeline:
        made = pipeline | beam.Create(range(elements)) | beam.Reshuffle()
        made | beam.ParDo(model).with_resource_hints(**hints)


@pytest.mark.parametrize(
    ("hints", "resources"),
    [
        ({"gpus": "0.5"}, {"CPU": 1.0, "GPU": 0.5}),
        ({"cpu_count": "2"}, {"CPU": 2.0}),
        ({"min_ram": "200MB"}, {"CPU": 1.0, "memory": 200e6}),
    ],
)
def test_hints_are_what_ray_sets_aside(tmp_path: Path, hints: dict[str, str], resources: dict[str, float]) -> None:
    _run(tmp_path, hints)
    (note,) = _notes(tmp_path, "process")
    assert {name: note["resources"].get(name) for name in resources} == resources
    threads = str(int(resources["CPU"]))
    assert note["threads"] == {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}


def test_fractions_of_a_gpu_are_shared_by_two_workers(tmp_path: Path) -> None:
    _run_model(_Meeting(tmp_path, 0.3), {"gpus": "0.5"}, 12)
    assert len({note["pid"] for note in _notes(tmp_path, "process")}) == 2


def test_a_model_is_loaded_once_a_worker_and_torn_down_at_the_end(tmp_path: Path) -> None:
    _run(tmp_path, {}, 20)
    pids = [note["pid"] for note in _notes(tmp_path, "setup")]
    assert len(_notes(tmp_path, "process")) == 20
    assert len(pids) == len(set(pids)) <= 2
    assert [note["pid"] for note in _notes(tmp_path, "teardown")] == sorted(pids) or sorted(
        note["pid"] for note in _notes(tmp_path, "teardown")
    ) == sorted(pids)


def test_a_worker_may_run_several_bundles_at_a_time(tmp_path: Path) -> None:
    _run(tmp_path, {"max_active_bundles_per_worker": "4"}, 8, 0.5, "--ray_workers_max=1")
    assert len({note["pid"] for note in _notes(tmp_path, "process")}) == 1
    ended_ns = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("process-*"))
    assert len(ended_ns) == 8
    assert ended_ns[-1] - ended_ns[0] < 0.5e9 * 7, "one after the other would take as long at least"


def test_more_than_the_cluster_has_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedPipeline, match=r"1cpu-2gpu.*cannot offer.*lower its resource hints"):
        _run(tmp_path, {"gpus": "2"})
