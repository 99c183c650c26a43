"""Pipelines through Ray client (`ray://`): the driver runs on the cluster, and this process follows it.

Ray client has no streaming returns, which merges use, and costs 9 ms a call, several of which make a bundle.
"""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Mapping, Sequence

import ray
from apache_beam.runners.runner import PipelineState

from beam_pipeline.runner.beam_internals import beam_runner_api_pb2, metrics_pb2
from beam_pipeline.runner.metrics import CommittedMetrics
from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.result import RayPipelineResult
from beam_pipeline.runner.session import remote_driver
from beam_pipeline.runner.session.code_packing import PackedCode
from beam_pipeline.runner.session.code_shipping import by_value, ship_code
from beam_pipeline.runner.session.joined_ray import joined

CLIENT = "ray://"
_POLL_S = 0.5


class _FollowedMetrics(CommittedMetrics):
    """Metrics as the driver on the cluster last told them."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, list[metrics_pb2.MonitoringInfo]] = {}

    def tell(self, serialized: Mapping[str, Sequence[bytes]]) -> None:
        self._told = {
            stage: [metrics_pb2.MonitoringInfo.FromString(info) for info in infos]
            for stage, infos in serialized.items()
        }

    def monitoring_infos_by_stage(self) -> dict[str, list[metrics_pb2.MonitoringInfo]]:
        return self._told


def follow_on_cluster(
    pipeline: beam_runner_api_pb2.Pipeline, config: RunnerConfig, packed: PackedCode, is_drain: bool
) -> RayPipelineResult:
    """The result of a pipeline whose driver runs on the cluster at `config.address`, which starts with `ray://`."""
    address = config.address
    assert address is not None
    metrics = _FollowedMetrics()

    def run(cancelled: threading.Event) -> None:
        with joined(address), ship_code(packed, joined=True) as code:
            # there the driver finds itself connected
            there = dataclasses.replace(config, address=None)
            arguments = (pipeline.SerializeToString(), pickle.dumps(there), pickle.dumps(packed), is_drain)
            with by_value(remote_driver):
                driver = (
                    ray.remote(remote_driver.RemoteDriver)
                    .options(num_cpus=0, max_concurrency=2, runtime_env=dict(code.runtime_env) or None)
                    .remote(*arguments)
                )
            told = False
            while True:
                state, infos, failure = pickle.loads(ray.get(driver.poll.remote(_POLL_S)))
                metrics.tell(infos)
                if PipelineState.is_terminal(state):
                    break
                if cancelled.is_set() and not told:
                    told = True
                    driver.cancel.remote()
        if failure:
            error, cause = map(pickle.loads, failure)
            raise error from cause

    return RayPipelineResult(run, metrics)
