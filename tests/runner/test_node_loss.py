"""A node that is lost takes the blocks with it that lie there: they are made again, and what they were made of too."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import ray
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from ray.cluster_utils import Cluster

from beam_pipeline.runner import PipelineFailed, RayRunner
from beam_pipeline.runner.result import RayPipelineResult
from tests.ray_nodes import two_nodes
from tests.runner.fault_jobs import Ranges

COUNT = 120
# more than goes inline with a result: one element alone lies in the object store of the node that made it
NBYTES = 150_000
KEYS = 5
OPTIONS = ["--ray_workers_max=2", "--ray_workers_min=2", "--ray_bundle_mb=0.15", "--ray_max_system_failures=6"]
# a raylet that does not answer is given up after seconds, not a quarter of a minute
HEALTH = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 2}


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two nodes with a CPU each; the driver is on the first, or on a third without a CPU where the parameter is 0."""
    with two_nodes(tmp_path / "token", getattr(request, "param", 1), HEALTH) as nodes:
        ray.init(nodes.address, log_to_driver=False, configure_logging=False, _node_ip_address="127.0.0.1")
        try:
            yield nodes
        finally:
            ray.shutdown()


class _Second(beam.DoFn):  # type: ignore[misc]
    """Keys its input, and notes every element's finalization."""

    def __init__(self, folder: Path, key: Callable[[int], int]) -> None:
        self._folder = folder
        self._key = key

    def process(
        self, pair: tuple[int, bytes], finalizer: Any = beam.DoFn.BundleFinalizerParam
    ) -> Iterator[tuple[int, tuple[int, bytes]]]:
        finalizer.register(lambda: (self._folder / f"final-{pair[0]}-{uuid.uuid4()}").touch())
        yield self._key(_slowly(pair[0], "second")), pair


def _slowly(number: int, name: str) -> int:
    Metrics.counter("faults", name).inc()
    Metrics.distribution("faults", f"{name}_number").update(number)
    time.sleep(0.01)
    return number


def _numbers(group: tuple[int, Iterable[tuple[int, bytes]]]) -> list[tuple[int, int]]:
    return [(number, len(data)) for number, data in group[1]]


def _write(group: tuple[None, Iterable[list[tuple[int, int]]]], folder: Path) -> None:
    (folder / "output").write_text(repr(sorted(pair for pairs in group[1] for pair in pairs)))


EXPECTED = repr([(n, NBYTES) for n in range(COUNT)])


class _Read(beam.DoFn):  # type: ignore[misc]
    """Splittable: the numbers of a range, with payloads."""

    RANGE = beam.DoFn.RestrictionParam(Ranges())

    def process(self, element: tuple[int, int], tracker: Any = RANGE) -> Iterator[tuple[int, bytes]]:
        number = tracker.current_restriction().start
        while tracker.try_claim(number):
            yield _slowly(number, "first"), _payload(number)
            number += 1


def _key(number: int) -> int:
    return number % KEYS


def _payload(number: int) -> bytes:
    return random.Random(number).randbytes(NBYTES)  # which cannot be compressed


def _mapped(payload: Callable[[int], bytes]) -> beam.PTransform:
    return beam.Map(lambda number: (_slowly(number, "first"), payload(number)))


def _start(
    folder: Path, inputs: Iterable[Any], first: beam.PTransform, key: Callable[[int], int], *options: str
) -> RayPipelineResult:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*OPTIONS, *options]))
    (
        pipeline
        | beam.Create(inputs)
        | beam.Reshuffle()
        | "First" >> first
        | "Between" >> beam.Reshuffle()
        | "Second" >> beam.ParDo(_Second(folder, key)).with_output_types(tuple[int, tuple[int, bytes]])
        | beam.GroupByKey()
        | beam.Map(_numbers)
        | beam.Map(lambda pairs: (None, pairs))
        | "Collect" >> beam.GroupByKey()
        | beam.Map(_write, folder)
    )
    result = pipeline.run()
    assert isinstance(result, RayPipelineResult)
    return result


