"""A node that is lost takes the blocks with it that lie there: they are made again, and what they were made of too."""

from __future__ import annotations

import logging
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


def _total(group: tuple[int, Iterable[tuple[int, bytes]]]) -> tuple[int, int, int]:
    values = list(group[1])
    return group[0], sum(number for number, _ in values), sum(len(data) for _, data in values)


def _write(row: tuple[int, int, int], folder: Path) -> None:
    (folder / f"key-{row[0]}").write_text(repr(row[1:]))


EXPECTED = {k: repr((sum(range(k, COUNT, KEYS)), NBYTES * len(range(k, COUNT, KEYS)))) for k in range(KEYS)}


def _read(folder: Path) -> dict[int, str]:
    return {int(p.name[4:]): p.read_text() for p in folder.glob("key-*")}


def _start(folder: Path, payload: Callable[[int], bytes]) -> RayPipelineResult:
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS))
    (
        pipeline
        | beam.Create(range(COUNT))
        | beam.Reshuffle()
        | "First" >> beam.Map(lambda n: (_slowly(n, "first"), payload(n)))
        | "Between" >> beam.Reshuffle()
        | "Second" >> beam.Map(lambda pair: (_slowly(pair[0], "second") % KEYS, pair))
        | beam.GroupByKey()
        | beam.Map(_total)
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


def test_lost_blocks_are_made_again_and_the_dropped_ones_before_them(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    result = _start(tmp_path, lambda n: bytes([n]) * NBYTES)
    _lose_a_node(cluster, result, "Second")
    assert result.wait_until_finish() == "DONE"
    repeated = {m.split(" of stage ")[1] for m in caplog.messages if "it is made again" in m}
    assert any("Second" in stage for stage in repeated), "no output was lost: the test tests nothing"
    assert any("First" in stage for stage in repeated), "no dropped input was needed again: the test tests nothing"
    assert _read(tmp_path) == EXPECTED
    found = result.metrics().query()
    counters = {c.key.metric.name: c.committed for c in found["counters"]}
    sums = {d.key.metric.name: (d.committed.sum, d.committed.count) for d in found["distributions"]}
    assert counters == {"first": COUNT, "second": COUNT}
    assert sums == dict.fromkeys(["first_number", "second_number"], (sum(range(COUNT)), COUNT))
