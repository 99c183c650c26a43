"""A node that is lost takes the blocks with it that lie there: they are made again, and what they were made of too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
import ray
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from beam_pipeline.runner import PipelineFailed, RayRunner
from beam_pipeline.runner.result import RayPipelineResult
from beam_pipeline.runner.session.environment import environment

COUNT = 120
# more than goes inline with a result: one element alone lies in the object store of the node that made it
NBYTES = 150_000
KEYS = 5
OPTIONS = ["--ray_workers_max=2", "--ray_workers_min=2", "--ray_bundle_mb=0.4", "--ray_max_system_failures=6"]
# a raylet that does not answer is given up after seconds, not a quarter of a minute
HEALTH = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 2}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes with a CPU each; the driver is on the first."""
    # Ray writes the loopback as the machine's outer address, unless it may not make clusters of machines
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 3, encoding="ascii")
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
    with environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}):
        nodes = Cluster(
            initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": HEALTH}
        )
        nodes.add_node(**node)
        ray.init(nodes.address, log_to_driver=False, configure_logging=False, _node_ip_address="127.0.0.1")
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


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


def _start(folder: Path, payload: Callable[[int], bytes], key: Callable[[int], int]) -> RayPipelineResult:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS))
    (
        pipeline
        | beam.Create(range(COUNT))
        | beam.Reshuffle()
        | "First" >> beam.Map(lambda n: (_slowly(n, "first"), payload(n)))
        | "Between" >> beam.Reshuffle()
        | "Second" >> beam.Map(lambda pair: (key(_slowly(pair[0], "second")), pair))
        | beam.GroupByKey()
        | beam.Map(_numbers)
        | beam.Map(lambda pairs: (None, pairs))
        | "Collect" >> beam.GroupByKey()
        | beam.Map(_write, folder)
    )
    result = pipeline.run()
    assert isinstance(result, RayPipelineResult)
    return result


def _lose_a_node(cluster: Cluster, result: RayPipelineResult, behind: str) -> None:
    """Kill the second node once the stage with a step of that name has committed a third of its elements."""
    while True:
        assert result.state == "RUNNING"
        if any(behind in s.label and s.elements >= COUNT // 3 for s in result.progress.stages):
            break
        time.sleep(0.02)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)


def _repeated(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {m.split(" of stage ")[1].split(" was")[0] for m in caplog.messages if "it is made again" in m}


def test_lost_blocks_are_made_again_and_the_dropped_ones_before_them(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = _start(tmp_path, lambda n: bytes([n]) * NBYTES, lambda n: n % KEYS)
    _lose_a_node(cluster, result, "Second")
    assert result.wait_until_finish() == "DONE"
    # the first one's blocks were dropped, since the second one had read them
    assert {"First", "Second"} <= _repeated(caplog)
    assert (tmp_path / "output").read_text() == EXPECTED
    found = result.metrics().query()
    counters = {c.key.metric.name: c.committed for c in found["counters"]}
    sums = {d.key.metric.name: (d.committed.sum, d.committed.count) for d in found["distributions"]}
    assert counters == {"first": COUNT, "second": COUNT}
    assert sums == dict.fromkeys(["first_number", "second_number"], (sum(range(COUNT)), COUNT))


def test_another_output_takes_the_place_of_a_lost_one_that_nobody_has_read(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = _start(tmp_path, lambda n: bytes([n]) * NBYTES, lambda n: int.from_bytes(os.urandom(1)) % KEYS)
    _lose_a_node(cluster, result, "Second")
    assert result.wait_until_finish() == "DONE"
    assert "Second" in _repeated(caplog)
    assert (tmp_path / "output").read_text() == EXPECTED


def test_another_output_in_the_place_of_one_in_use_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    result = _start(tmp_path, lambda n: os.urandom(NBYTES), lambda n: n % KEYS)
    _lose_a_node(cluster, result, "Second")
    with pytest.raises(PipelineFailed, match="stage First failed: the bundle was repeated since its output was lost"):
        result.wait_until_finish()
    assert not (tmp_path / "output").exists()