def _lose_a_node(cluster: Cluster, result: RayPipelineResult, at: float = 0.3) -> None:
    """Kill the second node once the second stage has committed that part of its elements."""
    while True:
        assert result.state == "RUNNING"
        if any("Second" in s.label and s.elements >= at * COUNT for s in result.progress.stages):
            break
        time.sleep(0.02)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)


def _repeated(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {m.split(" of stage ")[1].split(" was")[0] for m in caplog.messages if "it is made again" in m}


# at the end runs are merged already, so that what they were merged from is dropped
@pytest.mark.parametrize("at", [0.3, 0.95])
def test_lost_blocks_are_made_again_and_the_dropped_ones_before_them(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, at: float
) -> None:
    result = _start(tmp_path, range(COUNT), _mapped(_payload), _key)
    _lose_a_node(cluster, result, at)
    assert result.wait_until_finish() == "DONE"
    # the first one's blocks were dropped, since the second one had read them
    assert {"First", "Second"} <= _repeated(caplog)
    assert (tmp_path / "output").read_text() == EXPECTED
    found = result.metrics().query()
    counters = {c.key.metric.name: c.committed for c in found["counters"]}
    sums = {d.key.metric.name: (d.committed.sum, d.committed.count) for d in found["distributions"]}
    assert counters == {"first": COUNT, "second": COUNT}
    final = [path.name.split("-")[1] for path in tmp_path.glob("final-*")]
    # what the lost node had to finalize may be lost with it; what was made again must not be finalized again
    assert COUNT // 4 <= len(final) == len(set(final))
    assert sums == dict.fromkeys(["first_number", "second_number"], (sum(range(COUNT)), COUNT))


def test_a_read_that_was_split_is_repeated_as_it_was_split(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ranges = [(0, COUNT // 2), (COUNT // 2, COUNT)]
    result = _start(tmp_path, ranges, beam.ParDo(_Read()), _key, "--ray_bundle_seconds=0.2")
    _lose_a_node(cluster, result)
    assert result.wait_until_finish() == "DONE"
    assert any(stage.startswith("First") for stage in _repeated(caplog))
    assert (tmp_path / "output").read_text() == EXPECTED
    assert {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]} == {
        "first": COUNT,
        "second": COUNT,
    }


def test_another_output_takes_the_place_of_a_lost_one_that_nobody_has_read(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = _start(tmp_path, range(COUNT), _mapped(_payload), lambda n: int.from_bytes(os.urandom(1)) % KEYS)
    _lose_a_node(cluster, result)
    assert result.wait_until_finish() == "DONE"
    assert "Second" in _repeated(caplog)
    assert (tmp_path / "output").read_text() == EXPECTED


def test_another_output_in_the_place_of_one_in_use_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    result = _start(tmp_path, range(COUNT), _mapped(lambda n: os.urandom(NBYTES)), _key)
    _lose_a_node(cluster, result)
    with pytest.raises(PipelineFailed, match="stage First failed: the bundle was repeated since its output was lost"):
        result.wait_until_finish()
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_lost_side_input_is_indexed_again(cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def look_up(number: int, side: Mapping[int, bytes]) -> None:
        begun = tmp_path / "begun"
        if not begun.exists():
            begun.write_text(ray.get_runtime_context().get_node_id())
            time.sleep(60)
        (tmp_path / "output").write_text(repr(sorted((n, len(data)) for n, data in side.items())))

    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS))
    side = pipeline | beam.Create(range(COUNT)) | beam.Reshuffle() | beam.Map(lambda n: (n, _payload(n)))
    pipeline | "One" >> beam.Create([1]) | beam.Map(look_up, beam.pvalue.AsDict(side))
    result = pipeline.run()
    begun = tmp_path / "begun"
    while not begun.exists() or not begun.read_text():
        assert result.state == "RUNNING"
        time.sleep(0.05)
    # the bundle runs where the index was made, since that worker is the first idle one
    (lost,) = [node for node in cluster.worker_nodes if node.node_id == begun.read_text()]
    cluster.remove_node(lost, allow_graceful=False)
    assert result.wait_until_finish() == "DONE"
    assert any("/side/" in message for message in caplog.messages if "it is made again" in message)
    assert (tmp_path / "output").read_text() == EXPECTED
